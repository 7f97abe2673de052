//! A member of the cluster that lies: it joins the scheduler as a daemon does, and says and sends what a test wants.
//!
//! A [`Script`] says what it answers to the scheduler, [`Uploads`] what its peers get from it.

use super::{BOUND, Content, Hub};
use anyhow::{Context, Result, bail};
use membership::{SERVER_NAME, client_config};
use p2p::tls::Tls;
use p2p::{
    BoxFuture, Identity, Member, Members, P2p, PieceBody, PieceRequest, PieceSource, Refusal, Tickets,
};
use proto::{FromHost, FromScheduler, Hello, SCHEDULER_FRAME_BYTES_MAX, wire};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use support::poll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::{BlobKey, HostBody, HostId, HostMessage, HostSpec, Label, SchedulerBody, SchedulerMessage};

/// What it says to each message of the scheduler.
pub type Script = Box<dyn FnMut(&SchedulerMessage) -> Vec<HostBody> + Send>;

/// Says nothing, whatever it is told.
#[must_use]
pub fn silent() -> Script {
    Box::new(|_| Vec::new())
}

/// Frames on their way to the scheduler.
const FRAMES: usize = 1024;

/// The bulk protocol's hello of version 1, with a ticket.
fn bulk_hello(ticket: &[u8]) -> Result<Vec<u8>> {
    Ok([&[0, 1], &u16::try_from(ticket.len())?.to_be_bytes()[..], ticket].concat())
}

/// A request with a SHA-256 digest, its length included.
const REQUEST_LEN: usize = 54;

/// What a peer that asks for a piece gets.
#[derive(Clone, Debug)]
pub enum Uploads {
    /// The pieces of this content, right or not.
    Of(Content),
    /// This refusal.
    Refused(Refusal),
    /// No answer, ever.
    Silence,
    /// The first half of the piece of this content, and then the end of the connection.
    HalfAndEnd(Content),
    /// The first half of the piece of this content, and then nothing more.
    HalfAndSilence(Content),
    /// Nobody listens.
    Nobody,
}

impl PieceSource for Uploads {
    fn piece(&self, _child: HostId, request: PieceRequest) -> BoxFuture<'_, Result<PieceBody, Refusal>> {
        Box::pin(async move {
            match self {
                Self::Of(content) => Ok(content.piece(request.piece).into()),
                Self::Refused(refusal) => Err(*refusal),
                _ => std::future::pending().await,
            }
        })
    }
}

/// A lying member. It leaves when dropped.
#[derive(Debug)]
pub struct Liar {
    host: HostId,
    said: mpsc::Sender<FromHost>,
    heard: Arc<Mutex<Vec<SchedulerMessage>>>,
    met: Arc<Mutex<Vec<Member>>>,
    _cancel: DropGuard,
}

impl Liar {
    /// Joins the scheduler.
    ///
    /// # Errors
    /// If it is not let in.
    pub async fn join(hub: &Hub, uploads: Uploads, script: Script) -> Result<Self> {
        let (identity, cancel) = (Identity::generate(), CancellationToken::new());
        let key = identity.host_key().context("a key")?;
        let credentials = hub.admit(&key.public())?;
        let tickets = Tickets::needed();
        tickets.set(credentials.ticket.clone(), credentials.ticket_keys.clone());
        let members = Members::with_tickets(tickets);
        let hello = bulk_hello(&credentials.ticket)?;
        let bulk = serve(&identity, uploads, &members, hello, &cancel).await?;
        let hello = Hello {
            protocol_min: proto::PROTOCOL_MIN,
            protocol_max: proto::PROTOCOL,
            peer_id: identity.peer_id_bytes(),
            bulk,
            control: None,
            spec: HostSpec {
                zone: Label::default(),
                rack: Label::default(),
                upload_slots: 8,
                download_slots: 8,
                // Fast, so that it is chosen.
                upload_rate: 1 << 40,
                download_rate: 1 << 40,
            },
            version: "liar".to_owned(),
            flushed: 0,
            platform: "linux/amd64".to_owned(),
        };
        let (said, words) = mpsc::channel(FRAMES);
        let (heard, met) = (Arc::default(), Arc::default());
        let talk = Talk { members, script, heard: Arc::clone(&heard), met: Arc::clone(&met) };
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", hub.address()))?;
        let authority = hub.token().authority;
        let channel = process::grpc::channel(&endpoint, &SERVER_NAME.try_into()?, move || {
            client_config(authority, Some((&key, &credentials.certificate))).map_err(std::io::Error::other)
        });
        let (frames, outgoing) = mpsc::channel(FRAMES);
        send(&frames, FromHost::Hello(hello)).await;
        let mut client =
            proto::client::SchedulerClient::new(channel).max_decoding_message_size(SCHEDULER_FRAME_BYTES_MAX);
        let mut incoming = client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = incoming.message().await?.context("a welcome")?;
        let FromScheduler::Welcome(welcome) = first.try_into()? else { bail!("no welcome") };
        let talking = talk.run(incoming, frames, words, welcome.heartbeat);
        tokio::spawn(cancel.clone().run_until_cancelled_owned(talking));
        Ok(Self { host: identity.host_id(), said, heard, met, _cancel: cancel.drop_guard() })
    }

    /// Who it is.
    #[must_use]
    pub const fn host(&self) -> HostId {
        self.host
    }

    /// The other members that the scheduler has named to it, once they are so many.
    ///
    /// # Errors
    /// If they do not come.
    pub async fn meets(&self, count: usize) -> Result<Vec<Member>> {
        poll::until_async("members are named", BOUND, || async {
            let mut others = lock(&self.met).clone();
            others.retain(|member| member.host != self.host);
            Ok((others.len() >= count).then_some(others))
        })
        .await
    }

    /// Says something of a blob.
    pub async fn tell(&self, key: &BlobKey, body: HostBody) {
        // A stream that has ended takes nothing more.
        drop(self.said.send(FromHost::Messages(vec![HostMessage { key: key.clone(), body }])).await);
    }

    /// Waits until the scheduler has said such a thing.
    ///
    /// # Errors
    /// If it does not.
    pub async fn until(&self, what: &str, heard: impl Fn(&SchedulerBody) -> bool) -> Result<()> {
        poll::until_async(what, BOUND, || async {
            Ok(lock(&self.heard).iter().any(|message| heard(&message.body)).then_some(()))
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send(frames: &mpsc::Sender<wire::HostFrame>, said: FromHost) {
    for frame in said.into_frames() {
        drop(frames.send(frame).await);
    }
}

/// The conversation with the scheduler.
struct Talk {
    members: Members,
    script: Script,
    heard: Arc<Mutex<Vec<SchedulerMessage>>>,
    met: Arc<Mutex<Vec<Member>>>,
}

impl Talk {
    async fn run(
        mut self,
        mut incoming: tonic::Streaming<wire::SchedulerFrame>,
        frames: mpsc::Sender<wire::HostFrame>,
        mut words: mpsc::Receiver<FromHost>,
        heartbeat: Duration,
    ) {
        let mut beat = tokio::time::interval(heartbeat);
        loop {
            tokio::select! {
                frame = incoming.message() => {
                    let Ok(Some(frame)) = frame else { return };
                    let Ok(frame) = FromScheduler::try_from(frame) else { return };
                    for answer in self.take(frame) {
                        send(&frames, answer).await;
                    }
                }
                said = words.recv() => match said {
                    Some(said) => send(&frames, said).await,
                    None => return,
                },
                _ = beat.tick() => send(&frames, FromHost::Ping(1)).await,
            }
        }
    }

    fn take(&mut self, frame: FromScheduler) -> Vec<FromHost> {
        match frame {
            FromScheduler::Members { joined, left, .. } => {
                for member in joined {
                    let host = member.host();
                    let member =
                        Member { host, peer_id: member.peer_id, control: member.control, bulk: member.bulk };
                    lock(&self.met).push(member.clone());
                    // Its own entry is of no use to it.
                    drop(self.members.insert(member));
                }
                for host in left {
                    self.members.remove(host);
                }
                Vec::new()
            }
            FromScheduler::Messages(messages) => {
                let mut answers = Vec::new();
                for message in messages {
                    let key = message.key.clone();
                    answers.extend(
                        (self.script)(&message)
                            .into_iter()
                            .map(|body| HostMessage { key: key.clone(), body }),
                    );
                    lock(&self.heard).push(message);
                }
                if answers.is_empty() { Vec::new() } else { vec![FromHost::Messages(answers)] }
            }
            FromScheduler::Welcome(_)
            | FromScheduler::Pong(_)
            | FromScheduler::Forget(_)
            | FromScheduler::Preheat(_)
            | FromScheduler::PreheatOver(_) => Vec::new(),
        }
    }
}

/// Serves peers as told; where.
async fn serve(
    identity: &Identity,
    uploads: Uploads,
    members: &Members,
    hello: Vec<u8>,
    cancel: &CancellationToken,
) -> Result<SocketAddr> {
    match uploads {
        Uploads::HalfAndEnd(_) | Uploads::HalfAndSilence(_) | Uploads::Nobody => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            if !matches!(uploads, Uploads::Nobody) {
                let halves = halves(listener, Tls::new(identity)?, uploads, hello);
                tokio::spawn(cancel.clone().run_until_cancelled_owned(halves));
            }
            Ok(address)
        }
        uploads => {
            let options = p2p::Options { upload_slots: 64, ..p2p::Options::default() };
            let source = Arc::new(uploads);
            let p2p = P2p::start(identity.clone(), options, members.clone(), source, cancel.clone()).await?;
            Ok(p2p.bulk_addr())
        }
    }
}

/// Sends halves of pieces to everybody who connects.
async fn halves(listener: TcpListener, tls: Tls, uploads: Uploads, hello: Vec<u8>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, uploads, hello) = (tls.clone(), uploads.clone(), hello.clone());
        // A child that closes its side has seen enough.
        connections.spawn(async move { drop(half(socket, &tls, &uploads, &hello).await) });
    }
}

async fn half(socket: TcpStream, tls: &Tls, uploads: &Uploads, hello: &[u8]) -> Result<()> {
    let (Uploads::HalfAndEnd(content) | Uploads::HalfAndSilence(content)) = uploads else { return Ok(()) };
    let (_, mut stream) = tls.accept(socket).await?;
    // The child's hello is as long as ours.
    let mut request = vec![0; hello.len() + REQUEST_LEN];
    stream.read_exact(&mut request).await?;
    // The piece's number stands before the length of the grant.
    let at = request.len() - 6;
    let piece = u32::from_be_bytes(request[at..at + 4].try_into()?);
    let bytes = content.piece(types::PieceIndex(piece));
    stream.write_all(hello).await?;
    stream.write_all(&[0]).await?;
    stream.write_all(&u32::try_from(bytes.len())?.to_be_bytes()).await?;
    stream.write_all(&bytes[..bytes.len() / 2]).await?;
    stream.flush().await?;
    if matches!(uploads, Uploads::HalfAndEnd(_)) {
        stream.shutdown().await?;
    } else {
        stream.read_u8().await?;
    }
    Ok(())
}
