//! Pages of docs/ whose tables a test writes: what stands above a mark is written by hand, what stands below is compared.
//!
//! Called by the tests that make docs/metrics.md and docs/configuration.md.

use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// When it is set, pages are written and not compared.
const BLESS: &str = "DAMSELFLY_BLESS";

/// Compares what docs/`name` has below the mark of `test` with `now`, or writes it.
///
/// # Errors
/// If they differ, with the first line that does and how to renew the page.
pub fn check(name: &str, test: &str, now: &str) -> Result<()> {
    let mark = format!("<!-- From here on written by the test `{test}`. -->\n");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let page = std::fs::read_to_string(&file).with_context(|| format!("docs/{name}"))?;
    let (head, written) = page.split_once(&mark).with_context(|| format!("docs/{name} has no mark"))?;
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&file, format!("{head}{mark}{now}"))?;
        return Ok(());
    }
    if let Some((new, old)) = now.lines().zip(written.lines()).find(|(new, old)| new != old) {
        bail!("docs/{name} is out of date ({BLESS}=1 writes it):\n  it has {old}\n  now is {new}");
    }
    ensure!(now == written, "docs/{name} is out of date at its end ({BLESS}=1 writes it)");
    Ok(())
}
