//! Who may be a member of this cluster: for a token's secret, the token of a service account, or a certificate that it
//! still has, a host's key is certified by the authority, unless an operator has removed the host.
//!
//! What is kept lies in the state directory: `ca.key` and `ticket.key`, the tokens' hashes, the removed hosts, the first
//! token, and the socket on which operators change all this ([`operator`]; [`api`] says what can be asked there).

mod api;
mod flushes;
pub(crate) mod operator;
pub(crate) mod refusal;
mod removed;
mod service_accounts;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use flushes::Flushes;
pub(crate) use removed::Removed;
pub(crate) use tokens::{NewToken, Tokens};

use crate::Error;
use crate::kubernetes::TokenReviews;
use membership::{
    Authority, AuthorityError, AuthorityHash, HostCredentials, JoinSecret, JoinToken, PeerKey, SecretHash,
};
use proto::{Credentials, JoinRequest};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tonic::Status;
use types::HostId;

/// Makes the host of this process a member, without a call: for a daemon that has the scheduler inside.
#[derive(Clone, Debug)]
pub struct Admitter(Authority);

impl Admitter {
    pub(crate) const fn new(authority: Authority) -> Self {
        Self(authority)
    }

    /// Whose cluster it is.
    #[must_use]
    pub fn authority(&self) -> AuthorityHash {
        self.0.hash()
    }

    /// Credentials for the owner of `key`, from now on.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn admit(&self, key: &PeerKey) -> Result<HostCredentials, AuthorityError> {
        self.0.certify(key, SystemTime::now())
    }
}

/// The first token, as a host takes it.
const FIRST_TOKEN: &str = "join-token";

/// The longest file with a token.
const TOKEN_FILE_LEN_MAX: u64 = 1024;

/// The token in a file that others keep, if there is one: good as long as it lies there.
fn mounted_token(path: &Path, authority: &Authority) -> io::Result<Option<tokens::Record>> {
    let content = match membership::file::read_mounted(path, TOKEN_FILE_LEN_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => content.map_err(|error| tokens::about(path, &error))?,
    };
    let invalid = |why: &str| tokens::about(path, &io::Error::new(io::ErrorKind::InvalidData, why));
    // Its text is not quoted: it opens doors.
    let token: JoinToken = std::str::from_utf8(&content)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| invalid("it is no join token"))?;
    if token.authority != authority.hash() {
        return Err(invalid("it is a token of another cluster: its hash is not that of ca.key"));
    }
    let note = "mounted".to_owned();
    Ok(Some(tokens::Record::new(&token.secret, NewToken { note, lifetime: None }, SystemTime::now())))
}

/// A cluster's members-to-be; a clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) authority: Authority,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) removed: Removed,
    pub(crate) flushes: Flushes,
    /// Unless no service account joins.
    pub(crate) reviews: Option<Arc<TokenReviews>>,
    dir: PathBuf,
}

impl Cluster {
    /// The cluster whose state is in `dir`; a new one, with a first token, if there is none. With an `identity`, its keys
    /// are the ones in that directory, and its first token, if it has one. Blocks on the disk.
    pub(crate) fn open(dir: &Path, identity: Option<&Path>) -> Result<Self, Error> {
        let failed = |source| Error::State { path: dir.to_owned(), source };
        DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(failed)?;
        let authority = match identity {
            Some(identity) => Authority::load_mounted(identity)?,
            None => Authority::load_or_create(dir)?,
        };
        let mounted = match identity {
            Some(identity) => mounted_token(&identity.join(FIRST_TOKEN), &authority)
                .map_err(|source| Error::State { path: identity.to_owned(), source })?,
            None => None,
        };
        let tokens = Tokens::load(dir.join("tokens.json"), mounted).map_err(failed)?;
        let removed = Removed::load(dir.join("removed.json")).map_err(failed)?;
        let flushes = Flushes::load(dir.join("flushes.json")).map_err(failed)?;
        let (tokens, dir) = (Arc::new(tokens), dir.to_owned());
        let cluster = Self { authority, tokens, removed, flushes, reviews: None, dir };
        if identity.is_none() && cluster.tokens.is_fresh() {
            cluster.first_token().map_err(failed)?;
        }
        Ok(cluster)
    }

    /// The token comes before the list that has it, so that a crash in between costs a useless file and no more.
    fn first_token(&self) -> io::Result<()> {
        let (token, record) =
            self.new_token(NewToken { note: "made at the first start".to_owned(), lifetime: None })?;
        membership::file::replace(&self.dir.join(FIRST_TOKEN), format!("{}\n", token.expose()).as_bytes())?;
        self.tokens.add(record)
    }

    fn new_token(&self, new: NewToken) -> io::Result<(JoinToken, tokens::Record)> {
        let secret =
            JoinSecret::generate().ok_or_else(|| io::Error::other("the system gives no randomness"))?;
        let record = tokens::Record::new(&secret, new, SystemTime::now());
        Ok((JoinToken { authority: self.authority.hash(), secret }, record))
    }

    /// Makes a token that lets hosts join. Blocks on the disk.
    fn create_token(&self, new: NewToken) -> io::Result<(JoinToken, tokens::Record)> {
        let (token, record) = self.new_token(new)?;
        self.tokens.add(record.clone())?;
        Ok((token, record))
    }

    /// From now on the token lets nobody in; whether there was one of this id. Blocks on the disk.
    fn revoke_token(&self, id: &str) -> io::Result<bool> {
        let Some(revoked) = self.tokens.revoke(id)? else { return Ok(false) };
        let path = self.dir.join(FIRST_TOKEN);
        if let Ok(Some(kept)) = membership::file::read(&path, TOKEN_FILE_LEN_MAX)
            && let Ok(kept) = std::str::from_utf8(&kept).unwrap_or_default().trim().parse::<JoinToken>()
            && kept.secret.hash() == revoked
        {
            std::fs::remove_file(&path)?;
        }
        Ok(true)
    }

    /// Where the first token is, if it is still there.
    pub(crate) fn first_token_file(&self) -> Option<PathBuf> {
        let path = self.dir.join(FIRST_TOKEN);
        path.exists().then_some(path)
    }

    /// Where operators speak to the scheduler.
    pub(crate) fn operator_socket(&self) -> PathBuf {
        self.dir.join("operator.sock")
    }

    /// Makes a host a member that has a token's secret and proves its key.
    pub(crate) fn join(
        &self,
        request: &JoinRequest,
        now: SystemTime,
    ) -> Result<(PeerKey, Credentials), Status> {
        let secret = JoinSecret::from_bytes(&request.secret)
            .ok_or_else(|| Status::invalid_argument("a secret has 32 bytes"))?;
        let hash = secret.hash();
        if !self.tokens.accepts(hash, now) {
            return Err(Status::unauthenticated(
                "the join token is not good here: it was revoked, has expired, or is of another cluster",
            ));
        }
        let key = self.proven_key(&request.peer_id, &hash, &request.proof)?;
        Ok((key, self.certify(&key, now)?))
    }

    /// The key of a host that proves that it has it, and means to use it with this secret in this cluster.
    fn proven_key(&self, peer_id: &[u8], secret: &SecretHash, proof: &[u8; 64]) -> Result<PeerKey, Status> {
        let key =
            PeerKey::of_peer_id(peer_id).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !key.verifies(&JoinToken::proof_message(&self.authority.hash(), secret), proof) {
            return Err(Status::unauthenticated(
                "the host does not prove that it has the key of its peer id",
            ));
        }
        Ok(key)
    }

    /// New credentials for a host that still has a certificate.
    pub(crate) fn renew(&self, key: &PeerKey, now: SystemTime) -> Result<Credentials, Status> {
        self.certify(key, now)
    }

    fn certify(&self, key: &PeerKey, now: SystemTime) -> Result<Credentials, Status> {
        self.admits(key.host())?;
        let HostCredentials { certificate, ticket, ticket_keys, lifetime } =
            self.authority.certify(key, now).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Credentials {
            certificate: certificate.into(),
            ticket: ticket.into(),
            ticket_keys: ticket_keys.iter().map(|key| *key.as_bytes()).collect(),
            lifetime,
        })
    }

    /// Whether no operator has removed the host.
    pub(crate) fn admits(&self, host: HostId) -> Result<(), Status> {
        if self.removed.contains(host) {
            return Err(Status::permission_denied(format!("an operator has removed host {host}")));
        }
        Ok(())
    }
}
