//! containerd's `hosts.toml`: which mirrors stand before a registry. They are tried in the order of the file.

use super::edit::Edit;
use super::target::Put;
use crate::machine::Refusal;
use toml_edit::{Document, DocumentMut, TableLike};

/// Opens what is ours in a file.
const OURS: &str = "# Put here by `dfctl runtime install`; `dfctl runtime uninstall` takes it away.\n";

/// No `server` is named: while the daemon is away, containerd asks the registry itself. A `[host]` table has to be there, or
/// containerd 1.6 ignores the file.
fn mirror_table(mirror: &str) -> String {
    format!("{OURS}[host.{mirror:?}]\n  capabilities = [\"pull\", \"resolve\"]\n")
}

pub(super) fn put(text: Option<&str>, mirror: &str) -> Result<Put, Refusal> {
    let text = text.unwrap_or_default();
    let document = parse(text)?;
    let hosts = document.get("host");
    if hosts.and_then(|hosts| hosts.get(mirror)).is_some() {
        return Ok(Put::Already);
    }
    // Before the first table: what stands before that belongs to the whole file.
    let first = document.iter().filter_map(|(_, item)| first_header(item)).min();
    let (at, ours) = match first {
        Some(at) => (above_comments(text, at), mirror_table(mirror) + "\n"),
        None if text.is_empty() || text.ends_with('\n') => (text.len(), mirror_table(mirror)),
        None => (text.len(), format!("\n{}", mirror_table(mirror))),
    };
    let (after, edit) = Edit::put(text, at..at, ours);
    let sound = parse(&after).is_ok_and(|after| {
        after
            .get("host")
            .and_then(|hosts| hosts.as_table_like()?.iter().next())
            .is_some_and(|(host, _)| host == mirror)
    });
    if !sound {
        return Err(Refusal::new(
            "its hosts are written in a form into which no mirror can be put first".to_owned(),
        ));
    }
    Ok(Put::Done(after, edit))
}

pub(super) fn take_out(text: &str, mirror: &str) -> Result<String, Refusal> {
    let mut document: DocumentMut = text.parse().map_err(|error| unreadable(&error))?;
    let Some(hosts) = document.get_mut("host").and_then(|hosts| hosts.as_table_like_mut()) else {
        return Ok(text.to_owned());
    };
    if hosts.remove(mirror).is_none() {
        return Ok(text.to_owned());
    }
    if hosts.is_empty() {
        document.remove("host");
    }
    Ok(document.to_string().replace(OURS, ""))
}

/// Where the first table begins that is written with a header of its own.
fn first_header(item: &toml_edit::Item) -> Option<usize> {
    let inside = |table: &dyn TableLike| table.iter().filter_map(|(_, item)| first_header(item)).min();
    match item {
        toml_edit::Item::Table(table) => {
            let own = (!table.is_implicit() && !table.is_dotted()).then(|| table.span()).flatten();
            own.map(|span| span.start).into_iter().chain(inside(table)).min()
        }
        toml_edit::Item::ArrayOfTables(tables) => {
            tables.iter().filter_map(|table| table.span()).map(|span| span.start).min()
        }
        _ => None,
    }
}

/// The start of the line, or of the comment that stands right above it and so belongs to it.
fn above_comments(text: &str, at: usize) -> usize {
    let mut start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    while let Some(above) = text[..start].strip_suffix('\n') {
        let line = above.rfind('\n').map_or(0, |newline| newline + 1);
        if !text[line..start].trim_start().starts_with('#') {
            break;
        }
        start = line;
    }
    start
}

fn parse(text: &str) -> Result<Document<&str>, Refusal> {
    Document::parse(text).map_err(|error| unreadable(&error))
}

fn unreadable(error: &toml_edit::TomlError) -> Refusal {
    Refusal::new(format!("it is no TOML: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::target::Target;

    const MIRROR: &str = "http://127.0.0.1:6500";

    fn put_into(text: Option<&str>) -> (String, Edit) {
        match put(text, MIRROR).unwrap() {
            Put::Done(after, edit) => (after, edit),
            Put::Already => panic!("already"),
        }
    }

    #[test]
    fn a_new_file() {
        let (after, _) = put_into(None);
        assert_eq!(
            after,
            "# Put here by `dfctl runtime install`; `dfctl runtime uninstall` takes it away.\n\
             [host.\"http://127.0.0.1:6500\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        assert_eq!(put(Some(&after), MIRROR), Ok(Put::Already));
    }

    #[test]
    fn ours_comes_first_and_the_rest_stays() {
        let text = "server = \"https://a\"\n\n# theirs\n[host.\"https://b\"]\n  skip_verify = true\n[host.\"https://b\".header]\n  x = [\"y\"]\n";
        let (after, edit) = put_into(Some(text));
        let at = after.find("[host.\"http://127").unwrap();
        assert!(after.find("server").unwrap() < at && at < after.find("# theirs").unwrap(), "{after}");
        assert_eq!(edit.undo(&after).as_deref(), Some(text));
        for text in ["server = \"https://a\"", "", "# nothing yet\n", "[host.\"https://b\"]\n"] {
            let (after, edit) = put_into(Some(text));
            assert_eq!(edit.undo(&after).as_deref(), Some(text));
        }
    }

    #[test]
    fn out_of_a_file_that_was_written_anew() {
        let (after, edit) = put_into(Some("server = \"https://a\"\n[host.\"https://b\"]\n"));
        let anew =
            after.replace("  capabilities = [\"pull\", \"resolve\"]", "capabilities=['resolve','pull']");
        assert_eq!(edit.undo(&anew), None);
        let target = Target::HostsToml { mirror: MIRROR.to_owned() };
        let without = target.take_out(&anew, &edit).unwrap();
        let document: toml::Table = without.parse().unwrap();
        assert_eq!(document, "server = 'https://a'\n[host.'https://b']\n".parse().unwrap());
        assert!(!without.contains("dfctl"), "{without}");
        assert_eq!(target.take_out(&without, &edit).unwrap(), without);
    }

    #[test]
    fn forms_that_are_left_alone() {
        assert!(put(Some("host = {}\n"), MIRROR).is_err());
        assert!(put(Some("host.'https://b'.skip_verify = true\n"), MIRROR).is_err());
        assert!(put(Some("server = "), MIRROR).is_err());
        // It stands there by hand, and somebody wanted it in that place.
        let theirs = "[host.'https://b']\n[host.'http://127.0.0.1:6500']\n";
        assert_eq!(put(Some(theirs), MIRROR), Ok(Put::Already));
    }
}
