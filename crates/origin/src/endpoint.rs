//! Where a registry is, and with which HTTP client it is reached.
//!
//! HTTP/1.1 throughout: each body has a connection, and so a window, of its own, and a broken connection breaks one.

use crate::address::{CheckedDns, Place};
use crate::credentials::read_bounded;
use crate::names::{DOCKER_HUB, canonical};
use crate::{Cause, Options, OptionsError, OriginError, RegistryOptions, Repository};
use reqwest::{Certificate, Client};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use types::Registry;
use url::Url;

/// The largest file with certificates, in bytes.
const CA_LEN_MAX: u64 = 4 * 1024 * 1024;

/// How many idle connections to one host are kept.
const IDLE_MAX: usize = 16;

/// How long an idle connection is kept: less than most servers keep it.
const IDLE_TIME: Duration = Duration::from_secs(45);

/// When the kernel first asks whether a silent peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Docker Hub's registry answers under another name than its images have.
const HUB_ENDPOINT: &str = "https://registry-1.docker.io";

/// What the program calls itself to registries.
const USER_AGENT: &str = concat!("damselfly/", env!("CARGO_PKG_VERSION"));

/// One registry as it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The part of every URL before `/v2/`, without a slash at the end.
    base: Url,
    /// Where it, and what it redirects to, may be.
    pub(crate) place: Place,
    /// For URLs of the base's scheme, host and port.
    near: Client,
    /// For every other.
    far: Client,
    /// Whether clients without a credential get what the configured one can read.
    pub(crate) share_credential: bool,
}

impl Endpoint {
    /// The URL of `tail` in a repository, or of `/v2/`. `tail` may have a query.
    pub(crate) fn url(&self, repository: Option<&Repository>, tail: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = tail.split_once('?').map_or((tail, None), |(path, query)| (path, Some(query)));
        let prefix = self.base.path().trim_end_matches('/');
        match repository {
            Some(repository) => {
                // Names were made canonical where they were parsed; one that was put together by hand is here.
                let name = Repository::new(&repository.registry, repository.name.clone()).name;
                url.set_path(&format!("{prefix}/v2/{name}/{path}"));
            }
            None => url.set_path(&format!("{prefix}/v2/")),
        }
        url.set_query(query);
        url
    }

    /// The client for `url`.
    pub(crate) fn client(&self, url: &Url) -> &Client {
        if same_origin(url, &self.base) { &self.near } else { &self.far }
    }

    /// Checks whether `url`, which the registry may have named, may be asked: without TLS only if the registry itself is,
    /// and where its place allows.
    pub(crate) fn check(&self, url: &Url) -> Result<(), OriginError> {
        match url.scheme() {
            "https" => {}
            "http" if self.base.scheme() == "http" => {}
            "http" => return Err(OriginError::Malformed("a redirect or realm that leaves TLS")),
            _ => return Err(OriginError::Malformed("a redirect or realm that is not HTTP")),
        }
        self.place.check(url)
    }
}

/// Whether two URLs have scheme, host and port in common.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host(), a.port_or_known_default()) == (b.scheme(), b.host(), b.port_or_known_default())
}

/// All registries: those that the configuration names, and the clients for the others.
#[derive(Debug)]
pub(crate) struct Endpoints {
    configured: BTreeMap<Registry, Endpoint>,
    public: Client,
}

impl Endpoints {
    pub(crate) fn new(options: &Options) -> Result<Self, OptionsError> {
        let extra = certificates(&options.extra_ca)?;
        let client = |place, ca: &[Certificate], insecure| build(options, place, ca, insecure);
        let public = client(Place::Public, &extra, false)?;
        let private = client(Place::Private, &extra, false)?;
        let mut configured = BTreeMap::new();
        for (registry, particular) in &options.registries {
            let place = if particular.allow_private_address || particular.endpoint.is_some() {
                Place::Private
            } else {
                Place::Public
            };
            let far = match &particular.ca {
                None => if place == Place::Public { &public } else { &private }.clone(),
                Some(ca) => {
                    let own = certificates(std::slice::from_ref(ca))?;
                    client(place, &[extra.as_slice(), &own].concat(), false)?
                }
            };
            let near = if particular.insecure_tls { client(place, &extra, true)? } else { far.clone() };
            let base = base(registry, particular)?;
            let share_credential = particular.share_credential;
            configured.insert(registry.clone(), Endpoint { base, place, near, far, share_credential });
        }
        Ok(Self { configured, public })
    }

    /// The endpoint of `registry`.
    pub(crate) fn get(&self, registry: &Registry) -> Result<Endpoint, OriginError> {
        let registry = canonical(registry);
        if let Some(endpoint) = self.configured.get(&registry) {
            return Ok(endpoint.clone());
        }
        let base = base(&registry, &RegistryOptions::default())
            .map_err(|_| OriginError::ForbiddenAddress { host: registry.to_string() })?;
        let (near, far) = (self.public.clone(), self.public.clone());
        Ok(Endpoint { base, place: Place::Public, near, far, share_credential: false })
    }

    /// The registries that the configuration names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Registry> {
        self.configured.keys()
    }
}

fn base(registry: &Registry, options: &RegistryOptions) -> Result<Url, OptionsError> {
    if let Some(endpoint) = &options.endpoint {
        return Ok(endpoint.clone());
    }
    let scheme = if options.plain_http { "http" } else { "https" };
    let text = match registry.as_str() {
        DOCKER_HUB => HUB_ENDPOINT.to_owned(),
        name => format!("{scheme}://{name}"),
    };
    text.parse().map_err(|_| OptionsError::Endpoint { registry: registry.to_string() })
}

fn certificates(files: &[PathBuf]) -> Result<Vec<Certificate>, OptionsError> {
    let mut all = Vec::new();
    for path in files {
        let pem = read_bounded(path, CA_LEN_MAX)
            .map_err(|source| OptionsError::Read { path: path.clone(), source })?;
        let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if found.is_empty() {
            return Err(OptionsError::Certificate { path: path.clone() });
        }
        all.extend(found);
    }
    Ok(all)
}

fn build(
    options: &Options,
    place: Place,
    ca: &[Certificate],
    insecure: bool,
) -> Result<Client, OptionsError> {
    let builder = || {
        Client::builder()
            .user_agent(USER_AGENT)
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIME)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .tls_danger_accept_invalid_certs(insecure)
            .dns_resolver(Arc::new(CheckedDns(place)))
    };
    // A machine without any certificate of an authority still reaches registries whose authority is configured.
    builder()
        .tls_certs_merge(ca.iter().cloned())
        .build()
        .or_else(|_| builder().tls_certs_only(ca.iter().cloned()).build())
        .map_err(|error| OptionsError::Tls(Cause::of(&error)))
}
