//! The frames of a host's stream: what a host may send to the scheduler, and the other way round.
//!
//! What is taken is within its bounds, and says the same after it was written and read again.

use prost::Message as _;
use proto::{
    FRAME_MEMBERS_MAX, FRAME_MESSAGES_MAX, FromHost, FromScheduler, HOST_FRAME_BYTES_MAX,
    PREHEAT_CONTENTS_MAX, PREHEAT_IMAGES_MAX, SCHEDULER_FRAME_BYTES_MAX, wire,
};
use types::{BlobKey, HostBody, PieceIndex, PieceLayout, PieceSet, SchedulerBody, State};

/// The most states that go into one message from a host; more are cut into several.
const STATES_MAX: usize = 4096;

/// A frame from a host.
pub fn host_frame(bytes: &[u8]) {
    let Some(said) = read_host(bytes) else { return };
    if let FromHost::Messages(messages) = &said {
        assert!(messages.len() <= FRAME_MESSAGES_MAX);
        messages.iter().for_each(|message| check_host_body(&message.key, &message.body));
    }
    let frames: Vec<Vec<u8>> = said.clone().into_frames().iter().map(prost::Message::encode_to_vec).collect();
    let again = frames.iter().map(|frame| read_host(frame).expect("what we write can be read"));
    match said {
        FromHost::Messages(messages) => {
            let again: Vec<_> = again.flat_map(messages_of_host).collect();
            let cut =
                |body: &HostBody| matches!(body, HostBody::Chain { states, .. } if states.len() > STATES_MAX);
            assert!(again == messages || messages.iter().any(|message| cut(&message.body)));
        }
        said => assert_eq!(again.collect::<Vec<_>>(), [said]),
    }
}

/// A frame from the scheduler.
pub fn scheduler_frame(bytes: &[u8]) {
    let Some(said) = read_scheduler(bytes) else { return };
    match &said {
        FromScheduler::Messages(messages) => {
            assert!(messages.len() <= FRAME_MESSAGES_MAX);
            messages.iter().for_each(|message| check_scheduler_body(&message.key, &message.body));
        }
        FromScheduler::Members { joined, left, .. } => {
            assert!(joined.len().max(left.len()) <= FRAME_MEMBERS_MAX);
        }
        FromScheduler::Preheat(order) => {
            let contents = order.images.iter().map(|image| image.manifests.len() + image.blobs.len());
            assert!(
                order.images.len() <= PREHEAT_IMAGES_MAX && contents.sum::<usize>() <= PREHEAT_CONTENTS_MAX
            );
        }
        FromScheduler::Welcome(_)
        | FromScheduler::Pong(_)
        | FromScheduler::Forget(_)
        | FromScheduler::PreheatOver(_) => {}
    }
    let frames: Vec<Vec<u8>> = said.clone().into_frames().iter().map(prost::Message::encode_to_vec).collect();
    let again = frames.iter().map(|frame| read_scheduler(frame).expect("what we write can be read"));
    match said {
        FromScheduler::Messages(messages) => {
            let again: Vec<_> = again.flat_map(messages_of_scheduler).collect();
            assert_eq!(again, messages);
        }
        said => assert_eq!(again.collect::<Vec<_>>(), [said]),
    }
}

fn read_host(bytes: &[u8]) -> Option<FromHost> {
    let frame = wire::HostFrame::decode(bytes).ok().filter(|_| bytes.len() <= HOST_FRAME_BYTES_MAX)?;
    FromHost::try_from(frame).ok()
}

fn read_scheduler(bytes: &[u8]) -> Option<FromScheduler> {
    let frame =
        wire::SchedulerFrame::decode(bytes).ok().filter(|_| bytes.len() <= SCHEDULER_FRAME_BYTES_MAX)?;
    FromScheduler::try_from(frame).ok()
}

fn messages_of_host(said: FromHost) -> Vec<types::HostMessage> {
    match said {
        FromHost::Messages(messages) => messages,
        other => panic!("messages became {other:?}"),
    }
}

fn messages_of_scheduler(said: FromScheduler) -> Vec<types::SchedulerMessage> {
    match said {
        FromScheduler::Messages(messages) => messages,
        other => panic!("messages became {other:?}"),
    }
}

/// The bounds of what a message says about its blob.
struct Bounds<'a> {
    key: &'a BlobKey,
    layout: Option<PieceLayout>,
}

impl<'a> Bounds<'a> {
    fn of(key: &'a BlobKey) -> Self {
        Self { key, layout: PieceLayout::for_size(key.size) }
    }

    /// How many pieces there are at most.
    fn count(&self) -> u32 {
        self.layout.map_or(65_536, PieceLayout::count)
    }

    fn piece(&self, piece: PieceIndex) {
        assert!(piece.0 < self.count(), "{piece} of {}", self.count());
    }

    fn boundary(&self, boundary: u32) {
        assert!(boundary <= self.count(), "boundary {boundary} of {}", self.count());
    }

    fn set(&self, set: &PieceSet) {
        assert!(set.count() <= self.count() && set.iter().all(|piece| piece.0 < set.count()));
        assert!(self.layout.is_none_or(|layout| layout.count() == set.count()), "a set of the blob's pieces");
    }

    fn states(&self, boundary: u32, states: &[State]) {
        assert!(
            boundary as usize + states.len() <= self.count() as usize + 1,
            "states beyond the last boundary"
        );
        assert!(states.iter().all(|state| state.algorithm() == self.key.digest.algorithm()));
    }
}

fn check_host_body(key: &BlobKey, body: &HostBody) {
    let blob = Bounds::of(key);
    match body {
        HostBody::Hold { pieces, .. } => blob.set(pieces),
        HostBody::Want { held, position, .. } => {
            blob.set(held);
            blob.boundary(position.0);
        }
        HostBody::Position { piece, .. } => blob.boundary(piece.0),
        HostBody::Verified { piece, .. }
        | HostBody::NearlyDone { piece }
        | HostBody::Failed { piece, .. } => {
            blob.piece(*piece);
        }
        HostBody::Chain { boundary, states, .. } => blob.states(*boundary, states),
        HostBody::Drop
        | HostBody::Leave
        | HostBody::LeaseAlive { .. }
        | HostBody::LeaseReturned { .. }
        | HostBody::ChainFalse { .. } => {}
    }
}

fn check_scheduler_body(key: &BlobKey, body: &SchedulerBody) {
    let blob = Bounds::of(key);
    match body {
        SchedulerBody::Assign { piece, before, after, .. } => {
            blob.piece(*piece);
            blob.states(piece.0, &[*before, *after]);
        }
        SchedulerBody::Cancel { piece, .. } => blob.piece(*piece),
        SchedulerBody::Lease { missing, prefix, limit, .. } => {
            blob.set(missing);
            blob.states(0, prefix);
            blob.boundary(*limit);
        }
        SchedulerBody::LeaseLimit { limit, .. } => blob.boundary(*limit),
        SchedulerBody::WantChain { boundaries, .. } => {
            assert!(boundaries.start <= boundaries.end);
            blob.boundary(boundaries.end.saturating_sub(1));
        }
        SchedulerBody::Revoke { .. }
        | SchedulerBody::ChainReset { .. }
        | SchedulerBody::SourceReads
        | SchedulerBody::Failed { .. } => {}
    }
}
