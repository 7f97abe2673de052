//! A host that says what a test wants, over real gRPC.

use proto::client::SchedulerClient;
use proto::{FromHost, FromScheduler, Hello, Member, PreheatOrder, SCHEDULER_FRAME_BYTES_MAX, Welcome, wire};
use scheduler::{Options, Server};
use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use types::{
    BlobKey, Credential, Digest, HostBody, HostId, HostMessage, HostSpec, Label, PieceIndex, PieceSet,
    Priority, Registry, SchedulerBody, SchedulerMessage,
};

/// No answer of a scheduler on the same machine takes this long, however busy the machine is.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A scheduler on loopback that stops with this.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) cancel: CancellationToken,
}

impl Running {
    pub(crate) async fn start(options: Options) -> Self {
        process::tls::install_provider();
        let cancel = CancellationToken::new();
        let server = Server::start(options, cancel.clone()).await.expect("starts");
        Self { server, cancel }
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(SOON, self.server.stopped()).await.expect("stops");
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(self.server.grpc_addr()).await
    }

    pub(crate) async fn client(&self) -> SchedulerClient<Channel> {
        client(self.channel().await)
    }

    pub(crate) async fn host(&self, name: &str) -> FakeHost {
        FakeHost::connect(self.channel().await, hello(name)).await.expect("welcome")
    }
}

/// Options of a test: any port, no quiet period, always the same choices.
pub(crate) fn options() -> Options {
    let mut options = Options::embedded();
    options.admin = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    options.scheduling.seed = Some(7);
    options
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("connects")
}

pub(crate) fn client(channel: Channel) -> SchedulerClient<Channel> {
    SchedulerClient::new(channel).max_decoding_message_size(SCHEDULER_FRAME_BYTES_MAX)
}

/// What a host of this name says first. It lets the scheduler find out its address.
pub(crate) fn hello(name: &str) -> Hello {
    Hello {
        protocol_min: proto::PROTOCOL_MIN,
        protocol_max: proto::PROTOCOL,
        peer_id: name.as_bytes().to_vec(),
        bulk: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4001)),
        control: None,
        spec: HostSpec {
            zone: Label::new("z"),
            rack: Label::new("r"),
            upload_slots: 4,
            download_slots: 4,
            upload_rate: 0,
            download_rate: 0,
        },
        version: "test".to_owned(),
        flushed: 0,
        platform: "linux/amd64".to_owned(),
    }
}

/// A connected host.
pub(crate) struct FakeHost {
    pub(crate) id: HostId,
    pub(crate) welcome: Welcome,
    frames: mpsc::Sender<wire::HostFrame>,
    incoming: Streaming<wire::SchedulerFrame>,
    /// Messages that came and were not looked at.
    messages: VecDeque<SchedulerMessage>,
    /// Who was named, and not taken back.
    pub(crate) members: BTreeSet<HostId>,
    /// As they were named.
    pub(crate) named: Vec<Member>,
    /// What it was told to hold.
    pub(crate) orders: Vec<PreheatOrder>,
}

impl FakeHost {
    pub(crate) async fn connect(channel: Channel, hello: Hello) -> Result<Self, Status> {
        let id = hello.host();
        let (frames, outgoing) = mpsc::channel(1024);
        for frame in FromHost::Hello(hello).into_frames() {
            frames.send(frame).await.expect("room");
        }
        let mut incoming = client(channel).connect(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = incoming.message().await?.expect("a welcome");
        let FromScheduler::Welcome(welcome) = first.try_into().expect("well formed") else {
            panic!("no welcome")
        };
        let (messages, members, named, orders) = Default::default();
        Ok(Self { id, welcome, frames, incoming, messages, members, named, orders })
    }

    pub(crate) async fn say(&self, said: FromHost) {
        for frame in said.into_frames() {
            self.say_frame(frame).await;
        }
    }

    /// Nothing is left to say: the end of the sending side.
    pub(crate) fn hang_up(&mut self) {
        self.frames = mpsc::channel(1).0;
    }

    pub(crate) async fn say_frame(&self, frame: wire::HostFrame) {
        // A stream that has ended takes nothing more.
        drop(self.frames.send(frame).await);
    }

    pub(crate) async fn tell(&self, key: &BlobKey, body: HostBody) {
        self.say(FromHost::Messages(vec![HostMessage { key: key.clone(), body }])).await;
    }

    /// What comes next, or how the stream ended.
    pub(crate) async fn hear(&mut self) -> Result<FromScheduler, Status> {
        let frame = tokio::time::timeout(SOON, self.incoming.message()).await.expect("in time")?;
        let frame = frame.ok_or_else(|| Status::ok("the end"))?;
        let said = FromScheduler::try_from(frame).expect("well formed");
        if let FromScheduler::Preheat(order) = &said {
            self.orders.push(order.clone());
        }
        if let FromScheduler::Members { reset, joined, left } = &said {
            if *reset {
                self.members.clear();
            }
            self.members.extend(joined.iter().map(Member::host));
            self.named.extend(joined.iter().cloned());
            left.iter().for_each(|host| {
                self.members.remove(host);
            });
        }
        Ok(said)
    }

    /// The next message about a blob. A parent that was not named before is a mistake.
    pub(crate) async fn message(&mut self) -> SchedulerMessage {
        loop {
            if let Some(message) = self.messages.pop_front() {
                if let SchedulerBody::Assign { parent, .. } = &message.body {
                    assert!(self.members.contains(parent), "assigned a stranger");
                }
                return message;
            }
            if let FromScheduler::Messages(messages) = self.hear().await.expect("a message") {
                self.messages.extend(messages);
            }
        }
    }

    /// The first message that `pick` has a use for; others before it are passed over.
    pub(crate) async fn until<T>(&mut self, pick: impl Fn(&SchedulerMessage) -> Option<T>) -> T {
        loop {
            let message = self.message().await;
            if let Some(found) = pick(&message) {
                return found;
            }
        }
    }

    /// Waits until exactly these other hosts are members.
    pub(crate) async fn until_members(&mut self, others: &[HostId]) {
        let mut expected: BTreeSet<HostId> = others.iter().copied().collect();
        expected.insert(self.id);
        self.members.insert(self.id);
        while self.members != expected {
            self.hear().await.expect("news of members");
            self.members.insert(self.id);
        }
    }

    /// Waits for the answer to a ping: all that was said before has been heard then.
    pub(crate) async fn until_pong(&mut self, number: u64) {
        self.say(FromHost::Ping(number)).await;
        loop {
            match self.hear().await.expect("a pong") {
                FromScheduler::Pong(n) if n == number => return,
                FromScheduler::Messages(messages) => self.messages.extend(messages),
                _ => {}
            }
        }
    }

    /// The next order.
    pub(crate) async fn preheat(&mut self) -> PreheatOrder {
        loop {
            if let FromScheduler::Preheat(order) = self.hear().await.expect("an order") {
                return order;
            }
        }
    }

    /// Waits until it is told that an order is over.
    pub(crate) async fn until_over(&mut self, number: u64) {
        while self.hear().await.expect("an order's end") != FromScheduler::PreheatOver(number) {}
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }
}

/// A blob and its content.
pub(crate) fn blob(size: usize) -> (BlobKey, Vec<u8>) {
    let content: Vec<u8> = (0..size).map(|i| (i / 7 + i % 251) as u8).collect();
    let registry = Registry::parse("registry.test").unwrap();
    (BlobKey { digest: Digest::sha256(&content), size: size as u64, registry }, content)
}

/// Wants a blob of which nothing is held.
pub(crate) fn want(count: u32, credential: Credential) -> HostBody {
    HostBody::Want {
        held: PieceSet::empty(count),
        credential,
        priority: Priority::Waiting,
        position: PieceIndex(0),
        lease: None,
    }
}
