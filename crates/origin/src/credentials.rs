//! The credentials that the configuration has: of the `[origin]` section, then of a docker `config.json`.
//!
//! They are read when they are used, so that a password that is renewed in its file is taken up. The files are small and
//! local and looked at once per token, so they are read without leaving the thread.

use crate::names::{DOCKER_HUB, canonical};
use crate::{Cause, CredentialOptions, Options, OptionsError, OriginError, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use types::Registry;

/// The largest file with a password or a token, in bytes.
const SECRET_LEN_MAX: u64 = 64 * 1024;

/// The largest docker `config.json`, in bytes.
const DOCKER_CONFIG_LEN_MAX: u64 = 4 * 1024 * 1024;

/// A way to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A user's name and password.
    Password { username: String, password: Secret },
    /// An OAuth2 refresh token, and the user's name that may go with it.
    Identity { username: String, token: Secret },
    /// A bearer token to be sent as it is.
    Bearer(Secret),
}

/// All configured credentials.
#[derive(Debug)]
pub(crate) struct Credentials {
    configured: BTreeMap<Registry, Vec<(String, CredentialOptions)>>,
    docker: Option<DockerConfig>,
}

impl Credentials {
    /// Checks that the docker `config.json`, if there is one, can be read.
    pub(crate) fn new(options: &Options) -> Result<Self, OptionsError> {
        let mut configured = BTreeMap::new();
        for (registry, options) in &options.registries {
            let prefixes = options.repositories.iter().map(|(prefix, c)| (prefix.clone(), c.clone()));
            let all: Vec<_> =
                prefixes.chain(options.credential.iter().map(|c| (String::new(), c.clone()))).collect();
            configured.insert(registry.clone(), all);
        }
        let docker = options.docker_config.as_deref().map(DockerConfig::open).transpose()?;
        Ok(Self { configured, docker })
    }

    /// Whether there is one for the repository `name`, or for the whole registry if it is empty.
    pub(crate) fn has(&self, registry: &Registry, name: &str) -> bool {
        let registry = canonical(registry);
        self.configured(&registry, name).is_some() || self.docker(&registry, name).is_some()
    }

    /// The one for the repository `name`, or for the whole registry if it is empty.
    pub(crate) fn get(&self, registry: &Registry, name: &str) -> Result<Credential, OriginError> {
        let registry = canonical(registry);
        if let Some(options) = self.configured(&registry, name) {
            return read(options)
                .map_err(|error| OriginError::BadCredential { registry, why: Cause::of(&error) });
        }
        self.docker(&registry, name).ok_or(OriginError::NoCredential(registry))
    }

    fn configured(&self, registry: &Registry, name: &str) -> Option<&CredentialOptions> {
        let matching = self.configured.get(registry)?.iter().filter(|(prefix, _)| is_prefix(prefix, name));
        matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, options)| options)
    }

    fn docker(&self, registry: &Registry, name: &str) -> Option<Credential> {
        let auths = self.docker.as_ref()?.current();
        let matching =
            auths.iter().filter(|auth| auth.registry == *registry && is_prefix(&auth.prefix, name));
        matching.max_by_key(|auth| auth.prefix.len()).map(|auth| auth.credential.clone())
    }
}

/// Whether the components of `prefix` are the first of `name`. The empty prefix is every name's.
fn is_prefix(prefix: &str, name: &str) -> bool {
    let prefix = prefix.trim_matches('/');
    prefix.is_empty()
        || name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn read(options: &CredentialOptions) -> Result<Credential, io::Error> {
    let secret = |given: &Option<Secret>, file: &Option<PathBuf>| match (given, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => {
            let text = read_bounded(path, SECRET_LEN_MAX)?;
            let text = String::from_utf8(text).map_err(|_| io::Error::other("not text"))?;
            Ok::<_, io::Error>(Some(Secret::new(text.trim())))
        }
        (None, None) => Ok(None),
    };
    let username = options.username.clone().unwrap_or_default();
    if let Some(password) = secret(&options.password, &options.password_file)? {
        return Ok(Credential::Password { username, password });
    }
    if let Some(token) = secret(&options.identity_token, &options.identity_token_file)? {
        return Ok(Credential::Identity { username, token });
    }
    match secret(&options.token, &options.token_file)? {
        Some(token) => Ok(Credential::Bearer(token)),
        None => Err(io::Error::other("no secret in it")),
    }
}

/// A file's contents; an error if there are more than `len_max` bytes.
pub(crate) fn read_bounded(path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(len_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > len_max { Err(io::Error::other("too large")) } else { Ok(bytes) }
}

/// An entry of `auths`.
#[derive(Clone, Debug)]
pub(crate) struct DockerAuth {
    pub(crate) registry: Registry,
    pub(crate) prefix: String,
    pub(crate) credential: Credential,
}

#[derive(Debug)]
struct DockerConfig {
    path: PathBuf,
    read: Mutex<(Option<SystemTime>, Arc<Vec<DockerAuth>>)>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    auths: BTreeMap<String, RawAuth>,
}

#[derive(Deserialize)]
struct RawAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl DockerConfig {
    fn open(path: &Path) -> Result<Self, OptionsError> {
        let read = Self::load(path)?;
        Ok(Self { path: path.into(), read: Mutex::new(read) })
    }

    fn load(path: &Path) -> Result<(Option<SystemTime>, Arc<Vec<DockerAuth>>), OptionsError> {
        let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let bytes = read_bounded(path, DOCKER_CONFIG_LEN_MAX)
            .map_err(|source| OptionsError::Read { path: path.into(), source })?;
        let auths = parse_docker_config(&bytes)
            .map_err(|why| OptionsError::DockerConfig { path: path.into(), why })?;
        Ok((modified, Arc::new(auths)))
    }

    /// What the file says now; what it said, if it cannot be read at the moment.
    fn current(&self) -> Arc<Vec<DockerAuth>> {
        let modified = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if modified.is_some() && modified != read.0 {
            match Self::load(&self.path) {
                Ok(new) => *read = new,
                Err(error) => {
                    tracing::warn!(%error, "docker config cannot be read again, the old one stays");
                    read.0 = modified;
                }
            }
        }
        Arc::clone(&read.1)
    }
}

/// The entries that are used; what is wrong with the file does not quote it.
pub(crate) fn parse_docker_config(json: &[u8]) -> Result<Vec<DockerAuth>, &'static str> {
    let raw: RawConfig = serde_json::from_slice(json).map_err(|_| "not JSON of this form")?;
    Ok(raw.auths.into_iter().filter_map(|(key, auth)| parse(&key, auth)).collect())
}

/// An entry as it is used; nothing if it holds no credential (a helper has it) or its key is no registry.
fn parse(key: &str, raw: RawAuth) -> Option<DockerAuth> {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let registry = canonical(&Registry::parse(host).ok()?);
    // Docker Hub's entry is named after an API's first version; so are some other registries'.
    let prefix = match path.trim_matches('/') {
        "v1" | "v2" => "",
        path if registry.as_str() == DOCKER_HUB => path.trim_start_matches("v1/"),
        path => path,
    };
    let decoded = raw.auth.filter(|auth| !auth.is_empty()).and_then(|auth| {
        let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
    });
    let (username, password) =
        decoded.unwrap_or((raw.username.unwrap_or_default(), raw.password.unwrap_or_default()));
    let given = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Secret::from);
    let credential = if let Some(token) = given(raw.registrytoken) {
        Credential::Bearer(token)
    } else if let Some(token) = given(raw.identitytoken) {
        Credential::Identity { username, token }
    } else if !username.is_empty() && !password.is_empty() {
        Credential::Password { username, password: password.into() }
    } else {
        return None;
    };
    Some(DockerAuth { registry, prefix: prefix.into(), credential })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn get(credentials: &Credentials, text: &str) -> Result<Credential, OriginError> {
        let (registry, name) = text.split_once('/').unwrap();
        let registry = Registry::parse(registry).unwrap();
        let found = credentials.get(&registry, name);
        assert!(credentials.has(&registry, name) || matches!(found, Err(OriginError::NoCredential(_))));
        found
    }

    fn password(username: &str, password: &str) -> Credential {
        Credential::Password { username: username.into(), password: Secret::new(password) }
    }

    #[test]
    fn docker_config() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let auth = |text: &str| STANDARD.encode(text);
        let json = serde_json::json!({
            "auths": {
                "https://index.docker.io/v1/": {"auth": auth("hub:p:w")},
                "r.example": {"auth": auth("whole:pw")},
                "r.example/team": {"auth": auth("team:pw")},
                "r.example/team/app": {"username": "app", "password": "pw"},
                "acr.example": {"auth": auth("00000000-0000-0000-0000-000000000000:"), "identitytoken": "refresh"},
                "tok.example": {"registrytoken": "bearer"},
                "helper.example": {},
                "bad.example": {"auth": "!!!"},
            },
            "credHelpers": {"helper.example": "ecr-login"},
            "HttpHeaders": {"User-Agent": "x"},
        });
        std::fs::write(&path, json.to_string()).unwrap();
        let options = Options { docker_config: Some(path.clone()), ..Options::default() };
        let credentials = Credentials::new(&options).unwrap();
        for (name, expected) in [
            ("docker.io/library/nginx", Some(password("hub", "p:w"))),
            ("r.example/other", Some(password("whole", "pw"))),
            ("r.example/team/x", Some(password("team", "pw"))),
            ("r.example/teammate", Some(password("whole", "pw"))),
            ("r.example/team/app", Some(password("app", "pw"))),
            (
                "acr.example/a",
                Some(Credential::Identity {
                    username: "00000000-0000-0000-0000-000000000000".into(),
                    token: Secret::new("refresh"),
                }),
            ),
            ("tok.example/a", Some(Credential::Bearer(Secret::new("bearer")))),
            ("helper.example/a", None),
            ("bad.example/a", None),
            ("unknown.example/a", None),
        ] {
            assert_eq!(get(&credentials, name).ok(), expected, "{name}");
        }

        std::fs::write(
            &path,
            serde_json::json!({"auths": {"r.example": {"auth": auth("new:pw")}}}).to_string(),
        )
        .unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(get(&credentials, "r.example/team/app").ok(), Some(password("new", "pw")));

        std::fs::write(&path, "{").unwrap();
        let later = later + Duration::from_secs(5);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(get(&credentials, "r.example/team/app").ok(), Some(password("new", "pw")));
        assert!(matches!(Credentials::new(&options), Err(OptionsError::DockerConfig { .. })));
    }

    #[test]
    fn configured_before_docker_and_files_read_late() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let json = serde_json::json!({"registries": {"r.example": {
            "credential": {"username": "whole", "password_file": file},
            "repositories": {"team": {"token": "t"}},
        }}});
        let options: Options = serde_json::from_value(json).unwrap();
        let credentials = Credentials::new(&options).unwrap();
        let error = get(&credentials, "r.example/x").unwrap_err();
        assert!(matches!(error, OriginError::BadCredential { .. }), "{error}");
        std::fs::write(&file, "secret\n").unwrap();
        assert_eq!(get(&credentials, "r.example/x").unwrap(), password("whole", "secret"));
        assert_eq!(get(&credentials, "r.example/team/a").unwrap(), Credential::Bearer(Secret::new("t")));
    }
}
