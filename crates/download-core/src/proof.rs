//! What this host knows of the blob: the chain, the pieces verified against it, and how far each state can be believed.
//!
//! A state is *trusted* if this host computed it itself, from the initial value over bytes that it read from the
//! origin. All other states came from somebody and may turn out false. When they do, the pieces that hang on them become
//! *suspects*: they are not held any more, but if the states around them turn out the same again, they were right.

use std::collections::BTreeMap;
use types::{Chain, PieceIndex, PieceLayout, PieceSet, State};

/// The states on both sides of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) before: State,
    pub(crate) after: State,
}

/// How a claim about the chain was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It agrees with what is known, or adds to it.
    Taken {
        /// Whether it added something.
        new: bool,
    },
    /// It contradicts a state that somebody else said.
    Contradicts,
    /// It contradicts a state that this host computed, or makes no sense.
    False,
}

/// Suspects whose states have become known.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// They were right all along and are held again.
    pub(crate) right: Vec<PieceIndex>,
    /// They are void.
    pub(crate) wrong: Vec<PieceIndex>,
}

#[derive(Debug)]
pub(crate) struct Proof {
    layout: PieceLayout,
    chain: Chain,
    held: PieceSet,
    /// Boundaries whose state this host computed; the two ends are known from the start.
    trusted: PieceSet,
    suspects: BTreeMap<PieceIndex, Link>,
    /// Pieces that were held, so that readers may have been given their bytes, and that are gone from the store.
    lost: PieceSet,
    /// Every link has been checked once: the chain is true, also if pieces get lost later.
    proven: bool,
}

impl Proof {
    /// From what the store had. Gives the pieces that it held without their states as well: they are void.
    pub(crate) fn new(layout: PieceLayout, chain: Chain, held: PieceSet) -> (Self, PieceSet) {
        let count = layout.count();
        let (trusted, suspects) = (PieceSet::empty(count + 1), BTreeMap::new());
        let lost = PieceSet::empty(count);
        let mut proof = Self { layout, chain, held, trusted, suspects, lost, proven: false };
        proof.trust_ends_only();
        let mut void = PieceSet::empty(count);
        for piece in proof.held.iter().filter(|piece| proof.chain.link(*piece).is_none()) {
            void.insert(piece);
        }
        proof.held.subtract(&void);
        (proof, void)
    }

    pub(crate) const fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(crate) const fn held(&self) -> &PieceSet {
        &self.held
    }

    pub(crate) fn holds(&self, piece: PieceIndex) -> bool {
        self.held.contains(piece)
    }

    pub(crate) fn suspects(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.suspects.keys().copied()
    }

    pub(crate) fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.suspects.contains_key(&piece)
    }

    /// Whether every link from the initial value to the digest has been checked on this host.
    pub(crate) fn is_closed(&self) -> bool {
        self.held.is_full() && self.chain.is_whole()
    }

    /// Takes note that every link has been checked.
    pub(crate) fn close(&mut self) {
        assert!(self.is_closed(), "a link has not been checked");
        self.trusted = PieceSet::full(self.layout.count() + 1);
        self.proven = true;
    }

    /// Whether the chain was once closed on this host.
    pub(crate) const fn is_proven(&self) -> bool {
        self.proven
    }

    pub(crate) fn trusts(&self, boundary: u32) -> bool {
        self.trusted.contains(PieceIndex(boundary))
    }

    /// Whether it knows states that this host did not compute.
    pub(crate) fn relies_on_others(&self) -> bool {
        self.trusted.complement().iter().any(|boundary| self.chain.state(boundary.0).is_some())
    }

    pub(crate) fn link(&self, piece: PieceIndex) -> Option<Link> {
        self.chain.link(piece).map(|(before, after)| Link { before: *before, after: *after })
    }

    /// The last boundary at or before `piece` whose state is known, looking back over at most `pieces_max` pieces.
    pub(crate) fn known_before(&self, piece: PieceIndex, pieces_max: u32) -> Option<PieceIndex> {
        (piece.0.saturating_sub(pieces_max)..=piece.0)
            .rev()
            .find(|i| self.chain.state(*i).is_some())
            .map(PieceIndex)
    }

    /// Takes somebody's word for `states`, the first of which stands at `boundary`.
    pub(crate) fn hear(&mut self, boundary: u32, states: &[State]) -> Claim {
        match self.chain.learn(boundary, states) {
            Ok(new) => Claim::Taken { new },
            Err(types::ChainError::Conflict { .. }) if !self.contradicts_trust(boundary, states) => {
                Claim::Contradicts
            }
            Err(_) => Claim::False,
        }
    }

    fn contradicts_trust(&self, boundary: u32, states: &[State]) -> bool {
        (boundary..).zip(states).any(|(i, state)| self.trusts(i) && self.chain.state(i) != Some(state))
    }

    /// Learns a state that this host computed from the one before `piece`. Must not contradict.
    pub(crate) fn computed(&mut self, piece: PieceIndex, after: State) {
        let learnt = self.chain.learn(piece.0 + 1, &[after]);
        debug_assert!(learnt.is_ok(), "a computed state was compared with the known one before");
        if self.trusts(piece.0) {
            self.trusted.insert(piece.next());
        }
    }

    /// A piece was verified against the chain as it stands, and stored; whether it is new.
    pub(crate) fn hold(&mut self, piece: PieceIndex) -> bool {
        assert!(self.chain.link(piece).is_some(), "piece {piece} was verified without its states");
        self.suspects.remove(&piece);
        self.lost.remove(piece);
        self.held.insert(piece)
    }

    /// The piece is gone from the store; whether it was held.
    pub(crate) fn lose(&mut self, piece: PieceIndex) -> bool {
        self.suspects.remove(&piece);
        let held = self.held.remove(piece);
        if held && !self.proven {
            self.lost.insert(piece);
        }
        held
    }

    /// Readers have been told that this piece is void.
    pub(crate) fn told_void(&mut self, piece: PieceIndex) {
        self.lost.remove(piece);
    }

    /// Forgets a suspect, since its bytes are about to be replaced; whether it was one.
    pub(crate) fn give_up_suspect(&mut self, piece: PieceIndex) -> bool {
        self.suspects.remove(&piece).is_some()
    }

    /// A piece was verified against states that are not the chain's any more.
    pub(crate) fn suspect(&mut self, piece: PieceIndex, link: Link) {
        if !self.holds(piece) {
            self.suspects.insert(piece, link);
        }
    }

    /// Forgets every state that this host did not compute, and holds only what hangs on the others. Gives those of the lost
    /// pieces that hang on what is forgotten: that they were right can never be seen any more.
    pub(crate) fn reset(&mut self) -> Vec<PieceIndex> {
        let empty = Chain::new(*self.chain.digest(), self.layout).expect("the same chain was made before");
        let old = std::mem::replace(&mut self.chain, empty);
        for boundary in self.trusted.iter() {
            if let Some(state) = old.state(boundary.0) {
                let learnt = self.chain.learn(boundary.0, &[*state]);
                debug_assert!(learnt.is_ok(), "a trusted state was taken from the same chain");
            }
        }
        let hanging: Vec<_> = self.held.iter().filter(|piece| self.chain.link(*piece).is_none()).collect();
        for piece in hanging {
            self.held.remove(piece);
            if let Some((before, after)) = old.link(piece) {
                self.suspects.insert(piece, Link { before: *before, after: *after });
            }
        }
        let doubtful: Vec<_> = self.lost.iter().filter(|piece| self.chain.link(*piece).is_none()).collect();
        for piece in &doubtful {
            self.lost.remove(*piece);
        }
        doubtful
    }

    /// The states that this host computed, in runs with their first boundary; the two ends alone are no news.
    pub(crate) fn trusted_runs(&self) -> Vec<(u32, Vec<State>)> {
        let runs = self.trusted.runs().map(|run| {
            let states = run.clone().filter_map(|i| self.chain.state(i).copied()).collect();
            (run.start, states)
        });
        let count = self.layout.count();
        runs.filter(|(first, states): &(u32, Vec<State>)| {
            states.len() > 1 || (*first != 0 && *first != count)
        })
        .collect()
    }

    /// Distrusts even what this host computed: the origin's bytes are not the blob's. Gives all pieces, now void; none if
    /// they are proven.
    pub(crate) fn void_all(&mut self) -> PieceSet {
        if self.proven {
            return PieceSet::empty(self.layout.count());
        }
        let none = PieceSet::empty(self.layout.count());
        let mut void = std::mem::replace(&mut self.lost, none.clone());
        self.trust_ends_only();
        self.reset();
        let held = std::mem::replace(&mut self.held, none);
        for piece in held.iter().chain(std::mem::take(&mut self.suspects).into_keys()) {
            void.insert(piece);
        }
        void
    }

    /// Looks at the suspects again, after states were learnt.
    pub(crate) fn resolve(&mut self) -> Resolved {
        let mut resolved = Resolved::default();
        let chain = &self.chain;
        let held = &mut self.held;
        self.suspects.retain(|piece, link| {
            let before = chain.state(piece.0).map(|state| *state == link.before);
            let after = chain.state(piece.0 + 1).map(|state| *state == link.after);
            match (before, after) {
                (Some(true), Some(true)) => {
                    held.insert(*piece);
                    resolved.right.push(*piece);
                    false
                }
                (Some(false), _) | (_, Some(false)) => {
                    resolved.wrong.push(*piece);
                    false
                }
                _ => true,
            }
        });
        resolved
    }

    fn trust_ends_only(&mut self) {
        let count = self.layout.count();
        self.trusted = PieceSet::empty(count + 1);
        self.trusted.insert(PieceIndex(0));
        self.trusted.insert(PieceIndex(count));
    }

    /// # Panics
    /// If what is held and what is known do not fit together.
    pub(crate) fn check_invariants(&self) {
        for piece in self.held.iter() {
            assert!(self.chain.link(piece).is_some(), "piece {piece} is held without its states");
            assert!(!self.suspects.contains_key(&piece), "piece {piece} is held and suspect");
        }
        for boundary in self.trusted.iter() {
            assert!(self.chain.state(boundary.0).is_some(), "trusted state {boundary} is not known");
        }
        assert!(!self.proven || self.trusted.is_full(), "a proven chain is not trusted");
        let full = self.held.is_full();
        assert!(!full || self.chain.is_whole(), "every piece is held but a state is missing");
    }
}
