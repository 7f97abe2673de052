//! From a program to the file: a bounded queue and the task that writes what is in it.
//!
//! Nobody waits for the log. What finds no room in the queue and what the disk does not take is counted, and a line says
//! how much it was.

use super::file::{Options, Rotating};
use super::line::{Event, Line};
use crate::client::Client;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Events that wait; about 1 KiB each.
const QUEUE: usize = 4096;

/// Lines written at once.
const BATCH: usize = 256;

/// How long a line waits for its client's user.
const UID_PATIENCE: Duration = Duration::from_secs(1);

/// How long what waits may take to be written when the program stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    written: Counter,
    lost: Counter,
}

impl Metrics {
    /// Declares the metrics in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("audit_lines", "Lines written to the audit log", metrics.written.clone());
        let help = "Lines that the audit log lacks: they found no room in the queue or on the disk";
        registry.register("audit_lost_lines", help, metrics.lost.clone());
        metrics
    }
}

struct Entry {
    time: SystemTime,
    author: Author,
    event: Event,
}

/// Who made something happen.
#[derive(Debug)]
enum Author {
    /// The program itself.
    Nobody,
    /// The other end of a connection.
    Client(Client),
    /// A user of this machine.
    User(u32),
}

/// Where events are told; a clone is the same log.
#[derive(Clone, Debug)]
pub struct Log {
    queue: mpsc::Sender<Entry>,
    losses: Losses,
}

/// Lines that are lost, in all and since the log last said so.
#[derive(Clone, Debug)]
struct Losses {
    metrics: Metrics,
    unsaid: Arc<AtomicU64>,
}

impl Losses {
    fn add(&self, lines: u64) {
        self.metrics.lost.inc_by(lines);
        self.unsaid.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Log {
    /// Starts the task that writes. The file is opened with the first line.
    #[must_use]
    pub fn start(options: Options, metrics: Metrics) -> (Self, Writing) {
        let (log, writer) = Self::new(Rotating::new(options), metrics, QUEUE);
        let stop = writer.stop.clone();
        (log, Writing { stop, task: tokio::spawn(writer.run()) })
    }

    fn new(file: Rotating, metrics: Metrics, room: usize) -> (Self, Writer) {
        let (queue, inbox) = mpsc::channel(room);
        let losses = Losses { metrics, unsaid: Arc::default() };
        let writer = Writer {
            inbox,
            stop: CancellationToken::new(),
            losses: losses.clone(),
            file: Some(file),
            failing: false,
        };
        (Self { queue, losses }, writer)
    }

    /// Tells what has just happened, and who made it happen. Never waits.
    pub fn tell(&self, client: Option<&Client>, event: Event) {
        self.tell_of(client.map_or(Author::Nobody, |client| Author::Client(client.clone())), event);
    }

    /// Tells what a user of this machine has just made happen. Never waits.
    pub fn tell_user(&self, uid: u32, event: Event) {
        self.tell_of(Author::User(uid), event);
    }

    fn tell_of(&self, author: Author, event: Event) {
        let entry = Entry { time: SystemTime::now(), author, event };
        if self.queue.try_send(entry).is_err() {
            self.losses.add(1);
        }
    }
}

/// The task that writes.
#[derive(Debug)]
pub struct Writing {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Writing {
    /// Waits until what has been told is written; what is told from now on is lost.
    pub async fn stopped(self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_PATIENCE, self.task).await.is_err() {
            tracing::warn!(after = ?STOP_PATIENCE, "the end of the audit log could not be written in time");
        }
    }
}

struct Writer {
    inbox: mpsc::Receiver<Entry>,
    stop: CancellationToken,
    losses: Losses,
    /// Away while it is written to.
    file: Option<Rotating>,
    /// Whether the last lines could not be written.
    failing: bool,
}

impl Writer {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                count = self.inbox.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                }
                // What has been told until then is still received.
                () = stop.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
            }
            self.write(&mut batch).await;
        }
        // What was lost after the last line.
        self.write(&mut batch).await;
    }

    async fn write(&mut self, batch: &mut Vec<Entry>) {
        let unsaid = self.losses.unsaid.swap(0, Ordering::Relaxed);
        let lost =
            Line { time: SystemTime::now(), client: None, uid: None, event: Event::Lost { lines: unsaid } };
        let mut text = Vec::new();
        if unsaid > 0 {
            push(&mut text, &lost);
        }
        let events = batch.len() as u64;
        for entry in batch.drain(..) {
            push(&mut text, &resolve(entry).await);
        }
        if text.is_empty() {
            return;
        }
        let unwritten = self.append(text).await;
        // The line of losses is the first, so it is missing only with all the others.
        if unwritten > events {
            self.losses.unsaid.fetch_add(unsaid, Ordering::Relaxed);
        } else if unsaid > 0 {
            tracing::warn!(lines = unsaid, "the audit log lacks lines");
        }
        let lost = unwritten.min(events);
        self.losses.add(lost);
        self.losses.metrics.written.inc_by(events - lost);
    }

    /// How many of these lines could not be written. The first failure of a row is logged, and its end.
    async fn append(&mut self, text: Vec<u8>) -> u64 {
        let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let Some(mut file) = self.file.take() else { return lines };
        let appended = tokio::task::spawn_blocking(move || {
            let appended = file.append(&text);
            (file, appended)
        });
        // Only a panic loses the file, and there is nothing to write to then.
        let Ok((file, appended)) = appended.await else { return lines };
        let path = file.path().display();
        let unwritten = match appended {
            Ok(()) => {
                if self.failing {
                    tracing::info!(%path, "the audit log is written again");
                }
                self.failing = false;
                0
            }
            Err(failed) => {
                if !self.failing {
                    tracing::warn!(%path, error = %failed.error, "the audit log cannot be written");
                }
                self.failing = true;
                failed.lines
            }
        };
        self.file = Some(file);
        unwritten
    }
}

async fn resolve(entry: Entry) -> Line {
    let Entry { time, author, event } = entry;
    let (client, uid) = match author {
        Author::Nobody => (None, None),
        Author::User(uid) => (None, Some(uid)),
        Author::Client(client) => {
            let uid = tokio::time::timeout(UID_PATIENCE, client.uid()).await.ok().flatten();
            (Some(client.address()), uid)
        }
    };
    Line { time, client, uid, event }
}

fn push(text: &mut Vec<u8>, line: &Line) {
    // Strings, numbers and a time after 1970: it cannot fail.
    if let Ok(line) = line.to_json() {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Operation;
    use super::super::open_all;
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;

    fn event(name: &'static str) -> Event {
        Event::Operation(Operation { name: name.into(), by: "test".into(), detail: String::new() })
    }

    fn options(file: &Path) -> Options {
        Options { file: file.to_owned(), max_bytes: 1 << 20, keep: 1 }
    }

    fn events(file: &Path) -> Vec<Event> {
        let files = open_all(file).unwrap();
        let lines = files.into_iter().flat_map(|(_, file)| BufReader::new(file).lines());
        lines.map(|line| serde_json::from_str::<Line>(&line.unwrap()).unwrap().event).collect()
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let (log, writing) = Log::start(options(&file), Metrics::default());
        for _ in 0..1000 {
            log.tell(None, event("a"));
        }
        writing.stopped().await;
        assert_eq!(events(&file), vec![event("a"); 1000]);
        log.tell(None, event("too late"));
        assert_eq!(log.losses.metrics.lost.get(), 1);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let (log, writer) = Log::new(Rotating::new(options(&file)), Metrics::default(), 2);
        for name in ["a", "b", "c", "d", "e"] {
            log.tell(None, event(name));
        }
        let metrics = log.losses.metrics.clone();
        writer.stop.cancel();
        writer.run().await;
        assert_eq!(events(&file), [Event::Lost { lines: 3 }, event("a"), event("b")]);
        assert_eq!((metrics.lost.get(), metrics.written.get()), (3, 2));
    }

    #[tokio::test]
    async fn what_the_disk_does_not_take_is_counted_and_said_later() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let file = missing.join("audit.log");
        let (log, mut writer) = Log::new(Rotating::new(options(&file)), Metrics::default(), 8);
        log.losses.add(1);
        for _ in 0..2 {
            let entry = |name| Entry { time: SystemTime::now(), author: Author::Nobody, event: event(name) };
            writer.write(&mut vec![entry("a"), entry("b")]).await;
            assert!(writer.failing);
        }
        std::fs::create_dir(&missing).unwrap();
        log.tell(None, event("c"));
        let metrics = log.losses.metrics.clone();
        drop(log);
        writer.run().await;
        assert_eq!(events(&file), [Event::Lost { lines: 5 }, event("c")]);
        assert_eq!((metrics.lost.get(), metrics.written.get()), (5, 1));
    }

    #[tokio::test]
    async fn a_line_names_the_clients_user() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let client = Client::new(address, stream.local_addr().unwrap());
        let (log, writing) = Log::start(options(&file), Metrics::default());
        log.tell(Some(&client), event("a"));
        log.tell_user(7, event("b"));
        writing.stopped().await;
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines[0].client, lines[0].uid), (Some(address), client.uid().await));
        assert!(lines[0].uid.is_some(), "{text}");
        assert_eq!((lines[1].client, lines[1].uid), (None, Some(7)));
    }
}
