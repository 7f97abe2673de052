//! Configuration files: TOML into a struct, with errors that name the key and the line.
//!
//! The struct says `#[serde(deny_unknown_fields, default)]`; this module finds out where a mistake is. A message never
//! quotes the file, and where the key's name speaks of a secret not even the value, since errors end in logs.

use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Parts of a key's name that speak of a secret.
const SECRET_WORDS: [&str; 5] = ["password", "secret", "token", "auth", "credential"];

/// A configuration file that cannot be used. Programs end with 64 for it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is too large to be one.
    #[error("the configuration file {} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Something in it is wrong.
    #[error("{}", .0)]
    Wrong(Wrong),
}

/// What is wrong in a configuration file, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The key with its tables, as in `proxy.listen`; nothing if the file is no TOML there.
    pub key: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: ", self.path.display(), self.line)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.why)
    }
}

/// Reads the file at `path` as a `T`.
///
/// # Errors
/// [`ConfigError`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    Document::read(path)?.parse()
}

/// A configuration file's text, which knows the line of each key.
#[derive(Clone, Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Read`] or [`ConfigError::TooLarge`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), text })
    }

    /// The file's content as a `T`.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`].
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let key = DeTable::parse(&self.text).ok().and_then(|root| key_at(root.get_ref(), &span));
            let why = match &key {
                Some(key) if is_secret(key) => "not the value that this key takes",
                _ => error.message(),
            };
            // serde names what it expects over several lines when it is long.
            let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
            ConfigError::Wrong(Wrong { path: self.path.clone(), line: self.line(span.start), key, why })
        })
    }

    /// The error that the value of `key` (as in `proxy.listen`) makes no sense; for checks that serde cannot do. Where
    /// the file does not have the key, the line is that of the innermost table that it has.
    #[must_use]
    pub fn wrong(&self, key: &str, why: impl fmt::Display) -> ConfigError {
        let at = DeTable::parse(&self.text).ok().map_or(0, |root| offset_of(root.get_ref(), key));
        let wrong = Wrong {
            path: self.path.clone(),
            line: self.line(at),
            key: Some(key.to_owned()),
            why: why.to_string(),
        };
        ConfigError::Wrong(wrong)
    }

    /// The keys, as in `proxy.listen`, whose values differ in two files, or that only one of them has; in order.
    #[must_use]
    pub fn differences(one: Option<&Self>, other: Option<&Self>) -> Vec<String> {
        let values = |document: Option<&Self>| -> BTreeMap<String, toml::Value> {
            let table = document.and_then(|document| document.text.parse::<toml::Table>().ok());
            let mut values = BTreeMap::new();
            flatten("", table.unwrap_or_default(), &mut values);
            values
        };
        let (one, other) = (values(one), values(other));
        let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
        keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|b| **b == b'\n').count()
    }
}

/// The values of all keys that are no tables.
fn flatten(prefix: &str, table: toml::Table, into: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&key, table, into),
            value => drop(into.insert(key, value)),
        }
    }
}

fn is_secret(key: &str) -> bool {
    SECRET_WORDS.iter().any(|word| key.to_ascii_lowercase().contains(word))
}

/// The innermost key whose name or value covers the start of `span`.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let covers = |range: Range<usize>| range.contains(&span.start);
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref().to_string();
        let inner = key_in_value(value, span);
        let hit = inner.is_some() || covers(key.span()) || covers(value.span());
        hit.then(|| inner.map_or_else(|| name.clone(), |rest| format!("{name}.{rest}")))
    })
}

fn key_in_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    match value.get_ref() {
        DeValue::Table(table) => key_at(table, span),
        DeValue::Array(values) => values.iter().find_map(|value| key_in_value(value, span)),
        _ => None,
    }
}

/// Where `key` stands, or the part of it that the file has.
fn offset_of(root: &DeTable<'_>, key: &str) -> usize {
    let mut table = root;
    let mut at = 0;
    // A key with a dot in it would have to be quoted, and is not found: the line is then its table's.
    for name in key.split('.') {
        let Some((found, value)) = table.iter().find(|(k, _)| k.get_ref() == name) else { break };
        at = found.span().start;
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[allow(dead_code, reason = "only read from a file")]
    struct Options {
        listen: Option<std::net::SocketAddr>,
        proxy: Proxy,
        registries: BTreeMap<String, Entry>,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[allow(dead_code, reason = "only read from a file")]
    struct Proxy {
        slots: u16,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[allow(dead_code, reason = "only read from a file")]
    struct Entry {
        password: String,
        port: u16,
    }

    fn error(text: &str) -> Wrong {
        let document = Document { path: "x.toml".into(), text: text.to_owned() };
        match document.parse::<Options>() {
            Err(ConfigError::Wrong(wrong)) => wrong,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mistake_is_named_with_key_and_line() {
        for (text, line, key, why) in [
            ("\nlsten = 1", 2, Some("lsten"), "unknown field `lsten`"),
            ("[proxy]\n# so\nslots = \"two\"", 3, Some("proxy.slots"), "invalid type: string \"two\""),
            ("[proxy]\nslots = 70000", 2, Some("proxy.slots"), "invalid value"),
            ("proxy.slits = 1", 1, Some("proxy.slits"), "unknown field `slits`"),
            ("listen = \"here\"", 1, Some("listen"), "invalid socket address"),
            ("[registries.\"ghcr.io\"]\nport = []", 2, Some("registries.ghcr.io.port"), "invalid type"),
            ("proxy = 1", 1, Some("proxy"), "invalid type"),
            ("[proxy]\nslots 1", 2, None, ""),
            ("[proxy]\nslots = 1\nslots = 2", 3, None, "duplicate key"),
        ] {
            let wrong = error(text);
            assert_eq!((wrong.line, wrong.key.as_deref()), (line, key), "{text}: {wrong}");
            assert!(wrong.why.contains(why), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_secret_is_not_quoted() {
        let wrong = error("[registries.x]\npassword = 31337");
        assert_eq!(
            wrong.to_string(),
            "x.toml, line 2: registries.x.password: not the value that this key takes"
        );
    }

    #[test]
    fn a_check_of_the_program_names_the_line_too() {
        let text = "listen = \"127.0.0.1:1\"\n[proxy]\nslots = 0\n".to_owned();
        let document = Document { path: "x.toml".into(), text };
        assert_eq!(
            document.wrong("proxy.slots", "must not be 0").to_string(),
            "x.toml, line 3: proxy.slots: must not be 0"
        );
        assert_eq!(
            document.wrong("proxy.other", "is needed").to_string(),
            "x.toml, line 2: proxy.other: is needed"
        );
    }

    #[test]
    fn files_are_read_and_missing_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        std::fs::write(&path, "[proxy]\nslots = 3").unwrap();
        assert_eq!(load::<Options>(&path).unwrap().proxy.slots, 3);
        let missing = load::<Options>(&dir.path().join("b.toml")).expect_err("missing");
        assert!(missing.to_string().ends_with("b.toml"), "{missing}");
        assert_eq!(crate::exit::Failure::from(missing).exit.code(), 64);
        std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
        assert!(matches!(load::<Options>(&path), Err(ConfigError::TooLarge { .. })));
    }
}
