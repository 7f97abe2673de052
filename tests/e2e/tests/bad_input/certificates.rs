//! Registries that cannot prove who they are: refused in words that say which registry and why.

use anyhow::{Context, Result, ensure};
use e2e::inside::{Content, Node, Settings, blob_target, manifest_target};
use std::io::Write as _;
use support::images::MANIFEST;
use support::origin::{Certificate, FaultyOrigin};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_registry_that_cannot_prove_its_name_is_refused_by_name_and_reason() -> Result<()> {
    for (certificate, why) in [
        (Certificate::Good, None),
        (Certificate::OfAnother, Some("not valid for name")),
        (Certificate::Expired, Some("expired")),
        (Certificate::SelfSigned, Some("UnknownIssuer")),
    ] {
        let origin = FaultyOrigin::builder().certificate(certificate).start().await?;
        let content = Content::random(1, 100_000);
        origin.add_blob("app", content.bytes.clone());
        origin.add_manifest("app", Some("v1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(origin.ca_pem().context("an authority")?.as_bytes())?;
        let mut settings = Settings::of(&[&origin]);
        settings.registry(&origin).ca = Some(file.path().to_owned());
        let node = Node::alone(&settings).await?;
        for target in [manifest_target(&origin, "app", "v1"), blob_target(&origin, "app", &content.digest)] {
            let reply = node.get(&target).await?;
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            let Some(why) = why else {
                ensure!(reply.status == 200, "{certificate:?}: {}", reply.summary());
                continue;
            };
            eprintln!("  {certificate:?}: {text}");
            ensure!(reply.status == 503, "{certificate:?}: {}", reply.summary());
            ensure!(
                text.contains(origin.registry().as_str()) && text.contains(why),
                "{certificate:?}: {text}"
            );
        }
        let served = origin.requests().len();
        ensure!((served == 0) == why.is_some(), "{certificate:?}: {served} requests came through");
    }
    Ok(())
}
