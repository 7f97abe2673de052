//! Debian's Prometheus on loopback, what it is asked, and how large scrapes are.
//!
//! Called by the tests of the dashboard.

use crate::process::{Program, Spec};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::header;
use serde_json::Value;
use std::iter::Sum;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

/// How long it may take to start, and then to answer, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Programs that are scraped at once.
const SCRAPED_AT_ONCE: usize = 8;

/// What it scrapes.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// These addresses, `host:port`.
    Fixed(&'a [String]),
    /// Those of a file for `file_sd_configs`, which may change.
    File(&'a Path),
}

impl Targets<'_> {
    /// A key of a `scrape_configs` entry. Quoted strings are the same in YAML.
    fn config(self) -> String {
        match self {
            Self::Fixed(addresses) => format!("static_configs: [{{targets: {addresses:?}}}]"),
            Self::File(file) => format!("file_sd_configs: [{{files: [{file:?}]}}]"),
        }
    }
}

/// A running Prometheus. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    // Ends with this.
    _program: Program,
    client: reqwest::Client,
    url: String,
}

impl Prometheus {
    /// The Debian package that has it.
    pub const PACKAGE: &str = "prometheus";

    /// Starts it with its data in `dir`, and waits until it answers. It scrapes every `interval`, but nothing in the first
    /// five to ten seconds.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(dir: &Path, interval: Duration, targets: Targets<'_>) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = format!(
            "global: {{scrape_interval: {}ms}}\nscrape_configs:\n  - job_name: damselfly\n    {}\n",
            interval.as_millis(),
            targets.config(),
        );
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).with_context(|| file.display().to_string())?;
        let spec = Spec::new("prometheus", "prometheus", dir)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            // For scrape_body_size_bytes.
            .arg("--enable-feature=extra-scrape-metrics");
        let mut program = Program::start(&spec)?;
        let url = format!("http://{address}");
        program.wait_for_ok(&format!("{url}/-/ready"), READY_LIMIT).await?;
        Ok(Self { _program: program, client: client()?, url })
    }

    /// The values that a query returns now, one for each series, without those that are `NaN`.
    ///
    /// # Errors
    /// If it does not answer, or does not understand the query.
    pub async fn ask(&self, query: &str) -> Result<Vec<f64>> {
        let mut question: reqwest::Url = format!("{}/api/v1/query", self.url).parse()?;
        question.query_pairs_mut().append_pair("query", query);
        let answer: Value = self.client.get(question).send().await?.json().await?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().with_context(|| format!("{query}: {answer}"))?;
        let values = series.iter().filter_map(|one| one["value"][1].as_str()?.parse::<f64>().ok());
        Ok(values.filter(|value| !value.is_nan()).collect())
    }

    /// The value of a query that returns one; 0 if it returns none.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn value(&self, query: &str) -> Result<f64> {
        Ok(self.ask(query).await?.first().copied().unwrap_or(0.0))
    }
}

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(ANSWER_LIMIT).build()?)
}

/// How large a scrape is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeSize {
    /// The text.
    pub plain: u64,
    /// As it travels.
    pub packed: u64,
}

impl Sum for ScrapeSize {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            plain: sum.plain + one.plain,
            packed: sum.packed + one.packed,
        })
    }
}

/// Scrapes each of these addresses, `host:port`, once, with gzip as Prometheus does; in the same order.
///
/// # Errors
/// If one does not answer, or not with gzip.
pub async fn scrape_sizes(addresses: &[String]) -> Result<Vec<ScrapeSize>> {
    let client = client()?;
    let scrapes = addresses.iter().map(|address| scrape_size(&client, address));
    futures::stream::iter(scrapes).buffered(SCRAPED_AT_ONCE).try_collect().await
}

async fn scrape_size(client: &reqwest::Client, address: &str) -> Result<ScrapeSize> {
    let asking = client.get(format!("http://{address}/metrics")).header(header::ACCEPT_ENCODING, "gzip");
    let answer = asking.send().await?.error_for_status()?;
    let is_packed = answer.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    ensure!(is_packed, "{address} does not pack its metrics");
    let packed = answer.bytes().await?;
    let plain = std::io::copy(&mut GzDecoder::new(&packed[..]), &mut std::io::sink())?;
    Ok(ScrapeSize { plain, packed: packed.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_quoted() {
        let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(str::to_owned);
        let fixed = Targets::Fixed(&addresses).config();
        assert_eq!(fixed, r#"static_configs: [{targets: ["127.0.0.1:1", "127.0.0.1:2"]}]"#);
        let file = Targets::File(Path::new("/a b/targets.json")).config();
        assert_eq!(file, r#"file_sd_configs: [{files: ["/a b/targets.json"]}]"#);
    }
}
