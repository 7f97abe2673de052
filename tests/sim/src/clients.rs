//! Clients: they read what the driver lets them, check what they got, and come again after an error.

use crate::blob::{Blob, to_index};
use crate::host::{Reader, Running, Spot};
use crate::world::{Happening, World};
use download_core::{Download, Event, Failure, ReaderId, Spec};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{ByteRange, Credential, PieceIndex, PieceSet};

/// Between two looks of a reader at what there is.
const LOOK: Duration = Duration::from_micros(50);
/// Before a client that got an error tries again.
const RETRY: Duration = Duration::from_millis(500);

impl World {
    pub(crate) fn client_comes(&mut self, host: usize, blob: usize, client: usize) {
        let place = &mut self.hosts[host].places[blob];
        let visitor = &mut place.clients[client];
        if visitor.done || visitor.reading || !self.hosts[host].alive {
            return;
        }
        let place = &mut self.hosts[host].places[blob];
        let range = place.clients[client].range;
        if place.stored.is_closed() && place.stored.pieces().is_full() {
            let piece = |piece| place.stored.read(piece).expect("all are held");
            let content: Vec<u8> = self.blobs[blob].layout.pieces().flat_map(piece).copied().collect();
            assert!(content == self.blobs[blob].content, "the cache has a wrong blob");
            place.clients[client].done = true;
            self.is_served(host, blob);
            return;
        }
        place.clients[client].reading = true;
        if place.running.is_none() {
            self.start_download(host, blob);
        }
        let has_right = self.hosts[host].has_right;
        let Some(running) = &mut self.hosts[host].places[blob].running else { return };
        let spot = Spot { host, blob, serial: running.serial };
        let reader = ReaderId(running.next_reader);
        running.next_reader += 1;
        running.readers.insert(reader, Reader { client, range, got: Vec::new(), through: None });
        if has_right {
            self.download_event(spot, Event::Credential(Credential::Anonymous));
        }
        self.download_event(spot, Event::ReaderJoined { reader, range, priority: self.priority(blob) });
        self.consume_soon(spot);
    }

    fn start_download(&mut self, host: usize, blob: usize) {
        let seed = self.rng.u64(..);
        let Blob { key, layout, .. } = &self.blobs[blob];
        let place = &self.hosts[host].places[blob];
        let spec = Spec {
            key: key.clone(),
            layout: *layout,
            held: place.stored.pieces().clone(),
            chain: place.stored.chain().clone(),
            credential: if self.hosts[host].has_right { Credential::Anonymous } else { Credential::None },
            link: self.hosts[host].link,
        };
        let running = Running {
            serial: self.next_serial,
            core: Download::new(self.settings.download.clone(), seed, spec),
            fetches: BTreeMap::new(),
            reads: BTreeMap::new(),
            kept: BTreeMap::new(),
            readers: BTreeMap::new(),
            next_reader: 0,
            tick_at: None,
        };
        self.next_serial += 1;
        self.hosts[host].places[blob].running = Some(running);
    }

    pub(crate) fn consume_soon(&mut self, spot: Spot) {
        self.queue.push(self.now + LOOK, Happening::Consumes { spot });
    }

    /// Every reader takes what there is for it; the blob's last byte only when the blob is proven.
    pub(crate) fn readers_consume(&mut self, spot: Spot) {
        let layout = self.blobs[spot.blob].layout;
        let place = &mut self.hosts[spot.host].places[spot.blob];
        let Some(running) = place.running.as_mut().filter(|running| running.serial == spot.serial) else {
            return;
        };
        let last = if place.stored.is_closed() { layout.size() } else { layout.size() - 1 };
        let mut moved = Vec::new();
        for (id, reader) in running.readers.iter_mut().filter(|(_, reader)| reader.through.is_none()) {
            let before = reader.offset();
            while reader.offset() < reader.range.end().min(last)
                && let Some(piece) = layout.piece_at(reader.offset())
                && let Some(bytes) = place.stored.read(piece)
            {
                let start = layout.range(piece).start();
                let end = layout.range(piece).end().min(reader.range.end()).min(last);
                reader
                    .got
                    .extend_from_slice(&bytes[to_index(reader.offset() - start)..to_index(end - start)]);
            }
            if reader.offset() > before {
                moved.push((*id, reader.offset()));
            }
        }
        for (reader, offset) in moved {
            self.download_event(spot, Event::ReaderMoved { reader, offset });
        }
        self.see_off(spot);
    }

    /// Readers that have all they wanted leave, and must have the right bytes.
    fn see_off(&mut self, spot: Spot) {
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        let finished =
            |(id, reader): (&ReaderId, &Reader)| (reader.offset() == reader.range.end()).then_some(*id);
        let finished: Vec<_> = running.readers.iter().filter_map(finished).collect();
        for id in finished {
            let Some(reader) = self.take_reader(spot, id) else { continue };
            let right = self.blobs[spot.blob].bytes(reader.range) == reader.got;
            let whole = reader.range.len() == self.blobs[spot.blob].layout.size();
            assert!(right || !whole, "a client got a wrong blob");
            let place = &mut self.hosts[spot.host].places[spot.blob];
            // Where only this host has a right, the others depend on it for what it lost behind this reader's back.
            let mut read = self.blobs[spot.blob].layout.pieces_of(reader.range).map(PieceIndex);
            let done = right && read.all(|piece| place.stored.pieces().contains(piece));
            place.clients[reader.client].done = done;
            if done {
                self.is_served(spot.host, spot.blob);
            } else {
                // A part is not proven; this client checks it and asks again.
                self.comes_again(spot, reader.client);
            }
            self.download_event(spot, Event::ReaderLeft { reader: id });
        }
    }

    fn take_reader(&mut self, spot: Spot, reader: ReaderId) -> Option<Reader> {
        let reader = self.hosts[spot.host].running(spot)?.readers.remove(&reader)?;
        self.hosts[spot.host].places[spot.blob].clients[reader.client].reading = false;
        Some(reader)
    }

    fn comes_again(&mut self, spot: Spot, client: usize) {
        let Spot { host, blob, .. } = spot;
        self.queue.push(self.now + RETRY, Happening::ClientComes { host, blob, client });
    }

    /// The download failed: all its readers get the error.
    pub(crate) fn fail_readers(&mut self, spot: Spot, why: &Failure) {
        self.outcome.failures.push((spot.host, spot.blob, why.clone()));
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        let readers: Vec<_> = running.readers.keys().copied().collect();
        for reader in readers {
            if let Some(reader) = self.take_reader(spot, reader) {
                self.comes_again(spot, reader.client);
            }
        }
    }

    /// Readers that were given bytes of void pieces get an error: what they have is not the blob.
    pub(crate) fn fail_those_who_read(&mut self, spot: Spot, void: &PieceSet) {
        let layout = self.blobs[spot.blob].layout;
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        let has_read = |reader: &Reader| {
            ByteRange::new(reader.range.start(), reader.offset())
                .is_some_and(|read| void.iter().any(|piece| layout.range(piece).intersect(read).is_some()))
        };
        let failed: Vec<_> = running.readers.iter().filter(|(_, r)| has_read(r)).map(|(id, _)| *id).collect();
        for id in failed {
            if let Some(reader) = self.take_reader(spot, id) {
                self.comes_again(spot, reader.client);
                self.leaves_soon(spot, id);
            }
        }
    }

    /// Tells the core of a reader that is gone, once what is being carried out now has been.
    fn leaves_soon(&mut self, spot: Spot, reader: ReaderId) {
        self.queue.push(self.now, Happening::Leaves { spot, reader });
    }

    pub(crate) fn begin_read_through(&mut self, spot: Spot, reader: ReaderId, range: ByteRange) {
        let time = self.delay() + self.origin_time();
        if let Some(running) = self.hosts[spot.host].running(spot)
            && let Some(reader) = running.readers.get_mut(&reader)
        {
            assert!(reader.range.start() > 0, "a whole blob was read past its proof");
            reader.through = Some(range);
        }
        self.queue.push(self.now + time, Happening::ReadThrough { spot, reader });
    }

    pub(crate) fn read_through_ends(&mut self, spot: Spot, id: ReaderId) {
        let refusal = self.origin_refusal(spot.host);
        let content = &self.blobs[spot.blob].content;
        let Some(running) = self.hosts[spot.host].running(spot) else { return };
        let Some(reader) = running.readers.get_mut(&id) else { return };
        let Some(range) = reader.through.take() else { return };
        if refusal.is_some() {
            if let Some(reader) = self.take_reader(spot, id) {
                self.comes_again(spot, reader.client);
            }
            return self.download_event(spot, Event::ReaderLeft { reader: id });
        }
        let from = reader.offset().max(range.start());
        reader.got.extend_from_slice(&content[to_index(from)..to_index(range.end().max(from))]);
        let offset = reader.offset();
        self.origin.through_bytes += range.len();
        self.download_event(spot, Event::ReaderMoved { reader: id, offset });
        self.readers_consume(spot);
    }

    /// All clients of a host leave; those that have not finished come back at a time of their own.
    pub(crate) fn clients_leave(&mut self, host: usize, back_after: Duration) {
        for blob in 0..self.blobs.len() {
            let Some(running) = &self.hosts[host].places[blob].running else { continue };
            let spot = Spot { host, blob, serial: running.serial };
            let readers: Vec<_> = running.readers.keys().copied().collect();
            for reader in readers {
                if let Some(Reader { client, .. }) = self.take_reader(spot, reader) {
                    self.queue.push(self.now + back_after, Happening::ClientComes { host, blob, client });
                    self.download_event(spot, Event::ReaderLeft { reader });
                }
            }
        }
    }
}
