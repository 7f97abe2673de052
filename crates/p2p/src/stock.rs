//! libp2p's own TCP, TLS and yamux, as they come: what control traffic uses, and what the benchmark compares with.

use crate::{Identity, P2pError};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::{PeerId, Transport as _, tcp, tls, yamux};
use std::time::Duration;

/// How long connecting, securing and agreeing on the multiplexer may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The stock transport of this identity.
///
/// # Errors
/// [`P2pError::Tls`]
pub fn transport(identity: &Identity) -> Result<Boxed<(PeerId, StreamMuxerBox)>, P2pError> {
    let security = tls::Config::new(identity.keypair()).map_err(|error| P2pError::Tls(error.to_string()))?;
    Ok(tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1)
        .authenticate(security)
        .multiplex(yamux::Config::default())
        .timeout(CONNECT_TIMEOUT)
        .boxed())
}
