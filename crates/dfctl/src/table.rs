//! Tables for people.

use std::io::Write;

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
