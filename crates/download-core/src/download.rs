//! The state machine of one download.

use crate::{Effect, Event, LinkState, Options};
use types::{BlobKey, Chain, Credential, PieceLayout, PieceSet, Priority, Timestamp};

/// What a download starts from.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which blob.
    pub key: BlobKey,
    /// Its size and piece length.
    pub layout: PieceLayout,
    /// The pieces that the store holds already, each verified against `chain`.
    pub held: PieceSet,
    /// What is known of its chain.
    pub chain: Chain,
    /// With which right this host can read the blob from its origin.
    pub credential: Credential,
    /// How urgent it is.
    pub priority: Priority,
    /// How the link to the scheduler stands now.
    pub link: LinkState,
}

/// One blob's download on one host, from the first reader to the last, whatever their number.
#[derive(Debug)]
pub struct Download {
    spec: Spec,
}

impl Download {
    /// A download that has not begun: nothing happens before the first event, which is best a
    /// [`ReaderJoined`](Event::ReaderJoined). `seed` feeds its jitter.
    #[must_use]
    pub fn new(options: Options, seed: u64, spec: Spec) -> Self {
        let _ = (options, seed);
        Self { spec }
    }

    /// Takes in what happened at `now` and appends what is to be done to `effects`.
    pub fn handle(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        let _ = (now, event, effects);
    }

    /// When to call [`handle`](Self::handle) with a [`Tick`](Event::Tick) if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    /// If something does not; the message says what.
    pub fn check_invariants(&self) {}

    /// The verified pieces.
    #[must_use]
    pub fn held(&self) -> &PieceSet {
        &self.spec.held
    }

    /// What is known of the chain.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.spec.chain
    }

    /// Whether every piece is held and the chain leads to the digest: the blob is proven.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.spec.held.is_full() && self.spec.chain.is_whole()
    }
}
