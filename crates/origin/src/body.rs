//! A blob's body over as many connections as it takes.

use crate::blob::ContentRange;
use crate::client::Origin;
use crate::metrics::Kind;
use crate::redirect::cause_of;
use crate::send::{Ask, Retry, content_length};
use crate::{Auth, OriginError, Repository};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use std::time::Duration;
use types::{ByteRange, Digest, PieceLayout};

/// How often one body is taken up again in all, progress or not.
const RESUMES_MAX: u32 = 32;

/// The progress after which the tries are counted anew, in bytes: a connection that breaks at once is no progress.
const PROGRESS: u64 = 256 * 1024;

/// How long a body that should have ended is watched for bytes too many.
const SURPLUS_WAIT: Duration = Duration::from_secs(1);

/// What is being read, and how far it is.
pub(crate) struct Reader {
    origin: Origin,
    repository: Repository,
    digest: Digest,
    auth: Auth,
    /// Whether a Range goes out with the first request.
    by_range: bool,
    /// The next byte to be given.
    at: u64,
    /// One past the last; unknown while the blob's size is.
    end: Option<u64>,
    /// The blob's size.
    size: Option<u64>,
    current: Option<Current>,
    retry: Retry,
    /// Where the tries began to be counted.
    counted_from: u64,
    resumes: u32,
}

/// A response on its way.
struct Current {
    response: reqwest::Response,
    /// Bytes before `at` that are still to come and to be thrown away.
    skip: u64,
    /// Whether bytes after the end are to be expected: the registry sends everything.
    surplus_expected: bool,
}

impl Reader {
    pub(crate) fn new(
        origin: Origin,
        repository: Repository,
        digest: Digest,
        range: Option<ByteRange>,
        size: Option<u64>,
        auth: Auth,
    ) -> Self {
        let retry = Retry::new(origin.options());
        let at = range.map_or(0, ByteRange::start);
        let end = range.map(ByteRange::end).or(size);
        Self {
            origin,
            repository,
            digest,
            auth,
            by_range: range.is_some(),
            at,
            end,
            size,
            current: None,
            retry,
            counted_from: at,
            resumes: 0,
        }
    }

    pub(crate) const fn size(&self) -> Option<u64> {
        self.size
    }

    /// Asks for what is still to come; whether the registry sends just that.
    pub(crate) async fn open(&mut self) -> Result<bool, OriginError> {
        let tail = format!("blobs/{}", self.digest);
        let mut ask = Ask::new(Method::GET, &self.repository, &tail, &self.auth, Kind::Blob);
        if self.by_range || self.at > 0 {
            let last = self.end.map(|end| (end - 1).to_string()).unwrap_or_default();
            let range = HeaderValue::try_from(format!("bytes={}-{last}", self.at));
            ask.headers.insert(header::RANGE, range.map_err(|_| OriginError::Malformed("a range"))?);
        }
        let response = self.origin.ask(&ask).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.opened_part(response).map(|()| true),
            StatusCode::RANGE_NOT_SATISFIABLE => self.unsatisfiable(&response).map(|()| true),
            _ => self.opened_whole(response).map(|()| false),
        }
    }

    fn opened_part(&mut self, response: reqwest::Response) -> Result<(), OriginError> {
        let part = ContentRange::of(response.headers())?;
        if let Some(total) = part.total {
            self.learn_size(total)?;
        }
        let beyond = self.end.is_some_and(|end| part.range.end() > end);
        if part.range.start() != self.at || beyond {
            return Err(OriginError::Malformed("another range than was asked for"));
        }
        if let Some(got) = content_length(response.headers()).filter(|len| *len != part.range.len()) {
            return Err(OriginError::WrongLength { expected: part.range.len(), got });
        }
        self.current = Some(Current { response, skip: 0, surplus_expected: false });
        Ok(())
    }

    fn opened_whole(&mut self, response: reqwest::Response) -> Result<(), OriginError> {
        if let Some(len) = content_length(response.headers()) {
            self.learn_size(len)?;
        }
        let surplus_expected = match (self.end, self.size) {
            (Some(end), Some(size)) => end < size,
            // Whether the end that was asked for is the blob's is not known.
            (Some(_), None) => self.by_range,
            (None, _) => false,
        };
        self.current = Some(Current { response, skip: self.at, surplus_expected });
        Ok(())
    }

    /// There is nothing where we ask: right only if everything is there already.
    fn unsatisfiable(&mut self, response: &reqwest::Response) -> Result<(), OriginError> {
        let total = ContentRange::total_of_unsatisfiable(response.headers());
        match self.end {
            None if total == Some(self.at) => {
                self.learn_size(self.at)?;
                Ok(())
            }
            end => {
                let got = total.unwrap_or(self.at).min(self.at);
                Err(OriginError::TooShort { expected: end.or(self.size).unwrap_or(self.at), got })
            }
        }
    }

    fn learn_size(&mut self, got: u64) -> Result<(), OriginError> {
        if let Some(expected) = self.size.filter(|size| *size != got) {
            return Err(OriginError::WrongLength { expected, got });
        }
        if let Some(expected) = self.end.filter(|end| *end > got) {
            return Err(OriginError::TooShort { expected, got });
        }
        self.size = Some(got);
        self.end.get_or_insert(got);
        Ok(())
    }

    /// The next bytes; nothing after the last. Not to be called again after an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        loop {
            if self.end == Some(self.at) {
                return self.finish().await.map(|()| None);
            }
            let Some(current) = &mut self.current else {
                self.open().await?;
                continue;
            };
            let stall = self.origin.options().stall_timeout;
            let failure = match tokio::time::timeout(stall, current.response.chunk()).await {
                Ok(Ok(Some(chunk))) => match self.take(chunk)? {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => continue,
                },
                Ok(Ok(None)) => match self.end {
                    None => {
                        self.learn_size(self.at)?;
                        continue;
                    }
                    Some(expected) => OriginError::TooShort { expected, got: self.at },
                },
                Ok(Err(error)) => OriginError::Broken { got: self.at, cause: cause_of(error) },
                Err(_) => OriginError::Stalled,
            };
            self.resume(failure).await?;
        }
    }

    /// What of a chunk is to be given: nothing of what lies before, nothing beyond the end.
    fn take(&mut self, chunk: Bytes) -> Result<Option<Bytes>, OriginError> {
        let Some(current) = &mut self.current else { return Ok(None) };
        let metrics = self.origin.metrics();
        let registry = &self.repository.registry;
        metrics.received(registry, Kind::Blob, chunk.len() as u64);
        let mut chunk = chunk;
        let before = usize::try_from(current.skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
        if before > 0 {
            metrics.skipped(registry, before as u64);
            current.skip -= before as u64;
            chunk = chunk.split_off(before);
        }
        let limit = self.end.unwrap_or(PieceLayout::SIZE_MAX);
        let room = usize::try_from(limit - self.at).unwrap_or(usize::MAX);
        if chunk.len() > room {
            if !current.surplus_expected {
                return Err(OriginError::TooLong { expected: limit });
            }
            metrics.skipped(registry, (chunk.len() - room) as u64);
            chunk.truncate(room);
        }
        self.at += chunk.len() as u64;
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Another connection for the rest, if there are tries left.
    async fn resume(&mut self, failure: OriginError) -> Result<(), OriginError> {
        self.current = None;
        if self.at - self.counted_from >= PROGRESS {
            self.retry = Retry::new(self.origin.options());
            self.counted_from = self.at;
        }
        self.resumes += 1;
        if self.resumes > RESUMES_MAX {
            return Err(failure);
        }
        self.retry.after(failure).await?;
        tracing::debug!(digest = ?self.digest, at = self.at, "taking a body up again");
        self.origin.metrics().resumed(&self.repository.registry);
        Ok(())
    }

    /// Everything is there. A body of unannounced length is looked at once more, for bytes too many.
    async fn finish(&mut self) -> Result<(), OriginError> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        if current.surplus_expected || content_length(current.response.headers()).is_some() {
            return Ok(());
        }
        match tokio::time::timeout(SURPLUS_WAIT, current.response.chunk()).await {
            Ok(Ok(Some(chunk))) if !chunk.is_empty() => Err(OriginError::TooLong { expected: self.at }),
            _ => Ok(()),
        }
    }
}
