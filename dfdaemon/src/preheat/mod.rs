//! Preheats: what the scheduler orders this host to hold before a client asks for it.
//!
//! The link brings orders and takes reports. [`Preheats::run`] gets the contents of all orders, a few at once, in the
//! order that [`queue`] has; [`contents`] knows how one is got. A preheat is no client's request: it is not in the
//! audit log, and every right that it uses is one of a client without a secret.

mod contents;
mod queue;
#[cfg(test)]
mod tests;

use crate::proxy::allow::Allowed;
use crate::registry::ClusterRegistry;
use contents::{Cluster, Contents, GetError};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use proto::{PreheatOrder, PreheatReport};
use queue::{Job, Queue};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Contents that are got at once, of all orders together: enough to keep the link busy while one is asked for, and few
/// beside what clients pull.
const AT_ONCE: usize = 3;

/// The preheats of this host; a clone is the same ones.
#[derive(Clone)]
pub(crate) struct Preheats(Arc<Inner>);

struct Inner {
    contents: Box<dyn Contents>,
    queue: Mutex<Queue>,
    /// There are other orders than before.
    changed: Notify,
    /// An order has ended.
    ended: Notify,
}

impl Preheats {
    /// Preheats of what `registry` has of registries that clients may name. Nothing is got before [`Self::run`].
    pub(crate) fn new(registry: Arc<ClusterRegistry>, allowed: Allowed) -> Self {
        Self::of(Box::new(Cluster { registry, allowed }))
    }

    fn of(contents: Box<dyn Contents>) -> Self {
        let (queue, changed, ended) = (Mutex::default(), Notify::new(), Notify::new());
        Self(Arc::new(Inner { contents, queue, changed, ended }))
    }

    /// Gets what is ordered until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < AT_ONCE
                && let Some(job) = self.begin_next()
            {
                running.push(self.get(job));
            }
            self.end_tried();
            tokio::select! {
                // What fails because the daemon stops is nothing to report.
                biased;
                () = cancel.cancelled() => return,
                () = self.0.changed.notified() => {}
                Some((job, result)) = running.next() => if let Some(result) = result {
                    self.queue().tried(&job, result);
                },
            }
        }
    }

    /// How the job ended; nothing if its order was over before.
    async fn get(&self, job: Job) -> (Job, Option<Result<(), GetError>>) {
        let span = tracing::info_span!("preheat", number = job.number, content = %job.wanted);
        let getting = self.0.contents.get(&job.wanted).instrument(span);
        let result = job.over.run_until_cancelled(getting).await;
        (job, result)
    }

    fn begin_next(&self) -> Option<Job> {
        self.queue().begin_next()
    }

    fn end_tried(&self) {
        if self.queue().end_tried(|| self.0.contents.held()) {
            self.0.ended.notify_one();
        }
    }

    /// The link leads to this instance of the scheduler, from which orders come now.
    pub(crate) fn serve(&self, instance: u64) {
        self.queue().serve(instance);
        self.0.changed.notify_one();
    }

    /// The scheduler orders this.
    pub(crate) fn order(&self, order: PreheatOrder) {
        self.queue().take(order);
        self.0.changed.notify_one();
    }

    /// The scheduler does not want this any more, or has heard how it ended.
    pub(crate) fn over(&self, number: u64) {
        self.queue().over(number);
        self.0.changed.notify_one();
    }

    /// Waits until an order has ended since this was last waited for; one waits at a time. Cancel safe.
    pub(crate) async fn one_ended(&self) {
        self.0.ended.notified().await;
    }

    /// How every order stands that the scheduler has not called over.
    pub(crate) fn reports(&self) -> Vec<PreheatReport> {
        let queue = self.queue();
        let held = if queue.running() > 0 { self.0.contents.held() } else { BTreeMap::new() };
        queue.reports(&held)
    }

    /// How many orders run.
    pub(crate) fn running(&self) -> usize {
        self.queue().running()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
