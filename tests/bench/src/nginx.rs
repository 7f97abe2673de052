//! nginx with one file: what the warm path is compared with. Debian's, with the settings that matter as Debian has them
//! (`sendfile`, `tcp_nopush`).

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::daemon::loopback;
use support::process::{Program, Spec};

/// Where Debian has it; it is not on everybody's path.
const PROGRAM: &str = "/usr/sbin/nginx";
/// Where it listens, at an address of this run.
const PORT: u16 = 16_580;
/// How long it may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What clients ask for.
pub const TARGET: &str = "/blob";

/// The running server. Dropping it ends it.
#[derive(Debug)]
pub struct Nginx {
    /// The process; one, so that its CPU time is all there is.
    pub program: Program,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Finds nginx, or installs it, saying so.
///
/// # Errors
/// Why there is none.
pub fn find() -> Result<PathBuf> {
    if !Path::new(PROGRAM).exists() {
        anyhow::ensure!(support::skip::is_root(), "nginx is not installed, and only root can install it");
        support::packages::ensure_installed(&["nginx-light"])?;
    }
    Ok(PROGRAM.into())
}

impl Nginx {
    /// Serves `file` as [`TARGET`], with its own files in `dir`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(program: &Path, dir: &Path, file: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let address = SocketAddr::new(loopback(80), PORT);
        let config = dir.join("nginx.conf");
        std::fs::write(&config, configuration(dir, address, file))?;
        let spec = Spec::new("nginx", program, dir)
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg("stderr");
        let mut program = Program::start(&spec)?;
        program.wait_for_ok(&format!("http://{address}/healthz"), START_LIMIT).await.context("nginx")?;
        Ok(Self { program, address })
    }
}

fn configuration(dir: &Path, address: SocketAddr, file: &Path) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {:?};\n", dir.join(kind).display().to_string()))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid {:?};\nevents {{ worker_connections 64; }}\n\
         http {{\n{temporary}  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  default_type application/octet-stream;\n  \
         server {{\n    listen {address};\n    location = /healthz {{ return 200; }}\n    \
         location = {TARGET} {{ alias {:?}; }}\n  }}\n}}\n",
        dir.join("nginx.pid").display().to_string(),
        file.display().to_string(),
    )
}
