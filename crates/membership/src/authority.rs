//! The cluster's authority: the key that certifies hosts and the scheduler, and the key that signs tickets.
//!
//! Only the keys are kept. The authority's own certificate and the scheduler's are made anew at each start: who trusts
//! the authority knows the hash of its key.

use crate::ticket::{Ticket, TicketKey, public_half};
use crate::{AuthorityError, AuthorityHash, PeerKey, SERVER_NAME, file};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// How long a ticket is good for: by so much a host that was removed can outlive its removal among peers that do not
/// hear of it.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(3600);

/// How long a host's certificate is good for: by so much a host can be switched off and come back without a token.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Certificates are good from a little before they were made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3600);

const CA_KEY: &str = "ca.key";
const TICKET_KEY: &str = "ticket.key";
const KEY_FILE_LEN_MAX: u64 = 4096;

/// What a host gets when it joins, and again when it renews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCredentials {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Its ticket.
    pub ticket: Vec<u8>,
    /// The keys that verify its peers' tickets.
    pub ticket_keys: Vec<TicketKey>,
    /// How long the ticket is good for; the host renews both at half of it.
    pub lifetime: Duration,
}

/// The authority; a clone is the same one.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    ca: KeyPair,
    params: CertificateParams,
    certificate: CertificateDer<'static>,
    tickets: Ed25519KeyPair,
    hash: AuthorityHash,
}

impl Authority {
    /// The authority whose keys are in `dir`, `ca.key` and `ticket.key`; new ones are made if there are none. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn load_or_create(dir: &Path) -> Result<Self, AuthorityError> {
        Self::of_keys(dir, |path, make| file::read_or_create(path, KEY_FILE_LEN_MAX, make))
    }

    /// That of the keys in `dir`, which others have made and keep: a Secret that is mounted there, with modes of kubelet's
    /// choice. Blocks on the disk.
    ///
    /// # Errors
    /// [`AuthorityError::File`] and [`AuthorityError::Form`], with the path.
    pub fn load_mounted(dir: &Path) -> Result<Self, AuthorityError> {
        Self::of_keys(dir, |path, _| file::read_mounted(path, KEY_FILE_LEN_MAX))
    }

    fn of_keys(
        dir: &Path,
        read: impl Fn(&Path, fn() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>>,
    ) -> Result<Self, AuthorityError> {
        let key_file = |name: &str, make: fn() -> io::Result<Vec<u8>>| {
            let path = dir.join(name);
            read(&path, make).map_err(|source| AuthorityError::File { path, source })
        };
        let ca = key_file(CA_KEY, || {
            KeyPair::generate().map(|key| key.serialize_der()).map_err(io::Error::other)
        })?;
        let ca = KeyPair::try_from(&ca[..])
            .map_err(|_| AuthorityError::Form { path: dir.join(CA_KEY), what: "key in PKCS #8 form" })?;
        let tickets = key_file(TICKET_KEY, || {
            let der = Ed25519KeyPair::generate().and_then(|key| AsDer::<Pkcs8V1Der<'_>>::as_der(&key));
            der.map(|der| der.as_ref().to_vec()).map_err(io::Error::other)
        })?;
        let tickets = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&tickets).map_err(|_| {
            AuthorityError::Form { path: dir.join(TICKET_KEY), what: "Ed25519 key in PKCS #8 form" }
        })?;

        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Damselfly cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        set_always_valid(&mut params);
        let certificate = params.self_signed(&ca)?.der().clone();
        let hash = AuthorityHash::of_public_key(&ca.subject_public_key_info());
        Ok(Self(Arc::new(Inner { ca, params, certificate, tickets, hash })))
    }

    /// By which hosts know it.
    #[must_use]
    pub fn hash(&self) -> AuthorityHash {
        self.0.hash
    }

    /// Makes the owner of `key` a member from `now` on.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`]
    pub fn certify(&self, key: &PeerKey, now: SystemTime) -> Result<HostCredentials, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, key.host().to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        set_validity(&mut params, now, CERTIFICATE_LIFETIME);
        let certificate = params.signed_by(key, &self.issuer())?;
        Ok(HostCredentials {
            certificate: certificate.der().to_vec(),
            ticket: Ticket::issue(&self.0.tickets, key, now, TICKET_LIFETIME),
            ticket_keys: vec![public_half(&self.0.tickets)],
            lifetime: TICKET_LIFETIME,
        })
    }

    /// How the scheduler answers TLS: it shows a certificate of its own for [`SERVER_NAME`], and takes connections with a
    /// host's certificate or with none, which can do no more than join.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn server_config(&self) -> Result<ServerConfig, AuthorityError> {
        let failed = |error: &dyn fmt::Display| AuthorityError::Tls(error.to_string());
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_always_valid(&mut params);
        let certificate = params.signed_by(&key, &self.issuer())?;
        let chain = vec![certificate.der().clone(), self.0.certificate.clone()];

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.certificate.clone()).map_err(|error| failed(&error))?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(&error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .map_err(|error| failed(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would outlive its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.0.params, &self.0.ca)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.0.hash)
    }
}

/// For the authority's own: who trusts them knows its key, and a wrong clock is to cut nobody off.
fn set_always_valid(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 1, 1);
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) {
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(now + lifetime);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostKey, TicketError, client_config};
    use rustls::{ClientConnection, ServerConnection};
    use rustls_pki_types::ServerName;

    fn authority() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        (dir, authority)
    }

    fn host(seed: u8) -> HostKey {
        HostKey::from_secret(&[seed; 32]).unwrap()
    }

    /// Lets both ends of a handshake talk until it is over; whom the server saw.
    fn handshake(
        server: ServerConfig,
        client: rustls::ClientConfig,
    ) -> Result<Option<CertificateDer<'static>>, rustls::Error> {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        for _ in 0..10 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut read = &bytes[..];
            while !read.is_empty() {
                server.read_tls(&mut read).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut read = &bytes[..];
            while !read.is_empty() {
                client.read_tls(&mut read).unwrap();
                client.process_new_packets()?;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(server.peer_certificates().map(|chain| chain[0].clone().into_owned()))
    }

    #[test]
    fn keys_are_made_once_and_kept_from_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, first) = authority();
        let again = Authority::load_or_create(dir.path()).unwrap();
        assert_eq!(first.hash(), again.hash());
        for name in [CA_KEY, TICKET_KEY] {
            let path = dir.path().join(name);
            let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            mode(0o644);
            let error = Authority::load_or_create(dir.path()).unwrap_err();
            let AuthorityError::File { source, .. } = error else { panic!("{error}") };
            assert!(source.to_string().contains("set it to 600"), "{source}");
            mode(0o600);
            file::replace(&path, b"no key").unwrap();
            let error = Authority::load_or_create(dir.path()).unwrap_err();
            assert!(matches!(error, AuthorityError::Form { .. }), "{error}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_certified_host_is_known_by_its_key() {
        let (_dir, authority) = authority();
        let key = host(1);
        let credentials = authority.certify(&key.public(), SystemTime::now()).unwrap();
        let client = client_config(authority.hash(), Some((&key, &credentials.certificate))).unwrap();
        let seen = handshake(authority.server_config().unwrap(), client).unwrap().expect("a certificate");
        assert_eq!(PeerKey::of_certificate(&seen), Ok(key.public()));
        let ticket =
            Ticket::verify(&credentials.ticket, &credentials.ticket_keys, &key.public(), SystemTime::now());
        assert_eq!(ticket.unwrap().peer, key.public());

        let stranger = client_config(authority.hash(), None).unwrap();
        assert_eq!(handshake(authority.server_config().unwrap(), stranger).unwrap(), None);
    }

    #[test]
    fn certificates_of_others_and_old_ones_are_refused() {
        let ((_dir, ours), (_other_dir, theirs)) = (authority(), authority());
        let key = host(1);
        let now = SystemTime::now();
        let cases = [
            ("another cluster's", theirs.certify(&key.public(), now).unwrap()),
            ("an expired one", ours.certify(&key.public(), now - 2 * CERTIFICATE_LIFETIME).unwrap()),
            ("another host's", ours.certify(&host(2).public(), now).unwrap()),
        ];
        for (what, credentials) in cases {
            let client = client_config(ours.hash(), Some((&key, &credentials.certificate)));
            let refused =
                client.is_err() || handshake(ours.server_config().unwrap(), client.unwrap()).is_err();
            assert!(refused, "{what}");
        }
        let keys = ours.certify(&key.public(), now).unwrap().ticket_keys;
        let ticket = theirs.certify(&key.public(), now).unwrap().ticket;
        assert_eq!(Ticket::verify(&ticket, &keys, &key.public(), now), Err(TicketError::UnknownKey));
    }

    #[test]
    fn attack_a_scheduler_of_another_authority_is_refused() {
        let ((_dir, ours), (_other_dir, theirs)) = (authority(), authority());
        let client = || client_config(ours.hash(), None).unwrap();
        let error = handshake(theirs.server_config().unwrap(), client()).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
        handshake(ours.server_config().unwrap(), client()).unwrap();
    }

    /// A member that calls itself the scheduler: its certificate is for clients.
    #[test]
    fn attack_a_host_cannot_stand_in_for_the_scheduler() {
        let (_dir, authority) = authority();
        let key = host(1);
        let credentials = authority.certify(&key.public(), SystemTime::now()).unwrap();
        let chain = vec![credentials.certificate.into(), authority.0.certificate.clone()];
        let resolver =
            rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key.tls()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols = vec![b"h2".to_vec()];
        let error = handshake(server, client_config(authority.hash(), None).unwrap()).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    }
}
