//! What was asked, and how much was sent.

use super::lock;
use http::{HeaderMap, Method, StatusCode};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How many requests are remembered.
const REQUESTS_MAX: usize = 200_000;

/// A request as it came, and its answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, HEAD, POST.
    pub method: Method,
    /// The path without the query.
    pub path: String,
    /// The query without its question mark, empty if there is none.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The answer's status.
    pub status: StatusCode,
    /// Whether the answer is content (200 or 206 with a body), not an error, a redirect or a token.
    pub content: bool,
    pub(super) sent: Arc<AtomicU64>,
}

impl Request {
    /// How many bytes of the body were handed to the connection.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// A header's value, if it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Default)]
pub(super) struct Log(Mutex<VecDeque<Request>>);

impl Log {
    pub(super) fn push(&self, request: Request) {
        let mut requests = lock(&self.0);
        if requests.len() == REQUESTS_MAX {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    pub(super) fn all(&self) -> Vec<Request> {
        lock(&self.0).iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}
