//! A certificate authority made for one test, and what it vouches for.
//!
//! Called by the origin of this package for its own TLS, and by tests that put TLS and tokens before a real registry.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// An authority of its own.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One with a new key.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names and addresses.
    ///
    /// # Errors
    /// If one of them is no name, or no key can be made.
    pub fn identity(&self, names: &[&str]) -> Result<Identity> {
        self.identity_of(KeyPair::generate()?, names)
    }

    /// The same, but it was good in another century.
    ///
    /// # Errors
    /// As for [`Self::identity`].
    pub fn expired_identity(&self, names: &[&str]) -> Result<Identity> {
        let (key, mut params) = (KeyPair::generate()?, CertificateParams::new(owned(names))?);
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(1999, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate, key })
    }

    /// The same for a key of the caller's.
    ///
    /// # Errors
    /// If one of the names is none.
    pub fn identity_of(&self, key: KeyPair, names: &[&str]) -> Result<Identity> {
        let certificate = CertificateParams::new(owned(names))?.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate, key })
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A certificate of an [`Authority`], and its key.
#[derive(Debug)]
pub struct Identity {
    /// What the authority signed.
    pub certificate: rcgen::Certificate,
    /// The key that it is for.
    pub key: KeyPair,
}

impl Identity {
    /// One that nobody vouches for but itself.
    ///
    /// # Errors
    /// If one of the names is none, or no key can be made.
    pub fn self_signed(names: &[&str]) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(owned(names))?.self_signed(&key)?;
        Ok(Self { certificate, key })
    }

    /// What takes TLS connections by it, for HTTP/1.1.
    ///
    /// # Errors
    /// Never in practice: the key is the certificate's.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Writes `NAME.pem` and `NAME.key` into `dir`; where they are.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, self.certificate.pem())?;
        std::fs::write(&key, self.key.serialize_pem())?;
        Ok((certificate, key))
    }
}
