//! The limits that docs/preheat.md names are those of the code.

use super::book::{AWAY_MAX, KEPT_MAX, RUNNING_MAX, TELL_PAUSE, TOLD_AT_ONCE};
use super::image::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, IMAGES_AT_ONCE, RESOLVE_TIMEOUT, TURNS};
use super::plan::PAIRS_MAX;
use super::service::TURN_PATIENCE;
use super::{image, plan};
use proto::{PREHEAT_CONTENTS_MAX, PREHEAT_IMAGES_MAX};
use std::time::Duration;

const PAGE: &str = include_str!("../../../docs/preheat.md");

/// A number as the page writes it: `4,096`.
fn written(number: usize) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

#[test]
fn the_page_names_them() {
    let (_, limits) = PAGE.split_once("\n## Limits\n").unwrap();
    let (limits, _) = limits.split_once("\n## ").unwrap();
    let contents = written(PREHEAT_CONTENTS_MAX);
    let (documents, mib) = (written(DOCUMENTS_MAX), DOCUMENT_BYTES_MAX / (1024 * 1024));
    let (named, named_by_all) = (written(image::BLOBS_NAMED_MAX), written(plan::BLOBS_NAMED_MAX));
    let (pause, seconds) = (TELL_PAUSE.as_millis(), RESOLVE_TIMEOUT.as_secs());
    let each_second = TOLD_AT_ONCE as u128 * (Duration::from_secs(1).as_millis() / pause);
    let (patience, away) = (TURN_PATIENCE.as_secs(), AWAY_MAX.as_secs() / 60);
    for (row, limit) in [
        ("images of one preheat", format!("{PREHEAT_IMAGES_MAX} |")),
        ("manifests and blobs that one host", format!("{contents}. ")),
        ("these, times the hosts", format!("{}: ", written(PAIRS_MAX))),
        (
            "indexes and manifests of one image",
            format!(
                "{documents}, {mib} MiB together, and at most {contents} different manifests and blobs, of all its \
                 platforms that are wanted. They name at most {named} blobs, those of all images of a preheat \
                 {named_by_all}, "
            ),
        ),
        (
            "hosts that are told",
            format!("{TOLD_AT_ONCE} at once, then {TOLD_AT_ONCE} every {pause} ms ({each_second} a second)"),
        ),
        ("preheats that run", format!("{RUNNING_MAX} |")),
        ("preheats that are remembered", format!("{KEPT_MAX}; ")),
        (
            "looking up the images",
            format!(
                "{seconds} s, for up to {TURNS} preheats at a time and {IMAGES_AT_ONCE} images of each; a further one \
                 waits up to {patience} s "
            ),
        ),
        ("a host may be away", format!("{away} min |")),
    ] {
        let start = format!("| {row}");
        let line = limits.lines().find(|line| line.starts_with(&start));
        let (_, said) =
            line.and_then(|line| line[2..].split_once(" | ")).unwrap_or_else(|| panic!("no {row}"));
        assert!(said.starts_with(&limit), "{row}: {said}, not {limit}");
    }
}
