//! The origin: a registry with the image, in a process of its own so that its cost can be told from the daemons'.

use crate::client::{REPOSITORY, TAG};
use crate::http::Http;
use anyhow::{Context, Result};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::images::Image;
use support::origin::{Fault, FaultyOrigin, When};
use support::process::Program;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long it may take to make the image.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// What it says of its ration of manifests, in the way of Docker Hub: daemons show it, and do nothing about it.
const RATION: &str = "100;w=21600";

/// What the origin has served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Served {
    /// Bytes of blobs.
    pub blob_bytes: u64,
    /// GETs of manifests.
    pub manifest_gets: usize,
    /// Requests of all kinds.
    pub requests: usize,
}

/// Serves the image until cancelled.
pub(super) async fn run(
    seed: u32,
    layers: &[u64],
    rate: Option<u64>,
    cancel: CancellationToken,
) -> Result<()> {
    let image = Image::random(seed.into(), layers)?;
    let mut builder = FaultyOrigin::builder();
    if let Some(rate) = rate {
        builder = builder.rate(rate);
    }
    let origin = Arc::new(builder.start().await?);
    image.lay_into(&origin, REPOSITORY, TAG);
    origin.fault(When::any(), Fault::Header("ratelimit-remaining", RATION.to_owned()));
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    super::ready(format!("{} {}", origin.url(), control.local_addr()?));
    let served = async move || {
        Json(Served {
            blob_bytes: origin.blob_bytes_total(),
            manifest_gets: origin.manifest_gets(),
            requests: origin.requests().len(),
        })
    };
    let serving = axum::serve(control, Router::new().route("/served", get(served)));
    Ok(serving.with_graceful_shutdown(cancel.cancelled_owned()).await?)
}

/// The running origin.
#[derive(Debug)]
pub struct Origin {
    /// The process.
    pub program: Program,
    /// `http://host:port` of the registry.
    pub url: String,
    control: String,
}

impl Origin {
    /// Starts it, limited to `rate` bytes per second.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dir: &Path, seed: u32, layers: &[u64], rate: Option<u64>) -> Result<Self> {
        let mut args = vec!["origin".to_owned(), format!("--seed={seed}")];
        args.extend(layers.iter().map(|size| format!("--layer={size}")));
        args.extend(rate.map(|rate| format!("--rate={rate}")));
        let mut program = super::start("origin", dir, &args)?;
        let said = super::when_ready(&mut program, READY_LIMIT)?;
        let (url, control) = said.split_once(' ').context("no control address")?;
        Ok(Self { url: url.to_owned(), control: format!("http://{control}"), program })
    }

    /// What it has served so far.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn served(&self, http: &Http) -> Result<Served> {
        http.get_json(&format!("{}/served", self.control)).await
    }
}
