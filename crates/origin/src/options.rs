//! What the configuration says about origins, and the check of it before anything is asked.
//!
//! Both programs have it as their section `[origin]`.

use crate::names::canonical;
use crate::secret::Secret;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use types::Registry;
use url::Url;

/// How origins are reached. The default needs no configuration: public registries over TLS, anonymously.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// What is particular about some registries, by the name that image references have for them (`ghcr.io`,
    /// `registry.example:5000`; Docker Hub is `docker.io`). Default: none.
    #[serde(deserialize_with = "registries")]
    pub registries: BTreeMap<Registry, RegistryOptions>,
    /// Files with PEM certificates of authorities that are trusted for every registry, beside the system's.
    /// Default: none.
    pub extra_ca: Vec<PathBuf>,
    /// A docker `config.json`, whose `auths` are used as configured credentials after those of `registries`; read again
    /// when it changes. Credential helpers (`credHelpers`, `credsStore`) are programs and are not run: their entries
    /// are passed over. Default: none.
    pub docker_config: Option<PathBuf>,
    /// The longest time until a connection stands, TLS included. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The longest time from a request until its response's headers, the connection's time included. Default 20 s.
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
    /// The longest time without a byte in the midst of a body. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// How often a request is tried again after a failed connection, 429 or 5xx, and how often a body's broken
    /// connection is taken up again without progress. Default 3, at most 10.
    pub retries: u32,
    /// The pause before the first retry; doubles each time up to `retry_pause_max`, with jitter. Default 200 ms.
    #[serde(with = "humantime_serde")]
    pub retry_pause: Duration,
    /// The longest pause before a retry, also where the registry asks for more by `Retry-After`: then the request fails
    /// at once. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub retry_pause_max: Duration,
    /// The largest manifest, in bytes. Default 4 MiB, which is what registries accept; at most 64 MiB.
    pub manifest_len_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registries: BTreeMap::new(),
            extra_ca: Vec::new(),
            docker_config: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(15),
            retries: 3,
            retry_pause: Duration::from_millis(200),
            retry_pause_max: Duration::from_secs(5),
            manifest_len_max: 4 << 20,
        }
    }
}

/// What is particular about one registry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryOptions {
    /// Where it is: `http://127.0.0.1:5000`, `https://mirror.example/prefix`. A path goes before `/v2/`. The address
    /// may then be private, or an IP literal. Default: `https://` and its name.
    pub endpoint: Option<Url>,
    /// Speak HTTP without TLS where no endpoint is given. Default false.
    pub plain_http: bool,
    /// A file with PEM certificates of authorities that are trusted for this registry, beside the others.
    pub ca: Option<PathBuf>,
    /// Do not verify this registry's certificate; those of hosts that it redirects to are verified. Default false.
    pub insecure_tls: bool,
    /// This registry, and hosts that it redirects to, may have a loopback or private address, or be an IP literal.
    /// Link-local addresses, where clouds keep their machines' secrets, stay forbidden. Default false.
    pub allow_private_address: bool,
    /// The credential for the whole registry.
    pub credential: Option<CredentialOptions>,
    /// Credentials for some of its repositories, by the first components of their names (`team`, `team/app`). The
    /// longest that matches wins over shorter ones and over `credential`.
    pub repositories: BTreeMap<String, CredentialOptions>,
    /// Whether clients without a credential of their own get what the configured one can read. Default false.
    pub share_credential: bool,
    /// Whatever this registry says of a blob is no proof that it has it: its clients' blobs are read from it by each
    /// node for itself, past the cache. Default false: whoever is configured here is believed.
    pub untrusted: bool,
}

/// A credential: `username` with `password` or `password_file`; or `token` or `token_file` (sent as a bearer token as
/// it is); or `identity_token` or `identity_token_file` (exchanged for tokens by OAuth2). Files are read when the
/// credential is used, so that their contents may be renewed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialOptions {
    /// The user's name.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// A bearer token.
    pub token: Option<Secret>,
    /// A file that holds the bearer token.
    pub token_file: Option<PathBuf>,
    /// An OAuth2 refresh token.
    pub identity_token: Option<Secret>,
    /// A file that holds the OAuth2 refresh token.
    pub identity_token_file: Option<PathBuf>,
}

/// What is wrong with [`Options`].
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A number or a time outside its limits.
    #[error("{key} must be {limits}")]
    Limits {
        /// Which key.
        key: &'static str,
        /// What it may be.
        limits: &'static str,
    },
    /// An endpoint that is no plain `http` or `https` URL.
    #[error("registries.{registry:?}.endpoint must be http://host[:port][/path] or https://…")]
    Endpoint {
        /// Whose.
        registry: String,
    },
    /// Not exactly one way to prove who we are.
    #[error("the credential for {place} needs a username and a password, or a token, or an identity_token")]
    Credential {
        /// Which.
        place: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file without a certificate in it.
    #[error("no PEM certificate in {path}", path = .path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
    },
    /// A docker `config.json` that is none.
    #[error("not a docker config.json: {path}: {why}", path = .path.display())]
    DockerConfig {
        /// Which.
        path: PathBuf,
        /// Why, without its contents.
        why: &'static str,
    },
    /// The HTTP client cannot be built.
    #[error("cannot set up TLS: {0}")]
    Tls(crate::Cause),
}

impl Options {
    /// The most retries.
    const RETRIES_MAX: u32 = 10;
    /// The largest limit for a manifest.
    const MANIFEST_LEN_LIMIT: u64 = 64 << 20;

    /// Checks everything that can be checked without the network or a file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let limits =
            |good: bool, key, limits| if good { Ok(()) } else { Err(OptionsError::Limits { key, limits }) };
        limits(!self.connect_timeout.is_zero(), "connect_timeout", "more than zero")?;
        limits(!self.response_timeout.is_zero(), "response_timeout", "more than zero")?;
        limits(!self.stall_timeout.is_zero(), "stall_timeout", "more than zero")?;
        limits(self.retries <= Self::RETRIES_MAX, "retries", "at most 10")?;
        limits(self.retry_pause <= self.retry_pause_max, "retry_pause", "at most retry_pause_max")?;
        let size = (1..=Self::MANIFEST_LEN_LIMIT).contains(&self.manifest_len_max);
        limits(size, "manifest_len_max", "between 1 and 67108864 bytes")?;
        for (registry, options) in &self.registries {
            options.validate(registry)?;
        }
        Ok(())
    }
}

impl RegistryOptions {
    fn validate(&self, registry: &Registry) -> Result<(), OptionsError> {
        let good = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        if !self.endpoint.as_ref().is_none_or(good) {
            return Err(OptionsError::Endpoint { registry: registry.to_string() });
        }
        if let Some(credential) = &self.credential {
            credential.validate(|| registry.to_string())?;
        }
        for (prefix, credential) in &self.repositories {
            credential.validate(|| format!("{registry}/{prefix}"))?;
        }
        Ok(())
    }
}

impl CredentialOptions {
    fn validate(&self, place: impl Fn() -> String) -> Result<(), OptionsError> {
        let given = |secret: &Option<Secret>, file: &Option<PathBuf>| {
            usize::from(secret.is_some()) + usize::from(file.is_some())
        };
        let passwords = given(&self.password, &self.password_file);
        let tokens = given(&self.token, &self.token_file);
        let identities = given(&self.identity_token, &self.identity_token_file);
        let named = self.username.as_ref().is_some_and(|name| !name.is_empty() && !name.contains(':'));
        let one = passwords + tokens + identities == 1;
        if one && (passwords == 0 || named) {
            Ok(())
        } else {
            Err(OptionsError::Credential { place: place() })
        }
    }
}

/// Registry names as keys, Docker Hub's under its one name.
fn registries<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Registry, RegistryOptions>, D::Error> {
    let named = BTreeMap::<String, RegistryOptions>::deserialize(deserializer)?;
    let mut registries = BTreeMap::new();
    for (name, options) in named {
        let registry = Registry::parse(&name).map_err(de::Error::custom)?;
        if registries.insert(canonical(&registry), options).is_some() {
            return Err(de::Error::custom(format_args!("{name:?} is there twice")));
        }
    }
    Ok(registries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Options, String> {
        let options: Options = serde_json::from_str(json).map_err(|e| e.to_string())?;
        options.validate().map_err(|e| e.to_string())?;
        Ok(options)
    }

    #[test]
    fn good_options() {
        let options = parse(
            r#"{"retries": 1, "stall_timeout": "2s", "registries": {
                "Index.Docker.io": {"credential": {"username": "u", "password": "hunter2"}, "share_credential": true},
                "r.example:5000": {"endpoint": "http://127.0.0.1:5000", "repositories": {"a/b": {"token": "hunter2"}}}}}"#,
        )
        .unwrap();
        let names: Vec<_> = options.registries.keys().map(Registry::as_str).collect();
        assert_eq!(names, ["docker.io", "r.example:5000"]);
        assert_eq!(options.stall_timeout, Duration::from_secs(2));
        assert!(!format!("{options:?}").contains("hunter2"));
        Options::default().validate().unwrap();
    }

    #[test]
    fn bad_options() {
        for (json, what) in [
            (r#"{"retrys": 1}"#, "unknown field `retrys`"),
            (r#"{"retries": 99}"#, "retries must be"),
            (r#"{"stall_timeout": "0s"}"#, "stall_timeout must be"),
            (r#"{"retry_pause": "1h"}"#, "retry_pause must be"),
            (r#"{"manifest_len_max": 0}"#, "manifest_len_max must be"),
            (r#"{"registries": {"a/b": {}}}"#, "not a registry name"),
            (r#"{"registries": {"docker.io": {}, "index.docker.io": {}}}"#, "twice"),
            (r#"{"registries": {"r": {"endpoint": "ftp://r"}}}"#, "endpoint must be"),
            (r#"{"registries": {"r": {"endpoint": "http://u:p@r"}}}"#, "endpoint must be"),
            (r#"{"registries": {"r": {"credential": {}}}}"#, "credential for r needs"),
            (r#"{"registries": {"r": {"credential": {"password": "p"}}}}"#, "credential for r needs"),
            (
                r#"{"registries": {"r": {"credential": {"username": "u:", "password": "p"}}}}"#,
                "credential for r needs",
            ),
            (
                r#"{"registries": {"r": {"repositories": {"x": {"token": "t", "token_file": "f"}}}}}"#,
                "for r/x needs",
            ),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(what), "{json}: {error}");
        }
    }
}
