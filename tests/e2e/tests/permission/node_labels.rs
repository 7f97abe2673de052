//! A pod of the chart learns its node's zone and rack from the API server, which is a stand-in here.

use crate::stage::run_dfctl;
use anyhow::{Result, ensure};
use support::kubernetes::{ApiServer, Fault};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_where_it_stands() -> Result<()> {
    let api = ApiServer::start("pod.token.1").await?;
    let labels = [("topology.kubernetes.io/zone", "eu-1a"), ("example.com/rack", "r7")];
    api.node("node-1.example", &labels);
    api.node("bare", &[]);
    let dir = tempfile::tempdir()?;
    let (config, written) = (dir.path().join("in.toml"), dir.path().join("out.toml"));
    let text = "# by hand\n[host]\nrack = \"by hand\"\n";
    std::fs::write(&config, text)?;
    let service_account = api.ca_file().parent().map(std::path::Path::to_owned).unwrap_or_default();
    let ask = async |node: &str, more: &[&str]| -> Result<String> {
        let mut words: Vec<String> =
            ["node-labels", node, "--timeout", "2s", "--api", api.url()].map(str::to_owned).into();
        for (flag, path) in
            [("--config", &config), ("--out", &written), ("--service-account", &service_account)]
        {
            words.extend([flag.to_owned(), path.display().to_string()]);
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        run_dfctl(&words).await?;
        Ok(std::fs::read_to_string(&written)?)
    };
    let place = |text: &str| -> Result<(Option<String>, Option<String>)> {
        let config: serde_json::Value = serde_json::to_value(text.parse::<toml::Table>()?)?;
        let value = |key: &str| config["host"][key].as_str().map(str::to_owned);
        Ok((value("zone"), value("rack")))
    };
    let some = |text: &str| Some(text.to_owned());
    ensure!(place(&ask("node-1.example", &[]).await?)? == (some("eu-1a"), some("by hand")));
    let both = ask("node-1.example", &["--rack-label", "example.com/rack"]).await?;
    ensure!(place(&both)? == (some("eu-1a"), some("r7")) && both.starts_with("# by hand"), "{both}");
    ensure!(ask("bare", &[]).await? == text, "a node without labels");
    // A name is no path.
    ensure!(ask("x/../node-1.example", &[]).await? == text, "a node that is not there");
    for fault in [Fault::Status(403), Fault::Status(500), Fault::Hang, Fault::Body("no node".to_owned())] {
        api.fault(Some(fault.clone()));
        ensure!(ask("node-1.example", &[]).await? == text, "{fault:?}");
    }
    api.fault(None);
    api.rotate("pod.token.2")?;
    ensure!(place(&ask("node-1.example", &[]).await?)?.0 == some("eu-1a"), "with a new token");
    Ok(())
}
