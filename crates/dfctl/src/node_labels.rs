//! `dfctl node-labels`: a node's zone and rack, from its labels in Kubernetes into the daemon's configuration. Nothing else
//! hands them to a pod. The daemon is not to wait for an API server that does not answer: it starts without them.

use crate::client::cause;
use crate::{Error, Output, json};
use membership::{ServiceAccountToken, file};
use reqwest::{Certificate, Client};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use toml_edit::DocumentMut;
use url::Url;

/// How long one question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest answer, in bytes: a node with the names of many images.
const ANSWER_BYTES_MAX: usize = 4 << 20;

const CA_BYTES_MAX: u64 = 1 << 20;
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What to read, and where to put it.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeLabels {
    /// The node's name.
    node: String,
    /// The label whose value is the zone.
    #[arg(long, value_name = "LABEL", default_value = "topology.kubernetes.io/zone")]
    zone_label: String,
    /// The label whose value is the rack [default: none].
    #[arg(long, value_name = "LABEL")]
    rack_label: Option<String>,
    /// The daemon's configuration without them.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where to write it with them.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long to try; then the configuration is written as it is.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::cli::time)]
    timeout: Duration,
    /// The API server, https://HOST:PORT [default: the one of this pod].
    #[arg(long, value_name = "URL")]
    api: Option<Url>,
    /// Where this pod's service account has its token and the API server's certificates.
    #[arg(long, value_name = "DIR", default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    service_account: PathBuf,
}

/// Why the API server does not say.
#[derive(Debug)]
struct Unanswered {
    why: String,
    again: bool,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What was written, as JSON.
#[derive(Serialize)]
struct Written<'a> {
    node: &'a str,
    /// Nothing where the node has no such label, or its labels could not be read.
    zone: Option<&'a str>,
    rack: Option<&'a str>,
    /// The configuration.
    path: &'a Path,
    /// Why its labels could not be read.
    warning: Option<&'a str>,
}

pub(crate) async fn run(options: &NodeLabels, output: Output, out: &mut impl Write) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let config = file::read_mounted(&options.config, CONFIG_BYTES_MAX).map_err(failed(&options.config))?;
    let config = String::from_utf8(config)
        .map_err(|_| Error::Unexpected("the configuration is no text".to_owned()))?;
    let labels = labels(options).await;
    let (zone, rack) = match &labels {
        Ok(labels) => (value(labels, Some(&options.zone_label)), value(labels, options.rack_label.as_ref())),
        Err(_) => (None, None),
    };
    let warning = labels.as_ref().err();
    let warning = warning.map(|why| format!("the daemon starts without zone and rack of its node: {why}"));
    match (output, &warning) {
        (Output::Json, _) => {}
        (Output::Table, Some(warning)) => eprintln!("warning: {warning}"),
        (Output::Table, None) => {
            let shown = |value: Option<&str>| value.unwrap_or("not labelled").to_owned();
            writeln!(out, "zone {}, rack {}", shown(zone), shown(rack))?;
        }
    }
    let text = if warning.is_some() { config } else { with_place(&config, zone, rack)? };
    write(&options.out, &text).map_err(failed(&options.out))?;
    if output == Output::Json {
        let (node, path) = (options.node.as_str(), options.out.as_path());
        json::write(&Written { node, zone, rack, path, warning: warning.as_deref() }, out)?;
    }
    Ok(())
}

fn value<'a>(labels: &'a BTreeMap<String, String>, label: Option<&String>) -> Option<&'a str> {
    labels.get(label?).map(String::as_str)
}

/// Asks until there is an answer, or none is to be expected.
async fn labels(options: &NodeLabels) -> Result<BTreeMap<String, String>, String> {
    let url = url(options)?;
    let deadline = Instant::now() + options.timeout;
    loop {
        // What it needs may be put there, or exchanged, meanwhile.
        let asked = timeout_at(deadline, ask(options, &url)).await;
        let Ok(asked) = asked else { return Err("no answer of the API server in time".to_owned()) };
        match asked {
            Ok(labels) => return Ok(labels),
            Err(Unanswered { why, again }) if !again || Instant::now() + PAUSE >= deadline => {
                return Err(why);
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn url(options: &NodeLabels) -> Result<Url, String> {
    let mut url = match &options.api {
        Some(url) => url.clone(),
        None => {
            let variable =
                |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: this is no pod"));
            let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            Url::parse(&format!("https://{host}:{port}")).map_err(|error| error.to_string())?
        }
    };
    url.path_segments_mut().map_err(|()| "the API server's URL has no path".to_owned())?.clear().extend([
        "api",
        "v1",
        "nodes",
        &options.node,
    ]);
    Ok(url)
}

async fn ask(options: &NodeLabels, url: &Url) -> Result<BTreeMap<String, String>, Unanswered> {
    let again = |why: String| Unanswered { why, again: true };
    let (token_file, ca_file) =
        (options.service_account.join("token"), options.service_account.join("ca.crt"));
    let token = ServiceAccountToken::read(&token_file)
        .map_err(|error| again(format!("{}: {error}", token_file.display())))?;
    let ca = file::read_mounted(&ca_file, CA_BYTES_MAX)
        .map_err(|error| again(format!("{}: {error}", ca_file.display())))?;
    let client = client(&ca).map_err(|error| again(format!("{}: {error}", ca_file.display())))?;
    let request = client.get(url.clone()).bearer_auth(token.expose()).header("accept", "application/json");
    let mut response = request.send().await.map_err(|error| again(cause(&error)))?;
    match response.status().as_u16() {
        200 => {}
        status @ (429 | 500..) => return Err(again(format!("the API server answers HTTP {status}"))),
        403 => {
            let why = format!(
                "the API server says that this pod's service account may not get node {}",
                options.node
            );
            return Err(Unanswered { why, again: false });
        }
        status => {
            let why = format!("the API server answers HTTP {status} for node {}", options.node);
            return Err(Unanswered { why, again: false });
        }
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| again(cause(&error)))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Unanswered { why: "the API server's answer is too long".to_owned(), again: false });
        }
        body.extend_from_slice(&chunk);
    }
    let node: Node = serde_json::from_slice(&body)
        .map_err(|_| Unanswered { why: "the API server's answer is no node".to_owned(), again: false })?;
    Ok(node.metadata.labels)
}

/// It trusts these authorities alone, and follows nobody elsewhere: the token opens doors.
fn client(ca: &[u8]) -> io::Result<Client> {
    process::tls::install_provider();
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let trusted = Certificate::from_pem_bundle(ca).unwrap_or_default();
    if trusted.is_empty() {
        return Err(invalid("there is no PEM certificate in it".to_owned()));
    }
    Client::builder()
        .user_agent(concat!("dfctl/", env!("CARGO_PKG_VERSION")))
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_TIMEOUT)
        .tls_certs_only(trusted)
        .build()
        .map_err(|error| invalid(cause(&error)))
}

/// The configuration with the place of the host; what is not known stays as it is.
fn with_place(config: &str, zone: Option<&str>, rack: Option<&str>) -> Result<String, Error> {
    let mut document: DocumentMut = config.parse().map_err(|error: toml_edit::TomlError| {
        Error::Unexpected(format!("the configuration: {}", error.message()))
    })?;
    for (key, value) in [("zone", zone), ("rack", rack)] {
        let Some(value) = value else { continue };
        let host = document.entry("host").or_insert(toml_edit::table());
        let Some(host) = host.as_table_like_mut() else {
            return Err(Error::Unexpected("the configuration: host is no table".to_owned()));
        };
        host.insert(key, toml_edit::value(value));
    }
    Ok(document.to_string())
}

/// For whoever the daemon runs as, which is another user than this.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut written = tempfile::NamedTempFile::new_in(dir)?;
    written.write_all(text.as_bytes())?;
    written.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    written.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_win_and_what_is_not_labelled_stays() {
        let config = "# c\n[host]\nzone = \"old\" # z\nrack = \"r\"\n\n[store]\nquota = \"1GiB\"\n";
        let text = with_place(config, Some("eu-1a"), None).unwrap();
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["host"]["zone"].as_str(), Some("eu-1a"));
        assert_eq!(parsed["host"]["rack"].as_str(), Some("r"));
        assert!(text.starts_with("# c\n"), "{text}");
        assert_eq!(with_place(config, None, None).unwrap(), config);
        let parsed: toml::Table = with_place("", Some("a"), Some("b\"c")).unwrap().parse().unwrap();
        assert_eq!(parsed["host"]["rack"].as_str(), Some("b\"c"));
        assert!(with_place("host = 3\n", Some("a"), None).is_err());
        assert!(with_place("[host", Some("a"), None).is_err());
    }
}
