//! tokio-rustls with AES-128-GCM over TCP, as it comes: what encryption costs at least with this library.

use super::{answer, ask, say_ready};
use anyhow::{Context, Result};
use bytes::Bytes;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Where the sender leaves its certificate for the receiver.
const CERTIFICATE: &str = "plain.der";
/// Whose it is.
const NAME: &str = "sender.bench";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    })
}

pub(super) async fn send(keys: &Path, piece: Bytes) -> Result<()> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    std::fs::write(keys.join(CERTIFICATE), &certificate)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say_ready(listener.local_addr()?);
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    let stream = TlsAcceptor::from(Arc::new(config)).accept(socket).await?;
    answer(stream, &piece).await
}

pub(super) async fn receive(keys: &Path, address: SocketAddr, pieces: u32) -> Result<()> {
    let certificate = std::fs::read(keys.join(CERTIFICATE)).context("the sender's certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(NAME)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    ask(stream, pieces).await
}
