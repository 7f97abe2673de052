//! `[kubernetes]`: which service accounts' pods join, and where that is asked.

use crate::Invalid;
use crate::options::check;
use serde::Deserialize;
use std::env;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use url::Url;

const AUDIENCE: &str = "damselfly";
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// The longest namespace and service account's name, in bytes (RFC 1123's label and subdomain).
const NAMESPACE_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 253;

/// The most service accounts.
const ACCOUNTS_MAX: usize = 64;

/// Which service accounts' pods join with a projected token, and where that is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesOptions {
    /// The service accounts, `NAMESPACE/NAME`, at most 64. Default: none, and the API server is not asked.
    pub service_accounts: Vec<ServiceAccount>,
    /// The audience that tokens have to be projected for. Default "damselfly", 1 to 253 bytes.
    pub audience: String,
    /// The API server, `https://HOST:PORT`. Default: the one that `KUBERNETES_SERVICE_HOST` and
    /// `KUBERNETES_SERVICE_PORT` name.
    pub api: Option<Url>,
    /// The scheduler's own token, with which it asks; read anew each time. Default
    /// /var/run/secrets/kubernetes.io/serviceaccount/token.
    pub token_file: PathBuf,
    /// PEM certificates of the authorities that the API server is known by, and no others; read anew each time. Default
    /// /var/run/secrets/kubernetes.io/serviceaccount/ca.crt.
    pub ca_file: PathBuf,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        Self {
            service_accounts: Vec::new(),
            audience: AUDIENCE.to_owned(),
            api: None,
            token_file: PathBuf::from(TOKEN_FILE),
            ca_file: PathBuf::from(CA_FILE),
        }
    }
}

impl KubernetesOptions {
    /// Whether any service account joins.
    pub(crate) const fn is_on(&self) -> bool {
        !self.service_accounts.is_empty()
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        let accounts = self.service_accounts.len();
        check("kubernetes.service_accounts", "must be at most 64", accounts <= ACCOUNTS_MAX)?;
        let audience = (1..=253).contains(&self.audience.len());
        check("kubernetes.audience", "must have 1 to 253 bytes", audience)?;
        let api = self.api.as_ref().is_none_or(|api| {
            api.scheme() == "https"
                && api.has_host()
                && api.path() == "/"
                && api.query().is_none()
                && api.fragment().is_none()
                && api.username().is_empty()
                && api.password().is_none()
        });
        check("kubernetes.api", "must be of the form https://HOST:PORT", api)
    }

    /// The API server.
    pub(super) fn api(&self) -> Result<Url, Invalid> {
        match &self.api {
            Some(api) => Ok(api.clone()),
            None => {
                in_cluster(env::var("KUBERNETES_SERVICE_HOST").ok(), env::var("KUBERNETES_SERVICE_PORT").ok())
            }
        }
    }
}

/// The API server that kubelet names in the environment of each pod.
fn in_cluster(host: Option<String>, port: Option<String>) -> Result<Url, Invalid> {
    let url = host.zip(port).and_then(|(host, port)| {
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
        Url::parse(&format!("https://{host}:{port}")).ok()
    });
    let why = "has to be given where KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name the API server";
    url.ok_or_else(|| Invalid { key: "kubernetes.api", why: why.to_owned() })
}

/// A service account, `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceAccount {
    namespace: String,
    name: String,
}

/// Letters, digits, `-` and, if `dots`, `.`: a name with a colon in it could look like another account's.
fn is_name(text: &str, bytes_max: usize, dots: bool) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || (dots && b == b'.');
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(good)
}

impl TryFrom<String> for ServiceAccount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name))
                if is_name(namespace, NAMESPACE_BYTES_MAX, false) && is_name(name, NAME_BYTES_MAX, true) =>
            {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("must be of the form NAMESPACE/NAME, in lower case".to_owned()),
        }
    }
}

impl ServiceAccount {
    /// How the API server calls it.
    pub(super) fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_service_account_is_refused() {
        let account = ServiceAccount::try_from("images/damselfly.node-1".to_owned()).unwrap();
        assert_eq!(account.username(), "system:serviceaccount:images:damselfly.node-1");
        assert_eq!(account.to_string(), "images/damselfly.node-1");
        let long = format!("a/{}", "b".repeat(254));
        for bad in ["", "/", "a", "a/", "/b", "a/b/c", "a:b/c", "a/b:c", "a.b/c", "A/b", "a/*", "a/b ", &long]
        {
            assert!(ServiceAccount::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_api_server_is_the_pods_own_unless_another_is_named() {
        let url = |host: &str, port: &str| in_cluster(Some(host.to_owned()), Some(port.to_owned()));
        assert_eq!(url("10.96.0.1", "443").unwrap().as_str(), "https://10.96.0.1/");
        assert_eq!(url("fd00::1", "6443").unwrap().as_str(), "https://[fd00::1]:6443/");
        assert_eq!(in_cluster(None, None).unwrap_err().key, "kubernetes.api");
        assert_eq!(url("10.96.0.1", "many").unwrap_err().key, "kubernetes.api");
        let named = |api: &str| KubernetesOptions { api: Some(api.parse().unwrap()), ..Default::default() };
        named("https://api.example:6443").validate().unwrap();
        for bad in
            ["http://api.example", "https://api.example/k8s", "https://me:secret@api.example", "file:///a"]
        {
            assert_eq!(named(bad).validate().unwrap_err().key, "kubernetes.api", "{bad}");
        }
    }
}
