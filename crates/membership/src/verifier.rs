//! How a host knows the scheduler: by the hash of the authority's key, which its join token has.

use crate::{AuthorityError, AuthorityHash, HostKey};
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;

/// The name in the scheduler's certificate, whatever address it is reached at: the authority certifies no other server.
pub const SERVER_NAME: &str = "scheduler.damselfly.internal";

/// How a host speaks TLS with the scheduler of the cluster that `authority` names; with its key and certificate once it
/// has one.
///
/// # Errors
/// [`AuthorityError::Tls`] if the certificate is not for the key.
pub fn client_config(
    authority: AuthorityHash,
    host: Option<(&HostKey, &[u8])>,
) -> Result<ClientConfig, AuthorityError> {
    let failed = |error: &dyn fmt::Display| AuthorityError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = SchedulerVerifier { authority, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match host {
        None => builder.with_no_client_auth(),
        Some((key, certificate)) => {
            let certificate = CertificateDer::from(certificate.to_vec());
            let certified = CertifiedKey::new(vec![certificate], key.tls());
            certified.keys_match().map_err(|error| failed(&error))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Accepts the scheduler that the authority with the known hash has certified.
#[derive(Debug)]
struct SchedulerVerifier {
    authority: AuthorityHash,
    provider: Arc<CryptoProvider>,
}

impl SchedulerVerifier {
    fn is_authority(&self, certificate: &CertificateDer<'_>) -> bool {
        ParsedCertificate::try_from(certificate).is_ok_and(|parsed| {
            AuthorityHash::of_public_key(parsed.subject_public_key_info().as_ref()) == self.authority
        })
    }
}

impl ServerCertVerifier for SchedulerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = more.iter().find(|shown| self.is_authority(shown));
        let authority = authority.ok_or(Error::from(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(certificate, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
