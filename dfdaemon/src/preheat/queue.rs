//! Which content of which order is next, and what the scheduler is told of each. No I/O, no waiting.
//!
//! The order has its turn that has the fewest contents under way, and of these the one that came first: one whose contents
//! are stuck leaves the next turns to the others. One that has ended is told of until the scheduler says that it is over.

use super::contents::{Content, GetError, Held, Wanted};
use origin::Repository;
use proto::{PREHEAT_FAILURE_BYTES_MAX, PreheatImage, PreheatOrder, PreheatReport};
use std::collections::BTreeMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::Digest;

/// Orders that run at a time.
pub(super) const ORDERS_MAX: usize = 64;

/// Orders that are known: those that run, and those that have ended and that the scheduler has not called over.
pub(super) const KNOWN_MAX: usize = 2 * ORDERS_MAX;

/// The orders.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The scheduler whose orders these are.
    instance: Option<u64>,
    /// As they came.
    orders: Vec<Order>,
}

/// A content to be got for an order.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) wanted: Wanted,
    /// Cancelled when the order is over.
    pub(super) over: CancellationToken,
}

#[derive(Debug)]
struct Order {
    number: u64,
    images: usize,
    since: Instant,
    /// None any more once it has ended.
    contents: Vec<Wanted>,
    /// The sizes of the blobs among them, each once: several repositories may be asked for one. None any more, likewise.
    blobs: BTreeMap<Digest, u64>,
    /// How many of them have begun.
    begun: usize,
    /// How many of them have been got, or have failed.
    tried: usize,
    /// What went wrong first; empty if nothing has.
    failure: String,
    /// What was held of it at its end.
    ended: Option<Sum>,
    over: CancellationToken,
}

/// What is held of an order's blobs.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: u64,
    whole: u32,
    /// Blobs that are not here, or in part.
    lacking: u32,
}

impl Queue {
    /// The scheduler is this one. What another one ordered is over: this one knows nothing of it, and its own orders may
    /// have the same numbers.
    pub(super) fn serve(&mut self, instance: u64) {
        if self.instance.replace(instance) != Some(instance) {
            self.orders.drain(..).for_each(Order::call_off);
        }
    }

    /// Takes an order in. One that is known goes on as it is, and one more than can run fails.
    pub(super) fn take(&mut self, order: PreheatOrder) {
        let PreheatOrder { number, images } = order;
        if self.orders.iter().any(|known| known.number == number) {
            return;
        }
        if self.orders.len() >= KNOWN_MAX {
            tracing::warn!(number, known = KNOWN_MAX, "a preheat is left out: so many are known");
            return;
        }
        let mut order = Order::new(number, images.len());
        if self.running() < ORDERS_MAX {
            images.into_iter().for_each(|image| order.add(image));
            order.log_begin();
        } else {
            order.fail(format!("{ORDERS_MAX} preheats run here already: try again when one has ended"));
        }
        self.orders.push(order);
    }

    /// Stops an order and forgets it.
    pub(super) fn over(&mut self, number: u64) {
        if let Some(at) = self.orders.iter().position(|order| order.number == number) {
            self.orders.remove(at).call_off();
        }
    }

    /// Begins the next content.
    pub(super) fn begin_next(&mut self) -> Option<Job> {
        let waiting = self.orders.iter_mut().filter(|order| order.begun < order.contents.len());
        let order = waiting.min_by_key(|order| order.begun - order.tried)?;
        let wanted = order.contents[order.begun].clone();
        order.begun += 1;
        Some(Job { number: order.number, wanted, over: order.over.clone() })
    }

    /// A job has come to its end.
    pub(super) fn tried(&mut self, job: &Job, result: Result<(), GetError>) {
        // The order of this number may be another by now.
        if job.over.is_cancelled() {
            return;
        }
        let Some(order) = self.orders.iter_mut().find(|order| order.number == job.number) else { return };
        order.tried += 1;
        if let Err(error) = result {
            tracing::debug!(number = job.number, content = %job.wanted, %error, "a content is not preheated");
            order.fail(format!("{}: {error}", job.wanted));
        }
    }

    /// Ends the orders of which all has been tried; whether there were any. `held` is asked only then.
    pub(super) fn end_tried(&mut self, held: impl FnOnce() -> BTreeMap<Digest, Held>) -> bool {
        let mut tried = self.orders.iter_mut().filter(|order| order.is_tried()).peekable();
        if tried.peek().is_none() {
            return false;
        }
        let held = held();
        tried.for_each(|order| order.end(&held));
        true
    }

    /// How many orders run.
    pub(super) fn running(&self) -> usize {
        self.orders.iter().filter(|order| order.ended.is_none()).count()
    }

    /// How every order stands.
    pub(super) fn reports(&self, held: &BTreeMap<Digest, Held>) -> Vec<PreheatReport> {
        self.orders.iter().map(|order| order.report(held)).collect()
    }
}

impl Order {
    fn new(number: u64, images: usize) -> Self {
        Self {
            number,
            images,
            since: Instant::now(),
            contents: Vec::new(),
            blobs: BTreeMap::new(),
            begun: 0,
            tried: 0,
            failure: String::new(),
            ended: None,
            over: CancellationToken::new(),
        }
    }

    fn add(&mut self, image: PreheatImage) {
        let PreheatImage { registry, repository, manifests, blobs } = image;
        let repository = match repository.parse() {
            Ok(name) => Repository::new(&registry, name),
            Err(error) => return self.fail(format!("{registry}: {error}")),
        };
        for blob in &blobs {
            self.blobs.entry(blob.digest).or_insert(blob.size);
        }
        let manifests = manifests.into_iter().map(Content::Manifest);
        let contents = manifests.chain(blobs.into_iter().map(Content::Blob));
        self.contents.extend(contents.map(|content| Wanted { repository: repository.clone(), content }));
    }

    /// Only the first failure is kept.
    fn fail(&mut self, mut why: String) {
        if self.failure.is_empty() {
            why.truncate(why.floor_char_boundary(PREHEAT_FAILURE_BYTES_MAX));
            self.failure = why;
        }
    }

    fn sum(&self, held: &BTreeMap<Digest, Held>) -> Sum {
        let mut sum = Sum::default();
        for (digest, size) in &self.blobs {
            let held = held.get(digest);
            // A manifest may be wrong about a size; no host holds more of a blob than the order has.
            sum.bytes += held.map_or(0, |held| held.bytes.min(*size));
            match held {
                Some(Held { whole: true, .. }) => sum.whole += 1,
                _ => sum.lacking += 1,
            }
        }
        sum
    }

    fn is_tried(&self) -> bool {
        self.ended.is_none() && self.tried == self.contents.len()
    }

    fn end(&mut self, held: &BTreeMap<Digest, Held>) {
        let sum = self.sum(held);
        if sum.lacking > 0 {
            // Where nothing else went wrong they were here, and had to make room.
            let lacking = sum.lacking;
            self.fail(format!("{lacking} of its blobs were evicted again: the cache is small (store.quota)"));
        }
        self.ended = Some(sum);
        (self.contents, self.blobs) = (Vec::new(), BTreeMap::new());
        (self.begun, self.tried) = (0, 0);
        let failure = Some(&self.failure).filter(|failure| !failure.is_empty());
        let (seconds, bytes) = (self.since.elapsed().as_secs_f64(), sum.bytes);
        tracing::info!(
            number = self.number,
            images = self.images,
            bytes,
            seconds,
            failure,
            "a preheat has ended"
        );
    }

    fn log_begin(&self) {
        let bytes = self.blobs.values().copied().fold(0, u64::saturating_add);
        let contents = self.contents.len();
        tracing::info!(number = self.number, images = self.images, contents, bytes, "a preheat begins");
    }

    /// The scheduler does not want it any more.
    fn call_off(self) {
        self.over.cancel();
        if self.ended.is_none() {
            let seconds = self.since.elapsed().as_secs_f64();
            tracing::info!(number = self.number, images = self.images, seconds, "a preheat was called off");
        }
    }

    fn report(&self, held: &BTreeMap<Digest, Held>) -> PreheatReport {
        let sum = self.ended.unwrap_or_else(|| self.sum(held));
        PreheatReport {
            number: self.number,
            held_bytes: sum.bytes,
            held_blobs: sum.whole,
            ended: self.ended.is_some(),
            failure: self.failure.clone(),
        }
    }
}
