//! Links from README.md, docs/ and the chart's page to files of this repository, and to headings in them, lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("docs")).expect("docs");
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.extend(["README.md", "charts/damselfly/README.md"].map(|name| root().join(name)));
    pages
}

/// The text outside of blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// Where the links of a page lead.
fn links(page: &str) -> Vec<String> {
    // Not what stands between backticks; a link's text may, its target does not.
    let bare: String = prose(page).split('`').step_by(2).collect();
    let targets = bare.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Why a link of the page at `path` leads nowhere, if it does.
fn broken(path: &Path, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target =
        if file.is_empty() { path.to_owned() } else { path.parent().expect("a directory").join(file) };
    if !target.exists() {
        return Some(format!("{}: there is no {file}", path.display()));
    }
    if heading.is_empty() {
        return None;
    }
    let page = fs::read_to_string(&target).expect("a page");
    let prose = prose(&page);
    let headings = prose.lines().filter_map(|line| line.strip_prefix('#'));
    let found = headings.map(|line| anchor(line.trim_start_matches('#'))).any(|found| found == heading);
    (!found).then(|| format!("{}: {link} names no heading", path.display()))
}

#[test]
fn links_lead_somewhere() {
    let (mut count, mut wrong) = (0, Vec::new());
    for path in pages() {
        for link in links(&fs::read_to_string(&path).expect("a page")) {
            count += 1;
            wrong.extend(broken(&path, &link));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 20, "only {count} links were found");
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let linked = links(&fs::read_to_string(root().join("README.md")).expect("README.md"));
    for path in pages().iter().filter(|path| path.parent().is_some_and(|dir| dir.ends_with("docs"))) {
        let link = format!("docs/{}", path.file_name().expect("a name").display());
        assert!(linked.contains(&link), "README.md does not link {link}");
    }
}

#[test]
fn a_broken_link_is_found() {
    let page = "[a](no-such.md) `[b](c)`\n\n```\n[d](e)\n```\n[`f`](README.md#no-such)";
    assert_eq!(links(page), ["no-such.md", "README.md#no-such"]);
    let readme = root().join("README.md");
    assert!(links(page).iter().all(|link| broken(&readme, link).is_some()));
    assert_eq!(broken(&readme, "docs/runtimes.md#what-is-refused"), None);
    assert_eq!(broken(&readme, "#the-parts"), None);
}
