//! What the benchmark says at the end: a table for people, or one JSON object.

use serde::Serialize;
use std::fmt;

/// On which side of its limit a value is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Up to the limit.
    AtMost,
    /// From the limit on.
    AtLeast,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// The figure; nothing if it could not be measured here.
    pub value: Option<f64>,
    /// What the value counts; `×` for a ratio.
    pub unit: &'static str,
    /// What is promised; nothing if the row is only for comparison.
    pub limit: Option<f64>,
    /// On which side of the limit the value is good.
    pub side: Side,
    /// Whether it is; nothing without a limit or without a value.
    pub pass: Option<bool>,
    /// Where the figure comes from, or why there is none.
    pub detail: String,
}

impl Row {
    /// A value that is to be at most `limit`.
    #[must_use]
    pub fn at_most(name: &'static str, value: f64, unit: &'static str, limit: f64, detail: String) -> Self {
        let pass = Some(value <= limit);
        Self { name, value: Some(value), unit, limit: Some(limit), side: Side::AtMost, pass, detail }
    }

    /// A value that is to be at least `limit`.
    #[must_use]
    pub fn at_least(name: &'static str, value: f64, unit: &'static str, limit: f64, detail: String) -> Self {
        let pass = Some(value >= limit);
        Self { name, value: Some(value), unit, limit: Some(limit), side: Side::AtLeast, pass, detail }
    }

    /// A value to compare with.
    #[must_use]
    pub const fn shown(name: &'static str, value: f64, unit: &'static str, detail: String) -> Self {
        Self { name, value: Some(value), unit, limit: None, side: Side::AtMost, pass: None, detail }
    }

    /// A row that cannot be measured here.
    #[must_use]
    pub fn skipped(name: &'static str, why: &str) -> Self {
        let detail = format!("skipped: {why}");
        Self { name, value: None, unit: "", limit: None, side: Side::AtMost, pass: None, detail }
    }
}

/// All rows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether no row misses its limit.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.pass != Some(false))
    }
}

/// With three significant digits or so.
fn figure(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22} {:>9} {:<9} {:>8} {:<6}", "row", "value", "unit", "limit", "")?;
        for row in &self.rows {
            let value = row.value.map(figure).unwrap_or_default();
            let limit = row.limit.map(|limit| {
                let sign = if row.side == Side::AtMost { '≤' } else { '≥' };
                format!("{sign} {limit}")
            });
            let pass = row.pass.map_or("", |pass| if pass { "ok" } else { "MISSED" });
            let (name, unit, limit) = (row.name, row.unit, limit.unwrap_or_default());
            write!(f, "\n{name:<22} {value:>9} {unit:<9} {limit:>8} {pass:<6}  {}", row.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let detail = || "a ÷ b".to_owned();
        Report {
            rows: vec![
                Row::at_most("cold", 1.05, "×", 1.1, detail()),
                Row::at_least("warm", 0.7, "×", 0.8, detail()),
                Row::shown("stock", 2.7, "×", detail()),
                Row::skipped("other", "no nginx"),
            ],
        }
    }

    #[test]
    fn the_table_names_what_is_missed() {
        let report = report();
        let text = report.to_string();
        assert!(text.contains("1.050 ×            ≤ 1.1 ok"), "{text}");
        assert!(text.contains("0.700 ×            ≥ 0.8 MISSED"), "{text}");
        assert!(text.ends_with("skipped: no nginx"), "{text}");
        assert!(!report.is_good());
    }

    #[test]
    fn json_has_the_promised_fields() {
        let value = serde_json::to_value(report()).unwrap();
        let rows = value["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 4);
        for field in ["name", "value", "unit", "limit", "pass", "detail"] {
            assert!(!rows[0][field].is_null(), "{field}");
        }
        assert_eq!(rows[1]["pass"], false);
        assert_eq!(rows[1]["side"], "at_least");
        assert!(rows[3]["value"].is_null());
    }
}
