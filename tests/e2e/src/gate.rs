//! What stands before a private registry: TLS of an authority of its own, and tokens for those who may read.

use crate::{REGISTRY, debian};
use anyhow::{Context, Result};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use support::authority::Authority;
use support::netns::Namespace;
use support::registry::Protection;
use support::token_server::{Account, ISSUER, SERVICE, TokenServer};

/// The port of the token server.
const TOKEN_PORT: u16 = 5000;

/// A user who may pull the [small image](debian::SMALL_REPOSITORY).
pub const USER: &str = "ada";
/// That user's password.
pub const PASSWORD: &str = "correct-horse-battery";

/// A user who may pull something else.
pub const STRANGER: &str = "eve";
/// The stranger's password.
pub const STRANGERS_PASSWORD: &str = "another-staple";

/// The token server, and what the registry and its clients have to know.
#[derive(Debug)]
pub struct Gate {
    /// The file with the authority's certificate.
    pub ca: PathBuf,
    /// Who gives tokens.
    pub tokens: TokenServer,
    /// What the registry is to ask for.
    pub protection: Protection,
    /// Where the token server is; it outlives the server.
    _host: Namespace,
}

impl Gate {
    /// Starts the token server on a `host` of its own, for a registry on host `registry`, with all files in `dir`.
    ///
    /// # Errors
    /// If it does not start, or a file cannot be written.
    pub fn start(registry: &Namespace, host: Namespace, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let authority = Authority::new()?;
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, authority.pem())?;
        let address = registry.address().to_string();
        let (certificate, key) = authority.identity(&[&address, REGISTRY])?.write(dir, "registry")?;
        let account = |user: &str, password: &str, repository: &str| Account {
            user: user.to_owned(),
            password: password.to_owned(),
            repositories: vec![repository.to_owned()],
        };
        let accounts = vec![
            account(USER, PASSWORD, debian::SMALL_REPOSITORY),
            account(STRANGER, STRANGERS_PASSWORD, debian::LARGE_REPOSITORY),
        ];
        let listener = host.enter(|| TcpListener::bind((host.address(), TOKEN_PORT)))??;
        let tokens = TokenServer::start(listener, &authority, accounts)?;
        let protection = Protection::Tokens {
            certificate,
            key,
            realm: tokens.realm(),
            service: SERVICE.to_owned(),
            issuer: ISSUER.to_owned(),
            authority: ca.clone(),
        };
        Ok(Self { ca, tokens, protection, _host: host })
    }
}
