//! A registry with a private and a public repository, and a cluster of two nodes.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser as _;
use e2e::inside::{Content, Hub, Node, Settings, blob_target, manifest_target};
use origin::{CredentialOptions, Secret};
use std::net::SocketAddr;
use support::images::MANIFEST;
use support::origin::{AuthMode, FaultyOrigin};
use types::Digest;

pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "correct-horse-battery";

pub(crate) const PRIVATE: &str = "team/secret";
pub(crate) const PUBLIC: &str = "library/open";

/// Two pieces.
const SIZE: usize = 700_000;

/// That user's credential, for a daemon's configuration.
pub(crate) fn credential() -> CredentialOptions {
    CredentialOptions {
        username: Some(USER.to_owned()),
        password: Some(Secret::new(PASSWORD)),
        ..CredentialOptions::default()
    }
}

/// A manifest with one layer.
pub(crate) struct Image {
    pub(crate) manifest: Digest,
    pub(crate) text: Bytes,
    pub(crate) layer: Content,
}

impl Image {
    fn new(seed: u64) -> Self {
        let layer = Content::random(seed, SIZE);
        let text = manifest_of(&layer.digest, SIZE);
        Self { manifest: Digest::sha256(&text), text, layer }
    }

    pub(crate) fn lay_into(&self, origin: &FaultyOrigin, repository: &str) {
        origin.add_blob(repository, self.layer.bytes.clone());
        origin.add_manifest(repository, Some("v1"), MANIFEST, self.text.clone());
    }
}

pub(crate) fn manifest_of(layer: &Digest, size: usize) -> Bytes {
    let layer = serde_json::json!({ "digest": layer.to_string(), "size": size });
    serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer] }).to_string().into()
}

/// The registry.
pub(crate) struct Stage {
    pub(crate) origin: FaultyOrigin,
    pub(crate) private: Image,
    pub(crate) public: Image,
}

impl Stage {
    pub(crate) async fn new(auth: AuthMode) -> Result<Self> {
        Self::of(FaultyOrigin::builder().auth(auth).start().await?)
    }

    /// With a registry of these bytes per second.
    pub(crate) async fn slow(rate: u64) -> Result<Self> {
        Self::of(FaultyOrigin::builder().auth(AuthMode::bearer(USER, PASSWORD)).rate(rate).start().await?)
    }

    fn of(origin: FaultyOrigin) -> Result<Self> {
        let (private, public) = (Image::new(1), Image::new(2));
        private.lay_into(&origin, PRIVATE);
        public.lay_into(&origin, PUBLIC);
        origin.make_private(PRIVATE);
        Ok(Self { origin, private, public })
    }

    pub(crate) async fn bearer() -> Result<Self> {
        Self::new(AuthMode::bearer(USER, PASSWORD)).await
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::of(&[&self.origin])
    }

    /// The private image by tag, by digest, and its layer.
    pub(crate) fn private_targets(&self) -> [String; 3] {
        self.targets(PRIVATE, &self.private)
    }

    pub(crate) fn public_targets(&self) -> [String; 3] {
        self.targets(PUBLIC, &self.public)
    }

    fn targets(&self, repository: &str, image: &Image) -> [String; 3] {
        [
            manifest_target(&self.origin, repository, "v1"),
            manifest_target(&self.origin, repository, image.manifest),
            blob_target(&self.origin, repository, &image.layer.digest),
        ]
    }

    /// A token for this repository from the registry itself, with the user's password or without: `Bearer …`.
    pub(crate) async fn token(&self, repository: &str, user: Option<(&str, &str)>) -> Result<String> {
        let url =
            format!("{}/token?service=test-registry&scope=repository:{repository}:pull", self.origin.url());
        let request = reqwest::Client::builder().no_proxy().build()?.get(url);
        let request = match user {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        };
        let answer: serde_json::Value = request.send().await?.error_for_status()?.json().await?;
        Ok(format!("Bearer {}", answer["token"].as_str().context("a token")?))
    }

    pub(crate) async fn users_token(&self) -> Result<String> {
        self.token(PRIVATE, Some((USER, PASSWORD))).await
    }

    /// Pulls the whole private image with this authorization.
    pub(crate) async fn pull_private(&self, node: &Node, authorization: &str) -> Result<()> {
        let right = [&self.private.text, &self.private.text, &self.private.layer.bytes];
        for (target, content) in self.private_targets().iter().zip(right) {
            let reply = node.get_with(target, authorization).await?;
            ensure!(reply.is_right(content), "{target}: {}", reply.summary());
        }
        Ok(())
    }

    pub(crate) async fn pull_public(&self, node: &Node) -> Result<()> {
        let right = [&self.public.text, &self.public.text, &self.public.layer.bytes];
        for (target, content) in self.public_targets().iter().zip(right) {
            let reply = node.get(target).await?;
            ensure!(reply.is_right(content), "{target}: {}", reply.summary());
        }
        Ok(())
    }
}

/// A scheduler and two nodes of these settings.
pub(crate) async fn cluster(settings: &Settings) -> Result<(Hub, Node, Node)> {
    let hub = Hub::start(settings).await?;
    let (a, b) = tokio::try_join!(Node::join(&hub, settings), Node::join(&hub, settings))?;
    hub.until_hosts(2).await?;
    Ok((hub, a, b))
}

/// Runs `dfctl` against the hub's operator socket; what it prints.
pub(crate) async fn dfctl(hub: &Hub, args: &[&str]) -> Result<String> {
    let socket = hub.operator_socket()?;
    let socket = socket.to_str().unwrap_or_default();
    let line = [&["dfctl"], args, &["--socket", socket]].concat();
    let mut out = Vec::new();
    dfctl::run(dfctl::Cli::try_parse_from(line)?, &mut out).await?;
    Ok(String::from_utf8(out)?)
}

/// What `dfctl` prints for these words.
pub(crate) async fn run_dfctl(words: &[String]) -> Result<String> {
    let mut out = Vec::new();
    let cli = dfctl::Cli::try_parse_from(std::iter::once("dfctl").chain(words.iter().map(String::as_str)))?;
    Box::pin(dfctl::run(cli, &mut out)).await?;
    Ok(String::from_utf8(out)?)
}

/// Whether any part of `secret` that is long enough to tell is in `seen`.
pub(crate) fn shows(seen: &[u8], secret: &[u8]) -> bool {
    let sample = &secret[..secret.len().min(64)];
    seen.windows(sample.len()).any(|window| window == sample)
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> Result<SocketAddr> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}
