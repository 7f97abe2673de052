//! Answers that many ask for and one fetches: tokens, tags, permissions.

use crate::OriginError;
use moka::policy::EvictionPolicy;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long answers are good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// A refusal or a failure. Whoever waited while it came gets it in any case.
    pub(crate) failure: Duration,
    /// A lapsed answer, while the origin is out of reach, counted from when it lapsed.
    pub(crate) grace: Duration,
    /// How long the origin is waited for when there is a lapsed answer to give instead.
    pub(crate) patience: Duration,
}

/// An answer that knows how long it is good for.
pub(crate) trait Lapses: Clone {
    fn lifetime(&self) -> Duration;

    /// The same, given after its lifetime.
    fn lapsed(self) -> Self {
        self
    }
}

#[derive(Debug)]
struct Slot<V> {
    good: Option<(V, Instant)>,
    bad: Option<(OriginError, Instant)>,
}

/// A bounded map of answers, of which each is fetched by one asker at a time.
pub(crate) struct Memo<K, V> {
    slots: moka::sync::Cache<K, Arc<Mutex<Slot<V>>>>,
    lifetimes: Lifetimes,
}

impl<K, V> fmt::Debug for Memo<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").field("lifetimes", &self.lifetimes).finish_non_exhaustive()
    }
}

impl<K, V> Memo<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Lapses + Send + Sync + 'static,
{
    /// At most `count_max` answers; the least recently used go first.
    pub(crate) fn new(count_max: u64, lifetimes: Lifetimes) -> Self {
        let slots = moka::sync::Cache::builder()
            .max_capacity(count_max)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { slots, lifetimes }
    }

    /// The answer for `key`: as it is known, or as `ask` gives it. Whoever comes while another asks waits for that answer,
    /// be it good or bad; if that one is cancelled, the next one asks.
    pub(crate) async fn get(
        &self,
        key: &K,
        ask: impl Future<Output = Result<V, OriginError>>,
    ) -> Result<V, OriginError> {
        let came = Instant::now();
        let slot = self.slots.get_with_by_ref(key, || Arc::new(Mutex::new(Slot { good: None, bad: None })));
        let mut slot = slot.lock().await;
        let now = Instant::now();
        if let Some(value) = slot.fresh(now) {
            return Ok(value);
        }
        if let Some((error, at)) = &slot.bad
            && (*at >= came || now - *at < self.lifetimes.failure)
        {
            return slot.stale(now, error, self.lifetimes.grace);
        }
        let outage = slot.good.is_some().then_some(OriginError::TimedOut);
        let answer = match outage.and_then(|error| slot.stale(now, &error, self.lifetimes.grace).ok()) {
            None => ask.await,
            Some(stale) => match tokio::time::timeout(self.lifetimes.patience, ask).await {
                Ok(answer) => answer,
                Err(_) => {
                    slot.bad = Some((OriginError::TimedOut, Instant::now()));
                    return Ok(stale);
                }
            },
        };
        let now = Instant::now();
        match answer {
            Ok(value) => {
                *slot = Slot { good: Some((value.clone(), now)), bad: None };
                Ok(value)
            }
            Err(error) => {
                slot.bad = Some((error.clone(), now));
                if error.is_refusal() {
                    slot.good = None;
                }
                slot.stale(now, &error, self.lifetimes.grace)
            }
        }
    }

    /// The answer for `key` if it is known and good, after whoever is asking for it now.
    pub(crate) async fn known(&self, key: &K) -> Option<V> {
        let slot = self.slots.get(key)?;
        slot.lock().await.fresh(Instant::now())
    }

    /// Forgets the answer for `key` if `wrong` says so of it.
    pub(crate) async fn forget(&self, key: &K, wrong: impl Fn(&V) -> bool) {
        if let Some(slot) = self.slots.get(key) {
            let mut slot = slot.lock().await;
            slot.bad = None;
            slot.good.take_if(|(value, _)| wrong(value));
        }
    }

    /// Forgets the answers for all keys of which `of` says so. Whoever asks now gets the answer that is on its way, and
    /// it is not kept.
    pub(crate) fn forget_all(&self, of: impl Fn(&K) -> bool) {
        for key in self.keys() {
            if of(&key) {
                self.slots.invalidate(&*key);
            }
        }
    }

    /// The keys that there are.
    pub(crate) fn keys(&self) -> Vec<Arc<K>> {
        self.slots.iter().map(|(key, _)| key).collect()
    }
}

impl<V: Lapses> Slot<V> {
    fn fresh(&self, now: Instant) -> Option<V> {
        let (value, at) = self.good.as_ref()?;
        (now - *at < value.lifetime()).then(|| value.clone())
    }

    /// The lapsed answer if `error` means that the origin is out of reach and the grace is not over; else the error.
    fn stale(&self, now: Instant, error: &OriginError, grace: Duration) -> Result<V, OriginError> {
        match &self.good {
            Some((value, at)) if error.is_outage() && now - *at < value.lifetime().saturating_add(grace) => {
                Ok(value.clone().lapsed())
            }
            _ => Err(error.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Semaphore;

    const LONG: Duration = Duration::from_secs(3600);
    const NONE: Duration = Duration::ZERO;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Value(u32, Duration);

    impl Lapses for Value {
        fn lifetime(&self) -> Duration {
            self.1
        }
    }

    fn memo(failure: Duration, grace: Duration) -> Memo<&'static str, Value> {
        Memo::new(16, Lifetimes { failure, grace, patience: Duration::from_millis(1) })
    }

    fn not_found() -> OriginError {
        OriginError::NotFound { body: Bytes::new() }
    }

    /// Ten ask at once; how many answers were good, and how many times the origin was asked.
    async fn ten_at_once(
        memo: &Memo<&'static str, Value>,
        answer: Result<Value, OriginError>,
    ) -> (usize, u32) {
        let (asked, gate) = (AtomicU32::new(0), Semaphore::new(0));
        let ask = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            gate.acquire().await.unwrap().forget();
            answer.clone()
        };
        let all = futures::future::join_all((0..10).map(|_| memo.get(&"k", ask())));
        // Joined first, so that all ten wait when the gate opens.
        let (all, ()) = futures::future::join(all, async { gate.add_permits(10) }).await;
        (all.iter().filter(|answer| answer.is_ok()).count(), asked.into_inner())
    }

    #[tokio::test]
    async fn many_ask_and_one_fetches() {
        let memo = memo(NONE, NONE);
        assert_eq!(ten_at_once(&memo, Ok(Value(1, LONG))).await, (10, 1));
        assert_eq!(ten_at_once(&memo, Ok(Value(2, LONG))).await, (10, 0));
    }

    #[tokio::test]
    async fn a_failure_is_shared_by_those_who_wait_for_it() {
        let memo = memo(NONE, NONE);
        assert_eq!(ten_at_once(&memo, Err(OriginError::TimedOut)).await, (0, 1));
        assert_eq!(ten_at_once(&memo, Err(not_found())).await, (0, 1));
    }

    #[tokio::test]
    async fn a_refusal_is_repeated_for_a_while() {
        let memo = memo(LONG, NONE);
        assert!(memo.get(&"k", async { Err(not_found()) }).await.is_err());
        assert!(memo.get(&"k", async { panic!("asked") }).await.is_err());
        memo.forget(&"k", |_| true).await;
        assert!(memo.get(&"k", async { Ok(Value(1, LONG)) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_grace_may_be_without_end() {
        let memo = memo(NONE, Duration::MAX);
        let answer = Value(1, Duration::from_nanos(1));
        memo.get(&"k", async { Ok(answer.clone()) }).await.unwrap();
        assert_eq!(memo.get(&"k", async { Err(OriginError::TimedOut) }).await.unwrap(), answer);
    }

    #[tokio::test]
    async fn a_lapsed_answer_bridges_an_outage_and_no_refusal() {
        let memo = memo(NONE, LONG);
        let lapsed = Value(1, NONE);
        memo.get(&"k", async { Ok(lapsed.clone()) }).await.unwrap();
        assert_eq!(memo.known(&"k").await, None);
        let down = || async { Err(OriginError::Unreachable("down".into())) };
        assert_eq!(memo.get(&"k", down()).await.unwrap(), lapsed);
        // An origin that says nothing is not waited for long.
        assert_eq!(memo.get(&"k", std::future::pending()).await.unwrap(), lapsed);
        assert!(memo.get(&"k", async { Err(not_found()) }).await.is_err());
        assert!(memo.get(&"k", down()).await.is_err());
    }

    #[tokio::test]
    async fn while_the_origin_is_known_to_be_down_nobody_asks() {
        let memo = memo(LONG, LONG);
        memo.get(&"k", async { Ok(Value(1, NONE)) }).await.unwrap();
        assert!(memo.get(&"k", async { Err(OriginError::TimedOut) }).await.is_ok());
        assert!(memo.get(&"k", async { panic!("asked") }).await.is_ok());
    }

    #[tokio::test]
    async fn grace_ends() {
        let memo = memo(NONE, NONE);
        memo.get(&"k", async { Ok(Value(1, NONE)) }).await.unwrap();
        assert!(memo.get(&"k", async { Err(OriginError::TimedOut) }).await.is_err());
    }

    #[tokio::test]
    async fn a_cancelled_asker_is_followed_by_the_next() {
        let memo = Arc::new(memo(NONE, NONE));
        let ask = |answer| {
            let memo = Arc::clone(&memo);
            tokio::spawn(async move { memo.get(&"k", answer).await })
        };
        let first = ask(futures::future::Either::Left(std::future::pending()));
        tokio::task::yield_now().await;
        let second = ask(futures::future::Either::Right(std::future::ready(Ok(Value(2, LONG)))));
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap().unwrap(), Value(2, LONG));
    }

    #[tokio::test]
    async fn forgetting() {
        let memo = memo(NONE, NONE);
        memo.get(&"k", async { Ok(Value(1, LONG)) }).await.unwrap();
        memo.forget(&"k", |value| value.0 == 2).await;
        assert_eq!(memo.known(&"k").await, Some(Value(1, LONG)));
        memo.forget(&"k", |value| value.0 == 1).await;
        assert_eq!(memo.known(&"k").await, None);
        assert_eq!(memo.keys().len(), 1);
        let memo = Arc::new(memo);
        memo.get(&"other", async { Ok(Value(4, LONG)) }).await.unwrap();
        let (asked, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let under_way = tokio::spawn({
            let (memo, asked, gate) = (Arc::clone(&memo), Arc::clone(&asked), Arc::clone(&gate));
            async move {
                let answer = async {
                    asked.add_permits(1);
                    gate.acquire().await.unwrap().forget();
                    Ok(Value(5, LONG))
                };
                memo.get(&"k", answer).await
            }
        });
        asked.acquire().await.unwrap().forget();
        memo.forget_all(|key| *key == "k");
        gate.add_permits(1);
        assert_eq!(under_way.await.unwrap().unwrap(), Value(5, LONG));
        assert_eq!(memo.known(&"k").await, None, "it was asked before");
        assert_eq!(memo.known(&"other").await, Some(Value(4, LONG)));
    }
}
