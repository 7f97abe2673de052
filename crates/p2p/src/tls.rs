//! libp2p's `/tls/1.0.0` (libp2p specification, "libp2p TLS handshake") over a plain stream, with AES first.
//!
//! The stock upgrade offers ChaCha20-Poly1305 first, which costs half of a transfer's CPU time on machines with AES
//! instructions. This one is the same handshake, certificate and checks with another order of ciphers; it works with
//! the stock one in both directions. The bulk listener, the dialer and the benchmark use it.

use crate::read_ahead::ReadAhead;
use crate::verifier::{PeerVerifier, peer_id_of};
use crate::{Identity, P2pError, negotiate};
use libp2p::PeerId;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite, version};
use rustls_pki_types::ServerName;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

const PROTOCOL: &str = "/tls/1.0.0";
const ALPN: &[u8] = b"libp2p";
/// How many bytes TLS encrypts before it writes: a few large writes instead of many small ones.
pub(crate) const WRITE_CHUNK: usize = 256 * 1024;

/// A secured stream.
pub type Secured<S> = TlsStream<ReadAhead<S>>;

/// Both directions' configuration for one identity; a clone shares it.
#[derive(Clone)]
pub struct Tls {
    /// Without a verifier's expectation, which differs by connection.
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Makes a certificate for the identity.
    ///
    /// # Errors
    /// [`P2pError::Tls`]
    pub fn new(identity: &Identity) -> Result<Self, P2pError> {
        let failed = |error: &dyn fmt::Display| P2pError::Tls(error.to_string());
        let (certificate, key) =
            libp2p_tls::certificate::generate(identity.keypair()).map_err(|error| failed(&error))?;
        let provider =
            Arc::new(CryptoProvider { cipher_suites: cipher_suites(), ..aws_lc_rs::default_provider() });
        let key = provider.key_provider.load_private_key(key).map_err(|error| failed(&error))?;
        // Not `CertifiedKey::from_der`: it refuses libp2p's critical extension.
        let certified = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)));

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PeerVerifier::any(&provider)))
            .with_client_cert_resolver(Arc::clone(&certified) as _);
        client.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session skips the certificate, and sessions are kept by name, of which all peers have the same.
        client.resumption = Resumption::disabled();
        // The specification: no server name.
        client.enable_sni = false;

        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(Arc::new(PeerVerifier::any(&provider)))
            .with_cert_resolver(certified);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server), provider })
    }

    /// Secures `stream`, which leads to the peer `expected`.
    ///
    /// The caller sets the time limit. Not cancel safe: a stream of which the handshake was dropped is lost.
    ///
    /// # Errors
    /// What the network says, or `InvalidData` if the other side does not speak the protocol, proves no peer id, or
    /// another than the expected one (`is_wrong_peer` tells).
    pub async fn dial<S>(&self, stream: S, expected: PeerId) -> io::Result<Secured<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = ReadAhead::new(stream);
        negotiate::dial(&mut stream, PROTOCOL).await?;
        let mut config = ClientConfig::clone(&self.client);
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(PeerVerifier::expecting(expected, &self.provider)));
        // An address that is none, as there is no name.
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut secured = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        secured.get_mut().1.set_buffer_limit(Some(WRITE_CHUNK));
        Ok(secured.into())
    }

    /// Secures `stream`, which comes from some peer: which one is the caller's to judge.
    ///
    /// The caller sets the time limit. Not cancel safe: a stream of which the handshake was dropped is lost.
    ///
    /// # Errors
    /// As for [`Self::dial`].
    pub async fn accept<S>(&self, stream: S) -> io::Result<(PeerId, Secured<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = ReadAhead::new(stream);
        negotiate::listen(&mut stream, PROTOCOL).await?;
        let mut secured = TlsAcceptor::from(Arc::clone(&self.server)).accept(stream).await?;
        secured.get_mut().1.set_buffer_limit(Some(WRITE_CHUNK));
        let [certificate] = secured.get_ref().1.peer_certificates().unwrap_or_default() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not exactly one certificate"));
        };
        let peer =
            peer_id_of(certificate).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((peer, secured.into()))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Whether a handshake failed since another peer answered than the expected one.
#[must_use]
pub fn is_wrong_peer(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
    )
}

/// The fastest first. Both sides of a cluster are ours; a peer with another order gets its own.
fn cipher_suites() -> Vec<SupportedCipherSuite> {
    let mut suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes() {
        suites.rotate_right(1);
    }
    suites
}

/// Whether the CPU encrypts AES in hardware.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}
