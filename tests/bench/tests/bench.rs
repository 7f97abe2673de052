//! The benchmark as a user runs it: its JSON, and which rows it has. Its figures are not judged here.

use std::time::Duration;
use support::poll;
use support::process::{Program, Spec};

/// The rows that need nothing but this program take seconds.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn rows_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "--quick", "--no-fail", "--only", "verification", "--only", "transport"];
    let mut bench =
        Program::start(&Spec::new("bench", env!("CARGO_BIN_EXE_bench"), dir.path()).args(args)).unwrap();
    let status = poll::until("the benchmark's end", LIMIT, || Ok(bench.exit_status())).unwrap();
    let log = std::fs::read_to_string(bench.log()).unwrap();
    assert!(status.success(), "{status}: {log}");
    let json = log.lines().find(|line| line.starts_with('{')).unwrap();
    let report: serde_json::Value = serde_json::from_str(json).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["verification", "transport", "transport, stock"]);
    for row in rows {
        let value = row["value"].as_f64().unwrap();
        assert!(value > 0.1 && value < 100.0, "{row:#}");
    }
    assert!(rows[0]["limit"].is_number() && rows[0]["pass"].is_boolean(), "{report:#}");
    assert!(rows[2]["limit"].is_null() && rows[2]["pass"].is_null(), "{report:#}");
}
