//! Reading from the origin: under the lease, alone, and past the chain.

use crate::alone::Mode;
use crate::proof::Link;
use crate::readers::Need;
use crate::turn::Turn;
use crate::{Download, Effect, Failure, ReadId, StoreFailed};
use std::ops::Range;
use std::time::Duration;
use types::{Credential, Epoch, HostBody, LeaseFailure, PieceFrom, PieceIndex, State};

/// How often the scheduler hears at most that bytes come.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// What reading alone could do for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
    /// All that it waits for is under way.
    UnderWay,
    /// This piece is the next to be read, and all between the last known state and the reader's.
    From(PieceIndex),
    /// No known state is near enough.
    Far,
}

impl Download {
    /// Starts what should be read now.
    pub(crate) fn read(&mut self, needs: &[Need], turn: &mut Turn<'_>) {
        self.read_leased(turn);
        // Only for a client is the origin asked without a lease.
        let awaited = needs.partition_point(|need| need.is_awaited);
        let needs = &needs[..awaited];
        let helps: Vec<_> = needs.iter().map(|need| self.help_for(need)).collect();
        let waiting: Vec<_> = needs
            .iter()
            .zip(&helps)
            .filter(|(_, help)| **help != Help::UnderWay)
            .map(|(need, _)| *need)
            .collect();
        let mode = self.alone.mode(turn, &waiting, self.proof.held().count());
        let may_read = match mode {
            _ if waiting.is_empty() => false,
            Mode::Together => false,
            Mode::Stripes => self.may_read_alone(&waiting, true, turn),
            Mode::All => self.may_read_alone(&waiting, false, turn),
        };
        if self.is_stopped() {
            return;
        }
        if may_read && mode == Mode::Stripes {
            self.read_stripe(needs, &helps, turn);
        } else if may_read {
            self.read_all(needs, turn);
        }
        self.read_through(needs, &helps, mode, turn);
    }

    /// Bytes come, if no whole piece: a source says so, or its lease would lapse while the origin is slow.
    pub(crate) fn origin_moved(&mut self, read: ReadId, turn: &mut Turn<'_>) {
        if !self.source.is_leased(read) {
            return;
        }
        self.alone.progressed(turn.now);
        let Some(epoch) = self.lease() else { return };
        let due = self.told.alive_at.is_none_or(|at| turn.now >= at + ALIVE_INTERVAL);
        if due && self.alone.is_up() {
            self.told.alive_at = Some(turn.now);
            self.send(HostBody::LeaseAlive { epoch }, turn);
        }
    }

    /// Whether the origin is to be asked without a lease now. Gives the readers up if nothing can help them.
    fn may_read_alone(&mut self, waiting: &[Need], with_scheduler: bool, turn: &mut Turn<'_>) -> bool {
        let blocked_since = waiting.iter().find_map(|need| need.since);
        let mut given_up = None;
        if let Some(since) = blocked_since {
            // Peers may still deliver what is under way; a scheduler may still find a source.
            let denied = self.credential == Credential::None
                && if with_scheduler {
                    self.alone.is_hopeless(turn, since, &self.options)
                } else {
                    self.peers.count() == 0 && !self.source.is_active()
                };
            given_up = if denied {
                Some(Failure::Denied)
            } else {
                self.alone.given_up(turn, &self.options).map(Failure::Origin)
            };
        }
        if let Some(reason) = given_up {
            self.fail(reason, turn);
            return false;
        }
        self.credential != Credential::None && self.alone.may_retry(turn)
    }

    fn read_leased(&mut self, turn: &mut Turn<'_>) {
        if !self.readers.is_awaited() && !self.alone.is_up() {
            return;
        }
        let mut from = PieceIndex(0);
        while let Some(lease) = &self.source.lease {
            let Some(first) = lease.todo.next_in(from).filter(|piece| piece.0 < lease.limit) else { return };
            if self.source.is_busy(first) {
                from = first.next();
                continue;
            }
            let allowed = |piece: PieceIndex| piece.0 < lease.limit && lease.todo.contains(piece);
            let stripe = self.source.stripe(first, self.stripe_bytes(first), allowed);
            if !self.has_room(&stripe) {
                return;
            }
            from = PieceIndex(stripe.end);
            self.source.begin(stripe, true, turn);
        }
    }

    /// The longest that a source's request from `first` on may be. Requests share the origin's link, so that of long ones all but the
    /// first come at once, late; but at the start the others have nothing to do until the first pieces come. So requests grow,
    /// each at most half of what lies before it. A small blob is not worth the round trips.
    fn stripe_bytes(&self, first: PieceIndex) -> u64 {
        let longest = self.options.stripe_bytes;
        if self.layout.size() <= self.options.window_bytes * 2 {
            return longest;
        }
        longest.min(u64::from(first.0) * u64::from(self.layout.piece_len()) / 2)
    }

    /// One stripe for the reader that has waited longest.
    fn read_stripe(&mut self, needs: &[Need], helps: &[Help], turn: &mut Turn<'_>) {
        if self.source.is_reading_alone() || !self.has_reserve() {
            return;
        }
        let first = helps.iter().find_map(|help| match help {
            Help::From(piece) => Some(*piece),
            Help::UnderWay | Help::Far => None,
        });
        if needs.iter().any(|need| need.since.is_some())
            && let Some(first) = first
        {
            self.begin_alone(first, turn);
        }
    }

    /// First what readers wait for, then what they will need, as far as there is room.
    fn read_all(&mut self, needs: &[Need], turn: &mut Turn<'_>) {
        for need in needs.iter().filter(|need| need.since.is_some()) {
            while let Help::From(first) = self.help_for(need) {
                let stuck = !self.source.is_active() && self.has_reserve();
                if !stuck && !self.has_room(&self.stripe_alone(first)) {
                    return;
                }
                self.begin_alone(first, turn);
            }
        }
        for need in needs {
            if self.help_for(need) == Help::Far {
                continue;
            }
            let end = self.readers.needs_up_to(need.reader);
            let mut from = need.piece;
            while let Some(first) = self.proof.held().next_out(from).filter(|piece| piece.0 < end) {
                if self.source.is_busy(first) {
                    from = first.next();
                    continue;
                }
                let stripe = self.stripe_alone(first);
                if !self.has_room(&stripe) {
                    return;
                }
                from = PieceIndex(stripe.end);
                self.begin_alone(first, turn);
            }
        }
    }

    fn stripe_alone(&self, first: PieceIndex) -> Range<u32> {
        self.source.stripe(first, self.options.stripe_bytes, |piece| !self.proof.holds(piece))
    }

    fn begin_alone(&mut self, first: PieceIndex, turn: &mut Turn<'_>) {
        let stripe = self.stripe_alone(first);
        let todo = self.source.lease.as_ref().map(|lease| &lease.todo);
        let leased = todo.is_some_and(|todo| stripe.clone().all(|i| todo.contains(PieceIndex(i))));
        self.source.begin(stripe, leased, turn);
    }

    fn has_room(&self, stripe: &Range<u32>) -> bool {
        let bytes: u64 = stripe.clone().map(|i| u64::from(self.layout.len_of(PieceIndex(i)))).sum();
        let unhashed = self.source.unhashed_bytes();
        self.source.reads_count() < self.options.origin_streams.max(1)
            && (unhashed == 0 || unhashed + bytes <= self.options.window_bytes)
    }

    /// Whether one more stripe may be read though the window is full: for a reader, while what is kept waits for a state
    /// that only this stripe may bring.
    fn has_reserve(&self) -> bool {
        self.source.unhashed_bytes() <= self.window_max()
    }

    /// The window, or one stripe if that is more.
    pub(crate) fn window_max(&self) -> u64 {
        self.options.window_bytes.max(self.stripe_max())
    }

    pub(crate) fn stripe_max(&self) -> u64 {
        self.options.stripe_bytes.max(u64::from(self.layout.piece_len()))
    }

    fn help_for(&self, need: &Need) -> Help {
        // A reader from the first byte on must not be read past the proof, so for it nothing is too far.
        let look_back = if need.from_start { u32::MAX } else { self.pieces_in(self.options.readahead_bytes) };
        let Some(known) = self.proof.known_before(need.piece, look_back) else { return Help::Far };
        let next = (known.0..=need.piece.0).map(PieceIndex).find(|piece| !self.source.is_busy(*piece));
        next.map_or(Help::UnderWay, Help::From)
    }

    fn pieces_in(&self, bytes: u64) -> u32 {
        u32::try_from(bytes / u64::from(self.layout.piece_len())).unwrap_or(u32::MAX).max(1)
    }

    /// Sends readers that the chain will not reach soon to the origin, for a bounded part of what they want.
    fn read_through(&mut self, needs: &[Need], helps: &[Help], mode: Mode, turn: &mut Turn<'_>) {
        let near = self.near_up_to(needs);
        for (need, help) in needs.iter().zip(helps) {
            let Some(since) = need.since else { continue };
            let waits_long = turn.reached(since + self.options.readahead_time);
            let past = if need.unproven {
                waits_long && self.readers.is_short_part(need.reader, self.options.readahead_bytes)
            } else {
                let cold = *help == Help::Far && need.piece.0 > near;
                let at_once = need.cold || mode == Mode::All;
                cold && (at_once || waits_long) && !self.comes_soon(need.piece, turn)
            };
            if !past || self.readers.read_through_count() >= self.options.read_through_max.max(1) {
                continue;
            }
            let bytes_max = self.options.readahead_bytes.max(u64::from(self.layout.piece_len()));
            if let Some(range) = self.readers.read_through(need.reader, bytes_max) {
                turn.push(Effect::ReadThrough { reader: need.reader, range });
            }
        }
    }

    /// The last piece that the chain will come to by reading in order. Readers that follow each other at short
    /// distances, as those of a runtime that fetches one layer in parallel, move that end on.
    fn near_up_to(&self, needs: &[Need]) -> u32 {
        let ahead = self.pieces_in(self.options.readahead_bytes);
        let mut pieces: Vec<_> = needs.iter().map(|need| need.piece.0).collect();
        pieces.sort_unstable();
        let first = self.proof.chain().prefix().saturating_add(ahead);
        pieces
            .into_iter()
            .fold(first, |near, piece| if piece <= near { near.max(piece + ahead) } else { near })
    }

    /// Whether the chain will come to `piece` in a moment at the present pace.
    fn comes_soon(&mut self, piece: PieceIndex, turn: &mut Turn<'_>) -> bool {
        let pieces = piece.0.saturating_sub(self.proof.chain().prefix());
        let bytes = u64::from(pieces) * u64::from(self.layout.piece_len());
        let time = self.options.readahead_time;
        let soon = self.pace.covers(turn.now, bytes, time);
        if soon {
            // Looks again then, should the pace not last.
            turn.reached(turn.now + time);
        }
        soon
    }

    pub(crate) fn read_ended(&mut self, read: ReadId, result: Result<(), LeaseFailure>, turn: &mut Turn<'_>) {
        let Some((left, leased)) = self.source.ended(read) else { return };
        let why = match result {
            Ok(()) if left.is_empty() => return,
            // It ended early without saying why.
            Ok(()) => LeaseFailure::Unreachable,
            Err(why) => why,
        };
        let leased = leased && self.source.lease.is_some() && self.alone.is_up();
        match why {
            LeaseFailure::Local => self.store_failed(turn),
            LeaseFailure::Wrong => {
                self.return_lease(LeaseFailure::Wrong, turn);
                self.fail(Failure::OriginWrong, turn);
            }
            LeaseFailure::NotFound if !leased => self.fail(Failure::NotFound, turn),
            LeaseFailure::NotFound => self.return_lease(why, turn),
            LeaseFailure::Refused | LeaseFailure::CredentialEnds => {
                self.credential = Credential::None;
                self.return_lease(why, turn);
            }
            LeaseFailure::Throttled | LeaseFailure::Unreachable | LeaseFailure::NoReader => {
                self.alone.origin_failed(turn.now, why.clone(), &self.options, &mut self.rng);
                if leased {
                    self.return_lease(why, turn);
                }
            }
        }
    }

    pub(crate) fn hashed(
        &mut self,
        piece: PieceIndex,
        after: State,
        matched: bool,
        stored: Result<(), StoreFailed>,
        turn: &mut Turn<'_>,
    ) {
        let Some(hashed) = self.source.hashed(piece, after) else { return };
        if matched && stored.is_err() {
            self.store_failed(turn);
            return;
        }
        let link = hashed.link;
        if hashed.void {
            self.discard(&[piece], turn);
            return;
        }
        if self.proof.chain().state(piece.0) != Some(&link.before) {
            // The chain was found false meanwhile.
            if matched {
                self.stored_in_doubt(piece, link, turn);
            }
            return;
        }
        match self.proof.chain().state(piece.0 + 1).copied() {
            Some(known) if known != after => self.contradicted(piece, link, hashed.leased, matched, turn),
            // It did not match what was known then, and has not been stored: it is read again.
            _ if !matched => {}
            known => {
                self.proof.computed(piece, after);
                // Also of a piece that was read alone: the source answers for the whole chain.
                if let Some(epoch) = self.lease() {
                    let states = vec![after];
                    self.send(HostBody::Chain { epoch, boundary: piece.0 + 1, states, closed: false }, turn);
                }
                self.alone.origin_worked();
                self.alone.progressed(turn.now);
                if known.is_none() {
                    self.learnt(piece.0 + 1, vec![after], turn);
                }
                let from = if hashed.leased { PieceFrom::Origin } else { PieceFrom::Fallback };
                self.held_now(piece, from, turn);
            }
        }
    }

    /// The origin's bytes do not lead to the state that somebody said comes after them.
    fn contradicted(
        &mut self,
        piece: PieceIndex,
        link: Link,
        leased: bool,
        stored: bool,
        turn: &mut Turn<'_>,
    ) {
        if stored {
            self.discard(&[piece], turn);
        }
        let trusted = self.proof.trusts(piece.0);
        if trusted && self.proof.trusts(piece.0 + 1) {
            // Every state up to here was computed from what the origin sent, or is proven.
            self.return_lease(LeaseFailure::Wrong, turn);
            let pieces = self.proof.void_all();
            if !pieces.is_empty() {
                turn.push(Effect::Discard { pieces });
            }
            if !self.proof.is_proven() {
                turn.push(Effect::ForgetStates);
            }
            self.fail(Failure::OriginWrong, turn);
            return;
        }
        match self.source.lease.take() {
            Some(lease) if leased => self.declare_false(lease.epoch, turn),
            // Read alone. Without a word the scheduler would assign the same chain again at once, and what comes from the
            // origin would be measured by it for ever.
            _ if self.told.chain_epoch > Epoch::default() => self.declare_false(self.told.chain_epoch, turn),
            _ => {}
        }
        self.reset_chain(turn);
        if trusted {
            self.proof.computed(piece, link.after);
            self.learnt(piece.0 + 1, vec![link.after], turn);
        }
    }

    fn store_failed(&mut self, turn: &mut Turn<'_>) {
        self.return_lease(LeaseFailure::Local, turn);
        self.fail(Failure::Store, turn);
    }

    /// Gives the lease back, if this host has it.
    pub(crate) fn return_lease(&mut self, why: LeaseFailure, turn: &mut Turn<'_>) {
        if let Some(epoch) = self.lease() {
            self.send(HostBody::LeaseReturned { epoch, why }, turn);
            self.end_lease(turn);
        }
    }

    /// Reads no more under the lease. What is being hashed stays.
    pub(crate) fn end_lease(&mut self, turn: &mut Turn<'_>) {
        self.source.lease = None;
        self.source.cancel(turn, |leased| leased);
    }

    /// Gives up a lease that was not confirmed after a reconnect: somebody else may have it.
    pub(crate) fn lapse_unconfirmed(&mut self, turn: &mut Turn<'_>) {
        let until = self.source.lease.as_ref().and_then(|lease| lease.unconfirmed_until);
        if until.is_some_and(|until| turn.reached(until)) {
            self.end_lease(turn);
        }
    }
}
