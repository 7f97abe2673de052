//! What systemd is asked to do: only on the machine that runs this, and within a limit.

use super::Files;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How long a service may take to start or to end.
const LIMIT: Duration = Duration::from_secs(90);

/// Present while systemd runs the machine.
const SYSTEMD: &str = "/run/systemd/system";

/// Whether systemd runs the machine.
pub(crate) fn runs(files: &Files) -> bool {
    files.exists(Path::new(SYSTEMD))
}

/// A call as an operator would type it.
pub(crate) fn line(args: &[&str]) -> String {
    format!("systemctl {}", args.join(" "))
}

/// Calls `systemctl`.
///
/// # Errors
/// Why it failed, for the operator.
pub(crate) async fn call(args: &[&str]) -> Result<(), String> {
    let line = line(args);
    let mut command = tokio::process::Command::new("systemctl");
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(LIMIT, command.output()).await {
        Err(_) => Err(format!("`{line}` took longer than {} s", LIMIT.as_secs())),
        Ok(Err(error)) => Err(format!("`{line}`: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("`{line}` failed ({}): {}", output.status, why.trim()))
        }
    }
}
