//! What the daemon's download engine does: carries out a download's effects, and reports.

use crate::host::{Fetching, Spot};
use crate::network::{Cargo, Job};
use crate::settings::STALL;
use crate::world::{Happening, World};
use download_core::{Effect, Event, FetchId, Fetched, ReadId};
use std::ops::Range;
use std::time::Duration;
use types::{FetchFailure, HostId, LeaseFailure, PieceIndex, State, hash_piece, verify_piece};

/// How often a daemon hears that bytes of a piece come from the origin.
pub(crate) const MOVED_INTERVAL: Duration = Duration::from_millis(500);
/// How long it takes to find that a host is not there.
const NOT_THERE: Duration = Duration::from_millis(700);

impl World {
    pub(crate) fn download_event(&mut self, spot: Spot, event: Event) {
        self.download_events(spot, [event]);
    }

    /// What a download finds to have happened by the time that it looks.
    fn download_events(&mut self, spot: Spot, events: impl IntoIterator<Item = Event>) {
        let mut effects = Vec::new();
        for event in events {
            self.trace.note(self.now, "to host", spot.host, &event);
            let Some(running) = self.hosts[spot.host].running(spot) else { return };
            running.core.tell(self.now, event, &mut effects);
            self.execute_all(spot, &mut effects);
        }
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        running.core.plan(self.now, &mut effects);
        if self.settings.thorough {
            running.core.check_invariants();
        }
        if let Some(deadline) = running.core.next_deadline() {
            assert!(deadline > self.now, "a deadline that has come must have been acted upon");
            if running.tick_at.is_none_or(|set| deadline < set) {
                running.tick_at = Some(deadline);
                self.queue.push(deadline, Happening::Tick { spot });
            }
        }
        self.execute_all(spot, &mut effects);
    }

    fn execute_all(&mut self, spot: Spot, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            self.trace.note(self.now, "host", spot.host, &effect);
            self.execute(spot, effect);
        }
    }

    pub(crate) fn download_tick(&mut self, spot: Spot) {
        let now = self.now;
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        if running.tick_at != Some(now) {
            return;
        }
        running.tick_at = None;
        match running.core.next_deadline() {
            Some(deadline) if deadline > now => {
                running.tick_at = Some(deadline);
                self.queue.push(deadline, Happening::Tick { spot });
            }
            Some(_) => self.download_events(spot, []),
            None => {}
        }
    }

    fn execute(&mut self, spot: Spot, effect: Effect) {
        let place = &mut self.hosts[spot.host].places[spot.blob];
        let Some(running) = &mut place.running else { return };
        match effect {
            Effect::Send(body) => self.say(spot.host, spot.blob, body),
            Effect::Fetch { fetch, parent, piece, before, after } => {
                self.fetch(spot, fetch, parent, (piece, before, after));
            }
            Effect::CancelFetch { fetch } => {
                running.fetches.remove(&fetch);
                self.uncarry(spot, Job::Fetch(fetch));
            }
            Effect::ReadOrigin { read, pieces } => self.read_origin(spot, read, pieces),
            Effect::CancelRead { read } => {
                running.reads.remove(&read);
                self.uncarry(spot, Job::Read(read));
            }
            Effect::Hash { piece, before, expect } => {
                let bytes = running.kept.remove(&piece).expect("what is to be hashed is kept");
                let at = self.now + self.settings.hash_time;
                self.queue.push(at, Happening::Hashes { spot, piece, before, expect, bytes });
            }
            Effect::DropBytes { piece } => drop(running.kept.remove(&piece)),
            Effect::LearnStates { boundary, states } => place.stored.learn(boundary, &states),
            Effect::ForgetStates => place.stored.forget_states(),
            Effect::Held { piece } => {
                assert!(place.stored.read(piece).is_some(), "piece {piece} is held but not stored");
                self.consume_soon(spot);
            }
            Effect::Closed => {
                place.stored.close();
                self.consume_soon(spot);
            }
            Effect::ReadThrough { reader, range } => self.begin_read_through(spot, reader, range),
            Effect::Discard { pieces } => {
                place.stored.discard(&pieces);
                self.fail_those_who_read(spot, &pieces);
            }
            Effect::FailReaders { reason } => self.fail_readers(spot, &reason),
            Effect::Stop => {
                assert!(running.readers.is_empty(), "a download stopped under its readers");
                let fetches = running.fetches.keys().map(|fetch| Job::Fetch(*fetch));
                let jobs: Vec<_> = fetches.chain(running.reads.keys().map(|read| Job::Read(*read))).collect();
                place.running = None;
                for job in jobs {
                    self.uncarry(spot, job);
                }
            }
        }
    }

    fn fetch(
        &mut self,
        spot: Spot,
        fetch: FetchId,
        parent: HostId,
        (piece, before, after): (PieceIndex, State, State),
    ) {
        let parent = self.numbers[&parent];
        let delay = self.delay();
        if let Some(running) = self.hosts[spot.host].running(spot) {
            running.fetches.insert(fetch, Fetching { parent, piece, before, after });
        }
        let (after, happening) = if self.hosts[parent].alive {
            (delay, Happening::Asked { spot, fetch })
        } else {
            (NOT_THERE, Happening::Unreachable { spot, fetch })
        };
        self.queue.push(self.now + after, happening);
    }

    fn fetching(&mut self, spot: Spot, fetch: FetchId) -> Option<Fetching> {
        self.hosts[spot.host].running(spot)?.fetches.get(&fetch).copied()
    }

    fn fetch_fails(&mut self, spot: Spot, fetch: FetchId, why: FetchFailure) {
        if let Some(running) = self.hosts[spot.host].running(spot)
            && running.fetches.remove(&fetch).is_some()
        {
            self.download_event(spot, Event::Fetched { fetch, outcome: Fetched::Failed(why) });
        }
    }

    pub(crate) fn parent_is_unreachable(&mut self, spot: Spot, fetch: FetchId) {
        self.fetch_fails(spot, fetch, FetchFailure::Unreachable);
    }

    /// The request reaches the parent.
    pub(crate) fn parent_is_asked(&mut self, spot: Spot, fetch: FetchId) {
        let Some(Fetching { parent, piece, .. }) = self.fetching(spot, fetch) else { return };
        let stalls = self.settings.stalls > 0 && self.rng.u32(..self.settings.stalls) == 0;
        let range = self.settings.piece_time.clone();
        let time = self.between(&range);
        let cut_off = self.are_parted(parent, spot.host);
        let host = &mut self.hosts[parent];
        if !host.alive || cut_off {
            return self.fetch_fails(spot, fetch, FetchFailure::Unreachable);
        }
        let Some(bytes) = host.places[spot.blob].stored.read(piece) else {
            return self.fetch_fails(spot, fetch, FetchFailure::NotHeld);
        };
        if host.uploads >= self.settings.upload_slots {
            if self.settings.slot_patience.is_zero() {
                return self.fetch_fails(spot, fetch, FetchFailure::Busy);
            }
            host.waiting.push_back((spot, fetch));
            let at = self.now + self.settings.slot_patience;
            return self.queue.push(at, Happening::NoSlot { spot, fetch });
        }
        let mut bytes = bytes.to_vec();
        if host.corrupts {
            bytes[0] ^= 0x80;
        }
        host.uploads += 1;
        let from = (parent, host.incarnation);
        let nearly = self.now + time.saturating_sub(*self.settings.delay.end());
        if stalls {
            let at = self.now + STALL;
            return self.queue.push(at, Happening::Comes { spot, fetch, from, bytes: None });
        }
        if self.network.is_some() {
            let len = bytes.len() as u64;
            return self.carry(spot, len, Cargo::Piece { fetch, from, bytes });
        }
        self.queue.push(nearly, Happening::Nearly { spot, fetch });
        self.queue.push(self.now + time, Happening::Comes { spot, fetch, from, bytes: Some(bytes) });
    }

    pub(crate) fn piece_nearly_comes(&mut self, spot: Spot, fetch: FetchId) {
        if let Some(Fetching { parent, .. }) = self.fetching(spot, fetch)
            && self.hosts[parent].alive
        {
            self.download_event(spot, Event::Fetched { fetch, outcome: Fetched::NearlyDone });
        }
    }

    /// An upload ends: the parent's slot is free for who waits, if it still runs.
    pub(crate) fn upload_ends(&mut self, from: (usize, u64)) {
        let parent = &mut self.hosts[from.0];
        if !parent.alive || parent.incarnation != from.1 {
            return;
        }
        parent.uploads -= 1;
        while self.hosts[from.0].uploads < self.settings.upload_slots
            && let Some((spot, fetch)) = self.hosts[from.0].waiting.pop_front()
        {
            self.parent_is_asked(spot, fetch);
        }
    }

    /// A request has waited for an upload slot for long enough.
    pub(crate) fn slot_did_not_come(&mut self, spot: Spot, fetch: FetchId) {
        let Some(Fetching { parent, .. }) = self.fetching(spot, fetch) else { return };
        let waiting = &mut self.hosts[parent].waiting;
        if let Some(place) = waiting.iter().position(|waits| *waits == (spot, fetch)) {
            waiting.remove(place);
            self.fetch_fails(spot, fetch, FetchFailure::Busy);
        }
    }

    /// A transfer ends: the parent's slot is free, and the child checks what it got. `from` is the parent and how often
    /// it had been started when it was asked.
    pub(crate) fn piece_comes(
        &mut self,
        spot: Spot,
        fetch: FetchId,
        from: (usize, u64),
        bytes: Option<&[u8]>,
    ) {
        let parent = &self.hosts[from.0];
        let same = parent.alive && parent.incarnation == from.1 && !self.are_parted(from.0, spot.host);
        if self.network.is_none() || bytes.is_none() {
            self.upload_ends(from);
        }
        let Some(Fetching { piece, before, after, .. }) = self.fetching(spot, fetch) else { return };
        if !same {
            return self.fetch_fails(spot, fetch, FetchFailure::Unreachable);
        }
        let Some(bytes) = bytes else { return self.fetch_fails(spot, fetch, FetchFailure::Stalled) };
        self.outcome.uploaded_bytes.resize(self.hosts.len(), 0);
        self.outcome.uploaded_bytes[from.0] += bytes.len() as u64;
        if verify_piece(self.blobs[spot.blob].layout, piece, &before, &after, bytes).is_err() {
            return self.fetch_fails(spot, fetch, FetchFailure::Corrupt);
        }
        let place = &mut self.hosts[spot.host].places[spot.blob];
        place.stored.write(piece, bytes);
        if let Some(running) = &mut place.running {
            running.fetches.remove(&fetch);
        }
        self.download_event(spot, Event::Fetched { fetch, outcome: Fetched::Stored });
    }

    fn read_origin(&mut self, spot: Spot, read: ReadId, pieces: Range<u32>) {
        assert!(!pieces.is_empty());
        if let Some(running) = self.hosts[spot.host].running(spot) {
            running.reads.insert(read, pieces);
        }
        if self.network.is_some() {
            let round_trip = self.delay() + self.delay();
            return self.queue.push(self.now + round_trip, Happening::OriginAsked { spot, read });
        }
        let time = self.delay() + self.origin_time();
        self.queue.push(self.now + time, Happening::Origin { spot, read });
    }

    /// A request has reached the origin, and its answer this host: bytes follow, unless it is an error.
    pub(crate) fn origin_is_asked(&mut self, spot: Spot, read: ReadId) {
        if self.origin_refusal(spot.host).is_some() {
            return self.origin_sends(spot, read);
        }
        self.origin_goes_on(spot, read);
    }

    /// Puts the next piece of a request on the links.
    fn origin_goes_on(&mut self, spot: Spot, read: ReadId) {
        let layout = self.blobs[spot.blob].layout;
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        let Some(pieces) = running.reads.get(&read) else { return };
        let piece = pieces.start;
        self.carry(spot, u64::from(layout.len_of(PieceIndex(piece))), Cargo::Origin { read });
        self.queue.push(self.now + MOVED_INTERVAL, Happening::OriginMoves { spot, read, piece });
    }

    /// A piece is still on its way from the origin.
    pub(crate) fn origin_moves(&mut self, spot: Spot, read: ReadId, piece: u32) {
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        if running.reads.get(&read).is_some_and(|pieces| pieces.start == piece) {
            self.queue.push(self.now + MOVED_INTERVAL, Happening::OriginMoves { spot, read, piece });
            self.download_event(spot, Event::OriginMoved { read });
        }
    }

    pub(crate) fn origin_time(&mut self) -> Duration {
        let range = self.settings.origin_time.clone();
        self.between(&range)
    }

    /// Why the origin sends nothing to this host now, if so.
    pub(crate) fn origin_refusal(&self, host: usize) -> Option<LeaseFailure> {
        let failing =
            self.origin.failing.as_ref().filter(|(_, until)| self.now < *until).map(|(why, _)| why.clone());
        failing.or_else(|| (!self.hosts[host].has_right).then_some(LeaseFailure::Refused))
    }

    /// The next piece of a request has come, or its end.
    pub(crate) fn origin_sends(&mut self, spot: Spot, read: ReadId) {
        let refusal = self.origin_refusal(spot.host);
        let time = self.origin_time();
        let lies = self.hosts[spot.host].is_lied_to && self.rng.u8(..8) == 0;
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        let Some(pieces) = running.reads.get_mut(&read) else { return };
        if let Some(why) = refusal {
            running.reads.remove(&read);
            return self.download_event(spot, Event::OriginEnded { read, result: Err(why) });
        }
        let Some(piece) = pieces.next().map(PieceIndex) else {
            running.reads.remove(&read);
            return self.download_event(spot, Event::OriginEnded { read, result: Ok(()) });
        };
        let last = pieces.start == pieces.end;
        let mut bytes = self.blobs[spot.blob].piece(piece).to_vec();
        bytes[0] ^= u8::from(lies);
        self.origin.bytes += bytes.len() as u64;
        running.kept.insert(piece, bytes);
        if last || self.network.is_none() {
            let after = if last { Duration::ZERO } else { time };
            self.queue.push(self.now + after, Happening::Origin { spot, read });
        } else {
            self.origin_goes_on(spot, read);
        }
        self.download_event(spot, Event::OriginPiece { read, piece });
    }

    pub(crate) fn piece_is_hashed(
        &mut self,
        spot: Spot,
        piece: PieceIndex,
        (before, expect): (State, Option<State>),
        bytes: &[u8],
    ) {
        let after =
            hash_piece(self.blobs[spot.blob].layout, piece, &before, bytes).expect("whole pieces are kept");
        let matched = expect.is_none_or(|expect| expect == after);
        if self.hosts[spot.host].running(spot).is_none() {
            return;
        }
        if matched {
            self.hosts[spot.host].places[spot.blob].stored.write(piece, bytes);
        }
        self.download_event(spot, Event::Hashed { piece, after, stored: Ok(()), matched });
    }
}
