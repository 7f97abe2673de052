//! A blob's way through the scheduler: wanted, leased, extended, assigned, closed; and after a restart.

use crate::fake_host::{FakeHost, Running, blob, channel, hello, options, want};
use std::time::Duration;
use types::{
    BlobKey, Credential, Epoch, HostBody, PieceFrom, PieceIndex, PieceLayout, PieceSet, Priority,
    SchedulerBody, SchedulerMessage, State, hash_piece,
};

/// What a source computes as it reads.
struct Content {
    key: BlobKey,
    layout: PieceLayout,
    bytes: Vec<u8>,
}

impl Content {
    fn new(size: usize) -> Self {
        let (key, bytes) = blob(size);
        let layout = PieceLayout::for_size(key.size).unwrap();
        Self { key, layout, bytes }
    }

    /// The states from boundary 0 on.
    fn states(&self) -> Vec<State> {
        let mut states = vec![State::initial(self.key.digest.algorithm())];
        for piece in self.layout.pieces() {
            let range = self.layout.range(piece);
            let bytes = &self.bytes[range.start() as usize..range.end() as usize];
            states.push(hash_piece(self.layout, piece, states.last().unwrap(), bytes).unwrap());
        }
        states
    }

    /// What the source says of piece `i`.
    async fn read(&self, source: &FakeHost, epoch: Epoch, piece: PieceIndex) {
        let boundary = piece.0 + 1;
        let states = vec![self.states()[boundary as usize]];
        source.tell(&self.key, HostBody::Chain { epoch, boundary, states, closed: false }).await;
        source.tell(&self.key, HostBody::Verified { piece, from: PieceFrom::Origin }).await;
    }
}

fn lease(message: &SchedulerMessage) -> Option<(Epoch, PieceSet, Vec<State>)> {
    match &message.body {
        SchedulerBody::Lease { epoch, missing, prefix, .. } => {
            Some((*epoch, missing.clone(), prefix.clone()))
        }
        _ => None,
    }
}

#[tokio::test]
async fn one_host_reads_the_origin_and_the_other_gets_its_pieces_from_it() {
    let running = Running::start(options()).await;
    let content = Content::new(3 * 512 * 1024 - 7);
    let states = content.states();
    let mut a = running.host("a").await;
    a.tell(&content.key, want(3, Credential::Anonymous)).await;
    let (epoch, missing, prefix) = a.until(lease).await;
    assert!(missing.is_full());
    assert_eq!(prefix, states[..1]);

    let mut b = running.host("b").await;
    b.tell(&content.key, want(3, Credential::Anonymous)).await;
    b.until_pong(1).await;
    let mut got = PieceSet::empty(3);
    for piece in content.layout.pieces() {
        content.read(&a, epoch, piece).await;
    }
    while !got.is_full() {
        let message = b.message().await;
        assert_eq!(message.key, content.key);
        let SchedulerBody::Assign { piece, parent, before, after, .. } = message.body else {
            panic!("{message:?}: only one host reads the origin");
        };
        assert_eq!((parent, before), (a.id, states[piece.as_usize()]));
        assert_eq!(after, states[piece.as_usize() + 1]);
        assert!(got.insert(piece), "assigned once");
        b.tell(&content.key, HostBody::Verified { piece, from: PieceFrom::Peer(parent) }).await;
    }

    // The chain is closed: whoever asks any registry gets it from both, and no lease.
    let mut c = running.host("c").await;
    let other = BlobKey { registry: types::Registry::parse("mirror.test").unwrap(), ..content.key.clone() };
    c.tell(&other, want(3, Credential::None)).await;
    let parent = c
        .until(|m| match m.body {
            SchedulerBody::Assign { parent, .. } => Some(parent),
            _ => None,
        })
        .await;
    assert!(parent == a.id || parent == b.id);
    running.stop().await;
}

#[tokio::test]
async fn a_source_that_leaves_is_succeeded_and_only_what_is_missing_is_read() {
    let running = Running::start(options()).await;
    let content = Content::new(4 * 512 * 1024);
    let mut a = running.host("a").await;
    a.tell(&content.key, want(4, Credential::Anonymous)).await;
    let (epoch, ..) = a.until(lease).await;
    let mut b = running.host("b").await;
    b.tell(&content.key, want(4, Credential::Anonymous)).await;
    content.read(&a, epoch, PieceIndex(0)).await;
    let piece = b
        .until(|m| match m.body {
            SchedulerBody::Assign { piece, .. } => Some(piece),
            _ => None,
        })
        .await;
    b.tell(&content.key, HostBody::Verified { piece, from: PieceFrom::Peer(a.id) }).await;
    b.until_pong(1).await;
    drop(a);
    let (next, missing, prefix) = b.until(lease).await;
    assert!(next > epoch);
    assert_eq!(missing.iter().collect::<Vec<_>>(), [1, 2, 3].map(PieceIndex));
    assert_eq!(prefix, content.states()[..2]);
    running.stop().await;
}

/// A scheduler that was started anew learns from its hosts what there is; the source goes on with a newer epoch.
#[tokio::test]
async fn after_a_restart_the_source_goes_on() {
    let content = Content::new(4 * 512 * 1024);
    let first = Running::start(options()).await;
    let mut a = first.host("a").await;
    a.tell(&content.key, want(4, Credential::Anonymous)).await;
    let (epoch, ..) = a.until(lease).await;
    content.read(&a, epoch, PieceIndex(0)).await;
    a.until_pong(1).await;
    let instance = a.welcome.instance;
    first.stop().await;

    let mut again = options();
    again.scheduling.quiet_period = Duration::from_secs(1);
    let second = Running::start(again).await;
    let mut a = FakeHost::connect(channel(second.server.grpc_addr()).await, hello("a")).await.unwrap();
    assert_ne!(a.welcome.instance, instance);
    let mut held = PieceSet::empty(4);
    held.insert(PieceIndex(0));
    let want = HostBody::Want {
        held,
        credential: Credential::Anonymous,
        priority: Priority::Waiting,
        position: PieceIndex(1),
        lease: Some(epoch),
    };
    a.tell(&content.key, want).await;
    // It knows of the piece that is held, but not of the states that verify it.
    let (question, boundaries) = a
        .until(|m| match &m.body {
            SchedulerBody::WantChain { epoch, boundaries } => Some((*epoch, boundaries.clone())),
            _ => None,
        })
        .await;
    let known = content.states()[..2].to_vec();
    let states = known[boundaries.start.min(2) as usize..boundaries.end.min(2) as usize].to_vec();
    let answer = HostBody::Chain { epoch: question, boundary: boundaries.start, states, closed: false };
    a.tell(&content.key, answer).await;
    let (next, missing, prefix) = a.until(lease).await;
    assert!(next > epoch, "a newer epoch: {next} after {epoch}");
    assert_eq!(missing.iter().collect::<Vec<_>>(), [1, 2, 3].map(PieceIndex));
    assert_eq!(prefix, known);
    second.stop().await;
}
