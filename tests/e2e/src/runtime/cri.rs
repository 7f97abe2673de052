//! containerd as kubelet speaks to it: the image service of the CRI, with a pod's pull secret or without.

use super::containerd::Containerd;
use super::{COMMAND_LIMIT, PULL_LIMIT};
use anyhow::{Context, Result, anyhow};
use std::path::Path;
use std::time::Duration;
use support::netns::Namespace;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use wire::image_service_client::ImageServiceClient;
use wire::{AuthConfig, ImageSpec, ImageStatusRequest, PullImageRequest, RemoveImageRequest};

/// The generated messages and client.
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, reason = "generated")]
#[allow(clippy::all, clippy::large_futures, clippy::needless_pass_by_value, reason = "generated")]
#[allow(clippy::uninlined_format_args, clippy::semicolon_if_nothing_returned, reason = "generated")]
mod wire {
    tonic::include_proto!("runtime.v1");
}

/// A user's name and password, as a pod's `imagePullSecrets` lead to them.
#[derive(Clone, Copy)]
pub struct PullSecret<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
}

/// A running containerd with the CRI. Dropping it ends it.
#[derive(Debug)]
pub struct Cri {
    client: ImageServiceClient<Channel>,
    runtime: Runtime,
    _containerd: Containerd,
}

impl Cri {
    /// Starts it on `host`: [`REGISTRY`](crate::REGISTRY) is at `server` (`https://host:port`, by the authority in the
    /// file `ca`), with a mirror at `mirror` (`http://host:port`).
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(host: &Namespace, dir: &Path, mirror: &str, server: &str, ca: &Path) -> Result<Self> {
        Self::of(Containerd::start_with_cri(host, dir, mirror, server, ca)?)
    }

    /// The CRI of a running containerd.
    ///
    /// # Errors
    /// If no runtime for the calls can be made.
    pub fn of(containerd: Containerd) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", containerd.socket().display()))?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_timeout(COMMAND_LIMIT).connect_lazy()
        };
        Ok(Self { client: ImageServiceClient::new(channel), runtime, _containerd: containerd })
    }

    /// Pulls and unpacks an image.
    ///
    /// # Errors
    /// If the pull fails: what kubelet would write into the pod's events.
    pub fn pull(&self, reference: &str, secret: Option<PullSecret<'_>>) -> Result<()> {
        let auth = secret.map(|secret| AuthConfig {
            username: secret.user.to_owned(),
            password: secret.password.to_owned(),
        });
        let request = PullImageRequest { image: Some(image(reference)), auth };
        let mut client = self.client.clone();
        self.bounded(PULL_LIMIT, async move { client.pull_image(request).await }).map(drop)
    }

    /// `registry/repository@digest` of what the node has under this name; nothing if it has not.
    ///
    /// # Errors
    /// If it does not say.
    pub fn digests(&self, reference: &str) -> Result<Vec<String>> {
        let request = ImageStatusRequest { image: Some(image(reference)) };
        let mut client = self.client.clone();
        let answer = self.bounded(COMMAND_LIMIT, async move { client.image_status(request).await })?;
        Ok(answer.image.map(|image| image.repo_digests).unwrap_or_default())
    }

    /// Removes an image, as kubelet does when the disk is full.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, reference: &str) -> Result<()> {
        let request = RemoveImageRequest { image: Some(image(reference)) };
        let mut client = self.client.clone();
        self.bounded(COMMAND_LIMIT, async move { client.remove_image(request).await }).map(drop)
    }

    fn bounded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(limit, call).await });
        let answer = answer.with_context(|| format!("no answer of the CRI in {limit:?}"))?;
        answer.map(tonic::Response::into_inner).map_err(|status| anyhow!("{}", status.message()))
    }
}

fn image(reference: &str) -> ImageSpec {
    ImageSpec { image: reference.to_owned() }
}

impl std::fmt::Debug for PullSecret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullSecret").field("user", &self.user).finish_non_exhaustive()
    }
}
