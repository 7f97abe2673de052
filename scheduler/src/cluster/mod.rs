//! Who may be a member of this cluster: for a token's secret, or a certificate that it still has, a host's key is
//! certified by the authority, unless an operator has removed the host.
//!
//! What is kept lies in the state directory: `ca.key` and `ticket.key`, the tokens' hashes, the removed hosts, the first
//! token, and the socket on which operators change all this ([`operator`]).

pub(crate) mod operator;
mod removed;
mod tokens;

pub(crate) use removed::Removed;
pub(crate) use tokens::{NewToken, Tokens};

use crate::Error;
use membership::{Authority, AuthorityError, AuthorityHash, HostCredentials, JoinSecret, JoinToken, PeerKey};
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

/// A cluster's members-to-be; a clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) authority: Authority,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) removed: Removed,
    dir: PathBuf,
}

impl Cluster {
    /// The cluster whose state is in `dir`; a new one, with a first token, if there is none. Blocks on the disk.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::State { path: dir.to_owned(), source };
        DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(failed)?;
        let authority = Authority::load_or_create(dir)?;
        let tokens = Tokens::load(dir.join("tokens.json")).map_err(failed)?;
        let removed = Removed::load(dir.join("removed.json")).map_err(failed)?;
        let cluster = Self { authority, tokens: Arc::new(tokens), removed, dir: dir.to_owned() };
        if cluster.tokens.is_fresh() {
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
        if let Ok(Some(kept)) = membership::file::read(&path, 1024)
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
        let key = PeerKey::of_peer_id(&request.peer_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let secret = JoinSecret::from_bytes(&request.secret)
            .ok_or_else(|| Status::invalid_argument("a secret has 32 bytes"))?;
        let hash = secret.hash();
        if !self.tokens.accepts(hash, now) {
            return Err(Status::unauthenticated(
                "the join token is not good here: it was revoked, has expired, or is of another cluster",
            ));
        }
        let message = JoinToken::proof_message(&self.authority.hash(), &hash);
        if !key.verifies(&message, &request.proof) {
            return Err(Status::unauthenticated(
                "the host does not prove that it has the key of its peer id",
            ));
        }
        Ok((key, self.certify(&key, now)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use membership::{HostKey, Ticket};
    use std::time::Duration;
    use tonic::Code;

    fn cluster() -> (tempfile::TempDir, Cluster) {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::open(&dir.path().join("state")).unwrap();
        (dir, cluster)
    }

    fn first_token(cluster: &Cluster) -> JoinToken {
        let text = std::fs::read_to_string(cluster.first_token_file().expect("a first token")).unwrap();
        text.trim().parse().unwrap()
    }

    fn request(key: &HostKey, token: &JoinToken) -> JoinRequest {
        let secret = token.secret.hash();
        let proof = key.sign(&JoinToken::proof_message(&token.authority, &secret));
        JoinRequest {
            peer_id: key.public().peer_id(),
            secret: *token.secret.expose(),
            proof: proof.try_into().unwrap(),
        }
    }

    fn host(seed: u8) -> HostKey {
        HostKey::from_secret(&[seed; 32]).unwrap()
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
        result.expect_err("refused").code()
    }

    #[test]
    fn a_host_with_the_token_becomes_a_member_also_after_a_restart() {
        let (dir, cluster) = cluster();
        let token = first_token(&cluster);
        assert_eq!(token.authority, cluster.authority.hash());
        let key = host(1);
        let again = Cluster::open(&dir.path().join("state")).unwrap();
        assert_eq!(first_token(&again).secret.hash(), token.secret.hash());
        for cluster in [cluster, again] {
            let now = SystemTime::now();
            let (joined, credentials) = cluster.join(&request(&key, &token), now).unwrap();
            assert_eq!(joined, key.public());
            let keys: Vec<_> =
                credentials.ticket_keys.iter().map(|key| membership::TicketKey::from_bytes(*key)).collect();
            Ticket::verify(&credentials.ticket, &keys, &joined, now).unwrap();
            cluster.renew(&joined, now).unwrap();
        }
    }

    #[test]
    fn attack_join_with_what_is_not_the_token_or_not_the_key() {
        let ((_dir, ours), (_other, theirs)) = (cluster(), cluster());
        let (key, now) = (host(1), SystemTime::now());
        let token = first_token(&ours);
        assert_eq!(code(ours.join(&request(&key, &first_token(&theirs)), now)), Code::Unauthenticated);
        let stolen_id = JoinRequest { peer_id: host(2).public().peer_id(), ..request(&key, &token) };
        assert_eq!(code(ours.join(&stolen_id, now)), Code::Unauthenticated);
        let no_key = JoinRequest { peer_id: vec![1; 34], ..request(&key, &token) };
        assert_eq!(code(ours.join(&no_key, now)), Code::InvalidArgument);
        let no_proof = JoinRequest { proof: [0; 64], ..request(&key, &token) };
        assert_eq!(code(ours.join(&no_proof, now)), Code::Unauthenticated);
        // A proof that was made for another cluster does not open this one.
        let theirs = JoinToken { secret: token.secret.clone(), ..first_token(&theirs) };
        assert_eq!(code(ours.join(&request(&key, &theirs), now)), Code::Unauthenticated);
        ours.join(&request(&key, &token), now).unwrap();
    }

    #[test]
    fn attack_join_with_a_stolen_token_after_its_rotation() {
        let (_dir, cluster) = cluster();
        let (key, now) = (host(1), SystemTime::now());
        let old = first_token(&cluster);
        let (new, record) = cluster
            .create_token(NewToken { note: String::new(), lifetime: Some(Duration::from_secs(60)) })
            .unwrap();
        cluster.join(&request(&key, &old), now).unwrap();
        cluster.join(&request(&key, &new), now).unwrap();
        assert!(cluster.revoke_token(&old.secret.hash().id()).unwrap());
        assert!(cluster.first_token_file().is_none(), "a file with a token that is good for nothing");
        assert_eq!(code(cluster.join(&request(&host(2), &old), now)), Code::Unauthenticated);
        cluster.join(&request(&host(3), &new), now).unwrap();
        cluster.renew(&key.public(), now).expect("members stay members");
        let later = now + Duration::from_secs(61);
        assert_eq!(code(cluster.join(&request(&host(2), &new), later)), Code::Unauthenticated, "expired");
        assert_eq!(record.id(), new.secret.hash().id());
    }

    #[test]
    fn a_removed_host_stays_out_until_it_is_let_in_again() {
        let (dir, cluster) = cluster();
        let (key, now) = (host(1), SystemTime::now());
        let token = first_token(&cluster);
        cluster.join(&request(&key, &token), now).unwrap();
        let id = key.public().host().to_string();
        assert!(cluster.removed.add(&id).unwrap());
        let again = Cluster::open(&dir.path().join("state")).unwrap();
        for cluster in [&cluster, &again] {
            assert_eq!(code(cluster.join(&request(&key, &token), now)), Code::PermissionDenied);
            assert_eq!(code(cluster.renew(&key.public(), now)), Code::PermissionDenied);
            cluster.join(&request(&host(2), &token), now).unwrap();
        }
        assert!(again.removed.restore(&id).unwrap());
        again.join(&request(&key, &token), now).unwrap();
    }
}
