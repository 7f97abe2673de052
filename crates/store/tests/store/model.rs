//! The store against a model of it: any sequence of calls, crashes and damage to the files.
//!
//! A crash is a store dropped without a close; what no sync covered is then overwritten in the files, as if it had never
//! reached the disk.

use crate::sample::{Sample, open};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use store::{Store, StoreError};
use types::{Digest, PieceIndex, PieceSet};

/// Blobs of one piece, of two, of several with a short one at the end.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    [100, 256, 900].iter().zip(0..).map(|(size, seed)| Sample::new(seed, *size, 128)).collect()
});

#[derive(Clone, Debug)]
enum Op {
    Create(usize),
    Learn(usize),
    Write(usize, u32),
    Read(usize, u32),
    Close(usize),
    Discard(usize, u32),
    Forget(usize),
    Evict(usize),
    Damage(usize, u32),
    Sync,
    Restart,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let blob = 0..SAMPLES.len();
    let piece = || (0..SAMPLES.len(), 0..8u32).prop_map(|(b, p)| (b, p % SAMPLES[b].layout.count()));
    prop_oneof![
        3 => blob.clone().prop_map(Op::Create),
        4 => blob.clone().prop_map(Op::Learn),
        16 => piece().prop_map(|(b, p)| Op::Write(b, p)),
        8 => piece().prop_map(|(b, p)| Op::Read(b, p)),
        3 => blob.clone().prop_map(Op::Close),
        2 => piece().prop_map(|(b, p)| Op::Discard(b, p)),
        1 => blob.clone().prop_map(Op::Forget),
        1 => blob.prop_map(Op::Evict),
        2 => piece().prop_map(|(b, p)| Op::Damage(b, p)),
        4 => Just(Op::Sync),
        1 => Just(Op::Restart),
        2 => Just(Op::Crash),
    ]
}

/// What should be known of one blob.
#[derive(Clone, Debug, Default)]
struct Model {
    present: bool,
    held: BTreeSet<u32>,
    unsynced: BTreeSet<u32>,
    checked: BTreeSet<u32>,
    damaged: BTreeSet<u32>,
    /// Whether the states between the ends are known.
    known: bool,
    closed: bool,
    stored: Stored,
}

/// What a restart should find of it.
#[derive(Clone, Debug, Default)]
struct Stored {
    pieces: BTreeSet<u32>,
    known: bool,
    closed: bool,
}

impl Model {
    /// The record is written without a sync of the file.
    fn save(&mut self) {
        let pieces = self.held.difference(&self.unsynced).copied().collect();
        self.stored = Stored { pieces, known: self.known, closed: self.closed };
    }

    fn sync(&mut self) {
        if self.present {
            self.unsynced.clear();
            self.save();
        }
    }

    fn remove_piece(&mut self, piece: u32) {
        for set in [&mut self.held, &mut self.unsynced, &mut self.checked] {
            set.remove(&piece);
        }
    }

    fn provable(&self, count: u32) -> bool {
        self.known || count == 1
    }

    fn restart(&mut self, count: u32) {
        let Stored { pieces, known, closed } = self.stored.clone();
        let damaged = std::mem::take(&mut self.damaged);
        *self = Self { known, closed, ..Self::default() };
        if self.provable(count) {
            self.damaged = damaged.intersection(&pieces).copied().collect();
            self.held = pieces;
        }
        self.present = !self.held.is_empty();
        if !self.present {
            self.known = closed;
        }
        self.save();
    }

    fn evict(&mut self) {
        let closed = self.closed;
        *self = Self { known: closed, closed, ..Self::default() };
        self.save();
    }
}

struct World<'a> {
    dir: &'a Path,
    store: Store,
    models: Vec<Model>,
}

impl World<'_> {
    async fn apply(&mut self, op: &Op) {
        match *op {
            Op::Create(b) => {
                let sample = &SAMPLES[b];
                let blob = self.store.create(&sample.digest, sample.layout).await.unwrap();
                self.models[b].present = true;
                assert_eq!(blob.is_closed(), self.models[b].closed);
            }
            Op::Sync => {
                self.store.sync().await.unwrap();
                self.models.iter_mut().for_each(Model::sync);
            }
            Op::Restart => {
                self.store.close().await.unwrap();
                self.models.iter_mut().for_each(Model::sync);
                self.reopen();
            }
            Op::Crash => self.crash(),
            Op::Evict(b) => {
                let evicted = self.store.evict(&SAMPLES[b].digest).await.unwrap();
                assert_eq!(evicted, self.models[b].present);
                if evicted {
                    self.models[b].evict();
                }
            }
            Op::Learn(b) => {
                let Some(blob) = self.blob(b) else { return };
                blob.learn_states(0, &SAMPLES[b].states).unwrap();
                self.models[b].known = true;
            }
            Op::Write(b, p) => {
                let Some(blob) = self.blob(b) else { return };
                blob.write_piece(PieceIndex(p), SAMPLES[b].piece(p)).await.unwrap();
                let model = &mut self.models[b];
                if model.held.insert(p) {
                    model.unsynced.insert(p);
                    model.checked.insert(p);
                    model.damaged.remove(&p);
                }
            }
            Op::Read(b, p) => self.read(b, p).await,
            Op::Close(b) => {
                let Some(blob) = self.blob(b) else { return };
                let model = &mut self.models[b];
                let count = SAMPLES[b].layout.count();
                let whole = model.closed || (model.provable(count) && model.held.len() == count as usize);
                assert_eq!(blob.close().await.is_ok(), whole);
                model.closed |= whole;
            }
            Op::Discard(b, p) => {
                let Some(blob) = self.blob(b) else { return };
                let count = SAMPLES[b].layout.count();
                blob.discard(&PieceSet::from_runs(count, [p..p + 1]).unwrap()).await.unwrap();
                if self.models[b].held.contains(&p) {
                    self.models[b].remove_piece(p);
                    self.models[b].save();
                }
            }
            Op::Forget(b) => {
                let Some(blob) = self.blob(b) else { return };
                blob.forget_states().await.unwrap();
                let model = &mut self.models[b];
                if !model.closed {
                    model.known = false;
                    model.checked.clear();
                    model.save();
                }
            }
            Op::Damage(b, p) => {
                // What was checked in this process is trusted, so only other pieces are damaged.
                let model = &mut self.models[b];
                if model.present && !model.checked.contains(&p) {
                    SAMPLES[b].damage(self.dir, p);
                    if !model.damaged.remove(&p) {
                        model.damaged.insert(p);
                    }
                }
            }
        }
    }

    fn blob(&self, b: usize) -> Option<store::Blob> {
        let blob = self.store.get(&SAMPLES[b].digest);
        assert_eq!(blob.is_some(), self.models[b].present, "{:?}", self.models[b]);
        blob
    }

    async fn read(&mut self, b: usize, p: u32) {
        let Some(blob) = self.blob(b) else { return };
        let result = blob.read_piece(PieceIndex(p)).await;
        let model = &mut self.models[b];
        if !model.held.contains(&p) {
            assert!(matches!(result, Err(StoreError::NotHeld { .. })), "{result:?}");
        } else if !model.checked.contains(&p) && !model.provable(SAMPLES[b].layout.count()) {
            assert!(matches!(result, Err(StoreError::Unproven { .. })), "{result:?}");
        } else if model.damaged.contains(&p) {
            assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{result:?}");
            model.remove_piece(p);
            model.save();
        } else {
            assert_eq!(result.unwrap(), SAMPLES[b].piece(p));
            model.checked.insert(p);
        }
    }

    fn crash(&mut self) {
        let models = self.models.clone();
        self.replace_store(|dir| {
            for (model, sample) in models.iter().zip(&*SAMPLES) {
                for piece in &model.unsynced {
                    sample.damage(dir, *piece);
                }
            }
        });
        for (model, sample) in self.models.iter_mut().zip(&*SAMPLES) {
            model.restart(sample.layout.count());
        }
        self.compare();
    }

    fn reopen(&mut self) {
        self.replace_store(|_| ());
        for (model, sample) in self.models.iter_mut().zip(&*SAMPLES) {
            model.restart(sample.layout.count());
        }
        self.compare();
    }

    /// Ends the store as it is, lets `between` at the directory, and opens it again.
    fn replace_store(&mut self, between: impl FnOnce(&Path)) {
        let elsewhere = tempfile::tempdir().unwrap();
        let old = std::mem::replace(&mut self.store, open(elsewhere.path()));
        drop(old);
        between(self.dir);
        self.store = open(self.dir);
    }

    /// Everything that can be seen is what the model says.
    fn compare(&self) {
        let listed: BTreeSet<Digest> = self.store.list().iter().map(|summary| summary.digest).collect();
        let mut bytes = 0;
        for (model, sample) in self.models.iter().zip(&*SAMPLES) {
            assert_eq!(listed.contains(&sample.digest), model.present, "{model:?}");
            assert_eq!(sample.path(self.dir).exists(), model.present);
            if model.present {
                bytes += sample.layout.size();
                let blob = self.store.get(&sample.digest).unwrap();
                let held: BTreeSet<u32> = blob.pieces().iter().map(|piece| piece.0).collect();
                assert_eq!((held, blob.is_closed()), (model.held.clone(), model.closed));
                assert_eq!(blob.chain().is_whole(), model.provable(sample.layout.count()));
            }
        }
        assert_eq!(self.store.stats().bytes, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_its_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let models = vec![Model::default(); SAMPLES.len()];
            let mut world = World { dir: dir.path(), store: open(dir.path()), models };
            for op in &ops {
                world.apply(op).await;
                world.compare();
            }
        });
    }
}
