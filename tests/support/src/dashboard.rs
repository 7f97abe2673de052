//! The queries of the chart's Grafana dashboard, asked of a real Prometheus.
//!
//! Called by the tests that have something scraped: a few daemons, or a load.

use crate::prometheus::Prometheus;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;

/// Fewer queries than the dashboard ever had: then its file is read wrongly.
const QUERIES_MIN: usize = 30;

/// What a panel asks.
#[derive(Clone, Debug)]
pub struct Query {
    /// The panel's title.
    pub panel: String,
    /// In Prometheus' language, without variables.
    pub text: String,
}

/// All queries, as Grafana would ask them for all nodes at once. `rate_interval` and `range`, such as `30s`, are what it
/// puts in place of its own variables of these names.
///
/// # Errors
/// If the dashboard cannot be read, or has a variable that is not known here.
pub fn queries(rate_interval: &str, range: &str) -> Result<Vec<Query>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/damselfly/files/dashboard.json");
    let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let dashboard: Value = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().context("no query")?;
            let text = text.replace("$__rate_interval", rate_interval).replace("$__range", range);
            let text = text.replace("$instance", ".*");
            ensure!(!text.contains('$'), "an unknown variable: {text}");
            queries.push(Query { panel: panel["title"].as_str().unwrap_or_default().to_owned(), text });
        }
    }
    ensure!(queries.len() > QUERIES_MIN, "the dashboard has {} queries", queries.len());
    Ok(queries)
}

/// Those that return no data now, each with its panel.
///
/// # Errors
/// If Prometheus does not answer, or does not understand one.
pub async fn without_data(prometheus: &Prometheus, queries: &[Query]) -> Result<Vec<String>> {
    let mut empty = Vec::new();
    for Query { panel, text } in queries {
        if prometheus.ask(text).await.with_context(|| panel.clone())?.is_empty() {
            empty.push(format!("{panel}: {text}"));
        }
    }
    Ok(empty)
}
