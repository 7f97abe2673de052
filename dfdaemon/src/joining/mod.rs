//! Becoming a member of the cluster, and staying one.
//!
//! For the secret of a join token, the token of a Kubernetes service account, or by a certificate that it still has,
//! this host gets a certificate and a ticket from the scheduler, renews both at half the ticket's life, and keeps them,
//! so that a restart needs no token. A daemon with the scheduler inside is certified by it without a call.

mod kept;

use crate::config::JoinBy;
use kept::Kept;
use membership::{
    AuthorityHash, HostCredentials, HostKey, JoinToken, SERVER_NAME, ServiceAccountToken, Ticket,
    TicketError, TicketKey, client_config,
};
use p2p::Tickets;
use proto::client::SchedulerClient;
use proto::{JoinRequest, ServiceAccountJoinRequest, wire};
use rustls_pki_types::ServerName;
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long the scheduler may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether a renewal is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// The first pause after a failure; doubled each time, with up to half taken off at random.
const BACKOFF: Duration = Duration::from_millis(200);

/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How this host gets in.
#[derive(Debug)]
pub(crate) enum Way {
    /// By this, at the scheduler at this endpoint.
    Remote { by: JoinBy, endpoint: Endpoint },
    /// The scheduler is in this process, and the endpoint is where it listens.
    Own { admitter: scheduler::Admitter, endpoint: Endpoint },
}

impl Way {
    fn authority(&self) -> AuthorityHash {
        match self {
            Self::Remote { by: JoinBy::Token(token), .. } => token.authority,
            Self::Remote { by: JoinBy::ServiceAccount { authority, .. }, .. } => *authority,
            Self::Own { admitter, .. } => admitter.authority(),
        }
    }

    const fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Remote { endpoint, .. } | Self::Own { endpoint, .. } => endpoint,
        }
    }
}

/// Why this host is not a member.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the service account's token {} cannot be read: {source}", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("the scheduler refused: {}", .0.message())]
    Refused(Box<Status>),
    #[error("the scheduler cannot be reached, or is not the one that this host knows: {0}")]
    Unreachable(Box<Status>),
    #[error("the scheduler did not answer in {0:?}")]
    TooSlow(Duration),
    #[error("the scheduler's answer makes no sense: {0}")]
    Malformed(#[from] proto::ConvertError),
    #[error("the scheduler's certificate for this host is of no use: {0}")]
    Certificate(#[from] membership::AuthorityError),
}

/// This host's membership.
#[derive(Debug)]
pub(crate) struct Joining {
    key: HostKey,
    way: Way,
    tickets: Tickets,
    file: PathBuf,
    held: watch::Sender<Option<Arc<Kept>>>,
    channel: Channel,
}

impl Joining {
    /// What is kept in `file` of an earlier membership of the same cluster is used at once. Blocks on the disk.
    ///
    /// # Errors
    /// If the file cannot be read, or others could read it.
    pub(crate) fn new(key: HostKey, way: Way, tickets: Tickets, file: PathBuf) -> io::Result<Self> {
        // A certificate for another key, as of a host whose identity was made anew, would make each connection fail.
        let fits = |kept: &Kept| {
            kept.is_of(&way.authority())
                && client_config(way.authority(), Some((&key, kept.certificate()))).is_ok()
        };
        let kept = Kept::load(&file)?.filter(fits);
        let held = watch::Sender::new(None);
        let channel = {
            let (key, authority, held) = (key.clone(), way.authority(), held.subscribe());
            channel(way.endpoint(), move || {
                let held: Option<Arc<Kept>> = held.borrow().clone();
                let shown = held.as_ref().map(|kept| (&key, kept.certificate()));
                client_config(authority, shown).map_err(io::Error::other)
            })
        };
        let joining = Self { key, way, tickets, file, held, channel };
        if let Some(kept) = kept {
            joining.hold(kept);
        }
        Ok(joining)
    }

    /// The channel to the scheduler, on which this host shows what it has.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whether there is something to show.
    pub(crate) fn joined(&self) -> Joined {
        Joined(self.held.subscribe())
    }

    /// Joins, and renews in time, until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut pause = BACKOFF;
        loop {
            let due = self.held.borrow().as_ref().map(|kept| kept.renewal_in(SystemTime::now()));
            if let Some(due) = due.filter(|due| !due.is_zero()) {
                // Not all at once: a machine that slept, or whose clock was set, is to notice.
                let sleep = tokio::time::sleep(due.min(LOOK_INTERVAL));
                if cancel.run_until_cancelled(sleep).await.is_none() {
                    return;
                }
                continue;
            }
            let Some(got) = cancel.run_until_cancelled(self.get()).await else { return };
            match got {
                Ok(credentials) => {
                    pause = BACKOFF;
                    self.keep(credentials).await;
                    continue;
                }
                Err(error) if self.held.borrow().is_some() => {
                    tracing::warn!(%error, again_in = ?pause, "this host's membership cannot be renewed");
                }
                Err(error) => {
                    tracing::warn!(%error, again_in = ?pause, "this host cannot join the cluster");
                }
            }
            let jittered = pause.mul_f64(1.0 - fastrand::f64() / 2.0);
            if cancel.run_until_cancelled(tokio::time::sleep(jittered)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    async fn get(&self) -> Result<HostCredentials, Failed> {
        if self.held.borrow().is_some() {
            let renewed = self.ask(self.channel.clone(), |mut client| async move {
                client.renew(wire::RenewRequest {}).await
            });
            match renewed.await {
                Ok(credentials) => return Ok(credentials),
                // A token does not help one that an operator has removed.
                Err(Failed::Refused(status)) if status.code() == Code::PermissionDenied => {
                    return Err(Failed::Refused(status));
                }
                Err(error) => tracing::debug!(%error, "no renewal"),
            }
        }
        match &self.way {
            Way::Own { admitter, .. } => Ok(admitter.admit(&self.key.public())?),
            Way::Remote { by: JoinBy::Token(token), .. } => self.join(token).await,
            Way::Remote { by: JoinBy::ServiceAccount { authority, token_file }, .. } => {
                self.join_by_service_account(*authority, token_file).await
            }
        }
    }

    /// A connection of its own, without a certificate: an expired one would end the handshake. What is said on it
    /// reaches nobody but a scheduler of this authority.
    fn stranger(&self) -> Channel {
        let authority = self.way.authority();
        channel(self.way.endpoint(), move || client_config(authority, None).map_err(io::Error::other))
    }

    async fn join(&self, token: &JoinToken) -> Result<HostCredentials, Failed> {
        let request = wire::JoinRequest::from(JoinRequest {
            peer_id: self.key.public().peer_id(),
            secret: *token.secret.expose(),
            proof: token.prove(&self.key),
        });
        self.ask(self.stranger(), |mut client| async move { client.join(request).await }).await
    }

    /// The token is read anew each time: kubelet puts another in its place before it expires.
    async fn join_by_service_account(
        &self,
        authority: AuthorityHash,
        token_file: &Path,
    ) -> Result<HostCredentials, Failed> {
        let path = token_file.to_owned();
        let read = tokio::task::spawn_blocking(move || ServiceAccountToken::read(&path)).await;
        let token = read
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| Failed::TokenFile { path: token_file.to_owned(), source })?;
        let request = wire::ServiceAccountJoinRequest::from(ServiceAccountJoinRequest {
            peer_id: self.key.public().peer_id(),
            token: token.expose().to_owned().into(),
            proof: token.prove(&authority, &self.key),
        });
        self.ask(self.stranger(), |mut client| async move { client.join_by_service_account(request).await })
            .await
    }

    async fn ask<A>(
        &self,
        channel: Channel,
        question: impl FnOnce(SchedulerClient<Channel>) -> A,
    ) -> Result<HostCredentials, Failed>
    where
        A: Future<Output = Result<tonic::Response<wire::Credentials>, Status>>,
    {
        let asking = question(SchedulerClient::new(channel));
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        let answer = answer.map_err(|_| Failed::TooSlow(ANSWER_TIMEOUT))?.map_err(|status| {
            let status = Box::new(status);
            // One that came as an answer has no source: that scheduler is there, and what it needs is not.
            if status.code() == Code::Unavailable && status.source().is_some() {
                Failed::Unreachable(status)
            } else {
                Failed::Refused(status)
            }
        })?;
        let credentials = proto::Credentials::try_from(answer.into_inner())?;
        // A certificate that is not for this key would make each connection fail.
        client_config(self.way.authority(), Some((&self.key, &credentials.certificate)))?;
        Ok(HostCredentials {
            certificate: credentials.certificate.to_vec(),
            ticket: credentials.ticket.to_vec(),
            ticket_keys: credentials.ticket_keys.iter().map(|key| TicketKey::from_bytes(*key)).collect(),
            lifetime: credentials.lifetime,
        })
    }

    async fn keep(&self, credentials: HostCredentials) {
        let kept = Kept::new(self.way.authority(), &credentials, SystemTime::now());
        let first = self.held.borrow().is_none();
        let shown = Ticket::verify(kept.ticket(), &kept.ticket_keys(), &self.key.public(), SystemTime::now());
        if let Err(error @ (TicketError::NotYet | TicketError::Expired)) = shown {
            tracing::warn!(%error, "peers will refuse this host: is its clock right, and the scheduler's?");
        }
        let (file, content) = (self.file.clone(), kept.clone());
        self.hold(kept);
        if first {
            tracing::info!(host = %self.key.public().host(), "this host is a member of the cluster");
        } else {
            tracing::debug!("this host's certificate and ticket are renewed");
        }
        let written = tokio::task::spawn_blocking(move || content.save(&file)).await;
        if let Ok(Err(error)) = written {
            let file = self.file.display();
            tracing::warn!(%error, %file, "a restart will need a token: the certificate cannot be kept");
        }
    }

    fn hold(&self, kept: Kept) {
        self.tickets.set(kept.ticket().to_vec(), kept.ticket_keys());
        self.held.send_replace(Some(Arc::new(kept)));
    }
}

/// Whether a host has something to show to the scheduler.
#[derive(Clone, Debug)]
pub(crate) struct Joined(watch::Receiver<Option<Arc<Kept>>>);

impl Joined {
    /// Waits until it has, at most `limit`; whether it has. Cancel safe.
    pub(crate) async fn within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.0.wait_for(Option::is_some)).await.is_ok_and(|held| held.is_ok())
    }
}

fn channel(
    endpoint: &Endpoint,
    config: impl Fn() -> io::Result<rustls::ClientConfig> + Send + Sync + 'static,
) -> Channel {
    let name = ServerName::try_from(SERVER_NAME).expect("the scheduler's name is a DNS name");
    process::grpc::channel(endpoint, &name, config)
}
