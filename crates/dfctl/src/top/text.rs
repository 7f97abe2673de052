//! The model in words: the lines and the cells of its tables. The live view draws them, and `plain` prints them.

use super::model::{HostLine, Model, Order};
use crate::answer::{Blob, Ended};
use crate::table::{ago, rate, short, size, text, times_bound};
use std::ops::Range;
use std::time::SystemTime;

/// Characters of a bar.
const BAR_LEN: usize = 10;

/// A column: the word over it, how wide it is, and how early it goes when a screen is too narrow.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) head: &'static str,
    /// In characters. Words take less if they need less.
    width_max: u16,
    /// The highest goes first.
    rank: u8,
}

const fn column(head: &'static str, width_max: u16, rank: u8) -> Column {
    Column { head, width_max, rank }
}

/// A table's columns: first words, then numbers.
#[derive(Debug)]
pub(super) struct Shape {
    /// How many columns are words.
    pub(super) words: usize,
    pub(super) columns: &'static [Column],
}

/// Bytes per second of all hosts together.
pub(super) const SUMS: Shape = Shape {
    words: 0,
    columns: &[
        column("ORIGIN", 12, 0),
        column("FALLBACK", 12, 2),
        column("SAME RACK", 12, 1),
        column("SAME ZONE", 12, 1),
        column("ELSEWHERE", 12, 1),
        column("CACHE", 12, 3),
        column("UPLOADED", 12, 4),
    ],
};

/// Rollouts that go on, and below them those that have ended.
pub(super) const ROLLOUTS: Shape = Shape {
    words: 3,
    columns: &[
        column("BLOB", 19, 0),
        column("REGISTRY", 24, 5),
        column("SOURCE", 16, 6),
        column("SIZE", 10, 4),
        column("COMPLETE", 11, 1),
        column("", 10, 3),
        column("TRANSFERS", 9, 5),
        column("SECONDS", 7, 1),
        column("BOUND", 6, 2),
        column("ENDED", 8, 3),
    ],
};

pub(super) const HOSTS: Shape = Shape {
    words: 4,
    columns: &[
        column("HOST", 17, 0),
        column("ADDRESS", 24, 7),
        column("ZONE", 12, 6),
        column("RACK", 12, 6),
        column("FROM PEERS", 12, 1),
        column("ORIGIN", 12, 2),
        column("FALLBACK", 12, 4),
        column("UPLOADED", 12, 3),
        column("CACHE", 12, 5),
        column("UPS", 5, 6),
        column("DOWNS", 5, 6),
        column("TOTAL DOWN", 10, 8),
        column("TOTAL UP", 10, 9),
    ],
};

impl Shape {
    /// The words over the columns.
    pub(super) fn heads(&self) -> Vec<&'static str> {
        self.columns.iter().map(|column| column.head).collect()
    }

    /// How wide each column is to be for these rows. Numbers have their places, so that they do not jump as they change.
    pub(super) fn widths(&self, rows: &[Vec<String>]) -> Vec<u16> {
        let width = |(i, column): (usize, &Column)| {
            if i >= self.words {
                return column.width_max;
            }
            let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
            let widest = cells.max().unwrap_or(0).max(column.head.len());
            u16::try_from(widest).unwrap_or(u16::MAX).min(column.width_max)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// Which columns there is room for, `gap` apart; the first always stays.
    pub(super) fn kept(&self, widths: &[u16], gap: u16, room: u16) -> Vec<usize> {
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        let width = |kept: &[usize]| -> u32 {
            let columns: u32 = kept.iter().map(|&i| u32::from(widths[i]) + u32::from(gap)).sum();
            columns.saturating_sub(u32::from(gap))
        };
        while kept.len() > 1 && width(&kept) > u32::from(room) {
            let Some(first_to_go) = kept.iter().copied().max_by_key(|&i| self.columns[i].rank) else { break };
            kept.retain(|&i| i != first_to_go);
        }
        kept
    }
}

/// The column of [`HOSTS`] that the hosts are ordered by.
pub(super) const fn ordered_by(order: Order) -> usize {
    match order {
        Order::Id => 0,
        Order::Down => 4,
        Order::Origin => 5,
        Order::Up => 7,
    }
}

/// When the picture is from, how many hosts are connected, and what part of the bytes came from registries.
pub(super) fn head(model: &Model) -> String {
    let share = model
        .origin_permille()
        .map_or_else(|| "-".to_owned(), |permille| format!("{}.{} %", permille / 10, permille % 10));
    let scheduler = text(Some(&model.scheduler));
    let clock = clock(model.moment.clock);
    format!("{clock}  {} hosts  scheduler {scheduler}  origin share {share}", model.hosts_total)
}

/// What is wrong, if something is.
pub(super) fn trouble(model: &Model) -> Option<String> {
    if let Some(silence) = &model.silence {
        return Some(format!("no answer since {}: {}", clock(silence.since), text(Some(&silence.why))));
    }
    (model.scheduler == "down").then(|| "the scheduler does not answer: this host alone".to_owned())
}

/// What stands over the rollouts.
pub(super) fn rollouts_title(model: &Model) -> String {
    let more = if model.blobs_total > model.blobs_listed {
        format!(", as far as {} of {} blobs show", model.blobs_listed, model.blobs_total)
    } else {
        String::new()
    };
    format!("rollouts: {} under way, {} ended{more}", model.under_way.len(), model.ended.len())
}

/// What stands over the hosts, of which `shown` are visible.
pub(super) fn hosts_title(model: &Model, shown: &Range<usize>) -> String {
    let listed = model.hosts.len();
    let order = match model.order {
        Order::Down => "most from peers first",
        Order::Up => "most uploaded first",
        Order::Origin => "most from the origin first",
        Order::Id => "by id",
    };
    let part = if shown.len() < listed && !shown.is_empty() {
        format!(" {} to {} of {listed}", shown.start + 1, shown.end)
    } else {
        format!(": {listed}")
    };
    let more = if model.hosts_total > listed {
        format!(", of {} that are connected", model.hosts_total)
    } else {
        String::new()
    };
    format!("hosts{part}{more}, {order}")
}

/// The only row of [`SUMS`].
pub(super) fn sums(model: &Model) -> Vec<String> {
    let bytes = model.per_second;
    [
        bytes.map(|t| t.origin),
        bytes.map(|t| t.fallback),
        bytes.map(|t| t.rack),
        bytes.map(|t| t.zone),
        bytes.map(|t| t.elsewhere),
        bytes.map(|t| t.cache),
        bytes.map(|t| t.uploaded),
    ]
    .map(rate)
    .to_vec()
}

/// A row of [`ROLLOUTS`]: one that goes on.
pub(super) fn under_way(blob: &Blob) -> Vec<String> {
    let all = u64::from(blob.complete) + u64::from(blob.wanting);
    let rollout = blob.rollout.as_ref();
    vec![
        short(&blob.digest),
        text(Some(&blob.registry)),
        text(blob.source.as_deref()),
        size(blob.size),
        format!("{}/{all}", blob.complete),
        bar(u64::from(blob.complete), all),
        blob.transfers.to_string(),
        rollout.map_or_else(|| "-".to_owned(), |rollout| format!("{:.1}", rollout.seconds)),
        rollout.map_or_else(|| "-".to_owned(), |rollout| times_bound(rollout.seconds, rollout.bound_seconds)),
        "-".to_owned(),
    ]
}

/// A row of [`ROLLOUTS`]: one that has ended.
pub(super) fn ended(rollout: &Ended) -> Vec<String> {
    vec![
        short(&rollout.digest),
        text(Some(&rollout.registry)),
        "-".to_owned(),
        size(rollout.size),
        format!("{0}/{0}", rollout.hosts),
        bar(1, 1),
        "-".to_owned(),
        format!("{:.1}", rollout.seconds),
        times_bound(rollout.seconds, rollout.bound_seconds),
        ago(rollout.ended_seconds_ago),
    ]
}

/// A row of [`HOSTS`].
pub(super) fn host(line: &HostLine, asked: &str) -> Vec<String> {
    let HostLine { host, per_second, .. } = line;
    let mark = if host.id == asked { "*" } else { "" };
    let total = &host.traffic;
    vec![
        format!("{}{mark}", text(Some(&host.id))),
        text(host.address.as_deref()),
        text(Some(&host.zone)),
        text(Some(&host.rack)),
        rate(per_second.map(|t| t.peers())),
        rate(per_second.map(|t| t.origin)),
        rate(per_second.map(|t| t.fallback)),
        rate(per_second.map(|t| t.uploaded)),
        rate(per_second.map(|t| t.cache)),
        host.uploads.to_string(),
        host.downloads.to_string(),
        size(total.peers().saturating_add(total.registries())),
        size(total.uploaded),
    ]
}

/// So much of it, as a bar.
fn bar(part: u64, all: u64) -> String {
    let full = u128::from(part) * BAR_LEN as u128 / u128::from(all.max(1));
    let full = usize::try_from(full).unwrap_or(BAR_LEN).min(BAR_LEN);
    format!("{}{}", "█".repeat(full), "░".repeat(BAR_LEN - full))
}

fn clock(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn rows_have_all_columns() {
        let model = samples::model();
        assert_eq!(sums(&model).len(), SUMS.columns.len());
        assert_eq!(under_way(&model.under_way[0]).len(), ROLLOUTS.columns.len());
        assert_eq!(ended(&model.ended[0]).len(), ROLLOUTS.columns.len());
        assert_eq!(host(&model.hosts[0], "").len(), HOSTS.columns.len());
        let ordered = [Order::Id, Order::Down, Order::Origin, Order::Up].map(ordered_by);
        assert_eq!(ordered.map(|i| HOSTS.columns[i].head), ["HOST", "FROM PEERS", "ORIGIN", "UPLOADED"]);
    }

    #[test]
    fn columns_go_by_their_ranks() {
        let row = vec!["a".repeat(60); ROLLOUTS.columns.len()];
        let widths = ROLLOUTS.widths(&[row]);
        assert_eq!(widths, [19, 24, 16, 10, 11, 10, 9, 7, 6, 8], "never wider than they may be");
        assert_eq!(ROLLOUTS.widths(&[])[..3], [4, 8, 6], "words no wider than they need");
        assert_eq!(ROLLOUTS.kept(&widths, 1, 129).len(), 10);
        assert_eq!(ROLLOUTS.kept(&widths, 1, 128), [0, 1, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(ROLLOUTS.kept(&widths, 1, 40), [0, 4, 7]);
        assert_eq!(ROLLOUTS.kept(&widths, 1, 3), [0]);
        assert_eq!(ROLLOUTS.kept(&widths, 1, 0), [0]);
    }

    #[test]
    fn bars() {
        let bars = [(0, 0), (0, 9), (1, 10), (19, 20), (20, 20), (9, 1)].map(|(part, all)| bar(part, all));
        let full = ["░░░░░░░░░░", "░░░░░░░░░░", "█░░░░░░░░░", "█████████░", "██████████", "██████████"];
        assert_eq!(bars, full);
    }

    #[test]
    fn titles() {
        let mut model = samples::model();
        assert_eq!(hosts_title(&model, &(0..3)), "hosts: 3, most from peers first");
        model.sort(Order::Id);
        model.hosts_total = 5000;
        assert_eq!(hosts_title(&model, &(1..3)), "hosts 2 to 3 of 3, of 5000 that are connected, by id");
        assert_eq!(rollouts_title(&model), "rollouts: 1 under way, 2 ended");
        model.blobs_total = 7;
        assert_eq!(rollouts_title(&model), "rollouts: 1 under way, 2 ended, as far as 2 of 7 blobs show");
        assert_eq!(trouble(&model), None);
        model.scheduler = "down".to_owned();
        assert_eq!(trouble(&model).unwrap(), "the scheduler does not answer: this host alone");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let mut model = samples::model();
        model.asked = "\u{1b}c".to_owned();
        model.scheduler = "\u{1b}[2J".to_owned();
        model.hosts[0].host.zone = "a\u{1b}]0;x\u{7}".to_owned();
        model.hosts[0].host.id = "\u{9b}31m\r".to_owned();
        model.under_way[0].registry = "\u{1b}[31m".to_owned();
        let mut cells = host(&model.hosts[0], &model.asked);
        cells.extend(under_way(&model.under_way[0]));
        cells.push(head(&model));
        assert!(!cells.concat().contains(char::is_control), "{cells:?}");
    }
}
