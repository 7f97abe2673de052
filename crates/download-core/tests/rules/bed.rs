//! A test bed: one download over a small real blob, a clock, and the effects of each event.

use download_core::{Download, Effect, Event, FetchId, Fetched, LinkState, Options, ReadId, ReaderId, Spec};
use std::ops::Range;
use std::time::Duration;
use types::{
    BlobKey, ByteRange, Chain, Credential, Digest, Epoch, HostBody, HostId, LeaseFailure, PieceIndex,
    PieceLayout, PieceSet, Priority, Registry, SchedulerBody, State, Timestamp, hash_piece,
};

pub(crate) const PIECE: u32 = 128;
pub(crate) const TTL: Duration = Duration::from_secs(3);

pub(crate) struct Bed {
    pub(crate) now: Timestamp,
    pub(crate) download: Download,
    pub(crate) states: Vec<State>,
    pub(crate) content: Vec<u8>,
    pub(crate) layout: PieceLayout,
}

/// Options in proportion to the small pieces: stripes of 2, a window of 8, read-ahead of 4 pieces.
pub(crate) fn options() -> Options {
    let piece = u64::from(PIECE);
    Options {
        stripe_bytes: 2 * piece,
        window_bytes: 8 * piece,
        readahead_bytes: 4 * piece,
        fetches_max: 4,
        read_through_max: 2,
        ..Options::default()
    }
}

pub(crate) fn host(n: u8) -> HostId {
    HostId::from_bytes([n; 32])
}

pub(crate) fn content(pieces: u32, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..pieces * PIECE - PIECE / 2).map(|_| rng.u8(..)).collect()
}

pub(crate) fn states_of(content: &[u8]) -> Vec<State> {
    let layout = PieceLayout::new(content.len() as u64, PIECE).expect("a small blob");
    let mut states = vec![State::initial(types::Algorithm::Sha256)];
    for piece in layout.pieces() {
        let at = piece.as_usize() * PIECE as usize;
        let bytes = &content[at..content.len().min(at + PIECE as usize)];
        states.push(hash_piece(layout, piece, &states[piece.as_usize()], bytes).expect("the right length"));
    }
    states
}

pub(crate) fn set(count: u32, pieces: impl IntoIterator<Item = u32>) -> PieceSet {
    let mut set = PieceSet::empty(count);
    for piece in pieces {
        set.insert(PieceIndex(piece));
    }
    set
}

impl Bed {
    pub(crate) fn new(pieces: u32, link: LinkState, credential: Credential) -> Self {
        Self::with(pieces, link, credential, [], options())
    }

    /// `held` pieces are in the store from the start, with their states.
    pub(crate) fn with(
        pieces: u32,
        link: LinkState,
        credential: Credential,
        held: impl IntoIterator<Item = u32>,
        options: Options,
    ) -> Self {
        Self::seeded(pieces, link, credential, held, options, 1)
    }

    pub(crate) fn seeded(
        pieces: u32,
        link: LinkState,
        credential: Credential,
        held: impl IntoIterator<Item = u32>,
        options: Options,
        seed: u64,
    ) -> Self {
        let content = content(pieces, 5);
        let states = states_of(&content);
        let layout = PieceLayout::new(content.len() as u64, PIECE).expect("a small blob");
        let digest = Digest::sha256(&content);
        let mut chain = Chain::new(digest, layout).expect("not empty");
        let held = set(pieces, held);
        for piece in held.iter() {
            chain.learn(piece.0, &states[piece.as_usize()..piece.as_usize() + 2]).expect("true states");
        }
        let registry = Registry::parse("registry.test").expect("a name");
        let key = BlobKey { digest, size: layout.size(), registry };
        let spec = Spec { key, layout, held, chain, credential, link };
        let download = Download::new(options, seed, spec);
        Self { now: Timestamp::ZERO + Duration::from_secs(100), download, states, content, layout }
    }

    pub(crate) fn count(&self) -> u32 {
        self.layout.count()
    }

    pub(crate) fn event(&mut self, event: Event) -> Vec<Effect> {
        self.events([event])
    }

    /// Nothing happens but that the time has come.
    pub(crate) fn tick(&mut self) -> Vec<Effect> {
        self.events([])
    }

    /// All that is found to have happened by the time that the driver looks.
    pub(crate) fn events<const N: usize>(&mut self, events: [Event; N]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for event in events {
            self.download.tell(self.now, event, &mut effects);
        }
        self.download.plan(self.now, &mut effects);
        self.download.check_invariants();
        if let Some(deadline) = self.download.next_deadline() {
            assert!(deadline > self.now, "a deadline that has come must have been acted upon");
        }
        effects
    }

    pub(crate) fn hear(&mut self, body: SchedulerBody) -> Vec<Effect> {
        self.event(Event::Message(body))
    }

    /// A reader of the whole blob.
    pub(crate) fn read_whole(&mut self) -> Vec<Effect> {
        self.join(1, 0..self.layout.size())
    }

    pub(crate) fn join(&mut self, reader: u64, range: Range<u64>) -> Vec<Effect> {
        self.join_as(reader, range, Priority::Waiting)
    }

    pub(crate) fn join_as(&mut self, reader: u64, range: Range<u64>, priority: Priority) -> Vec<Effect> {
        let range = ByteRange::new(range.start, range.end).expect("a range");
        self.event(Event::ReaderJoined { reader: ReaderId(reader), range, priority })
    }

    pub(crate) fn leave(&mut self, reader: u64) -> Vec<Effect> {
        self.event(Event::ReaderLeft { reader: ReaderId(reader) })
    }

    /// Lets time pass, with a tick at every deadline.
    pub(crate) fn pass(&mut self, duration: Duration) -> Vec<Effect> {
        let end = self.now + duration;
        let mut effects = Vec::new();
        while let Some(deadline) = self.download.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline;
            effects.extend(self.tick());
        }
        self.now = end;
        effects
    }

    pub(crate) fn assign(&mut self, piece: u32, parent: u8, epoch: u64) -> Vec<Effect> {
        let (before, after) = (self.states[piece as usize], self.states[piece as usize + 1]);
        let (piece, parent) = (PieceIndex(piece), host(parent));
        self.hear(SchedulerBody::Assign { piece, parent, epoch: Epoch(epoch), before, after })
    }

    pub(crate) fn lease(&mut self, epoch: u64, missing: Range<u32>, prefix: u32, limit: u32) -> Vec<Effect> {
        let missing = set(self.count(), missing);
        let prefix = self.states[..=prefix as usize].to_vec();
        self.hear(SchedulerBody::Lease { epoch: Epoch(epoch), ttl: TTL, missing, prefix, limit })
    }

    pub(crate) fn stored(&mut self, fetch: FetchId) -> Vec<Effect> {
        self.event(Event::Fetched { fetch, outcome: Fetched::Stored })
    }

    pub(crate) fn piece(&mut self, read: ReadId, piece: u32) -> Vec<Effect> {
        self.event(Event::OriginPiece { read, piece: PieceIndex(piece) })
    }

    pub(crate) fn ended(&mut self, read: ReadId, result: Result<(), LeaseFailure>) -> Vec<Effect> {
        self.event(Event::OriginEnded { read, result })
    }

    /// The driver hashed the true bytes.
    pub(crate) fn hashed(&mut self, piece: u32) -> Vec<Effect> {
        let after = self.states[piece as usize + 1];
        self.event(Event::Hashed { piece: PieceIndex(piece), after, stored: Ok(()), matched: true })
    }

    /// Does all that the origin and the hashing have to do, until nothing is left; gives all effects.
    pub(crate) fn settle(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut all = Vec::new();
        let mut queue = std::collections::VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            match &effect {
                Effect::ReadOrigin { read, pieces } => {
                    let (read, pieces) = (*read, pieces.clone());
                    for piece in pieces {
                        queue.extend(self.piece(read, piece));
                    }
                    queue.extend(self.ended(read, Ok(())));
                }
                Effect::Hash { piece, before, expect } => {
                    let at = piece.as_usize();
                    let bytes =
                        &self.content[at * PIECE as usize..self.content.len().min((at + 1) * PIECE as usize)];
                    let after = hash_piece(self.layout, *piece, before, bytes).expect("the right length");
                    let matched = expect.is_none_or(|expect| expect == after);
                    let event = Event::Hashed { piece: *piece, after, stored: Ok(()), matched };
                    queue.extend(self.event(event));
                }
                _ => {}
            }
            all.push(effect);
        }
        all
    }
}

pub(crate) fn said<'a>(effects: &'a [Effect]) -> Vec<&'a HostBody> {
    let body = |effect: &'a Effect| match effect {
        Effect::Send(body) => Some(body),
        _ => None,
    };
    effects.iter().filter_map(body).collect()
}

pub(crate) fn reads(effects: &[Effect]) -> Vec<(ReadId, Range<u32>)> {
    let read = |effect: &Effect| match effect {
        Effect::ReadOrigin { read, pieces } => Some((*read, pieces.clone())),
        _ => None,
    };
    effects.iter().filter_map(read).collect()
}

pub(crate) fn fetches(effects: &[Effect]) -> Vec<(FetchId, HostId, u32)> {
    let fetch = |effect: &Effect| match effect {
        Effect::Fetch { fetch, parent, piece, .. } => Some((*fetch, *parent, piece.0)),
        _ => None,
    };
    effects.iter().filter_map(fetch).collect()
}

pub(crate) fn held(effects: &[Effect]) -> Vec<u32> {
    let piece = |effect: &Effect| match effect {
        Effect::Held { piece } => Some(piece.0),
        _ => None,
    };
    effects.iter().filter_map(piece).collect()
}

pub(crate) fn failures(effects: &[Effect]) -> Vec<download_core::Failure> {
    let reason = |effect: &Effect| match effect {
        Effect::FailReaders { reason } => Some(reason.clone()),
        _ => None,
    };
    effects.iter().filter_map(reason).collect()
}
