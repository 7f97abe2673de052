//! Tables for people, and what stands in their cells.

use bytesize::ByteSize;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Characters of a digest that are shown: the algorithm, and enough to find it again.
const DIGEST_LEN: usize = 19;

/// The longest text of a cell, in characters.
const TEXT_LEN_MAX: usize = 255;

/// The longest reason that is shown, in characters.
const REASON_LEN_MAX: usize = 1024;

/// The last second that can be written with a year of four digits, in seconds since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// Columns as wide as their widest cell; the first `words` stand to the left, the numbers after them to the right.
pub(crate) fn table(
    out: &mut impl Write,
    head: &[&str],
    words: usize,
    rows: &[Vec<String>],
) -> std::io::Result<()> {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> =
        (0..head.len()).map(|i| lines().map(|line| line[i].chars().count()).max().unwrap_or(0)).collect();
    for line in lines() {
        let cells = line.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
            if i < words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Says that there are more than those above.
pub(crate) fn missing(what: &str, listed: usize, total: u32, out: &mut impl Write) -> std::io::Result<()> {
    if usize::try_from(total).is_ok_and(|total| total > listed) {
        writeln!(out, "{listed} of {total} {what} are listed")?;
    }
    Ok(())
}

/// A digest's beginning.
pub(crate) fn short(digest: &str) -> String {
    text(Some(digest)).chars().take(DIGEST_LEN).collect()
}

/// A name, without what could steer the terminal; a dash if there is none.
pub(crate) fn text(value: Option<&str>) -> String {
    clean(value.unwrap_or_default(), TEXT_LEN_MAX)
}

/// Why something was not done, in others' words: likewise.
pub(crate) fn reason(value: &str) -> String {
    clean(value, REASON_LEN_MAX)
}

fn clean(value: &str, len_max: usize) -> String {
    let value: String = value.chars().filter(|c| !steers(*c)).take(len_max).collect();
    if value.is_empty() { "-".to_owned() } else { value }
}

/// Whether it moves what stands beside it: control characters, and those that turn the direction of writing.
fn steers(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// Bytes; a dash if there are none.
pub(crate) fn size(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { ByteSize(bytes).to_string() }
}

/// Bytes per second; a dash if it is not known.
pub(crate) fn rate(bytes_per_second: Option<u64>) -> String {
    match bytes_per_second {
        None => "-".to_owned(),
        Some(0) => "0".to_owned(),
        Some(bytes) => format!("{}/s", ByteSize(bytes)),
    }
}

/// How many times the bound a rollout took; a dash where the bound is not known.
pub(crate) fn times_bound(seconds: f64, bound_seconds: Option<f64>) -> String {
    match bound_seconds {
        Some(bound) if bound > 0.0 => format!("{:.2}x", seconds / bound),
        _ => "-".to_owned(),
    }
}

/// When it was, from seconds since 1970.
pub(crate) fn time(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// How long ago, in its largest unit that says enough.
pub(crate) fn ago(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 3600.0;
    match seconds.max(0.0) {
        few if few < 2.0 * MINUTE => format!("{few:.0}s ago"),
        some if some < 2.0 * HOUR => format!("{:.0}m ago", some / MINUTE),
        many => format!("{:.0}h ago", many / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        assert_eq!(short(&format!("sha256:{}", "c".repeat(64))), "sha256:cccccccccccc");
        assert_eq!(text(Some("a\u{1b}[31mb\n")), "a[31mb", "nothing steers the terminal");
        let turned = "a\u{202e}b\u{202a}\u{2066}c\u{2069}\u{200e}\u{200f}\u{61c}d";
        assert_eq!(text(Some(turned)), "abcd", "nor turns it round");
        assert_eq!([None, Some(""), Some("\n")].map(text), ["-"; 3]);
        assert_eq!(text(Some(&"x".repeat(1000))).len(), TEXT_LEN_MAX);
        assert_eq!(reason(&"x\u{1b}\u{202e}".repeat(2000)), "x".repeat(REASON_LEN_MAX));
        assert_eq!([0, 2048].map(size), ["-", "2.0 KiB"]);
        let rates = [None, Some(0), Some(7), Some(1_258_291)].map(rate);
        assert_eq!(rates, ["-", "0", "7 B/s", "1.2 MiB/s"]);
        let ratios = [Some(2.0), Some(0.0), None].map(|bound| times_bound(3.0, bound));
        assert_eq!(ratios, ["1.50x", "-", "-"]);
        let moments = [0, 1_764_485_000, u64::MAX].map(time);
        assert_eq!(moments, ["1970-01-01T00:00:00Z", "2025-11-30T06:43:20Z", "9999-12-31T23:59:59Z"]);
        let times = [-1.0, 0.4, 59.0, 119.0, 120.0, 7100.0, 7200.0, 90_000.0].map(ago);
        let expected = ["0s ago", "0s ago", "59s ago", "119s ago", "2m ago", "118m ago", "2h ago", "25h ago"];
        assert_eq!(times, expected);
    }
}
