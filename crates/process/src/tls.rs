//! The one cryptography provider of the whole program.

/// Makes aws-lc-rs rustls's provider for the process. Called by each main before anything connects; calling it again
/// changes nothing.
pub fn install_provider() {
    // The error says that one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
