//! An example configuration file as what it shows: sections, their keys with values, and what the comment above each says.
//!
//! `configuration` makes its page of this.

use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, SocketAddr};

/// What lines with a key begin with.
pub(crate) struct Columns {
    /// Where the value is the default.
    pub(crate) at_default: &'static str,
    /// Where there is no default, and the value is only an example.
    pub(crate) without: &'static str,
}

#[derive(Default)]
pub(crate) struct Section {
    /// As between the brackets; nothing for what stands before the first.
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) keys: Vec<Key>,
}

pub(crate) struct Key {
    pub(crate) name: String,
    /// As in TOML.
    pub(crate) value: String,
    pub(crate) is_default: bool,
    pub(crate) about: String,
    /// The flag that wins over it, without its dashes: it ends the comment, in parentheses.
    pub(crate) flag: Option<String>,
}

enum Line<'a> {
    Nothing,
    Comment(&'a str),
    Header(&'a str),
    Key(Key),
}

/// The sections in their order; the first is that before all headers.
pub(crate) fn sections(example: &str, columns: &Columns) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    let mut open = Section::default();
    let mut comment: Vec<&str> = Vec::new();
    for line in example.lines() {
        match read(line, columns)? {
            Line::Nothing => comment.clear(),
            Line::Comment(text) => comment.push(text),
            Line::Header(name) => {
                let about = std::mem::take(&mut comment).join(" ");
                let next = Section { name: name.to_owned(), about, keys: Vec::new() };
                sections.push(std::mem::replace(&mut open, next));
            }
            Line::Key(mut key) => {
                let about = std::mem::take(&mut comment).join(" ");
                ensure!(!about.is_empty(), "[{}] {}: no comment says what it is", open.name, key.name);
                (key.about, key.flag) = without_flag(&about);
                open.keys.push(key);
            }
        }
    }
    sections.push(open);
    Ok(sections)
}

fn read<'a>(line: &'a str, columns: &Columns) -> Result<Line<'a>> {
    if line.is_empty() {
        return Ok(Line::Nothing);
    }
    for (prefix, is_default) in [(columns.without, false), (columns.at_default, true), ("", true)] {
        let Some(rest) = line.strip_prefix(prefix) else { continue };
        if let Some(name) = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Ok(Line::Header(name));
        }
        if let Some((name, value)) = rest.split_once(" = ").filter(|(name, _)| is_name(name)) {
            let (name, value) = (name.to_owned(), value.to_owned());
            return Ok(Line::Key(Key { name, value, is_default, about: String::new(), flag: None }));
        }
    }
    let text = line.strip_prefix("# ").with_context(|| format!("{line:?} is no comment, key or section"))?;
    Ok(Line::Comment(text))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A comment without its last full stop, and the flag that ends it.
fn without_flag(about: &str) -> (String, Option<String>) {
    let split = about.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (--"));
    let (text, flag) = split.map_or((about, None), |(text, flag)| (text, Some(flag.to_owned())));
    (text.trim_end_matches('.').to_owned(), flag)
}

impl Section {
    /// Whether the comment of one of its keys has `word`.
    pub(crate) fn says(&self, word: &str) -> bool {
        let is_between = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        self.keys.iter().any(|key| key.about.split(is_between).any(|found| found == word))
    }
}

impl Key {
    /// Of what kind its value is.
    pub(crate) fn kind(&self) -> &'static str {
        let Some(text) = self.value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return match self.value.as_bytes().first() {
                Some(b'[') => "list of texts",
                Some(b'{') => "table",
                Some(b't' | b'f') => "boolean",
                _ => "number",
            };
        };
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        match unit {
            "ms" | "s" | "min" | "h" if unit != text => "time",
            "KiB" | "MiB" | "GiB" | "KB" | "MB" | "GB" if unit != text => "bytes",
            _ if text.parse::<SocketAddr>().is_ok() => "address and port",
            _ if text.parse::<IpAddr>().is_ok() => "address",
            _ if text.contains("://") => "URL",
            _ if text.starts_with('/') => "path",
            _ => "text",
        }
    }

    /// Its default, as in TOML.
    pub(crate) fn default_value(&self) -> Option<&str> {
        // What is not switched on is off: `configuration` looks whether that holds.
        (self.is_default || self.is_off()).then_some(self.value.as_str())
    }

    pub(crate) fn is_off(&self) -> bool {
        self.value == "false"
    }
}

#[test]
fn an_example_is_read() -> Result<()> {
    let text = "# The file.\n\n# Where. And more. (--at)\n# at = \"[::1]:1\"\n\n# How.\n[how]\n# So\n# long.\n#     long = \"3s\"\n";
    let found = sections(text, &Columns { at_default: "# ", without: "#     " })?;
    let [top, how] = &found[..] else { panic!("{} sections", found.len()) };
    let ([at], [long]) = (&top.keys[..], &how.keys[..]) else { panic!("other keys") };
    assert_eq!(
        (at.name.as_str(), at.about.as_str(), at.flag.as_deref()),
        ("at", "Where. And more", Some("at"))
    );
    assert_eq!((at.kind(), at.default_value()), ("address and port", Some("\"[::1]:1\"")));
    assert_eq!((how.name.as_str(), how.about.as_str(), top.about.as_str()), ("how", "How.", ""));
    assert_eq!((long.about.as_str(), long.kind(), long.default_value()), ("So long", "time", None));
    assert!(how.says("long") && !how.says("lon"));
    let bare = sections("a = 1\n", &Columns { at_default: "", without: "# " });
    assert!(bare.is_err(), "a key needs a comment");
    Ok(())
}
