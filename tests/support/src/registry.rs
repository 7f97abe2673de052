//! Debian's docker-registry with a storage, a configuration and a port of its own, and what its access log says.
//!
//! The log is the end-to-end tests' independent witness of how much left the origin.

use crate::netns::Namespace;
use crate::process::{Program, Spec};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use types::Digest;

/// How long the registry may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What a registry asks of its clients.
#[derive(Clone, Debug)]
pub enum Protection {
    /// Nothing, over HTTP.
    None,
    /// Tokens, over TLS.
    Tokens {
        /// A file with its certificate.
        certificate: PathBuf,
        /// A file with the certificate's key.
        key: PathBuf,
        /// Where its clients get tokens.
        realm: String,
        /// What it calls itself there.
        service: String,
        /// Who signs the tokens.
        issuer: String,
        /// A file with the certificate of the authority that vouches for the signer.
        authority: PathBuf,
    },
}

/// A running registry. Dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    program: Program,
    address: SocketAddr,
    scheme: &'static str,
}

impl Registry {
    /// A registry over the content of `storage`, with its configuration and log in `dir`: on loopback at a free port,
    /// or at port 5000 of `host`. Anybody may read and write.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dir: &Path, storage: &Path, host: Option<&Namespace>) -> Result<Self> {
        Self::start_with(dir, storage, host, &Protection::None)
    }

    /// The same, with what it asks of its clients.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_with(
        dir: &Path,
        storage: &Path,
        host: Option<&Namespace>,
        protection: &Protection,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        std::fs::create_dir_all(storage)?;
        let listen = match host {
            Some(host) => SocketAddr::from((host.address(), 5000)),
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let config = dir.join("registry.yml");
        std::fs::write(&config, configuration(storage, listen, protection))?;
        let mut spec = Spec::new("registry", "docker-registry", dir).arg("serve").arg(&config);
        if let Some(host) = host {
            spec = spec.in_namespace(host.path());
        }
        let mut program = Program::start(&spec)?;
        let address = program.wait_for_line(START_LIMIT, |line| {
            let rest = line.split_once("listening on ")?.1;
            rest[..rest.find(['"', ' ', ','])?].parse().ok()
        })?;
        let scheme = match protection {
            Protection::None => "http",
            Protection::Tokens { .. } => "https",
        };
        Ok(Self { program, address, scheme })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The process.
    pub const fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Everything it has answered so far. A request appears when its answer has ended.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn accesses(&self) -> Result<AccessLog> {
        let text = std::fs::read(self.program.log()).context("access log")?;
        Ok(AccessLog::parse(&String::from_utf8_lossy(&text)))
    }
}

fn configuration(storage: &Path, listen: SocketAddr, protection: &Protection) -> String {
    let (tls, auth) = match protection {
        Protection::None => (String::new(), String::new()),
        Protection::Tokens { certificate, key, realm, service, issuer, authority } => (
            format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}"),
            format!(
                "auth: {{token: {{realm: {realm:?}, service: {service:?}, issuer: {issuer:?}, \
                 rootcertbundle: {authority:?}}}}}\n"
            ),
        ),
    };
    format!(
        "version: 0.1\n\
         log: {{level: info, formatter: json, accesslog: {{disabled: false}}}}\n\
         storage:\n  \
           filesystem: {{rootdirectory: {:?}, maxthreads: 100}}\n  \
           cache: {{blobdescriptor: inmemory}}\n  \
           maintenance: {{uploadpurging: {{enabled: false}}}}\n\
         {auth}\
         http: {{addr: \"{listen}\", secret: none{tls}}}\n",
        storage.display().to_string()
    )
}

/// One answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who asked.
    pub client: IpAddr,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// The answer's status.
    pub status: u16,
    /// The bytes of its body that were sent.
    pub bytes: u64,
}

/// What a registry has answered.
#[derive(Clone, Debug, Default)]
pub struct AccessLog(Vec<Access>);

impl AccessLog {
    /// Reads the lines of the combined log format; others are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(parse_line).collect())
    }

    /// The requests in the order in which they were answered.
    #[must_use]
    pub fn requests(&self) -> &[Access] {
        &self.0
    }

    /// What came after `earlier`, a log of the same registry.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0[earlier.0.len().min(self.0.len())..].to_vec())
    }

    /// Bytes sent of each blob.
    #[must_use]
    pub fn blob_bytes(&self) -> BTreeMap<Digest, u64> {
        let mut bytes = BTreeMap::new();
        for access in self.gets() {
            if let Some(digest) = after(&access.target, "/blobs/").and_then(|digest| digest.parse().ok()) {
                *bytes.entry(digest).or_default() += access.bytes;
            }
        }
        bytes
    }

    /// Bytes sent of all blobs.
    #[must_use]
    pub fn blob_bytes_total(&self) -> u64 {
        self.blob_bytes().values().sum()
    }

    /// How often each manifest's body was sent, by reference.
    #[must_use]
    pub fn manifest_gets(&self) -> BTreeMap<String, u32> {
        let mut gets = BTreeMap::new();
        for access in self.gets() {
            if let Some(reference) = after(&access.target, "/manifests/") {
                *gets.entry(reference.to_owned()).or_default() += 1;
            }
        }
        gets
    }

    fn gets(&self) -> impl Iterator<Item = &Access> {
        self.0.iter().filter(|access| access.method == "GET" && (200..300).contains(&access.status))
    }
}

fn after<'a>(target: &'a str, part: &str) -> Option<&'a str> {
    let rest = target.split_once(part)?.1;
    Some(rest.split('?').next().unwrap_or(rest))
}

/// `client - - [time] "METHOD target HTTP/1.1" status bytes "referer" "agent"`
fn parse_line(line: &str) -> Option<Access> {
    let (client, rest) = line.split_once(' ')?;
    let (request, rest) = rest.split_once('"')?.1.split_once("\" ")?;
    let mut words = request.split(' ');
    let mut numbers = rest.split(' ');
    Some(Access {
        client: client.parse().ok()?,
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        status: numbers.next()?.parse().ok()?,
        bytes: numbers.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_access_log() {
        let digest = Digest::sha256(b"x");
        let text = format!(
            "{{\"level\":\"info\"}}\n\
             10.77.0.1 - - [24/Nov/2026:04:57:00 +0000] \"HEAD /v2/a/b/manifests/1?ns=r.test HTTP/1.1\" 200 1144 \"\" \"c/1\"\n\
             10.77.0.1 - - [24/Nov/2026:04:57:00 +0000] \"GET /v2/a/b/manifests/1?ns=r.test HTTP/1.1\" 200 1144 \"\" \"c/1\"\n\
             10.77.0.1 - - [24/Nov/2026:04:57:00 +0000] \"GET /v2/a/b/blobs/{digest}?ns=r.test HTTP/1.1\" 206 70 \"\" \"c/1\"\n\
             10.77.0.2 - - [24/Nov/2026:04:57:00 +0000] \"GET /v2/a/b/blobs/{digest} HTTP/1.1\" 200 30 \"\" \"c (\\\"q\\\")\"\n\
             10.77.0.2 - - [24/Nov/2026:04:57:00 +0000] \"GET /v2/a/b/blobs/{digest} HTTP/1.1\" 404 17 \"\" \"c\"\n"
        );
        let log = AccessLog::parse(&text);
        assert_eq!(log.requests().len(), 5);
        assert_eq!(log.blob_bytes(), BTreeMap::from([(digest, 100)]));
        assert_eq!(log.manifest_gets(), BTreeMap::from([("1".to_owned(), 1)]));
        assert_eq!(log.since(&AccessLog(log.0[..3].to_vec())).blob_bytes_total(), 30);
    }
}
