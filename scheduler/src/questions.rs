//! Questions about origins, asked once for all hosts.
//!
//! The answers are cached and shared by `origin::Resolver`; here they are only translated. An origin's no is an answer
//! and goes back to the client that asked, with its challenges: [`refusal`].

use crate::metrics::Published;
use http::HeaderValue;
use origin::{Access, OriginError, Reference, Repository, Resolver};
use proto::{
    AccessRequest, ConvertError, CredentialKind, MANIFEST_BYTES_MAX, Manifest, OriginRefusal, RefreshRequest,
    ResolveRequest,
};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;
use types::{Digest, Registry};

/// The most questions open at once; most wait for the same few answers. One more is refused, and its host asks the
/// origin itself.
const OPEN_MAX: usize = 4096;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Who asks origins for everybody.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    resolver: Resolver,
    open: Arc<Semaphore>,
    published: Published,
}

impl Questions {
    pub(crate) fn new(resolver: Resolver, published: Published) -> Self {
        Self { resolver, open: Arc::new(Semaphore::new(OPEN_MAX)), published }
    }

    pub(crate) async fn resolve(
        &self,
        request: ResolveRequest,
    ) -> Result<Result<Manifest, OriginError>, Status> {
        let _open = self.admit()?;
        let repository = repository(&request.registry, &request.repository)?;
        let reference = reference(&request.reference)?;
        let accept: Vec<HeaderValue> = request
            .accept
            .iter()
            .map(|line| HeaderValue::from_str(line).map_err(|error| bad("accept", &error)))
            .collect::<Result<_, _>>()?;
        let resolved = in_time(Box::pin(self.resolver.resolve(&repository, &reference, &accept))).await?;
        Ok(resolved.and_then(|resolved| {
            let manifest = &resolved.manifest;
            if manifest.bytes.len() > MANIFEST_BYTES_MAX {
                return Err(OriginError::TooLarge { limit: MANIFEST_BYTES_MAX as u64 });
            }
            Ok(Manifest {
                digest: manifest.digest,
                media_type: manifest.media_type.clone(),
                content: manifest.bytes.clone(),
                credential: credential(resolved.access),
                lapsed: resolved.lapsed,
            })
        }))
    }

    pub(crate) async fn access(
        &self,
        request: AccessRequest,
    ) -> Result<Result<proto::Access, OriginError>, Status> {
        let _open = self.admit()?;
        let repository = repository(&request.registry, &request.repository)?;
        let access = in_time(Box::pin(self.resolver.access(&repository, &request.digest))).await?;
        Ok(access.map(|blob| proto::Access {
            credential: credential(blob.access),
            size: blob.size,
            lapsed: blob.lapsed,
        }))
    }

    pub(crate) async fn refresh(
        &self,
        request: RefreshRequest,
    ) -> Result<Result<Digest, OriginError>, Status> {
        let _open = self.admit()?;
        let repository = repository(&request.registry, &request.repository)?;
        let reference = reference(&request.reference)?;
        let resolved = in_time(Box::pin(self.resolver.refresh(&repository, &reference))).await?;
        Ok(resolved.map(|resolved| resolved.manifest.digest))
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.published.questions.inc();
        self.open.try_acquire().map_err(|_| {
            self.published.questions_shed.inc();
            Status::resource_exhausted("too many questions are open")
        })
    }
}

async fn in_time<T>(question: impl Future<Output = T>) -> Result<T, Status> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, question).await;
    answer.map_err(|_| Status::deadline_exceeded("the origin takes too long"))
}

fn bad(what: &str, error: &dyn Display) -> Status {
    Status::invalid_argument(format!("{what}: {error}"))
}

/// A request that breaks a rule of the protocol.
pub(crate) fn malformed(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn repository(registry: &Registry, name: &str) -> Result<Repository, Status> {
    Ok(Repository::new(registry, name.parse().map_err(|error: origin::NameError| bad("repository", &error))?))
}

fn reference(text: &str) -> Result<Reference, Status> {
    text.parse().map_err(|error: origin::NameError| bad("reference", &error))
}

const fn credential(access: Access) -> CredentialKind {
    match access {
        Access::Anonymous => CredentialKind::Anonymous,
        Access::Configured => CredentialKind::Configured,
    }
}

/// An origin's no, or what became of the question on its way, as a status and what belongs to it.
pub(crate) fn refusal(error: &OriginError) -> OriginRefusal {
    let (status, challenges, body, retry_after) = match error {
        OriginError::Unauthorized { challenges, body } => (401, &challenges[..], Some(body), None),
        OriginError::Denied { status, body } => (status.as_u16(), &[][..], Some(body), None),
        OriginError::NotFound { body } => (404, &[][..], Some(body), None),
        OriginError::Throttled { retry_after, body } => (429, &[][..], Some(body), *retry_after),
        OriginError::Unreachable(_) | OriginError::Tls { .. } | OriginError::Broken { .. } => {
            (503, &[][..], None, None)
        }
        // No daemon would go there either.
        OriginError::ForbiddenAddress { .. } => (403, &[][..], None, None),
        OriginError::TimedOut | OriginError::Stalled => (504, &[][..], None, None),
        OriginError::Unexpected { body, .. } => (502, &[][..], Some(body), None),
        _ => (502, &[][..], None, None),
    };
    OriginRefusal {
        status,
        challenges: challenges.iter().filter_map(|c| c.to_str().ok().map(str::to_owned)).collect(),
        body: body.cloned().unwrap_or_default(),
        retry_after: retry_after.unwrap_or_default(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origins_no_keeps_its_challenges() {
        let challenge =
            "Bearer realm=\"https://auth.example/token\",service=\"s\",scope=\"repository:a:pull\"";
        let no = refusal(&OriginError::Unauthorized {
            challenges: vec![HeaderValue::from_static(challenge)],
            body: b"{}"[..].into(),
        });
        assert_eq!((no.status, no.challenges, &no.body[..]), (401, vec![challenge.to_owned()], &b"{}"[..]));
        let after = Some(Duration::from_secs(7));
        let no = refusal(&OriginError::Throttled { retry_after: after, body: "".into() });
        assert_eq!((no.status, no.retry_after), (429, Duration::from_secs(7)));
        assert_eq!(refusal(&OriginError::TimedOut).status, 504);
        assert_eq!(refusal(&OriginError::RedirectLoop).status, 502);
        let registry = Registry::parse("registry.example").unwrap();
        let bad_credential = OriginError::BadCredential { registry: registry.clone(), why: "no file".into() };
        for ours in [OriginError::NoCredential(registry), bad_credential] {
            assert_eq!(refusal(&ours).status, 502, "{ours}");
        }
        assert_eq!(refusal(&OriginError::Unreachable("down".into())).status, 503);
    }
}
