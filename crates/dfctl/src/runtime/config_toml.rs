//! `config_path` in containerd's configuration: the directory with a `hosts.toml` for each registry.

use super::edit::Edit;
use super::target::Put;
use crate::machine::Refusal;
use toml_edit::{Document, DocumentMut, Item};

/// On the line of the value, so that it is ours wherever it stands.
const OURS: &str = "# by `dfctl runtime install`";

/// The key.
const KEY: &str = "config_path";

pub(super) fn put(text: Option<&str>, table: &[String], config_path: &str) -> Result<Put, Refusal> {
    let text = text.unwrap_or_default();
    let document = parse(text)?;
    let line = format!("{KEY} = {config_path:?} {OURS}");
    let there = lookup(document.as_item(), table);
    let (after, edit) = if let Some(value) = there.and_then(|table| table.get(KEY)) {
        if value.as_str() == Some(config_path) {
            return Ok(Put::Already);
        }
        let (key, _) = there.and_then(|table| table.as_table_like()?.get_key_value(KEY)).ok_or_else(odd)?;
        let (key, value) = (key.span().ok_or_else(odd)?, value.span().ok_or_else(odd)?);
        // In an inline table nothing may stand on a line of its own, for readers of TOML 1.0.
        if !there.is_some_and(Item::is_table) {
            return Err(odd());
        }
        // What else stands on the line can be a comment only: it is theirs, and stays below ours.
        Edit::put(text, key.start..value.end, line + "\n")
    } else if let Some(header) = there
        .and_then(Item::as_table)
        .filter(|table| !table.is_implicit() && !table.is_dotted())
        .and_then(|t| t.span())
    {
        let end = text[header.end..].find('\n').map(|newline| header.end + newline + 1);
        match end {
            Some(at) => Edit::put(text, at..at, format!("  {line}\n")),
            None => Edit::put(text, text.len()..text.len(), format!("\n  {line}\n")),
        }
    } else {
        let header: Vec<String> = table.iter().map(|key| quoted(key)).collect();
        let mut ours = format!("[{}]\n  {line}\n", header.join("."));
        // A file without a version would be of the first format.
        if document.get("version").is_none() {
            ours = format!("version = 2\n{ours}");
        }
        let gap = if text.is_empty() || text.ends_with("\n\n") {
            ""
        } else if text.ends_with('\n') {
            "\n"
        } else {
            "\n\n"
        };
        Edit::put(text, text.len()..text.len(), format!("{gap}{ours}"))
    };
    check(text, &after, table, config_path)?;
    Ok(Put::Done(after, edit))
}

pub(super) fn take_out(
    text: &str,
    table: &[String],
    config_path: &str,
    replaced: &str,
) -> Result<String, Refusal> {
    let mut document: DocumentMut = text.parse().map_err(|error| unreadable(&error))?;
    let mut item = document.as_item_mut();
    for key in table {
        match item.get_mut(key) {
            Some(inner) => item = inner,
            None => return Ok(text.to_owned()),
        }
    }
    let Some(there) = item.as_table_like_mut() else { return Ok(text.to_owned()) };
    if there.get(KEY).and_then(Item::as_str) != Some(config_path) {
        return Ok(text.to_owned());
    }
    // What stood there before, if it was a value of this key.
    let before = replaced.parse::<DocumentMut>().ok().and_then(|mut before| before.remove(KEY));
    match before {
        Some(before) => drop(there.insert(KEY, before)),
        None => drop(there.remove(KEY)),
    }
    Ok(document.to_string())
}

/// Nothing but the one value may have changed.
fn check(text: &str, after: &str, table: &[String], config_path: &str) -> Result<(), Refusal> {
    let (mut before, mut after): (toml::Table, toml::Table) =
        (text.parse().map_err(|_| odd())?, after.parse().map_err(|_| odd())?);
    let new = remove(&mut after, table);
    remove(&mut before, table);
    before.entry("version").or_insert(toml::Value::Integer(2));
    after.entry("version").or_insert(toml::Value::Integer(2));
    prune(&mut before, table);
    prune(&mut after, table);
    if new.as_ref().and_then(toml::Value::as_str) == Some(config_path) && before == after {
        Ok(())
    } else {
        Err(odd())
    }
}

fn remove(document: &mut toml::Table, table: &[String]) -> Option<toml::Value> {
    table.iter().try_fold(document, |at, key| at.get_mut(key)?.as_table_mut())?.remove(KEY)
}

/// Takes away the empty tables on the way to the value: they mean nothing.
fn prune(document: &mut toml::Table, table: &[String]) {
    let Some((first, rest)) = table.split_first() else { return };
    let Some(inner) = document.get_mut(first).and_then(toml::Value::as_table_mut) else { return };
    prune(inner, rest);
    if inner.is_empty() {
        document.remove(first);
    }
}

fn lookup<'a>(document: &'a Item, table: &[String]) -> Option<&'a Item> {
    table.iter().try_fold(document, |at, key| at.get(key))
}

fn quoted(key: &str) -> String {
    let bare = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

pub(super) fn parse(text: &str) -> Result<Document<&str>, Refusal> {
    Document::parse(text).map_err(|error| unreadable(&error))
}

fn unreadable(error: &toml_edit::TomlError) -> Refusal {
    Refusal::new(format!("it is no TOML: {}", error.message()))
}

fn odd() -> Refusal {
    Refusal::new(format!(
        "the table with {KEY} is written in a form that cannot be changed safely; set it by hand"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::target::Target;

    const PATH: &str = "/etc/containerd/certs.d";

    fn table() -> Vec<String> {
        ["plugins", "io.containerd.grpc.v1.cri", "registry"].map(str::to_owned).to_vec()
    }

    fn put_into(text: Option<&str>) -> (String, Edit) {
        match put(text, &table(), PATH) {
            Ok(Put::Done(after, edit)) => (after, edit),
            other => panic!("{other:?} for {text:?}"),
        }
    }

    fn config_path(text: &str) -> Option<String> {
        let document = Document::parse(text).unwrap();
        Some(lookup(document.as_item(), &table())?.get(KEY)?.as_str()?.to_owned())
    }

    #[test]
    fn whatever_stands_there_it_is_set_and_comes_out_again() {
        for text in [
            "",
            "# nothing\n",
            "version = 2",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"p\"\n",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]",
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry] # a\n  config_path = \"\" # b\n[x]\n",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\n  a = [\"b\"]\n[y]\n",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  registry.config_path = ''\n  b = 1\n",
        ] {
            let (after, edit) = put_into(Some(text));
            assert_eq!(config_path(&after).as_deref(), Some(PATH), "{after}");
            assert_eq!(edit.undo(&after).as_deref(), Some(text));
            assert_eq!(put(Some(&after), &table(), PATH), Ok(Put::Already));
        }
    }

    #[test]
    fn a_new_file_says_its_version() {
        let (after, _) = put_into(None);
        assert_eq!(
            after,
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  \
             config_path = \"/etc/containerd/certs.d\" # by `dfctl runtime install`\n"
        );
    }

    #[test]
    fn out_of_a_file_that_was_written_anew() {
        for (before, text) in [
            (
                Some("\"\""),
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"\"\n",
            ),
            (None, "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n"),
        ] {
            let (after, edit) = put_into(Some(text));
            // As a tool does that reads the file and writes it again.
            let anew = toml::to_string(&after.parse::<toml::Table>().unwrap()).unwrap();
            assert_eq!(edit.undo(&anew), None);
            let target = Target::ConfigToml { table: table(), config_path: PATH.to_owned() };
            let without = target.take_out(&anew, &edit).unwrap();
            assert_eq!(config_path(&without).as_deref(), before.map(|_| ""));
            assert_eq!(without.parse::<toml::Table>().unwrap(), text.parse().unwrap());
            assert_eq!(target.take_out(&without, &edit).unwrap(), without);
        }
    }

    #[test]
    fn forms_that_are_left_alone() {
        for text in [
            "version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { registry = {} }\n",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nregistry = { config_path = \"\", x = 1 }\n",
            "version = 2\nplugins = 3\n",
            "version = \n",
        ] {
            assert!(put(Some(text), &table(), PATH).is_err(), "{text}");
        }
    }
}
