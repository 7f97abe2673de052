//! gRPC over TLS whose configuration is asked for at each new connection: a host's certificate is renewed while its channel
//! lives.

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// How long the TCP connection and its handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel to `endpoint`, of the form `http://HOST:PORT`, over TLS to a server with a certificate for `name`. It
/// connects when it is first used, and anew after each failure.
pub fn channel(
    endpoint: &Endpoint,
    name: &ServerName<'static>,
    config: impl Fn() -> io::Result<ClientConfig> + Send + Sync + 'static,
) -> Channel {
    let (config, name) = (Arc::new(config), name.clone());
    endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
        let (config, name) = (Arc::clone(&config), name.clone());
        async move {
            let connecting = connect(&uri, name, &*config);
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }))
}

async fn connect(
    uri: &Uri,
    name: ServerName<'static>,
    config: &(impl Fn() -> io::Result<ClientConfig> + Send + Sync),
) -> io::Result<TlsStream<TcpStream>> {
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not of the form http://HOST:PORT"));
    };
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config()?)).connect(name, stream).await
}
