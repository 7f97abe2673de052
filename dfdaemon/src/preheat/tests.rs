//! Orders whose contents are in memory: what is got when, and what the scheduler is told.

use super::contents::{Content, Held, Wanted};
use super::queue::{KNOWN_MAX, ORDERS_MAX};
use super::*;
use crate::proxy::{ProxyError, Unknown};
use futures::future::BoxFuture;
use proto::{PreheatBlob, PreheatImage};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::DropGuard;
use types::{Digest, Registry};

const SIZE: u64 = 100;

const WHOLE: Held = Held { bytes: SIZE, whole: true };

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn registry() -> Registry {
    Registry::parse("registry.example").unwrap()
}

/// An order of one image with these blobs.
fn order(number: u64, names: &[&str]) -> PreheatOrder {
    let blobs = names.iter().map(|name| PreheatBlob { digest: digest(name), size: SIZE }).collect();
    let (registry, repository) = (registry(), "app".to_owned());
    PreheatOrder { number, images: vec![PreheatImage { registry, repository, manifests: Vec::new(), blobs }] }
}

/// As people are told of a content.
fn shown(name: &str) -> String {
    format!("registry.example/app@{}", &digest(name).to_string()[..19])
}

fn begin_all(queue: &mut Queue) -> Vec<Job> {
    std::iter::from_fn(|| queue.begin_next()).collect()
}

fn reports(queue: &Queue) -> Vec<PreheatReport> {
    queue.reports(&BTreeMap::new())
}

#[test]
fn orders_take_turns_as_they_came_and_manifests_come_before_blobs() {
    let mut queue = Queue::default();
    let mut first = order(7, &["a", "b"]);
    first.images[0].manifests.push(digest("manifest"));
    queue.take(first);
    queue.take(order(3, &["c"]));
    queue.take(order(7, &["another of a number that is known"]));
    let jobs = begin_all(&mut queue);
    let begun: Vec<_> = jobs.iter().map(|job| (job.number, job.wanted.to_string())).collect();
    let expected = [(7, "manifest"), (3, "c"), (7, "a"), (7, "b")];
    assert_eq!(begun, expected.map(|(number, name)| (number, shown(name))));
}

#[test]
fn an_order_whose_contents_are_stuck_holds_up_no_other() {
    let mut queue = Queue::default();
    queue.take(order(1, &["a", "b", "c", "d", "e"]));
    for _ in 0..3 {
        assert_eq!(queue.begin_next().map(|job| job.number), Some(1), "there is no other");
    }
    queue.take(order(2, &["f", "g", "h"]));
    for name in ["f", "g", "h"] {
        let job = queue.begin_next().unwrap();
        assert_eq!((job.number, job.wanted.to_string()), (2, shown(name)));
        queue.tried(&job, Ok(()));
    }
    assert_eq!(queue.begin_next().map(|job| job.number), Some(1));
}

#[test]
fn a_blob_that_two_repositories_have_is_asked_of_both_and_counts_once() {
    let mut queue = Queue::default();
    let mut twice = order(1, &["a", "b"]);
    let mirror = PreheatImage { repository: "mirror".to_owned(), ..order(1, &["a"]).images.remove(0) };
    twice.images.push(mirror);
    queue.take(twice);
    let jobs = begin_all(&mut queue);
    assert_eq!(jobs.iter().filter(|job| job.wanted.to_string().contains("mirror@")).count(), 1);
    let held = BTreeMap::from([(digest("a"), WHOLE)]);
    let report = queue.reports(&held).remove(0);
    assert_eq!((jobs.len(), report.held_bytes, report.held_blobs), (3, SIZE, 1));
    jobs.iter().for_each(|job| queue.tried(job, Ok(())));
    assert!(queue.end_tried(|| held));
    let failure = reports(&queue).remove(0).failure;
    assert!(failure.starts_with("1 of its blobs"), "{failure}");
}

#[test]
fn an_order_ends_when_all_of_it_has_been_tried_and_is_told_of_until_it_is_over() {
    let mut queue = Queue::default();
    queue.take(order(1, &["a", "b", "c"]));
    let jobs = begin_all(&mut queue);
    queue.tried(&jobs[0], Ok(()));
    queue.tried(&jobs[1], Err(ProxyError::NotFound(Unknown::Blob).into()));
    assert!(!queue.end_tried(BTreeMap::new));
    let held = BTreeMap::from([(digest("a"), WHOLE), (digest("c"), Held { bytes: 40, whole: false })]);
    let report = queue.reports(&held).remove(0);
    assert_eq!((report.held_bytes, report.held_blobs, report.ended), (140, 1, false));
    queue.tried(&jobs[2], Err(GetError::NotBelieved(registry())));
    assert!(queue.end_tried(|| held));
    let failure = format!("{}: blob unknown to registry", shown("b"));
    let expected = PreheatReport { number: 1, held_bytes: 140, held_blobs: 1, ended: true, failure };
    assert_eq!(reports(&queue), std::slice::from_ref(&expected), "with what went wrong first");
    queue.take(order(1, &["d"]));
    assert_eq!((queue.running(), reports(&queue)), (0, vec![expected]), "it does not begin again");
    queue.over(1);
    assert!(reports(&queue).is_empty());
}

#[test]
fn what_is_over_is_stopped_and_counts_for_no_later_order_of_its_number() {
    let mut queue = Queue::default();
    queue.serve(1);
    queue.take(order(1, &["a"]));
    let old = queue.begin_next().unwrap();
    queue.serve(1);
    assert!(!old.over.is_cancelled(), "the link was away, and its scheduler is the same");
    queue.serve(2);
    assert!(old.over.is_cancelled(), "another scheduler does not know of it");
    queue.take(order(1, &["b"]));
    queue.tried(&old, Ok(()));
    assert!(!queue.end_tried(BTreeMap::new));
    let new = queue.begin_next().unwrap();
    assert_eq!(new.wanted.to_string(), shown("b"));
    queue.over(1);
    assert!(new.over.is_cancelled());
    assert!(reports(&queue).is_empty());
}

#[test]
fn one_more_than_can_run_ends_at_once_and_says_why() {
    let mut queue = Queue::default();
    let most = ORDERS_MAX as u64;
    for number in 0..=most {
        queue.take(order(number, &["a"]));
    }
    assert!(queue.end_tried(BTreeMap::new));
    let ended: Vec<_> = reports(&queue).into_iter().filter(|report| report.ended).collect();
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].number, ended[0].held_blobs), (most, 0));
    assert!(ended[0].failure.contains("64 preheats"), "{}", ended[0].failure);
    for number in 1000..2000 {
        queue.take(order(number, &["a"]));
    }
    assert_eq!(reports(&queue).len(), KNOWN_MAX);
}

#[test]
fn a_long_failure_is_cut_at_a_character() {
    let mut queue = Queue::default();
    queue.take(order(1, &["a"]));
    let job = queue.begin_next().unwrap();
    queue.tried(&job, Err(ProxyError::BadGateway("€".repeat(500)).into()));
    let failure = reports(&queue).remove(0).failure;
    assert!((510..=512).contains(&failure.len()) && failure.ends_with('€'), "{failure}");
}

#[test]
fn what_had_to_make_room_again_is_a_failure() {
    let mut queue = Queue::default();
    queue.take(order(1, &["a", "b"]));
    for job in begin_all(&mut queue) {
        queue.tried(&job, Ok(()));
    }
    let more_than_its_manifest_says = Held { bytes: 2 * SIZE, whole: true };
    assert!(queue.end_tried(|| BTreeMap::from([(digest("a"), more_than_its_manifest_says)])));
    let report = reports(&queue).remove(0);
    assert_eq!((report.held_bytes, report.held_blobs), (SIZE, 1));
    assert!(report.failure.starts_with("1 of its blobs"), "{}", report.failure);
}

#[test]
fn a_name_that_is_none_fails_its_own_image() {
    let mut queue = Queue::default();
    let mut two = order(1, &["a"]);
    let wrong = PreheatImage { repository: "No Name".to_owned(), ..order(1, &["b"]).images.remove(0) };
    two.images.insert(0, wrong);
    queue.take(two);
    assert_eq!(begin_all(&mut queue).len(), 1);
    let failure = reports(&queue).remove(0).failure;
    assert!(failure.contains("registry.example") && failure.contains("No Name"), "{failure}");
}

/// Contents that come when the test lets them.
struct Memory {
    /// Those that were asked for, in order.
    asked: Mutex<Vec<Digest>>,
    /// Lets one come for each permit.
    gate: Semaphore,
    held: Mutex<BTreeMap<Digest, Held>>,
}

impl Memory {
    fn asked(&self) -> Vec<Digest> {
        self.asked.lock().unwrap().clone()
    }
}

impl Contents for Arc<Memory> {
    fn get<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<(), GetError>> {
        Box::pin(async move {
            let Content::Blob(blob) = wanted.content else { panic!("no manifest is ordered here") };
            self.asked.lock().unwrap().push(blob.digest);
            self.gate.acquire().await.unwrap().forget();
            self.held.lock().unwrap().insert(blob.digest, WHOLE);
            Ok(())
        })
    }

    fn held(&self) -> BTreeMap<Digest, Held> {
        self.held.lock().unwrap().clone()
    }
}

/// Preheats that run until the guard is dropped.
fn stage() -> (Arc<Memory>, Preheats, DropGuard) {
    let memory = Memory { asked: Mutex::default(), gate: Semaphore::new(0), held: Mutex::default() };
    let (memory, cancel) = (Arc::new(memory), CancellationToken::new());
    let preheats = Preheats::of(Box::new(memory.clone()));
    tokio::spawn(preheats.clone().run(cancel.clone()));
    (memory, preheats, cancel.drop_guard())
}

/// Lets everything happen that can happen now.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn one_ended(preheats: &Preheats) {
    tokio::time::timeout(Duration::from_secs(30), preheats.one_ended()).await.unwrap();
}

#[tokio::test]
async fn a_few_contents_are_got_at_once_and_an_order_that_is_over_makes_room() {
    let (memory, preheats, _guard) = stage();
    preheats.order(order(1, &["a", "b", "c", "d"]));
    preheats.order(order(2, &["e", "f", "g"]));
    settled().await;
    assert_eq!(memory.asked(), ["a", "e", "b"].map(digest));
    memory.gate.add_permits(1);
    settled().await;
    assert_eq!(memory.asked()[3..], [digest("c")]);
    let reports = preheats.reports();
    assert_eq!((reports[0].held_bytes, reports[0].held_blobs, reports[0].ended), (SIZE, 1, false));
    assert_eq!((reports[1].held_bytes, preheats.running()), (0, 2));
    preheats.over(1);
    settled().await;
    assert_eq!(memory.asked()[4..], ["f", "g"].map(digest));
    assert_eq!(preheats.running(), 1);
}

#[tokio::test]
async fn an_end_is_told_at_once_and_again_until_it_is_over() {
    let (memory, preheats, _guard) = stage();
    memory.gate.add_permits(2);
    preheats.order(order(1, &["a", "b"]));
    one_ended(&preheats).await;
    let failure = String::new();
    let expected = PreheatReport { number: 1, held_bytes: 2 * SIZE, held_blobs: 2, ended: true, failure };
    for _ in 0..2 {
        assert_eq!(preheats.reports(), std::slice::from_ref(&expected), "until it is over");
    }
    preheats.over(1);
    assert!(preheats.reports().is_empty());
    preheats.order(PreheatOrder { number: 2, images: Vec::new() });
    one_ended(&preheats).await;
    assert!(preheats.reports()[0].ended, "an order of nothing has nothing to wait for");
}
