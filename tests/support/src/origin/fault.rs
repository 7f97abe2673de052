//! Which requests go wrong, and how.

use super::lock;
use http::Method;
use std::sync::Mutex;
use std::time::Duration;
use types::Digest;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with an OCI error body.
    Status(u16),
    /// 429 with `Retry-After`, in seconds, if given.
    Throttle(Option<u64>),
    /// A header more, in whatever answer.
    Header(&'static str, String),
    /// The body ends this many bytes early, in order: no Content-Length.
    TooFew(u64),
    /// The body goes on for this many bytes: no Content-Length.
    TooMany(u64),
    /// The body goes on for ever: no Content-Length.
    Endless,
    /// The Content-Length says this; a body that is longer is cut, one that is shorter ends with a broken connection.
    ContentLength(u64),
    /// No Content-Length, nothing else wrong.
    NoContentLength,
    /// The byte of the content at this offset has its bits flipped.
    Corrupt(u64),
    /// 307 to this Location, as it is: absolute, relative, anywhere.
    Redirect(String),
    /// 307 to where the request came.
    RedirectLoop,
    /// Range is ignored: 200 and the whole.
    IgnoreRange,
    /// The connection breaks after this many bytes of the body.
    BreakAfter(u64),
    /// Nothing comes after this many bytes of the body; the connection stays.
    StallAfter(u64),
    /// The answer comes after this time.
    Delay(Duration),
    /// The answer never comes.
    Hang,
    /// No `Docker-Content-Digest`.
    NoDigest,
    /// A false `Docker-Content-Digest`.
    FalseDigest(Digest),
    /// No `Content-Type`.
    NoContentType,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Path {
    Any,
    Exact(String),
    Ends(String),
}

/// Which requests a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    method: Option<Method>,
    path: Path,
    skip: u64,
    times: u64,
}

impl When {
    const fn new(path: Path) -> Self {
        Self { method: None, path, skip: 0, times: u64::MAX }
    }

    /// Every request.
    #[must_use]
    pub const fn any() -> Self {
        Self::new(Path::Any)
    }

    /// Requests for exactly this path.
    #[must_use]
    pub fn path(path: &str) -> Self {
        Self::new(Path::Exact(path.into()))
    }

    /// Requests for this blob in any repository.
    #[must_use]
    pub fn blob(digest: &Digest) -> Self {
        Self::new(Path::Ends(format!("/blobs/{digest}")))
    }

    /// Requests for this blob at the place that the registry redirects to.
    #[must_use]
    pub fn storage(digest: &Digest) -> Self {
        Self::new(Path::Ends(format!("/storage/{digest}")))
    }

    /// Requests for this tag or manifest digest in any repository.
    #[must_use]
    pub fn manifest(reference: &str) -> Self {
        Self::new(Path::Ends(format!("/manifests/{reference}")))
    }

    /// Requests for a token.
    #[must_use]
    pub fn token() -> Self {
        Self::path("/token")
    }

    /// Only GET.
    #[must_use]
    pub fn get(mut self) -> Self {
        self.method = Some(Method::GET);
        self
    }

    /// Only HEAD.
    #[must_use]
    pub fn head(mut self) -> Self {
        self.method = Some(Method::HEAD);
        self
    }

    /// Only POST.
    #[must_use]
    pub fn post(mut self) -> Self {
        self.method = Some(Method::POST);
        self
    }

    /// Not the first `count` of them.
    #[must_use]
    pub const fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Only `count` of them (after those that are skipped).
    #[must_use]
    pub const fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    pub(super) fn matches(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|m| m == method)
            && match &self.path {
                Path::Any => true,
                Path::Exact(exact) => path == exact,
                Path::Ends(end) => path.ends_with(end.as_str()),
            }
    }
}

struct Rule {
    when: When,
    fault: Fault,
    seen: u64,
}

#[derive(Default)]
pub(super) struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    pub(super) fn add(&self, when: When, fault: Fault) {
        lock(&self.0).push(Rule { when, fault, seen: 0 });
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// What goes wrong with this request, which counts as one more.
    pub(super) fn plan(&self, method: &Method, path: &str) -> Plan {
        let mut plan = Plan::default();
        for rule in lock(&self.0).iter_mut().filter(|rule| rule.when.matches(method, path)) {
            let nth = rule.seen;
            rule.seen += 1;
            if nth >= rule.when.skip && nth - rule.when.skip < rule.when.times {
                plan.add(&rule.fault);
            }
        }
        plan
    }
}

/// What goes wrong with one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) redirect: Option<String>,
    pub(super) redirect_loop: bool,
    pub(super) too_few: u64,
    pub(super) too_many: u64,
    pub(super) content_length: Option<u64>,
    pub(super) no_content_length: bool,
    pub(super) corrupt: Option<u64>,
    pub(super) ignore_range: bool,
    pub(super) break_after: Option<u64>,
    pub(super) stall_after: Option<u64>,
    pub(super) delay: Duration,
    pub(super) hang: bool,
    pub(super) no_digest: bool,
    pub(super) false_digest: Option<Digest>,
    pub(super) no_content_type: bool,
}

impl Plan {
    fn add(&mut self, fault: &Fault) {
        match fault {
            Fault::Status(status) => self.status = Some(*status),
            Fault::Throttle(seconds) => {
                self.status = Some(429);
                self.headers.extend(seconds.map(|s| ("retry-after", s.to_string())));
            }
            Fault::Header(name, value) => self.headers.push((name, value.clone())),
            Fault::TooFew(bytes) => (self.too_few, self.no_content_length) = (*bytes, true),
            Fault::TooMany(bytes) => (self.too_many, self.no_content_length) = (*bytes, true),
            Fault::Endless => (self.too_many, self.no_content_length) = (u64::MAX, true),
            Fault::ContentLength(bytes) => self.content_length = Some(*bytes),
            Fault::NoContentLength => self.no_content_length = true,
            Fault::Corrupt(offset) => self.corrupt = Some(*offset),
            Fault::Redirect(location) => self.redirect = Some(location.clone()),
            Fault::RedirectLoop => self.redirect_loop = true,
            Fault::IgnoreRange => self.ignore_range = true,
            Fault::BreakAfter(bytes) => self.break_after = Some(*bytes),
            Fault::StallAfter(bytes) => self.stall_after = Some(*bytes),
            Fault::Delay(time) => self.delay = *time,
            Fault::Hang => self.hang = true,
            Fault::NoDigest => self.no_digest = true,
            Fault::FalseDigest(digest) => self.false_digest = Some(*digest),
            Fault::NoContentType => self.no_content_type = true,
        }
    }
}
