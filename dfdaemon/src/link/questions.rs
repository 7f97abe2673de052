//! Questions to the scheduler beside the stream: what a tag stands for, who may read a blob, what goes on.
//!
//! None is waited for longer than the link is alive: without an answer the daemon asks the origin itself.

use super::Link;
use download_core::LinkState;
use origin::{Reference, Repository};
use process::traces::{self, Kind, Span};
use proto::{Access, AccessRequest, Manifest, OriginRefusal, RefreshRequest, ResolveRequest, Status, wire};
use std::future::Future;
use std::time::Duration;
use types::Digest;

/// The longest wait for an answer of a scheduler that is alive: it may itself wait for a slow origin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);

/// The scheduler did not answer: it is not there, was too slow, or made no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no link to the scheduler")]
    NoLink,
    #[error("the scheduler did not answer in {0:?}")]
    TooSlow(Duration),
    #[error("the scheduler failed: {0}")]
    Failed(#[from] Box<tonic::Status>),
    #[error("the scheduler's answer makes no sense: {0}")]
    Malformed(#[from] proto::ConvertError),
}

impl Link {
    /// What `reference` stands for, or the origin's no.
    pub(crate) async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[http::HeaderValue],
    ) -> Result<Result<Manifest, OriginRefusal>, NoAnswer> {
        let question = ResolveRequest {
            registry: repository.registry.clone(),
            repository: repository.name.as_str().to_owned(),
            reference: reference.to_string(),
            accept: accept.iter().filter_map(|line| line.to_str().ok().map(str::to_owned)).collect(),
        };
        let mut client = self.client();
        let question = wire::ResolveRequest::from(question);
        let (span, question) = with_span(proto::RESOLVE_CALL, question);
        let answer = self.while_alive(span, client.resolve(question)).await?;
        Ok(answer.try_into()?)
    }

    /// Whether anyone, or the configured credential, may read a blob.
    pub(crate) async fn access(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Result<Access, OriginRefusal>, NoAnswer> {
        let question = AccessRequest {
            registry: repository.registry.clone(),
            repository: repository.name.as_str().to_owned(),
            digest: *digest,
        };
        let mut client = self.client();
        let question = wire::AccessRequest::from(question);
        let (span, question) = with_span(proto::CHECK_ACCESS_CALL, question);
        let answer = self.while_alive(span, client.check_access(question)).await?;
        Ok(answer.try_into()?)
    }

    /// Has the scheduler ask the origin again what a tag stands for.
    pub(crate) async fn refresh(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Result<Digest, OriginRefusal>, NoAnswer> {
        let question = RefreshRequest {
            registry: repository.registry.clone(),
            repository: repository.name.as_str().to_owned(),
            reference: reference.to_string(),
        };
        let mut client = self.client();
        let question = wire::RefreshRequest::from(question);
        let (span, question) = with_span(proto::REFRESH_CALL, question);
        let answer = self.while_alive(span, client.refresh(question)).await?;
        Ok(answer.try_into()?)
    }

    /// What is going on in the cluster.
    pub(crate) async fn status(&self) -> Result<Status, NoAnswer> {
        let mut client = self.client();
        let answer = self.while_alive(Span::none(), client.status(wire::StatusRequest {})).await?;
        Ok(Status::try_from(answer)?)
    }

    fn client(&self) -> proto::client::SchedulerClient<tonic::transport::Channel> {
        proto::client::SchedulerClient::new(self.channel.clone())
            .max_decoding_message_size(proto::SCHEDULER_FRAME_BYTES_MAX)
    }

    /// Waits for an answer as long as the scheduler is heard on the stream; `span` is that of the waiting.
    async fn while_alive<T>(
        &self,
        mut span: Span,
        question: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, NoAnswer> {
        let mut state = self.state.clone();
        if *state.borrow_and_update() != LinkState::Up {
            span.fail("no link");
            return Err(NoAnswer::NoLink);
        }
        tokio::select! {
            answer = question => match answer {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) => {
                    span.fail(format_args!("{:?}", status.code()));
                    Err(Box::new(status).into())
                }
            },
            _ = state.wait_for(|state| *state != LinkState::Up) => {
                span.fail("no link");
                Err(NoAnswer::NoLink)
            }
            () = tokio::time::sleep(ANSWER_TIMEOUT) => {
                span.fail("no answer in time");
                Err(NoAnswer::TooSlow(ANSWER_TIMEOUT))
            }
        }
    }
}

/// The span of waiting for the answer to a question, within what this task works for, and the question, which tells of it.
fn with_span<T>(call: &'static str, question: T) -> (Span, tonic::Request<T>) {
    let span = Span::child(Kind::Client, call, traces::current());
    let mut question = tonic::Request::new(question);
    traces::inject(span.context(), question.metadata_mut());
    (span, question)
}
