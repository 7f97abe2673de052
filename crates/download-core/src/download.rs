//! The state machine: takes events in, and plans what to do next.
//!
//! Events change what is known (`hearing`, `reading`, and here); then [`Download::plan`] looks at the whole and does
//! what is to be done at this moment. Whatever waits for a time leaves its wish with the [`Turn`].

use crate::alone::Alone;
use crate::pace::Pace;
use crate::peers::Peers;
use crate::proof::{Link, Proof};
use crate::readers::{Need, Readers};
use crate::source::Source;
use crate::turn::Turn;
use crate::{Effect, Event, Failure, Fetched, LinkState, Options};
use types::{
    BlobKey, Chain, Credential, Epoch, HostBody, LeaseFailure, PieceFrom, PieceIndex, PieceLayout, PieceSet,
    Priority, State, Timestamp,
};

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
    /// How the link to the scheduler stands now.
    pub link: LinkState,
}

/// One blob's download on one host, from the first reader to the last, whatever their number.
#[derive(Debug)]
pub struct Download {
    pub(crate) options: Options,
    pub(crate) rng: fastrand::Rng,
    pub(crate) key: BlobKey,
    pub(crate) layout: PieceLayout,
    pub(crate) credential: Credential,
    pub(crate) proof: Proof,
    pub(crate) readers: Readers,
    pub(crate) peers: Peers,
    pub(crate) source: Source,
    pub(crate) alone: Alone,
    pub(crate) pace: Pace,
    pub(crate) told: Told,
    /// What the store had without its states; discarded with the first event.
    void: PieceSet,
    closed_said: bool,
    stopped: bool,
    deadline: Option<Timestamp>,
}

/// What was said to the scheduler on this link, and heard from it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// A [`HostBody::Want`] is to be sent.
    pub(crate) want_due: bool,
    /// One was sent and not taken back.
    pub(crate) wanted: bool,
    /// How urgent it was said to be.
    pub(crate) priority: Priority,
    pub(crate) position: Option<(PieceIndex, bool)>,
    pub(crate) position_at: Timestamp,
    /// When it last said that bytes come under its lease.
    pub(crate) alive_at: Option<Timestamp>,
    /// The latest epoch whose states were taken.
    pub(crate) chain_epoch: Epoch,
    /// Some states may be from before that epoch.
    pub(crate) older_states: bool,
    /// Epochs up to this one are void.
    pub(crate) void_epoch: Option<Epoch>,
    /// When the credential that was told lapses, if it does.
    pub(crate) credential_until: Option<Timestamp>,
}

impl Download {
    /// A download that has not begun: nothing happens before the first event, which is best a
    /// [`ReaderJoined`](Event::ReaderJoined). `seed` feeds its jitter.
    #[must_use]
    pub fn new(options: Options, seed: u64, spec: Spec) -> Self {
        let Spec { key, layout, held, chain, credential, link } = spec;
        let (proof, void) = Proof::new(layout, chain, held);
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            alone: Alone::new(link, &options, &mut rng),
            options,
            rng,
            key,
            layout,
            credential,
            proof,
            readers: Readers::new(layout),
            peers: Peers::default(),
            source: Source::new(layout),
            pace: Pace::default(),
            told: Told { want_due: true, ..Told::default() },
            void,
            closed_said: false,
            stopped: false,
            deadline: None,
        }
    }

    /// Takes in what happened, and appends what follows from it alone to `effects`, to be done before anything else is
    /// told. What is to be done about the whole, [`plan`](Self::plan) says, which must follow at the same `now`: after
    /// everything else that is known to have happened, or a time that has run out would count for more than what came
    /// in it.
    ///
    /// `now` must not go back.
    pub fn tell(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        let mut turn = Turn::new(now, effects);
        self.discard_void(&mut turn);
        self.take(event, &mut turn);
        self.deadline = (!self.stopped).then_some(now);
    }

    /// Looks at everything that was told, and at the clock, and appends what is to be done at `now` to `effects`.
    pub fn plan(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        let mut turn = Turn::new(now, effects);
        self.act(&mut turn);
        self.deadline = if self.stopped { None } else { turn.wake() };
    }

    fn take(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::HostMoved { at } => self.alone.host_moved(at),
            Event::ReaderJoined { reader, range, priority } => {
                if priority == Priority::Waiting && self.told.priority != Priority::Waiting {
                    self.alone.client_comes(turn.now);
                }
                self.readers.join(reader, range, priority, &self.options, &mut self.rng);
            }
            Event::ReaderMoved { reader, offset } => self.readers.moved(reader, offset),
            Event::ReaderLeft { reader } => self.readers.leave(turn.now, reader),
            Event::Link(link) => self.link_changed(link, turn),
            Event::Credential(credential) => self.credential_changed(credential, turn),
            Event::Message(body) => self.hear(body, turn),
            Event::Fetched { fetch, outcome } => match outcome {
                Fetched::Stored => self.fetched(fetch, turn),
                Fetched::NearlyDone => self.nearly_fetched(fetch, turn),
                Fetched::Failed(why) => self.fetch_failed(fetch, why, turn),
            },
            Event::OriginPiece { read, piece } => {
                let is_held = self.proof.holds(piece);
                self.source.arrived(read, piece, is_held, turn);
            }
            Event::OriginMoved { read } => self.origin_moved(read, turn),
            Event::OriginEnded { read, result } => self.read_ended(read, result, turn),
            Event::Lost { pieces } => pieces.iter().for_each(|piece| self.lost(piece, turn)),
            Event::Hashed { piece, after, stored, matched } => {
                self.hashed(piece, after, matched, stored, turn);
            }
        }
    }

    fn act(&mut self, turn: &mut Turn<'_>) {
        self.lapse_unconfirmed(turn);
        self.hash_kept(turn);
        let closed = self.proof.is_closed();
        if closed && !self.closed_said {
            self.say_closed(turn);
        }
        let empty_since = self.readers.update(turn.now, self.proof.held(), closed);
        if let Some(since) = empty_since
            && (closed || self.readers.is_abandoned() || turn.reached(since + self.options.linger))
        {
            self.finish(turn);
            return;
        }
        if closed {
            return;
        }
        let needs = self.needs();
        self.announce(&needs, turn);
        self.read(&needs, turn);
    }

    pub(crate) fn needs(&self) -> Vec<Need> {
        self.readers.needs(self.proof.held(), self.proof.is_closed())
    }

    fn discard_void(&mut self, turn: &mut Turn<'_>) {
        if !self.void.is_empty() {
            let pieces = std::mem::replace(&mut self.void, PieceSet::empty(self.layout.count()));
            turn.push(Effect::Discard { pieces });
        }
    }

    /// Hands a kept piece over to be hashed once the state before it is known.
    fn hash_kept(&mut self, turn: &mut Turn<'_>) {
        let suspects: Vec<_> = self.proof.suspects().collect();
        for piece in suspects {
            // The origin's bytes are better than a doubtful piece.
            if self.source.is_hashable(piece) && self.proof.chain().state(piece.0).is_some() {
                self.proof.give_up_suspect(piece);
                self.discard(&[piece], turn);
            }
        }
        let chain = self.proof.chain();
        self.source.hash(turn, |piece| (chain.state(piece.0).copied(), chain.state(piece.0 + 1).copied()));
    }

    /// A piece was verified and stored.
    pub(crate) fn held_now(&mut self, piece: PieceIndex, from: PieceFrom, turn: &mut Turn<'_>) {
        if !self.proof.hold(piece) {
            return;
        }
        turn.push(Effect::Held { piece });
        self.send(HostBody::Verified { piece, from }, turn);
        self.pace.add(turn.now, u64::from(self.layout.len_of(piece)));
        self.source.not_needed(piece, self.proof.held(), turn);
        self.peers.cancel(turn, |transfer| transfer.piece == piece);
    }

    pub(crate) fn learnt(&mut self, boundary: u32, states: Vec<State>, turn: &mut Turn<'_>) {
        turn.push(Effect::LearnStates { boundary, states });
        self.resolve_suspects(turn);
    }

    pub(crate) fn resolve_suspects(&mut self, turn: &mut Turn<'_>) {
        let resolved = self.proof.resolve();
        for piece in resolved.right {
            turn.push(Effect::Held { piece });
            self.source.not_needed(piece, self.proof.held(), turn);
            if let (Some(epoch), Some(Link { before, after })) = (self.lease(), self.proof.link(piece)) {
                let states = vec![before, after];
                self.send(HostBody::Chain { epoch, boundary: piece.0, states, closed: false }, turn);
                self.send(HostBody::Verified { piece, from: PieceFrom::Origin }, turn);
            } else {
                // From where it came is not news; that it is held again is.
                self.told.want_due = true;
            }
        }
        self.discard(&resolved.wrong, turn);
    }

    /// A piece was stored against states that were found false meanwhile.
    pub(crate) fn stored_in_doubt(&mut self, piece: PieceIndex, link: Link, turn: &mut Turn<'_>) {
        let again = self.source.is_kept(piece) || self.peers.is_coming(piece) || self.proof.holds(piece);
        if !again {
            self.proof.suspect(piece, link);
            self.resolve_suspects(turn);
            return;
        }
        self.discard_unsure(piece, turn);
    }

    /// A piece was obtained twice at once against different states, and nobody knows whose bytes the store has.
    pub(crate) fn discard_unsure(&mut self, piece: PieceIndex, turn: &mut Turn<'_>) {
        self.peers.forget(piece, turn);
        self.source.forget(piece, turn);
        self.lose(piece);
        self.proof.told_void(piece);
        self.discard(&[piece], turn);
    }

    /// The store lost this piece. If it was suspect, it will never be seen whether what readers were given was right.
    fn lost(&mut self, piece: PieceIndex, turn: &mut Turn<'_>) {
        if self.proof.is_suspect(piece) {
            self.discard_unsure(piece, turn);
        } else {
            self.lose(piece);
        }
    }

    /// The store has this piece no more.
    fn lose(&mut self, piece: PieceIndex) {
        if self.proof.lose(piece) {
            self.closed_said = false;
            self.told.want_due = true;
            self.source.needed_again(piece);
        }
    }

    pub(crate) fn discard(&self, pieces: &[PieceIndex], turn: &mut Turn<'_>) {
        if pieces.is_empty() {
            return;
        }
        let mut set = PieceSet::empty(self.layout.count());
        for piece in pieces {
            set.insert(*piece);
        }
        turn.push(Effect::Discard { pieces: set });
    }

    /// Forgets all states but those that this host computed. What hangs on the others becomes suspect, and everything
    /// that was being done on their strength ends.
    pub(crate) fn reset_chain(&mut self, turn: &mut Turn<'_>) {
        let doubtful = self.proof.reset();
        self.told.older_states = false;
        self.source.cancel(turn, |_| true);
        self.peers.cancel(turn, |_| true);
        // Readers may have been given them.
        for piece in doubtful {
            self.discard_unsure(piece, turn);
        }
        turn.push(Effect::ForgetStates);
        for (boundary, states) in self.proof.trusted_runs() {
            turn.push(Effect::LearnStates { boundary, states });
        }
        self.told.want_due = true;
    }

    fn say_closed(&mut self, turn: &mut Turn<'_>) {
        self.closed_said = true;
        self.proof.close();
        self.source.cancel(turn, |_| true);
        self.peers.cancel(turn, |_| true);
        turn.push(Effect::Closed);
        if let Some(lease) = self.source.lease.take() {
            let body = self.closed_chain(lease.epoch);
            self.send(body, turn);
        }
        if self.told.wanted {
            // Whatever was said before and was lost, or not believed: this makes up for it.
            self.tell_proof(turn);
        }
    }

    /// Tells what this host holds of a blob whose chain it has proven.
    pub(crate) fn tell_proof(&self, turn: &mut Turn<'_>) {
        let pieces = self.proof.held().clone();
        self.send(HostBody::Hold { closed: true, pieces }, turn);
    }

    /// That this host has seen the chain end in the digest.
    pub(crate) fn closed_chain(&self, epoch: Epoch) -> HostBody {
        let last = State::last_of(&self.key.digest);
        HostBody::Chain { epoch, boundary: self.layout.count(), states: vec![last], closed: true }
    }

    /// Everybody who reads gets this error, and the download ends.
    pub(crate) fn fail(&mut self, reason: Failure, turn: &mut Turn<'_>) {
        turn.push(Effect::FailReaders { reason });
        self.finish(turn);
    }

    fn finish(&mut self, turn: &mut Turn<'_>) {
        self.return_lease(LeaseFailure::NoReader, turn);
        if self.told.wanted && self.alone.has_stream() {
            // A silent scheduler hears it when it wakes up, and nobody would say it again then.
            turn.push(Effect::Send(HostBody::Leave));
        }
        turn.push(Effect::Stop);
        self.stopped = true;
    }

    /// Says something to the scheduler, if it can hear. What it must know is said again when the link is up.
    pub(crate) fn send(&self, body: HostBody, turn: &mut Turn<'_>) {
        if self.alone.is_up() {
            turn.push(Effect::Send(body));
        }
    }

    /// When to [`plan`](Self::plan) if nothing else happens before.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// How urgent it was said to be last.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.told.priority
    }

    /// The verified pieces.
    #[must_use]
    pub const fn held(&self) -> &PieceSet {
        self.proof.held()
    }

    /// What is known of the chain.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        self.proof.chain()
    }

    /// Whether every piece is held and the chain leads to the digest: the blob is proven.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.proof.is_closed()
    }

    /// Whether this host believes to be the blob's source, and under which epoch.
    #[must_use]
    pub fn lease(&self) -> Option<Epoch> {
        self.source.lease.as_ref().map(|lease| lease.epoch)
    }

    /// Whether it has said [`Stop`](Effect::Stop).
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    /// If something does not; the message says what.
    pub fn check_invariants(&self) {
        self.proof.check_invariants();
        self.readers.check_invariants();
        self.peers.check_invariants(self.options.fetches_max.max(1));
        self.source.check_invariants(self.window_max() + self.stripe_max());
        if self.stopped {
            assert!(self.deadline.is_none(), "a download that has stopped has a deadline");
            return;
        }
        assert!(self.readers.read_through_count() <= self.options.read_through_max.max(1));
        let closed = self.proof.is_closed();
        assert!(!closed || self.closed_said || self.deadline.is_none(), "a closed blob was not said to be");
        let waits = self.needs().iter().any(|need| need.since.is_some());
        let helped =
            self.source.is_active() || self.peers.count() > 0 || self.readers.read_through_count() > 0;
        assert!(!waits || helped || self.deadline.is_some(), "a reader waits and nothing will ever happen");
    }
}
