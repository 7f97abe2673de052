//! What a line of the audit log says: written by the programs, read by `dfctl audit`.
//!
//! A field that does not apply is left out. There is no place for a secret: a credential is there as a keyed hash only.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::SystemTime;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it ended; RFC 3339 in UTC, with milliseconds.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// The other end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
    /// The user that the other end's socket belongs to, where that is on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// As it stands in the log: JSON without a control character.
    ///
    /// # Errors
    /// For a time that RFC 3339 cannot say.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|json| escape(&json).into_owned())
    }
}

/// Escapes the control characters that JSON leaves as they are, DEL and those above it: a terminal that shows the text
/// would obey them.
#[must_use]
pub fn escape(json: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !c.is_ascii() || c == '\u{7f}';
    if !json.contains(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if obeyed(c) {
            // It stands in a string, as nothing else in JSON may have it.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// What happened; `event` in the line says which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A request for a manifest or a blob ended.
    Request(Box<Request>),
    /// Somebody had the program do something that not everybody may.
    Operation(Operation),
    /// Lines before this one are missing: they came faster than they could be written, or the disk did not take them.
    Lost {
        /// How many, since the last line of this kind.
        lines: u64,
    },
}

/// A request for a manifest or a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// GET or HEAD.
    pub method: Cow<'static, str>,
    /// What was asked for.
    pub kind: Kind,
    /// The registry, as image references name it.
    pub registry: String,
    /// The repository's name in it.
    pub repository: String,
    /// The tag, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest that was asked for, or that the tag stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The `Range` header, cut off where it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// The keyed hash of the `Authorization` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The HTTP status; none if the client left before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How it ended: `ok`, `client_error`, `server_error`, `broken`, `client_left`.
    pub outcome: Cow<'static, str>,
    /// What permitted it; none where nothing did.
    #[serde(flatten)]
    pub permit: Option<Permit>,
    /// Bytes of the body that were given to the connection.
    pub sent_bytes: u64,
    /// Where a blob's bytes came from.
    #[serde(flatten)]
    pub sources: Option<Sources>,
    /// Milliseconds from the request's head to the end of its answer.
    pub duration_ms: u64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
}

/// The answer that let a client have something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Whose right it was.
    pub permitted_by: PermittedBy,
    /// Whether this daemon went by an answer that it had, rather than ask.
    #[serde(default, skip_serializing_if = "is_false")]
    pub remembered: bool,
    /// Why a blob may come out of the cluster; without it, it was read anew from the registry for this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched_by: Option<VouchedBy>,
}

/// Whose right it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum PermittedBy {
    /// Anybody's: the registry gives it without a credential.
    Anonymous,
    /// That of the credential in the configuration, which is shared.
    Configured,
    /// That of the client's own credential.
    Client,
    /// That of any client without a credential, some time ago: the registry is out of reach, and the grace is not over.
    Grace,
}

impl PermittedBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Anonymous, Self::Configured, Self::Client, Self::Grace];

    /// As in the line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Configured => "configured",
            Self::Client => "client",
            Self::Grace => "grace",
        }
    }
}

/// On whose word a repository has a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VouchedBy {
    /// This host has read it from there before.
    Possession,
    /// The registry says so, or said so before it was out of reach, and is believed.
    Registry,
}

/// Where the bytes that a blob's client was given came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// They were on this host.
    pub cache_bytes: u64,
    /// They came from other hosts in the download that this request waited for.
    pub peer_bytes: u64,
    /// They came from the registry, in that download or for this request alone.
    pub origin_bytes: u64,
}

/// Something that not everybody may have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// What, as in `refresh`.
    pub name: Cow<'static, str>,
    /// By which way it was asked for, as in `admin`.
    pub by: Cow<'static, str>,
    /// To what, and what came of it. No secret.
    pub detail: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::borrow::Cow;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(de::Error::custom)?;
        // As precise as it is written: a line that is read is the line that is written again.
        let finer = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos() % 1_000_000);
        Ok(time - Duration::from_nanos(finer.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn line(event: Event) -> Line {
        Line {
            time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
            client: Some("127.0.0.1:5000".parse().unwrap()),
            uid: Some(1000),
            event,
        }
    }

    fn request() -> Request {
        Request {
            method: "GET".into(),
            kind: Kind::Blob,
            registry: "docker.io".to_owned(),
            repository: "library/a".to_owned(),
            tag: None,
            digest: Some("sha256:00".to_owned()),
            range: None,
            credential: None,
            status: Some(401),
            outcome: "client_error".into(),
            permit: None,
            sent_bytes: 7,
            sources: None,
            duration_ms: 3,
        }
    }

    #[test]
    fn a_line_reads_as_documented() {
        let text = line(Event::Request(Box::new(request()))).to_json().unwrap();
        let expected = r#"{"time":"2023-11-14T22:13:20.042Z","client":"127.0.0.1:5000","uid":1000,"event":"request","method":"GET","kind":"blob","registry":"docker.io","repository":"library/a","digest":"sha256:00","status":401,"outcome":"client_error","sent_bytes":7,"duration_ms":3}"#;
        assert_eq!(text, expected);
    }

    /// One of each kind, with every field.
    fn events() -> [Event; 4] {
        let permit = Permit {
            permitted_by: PermittedBy::Client,
            remembered: true,
            vouched_by: Some(VouchedBy::Possession),
        };
        let sources = Sources { cache_bytes: 1, peer_bytes: 2, origin_bytes: 3 };
        let full = Request {
            tag: Some("v1".to_owned()),
            range: Some("bytes=0-".to_owned()),
            credential: Some("0123456789abcdef".to_owned()),
            permit: Some(permit),
            sources: Some(sources),
            ..request()
        };
        let operation = Operation {
            name: "refresh".into(),
            by: "admin".into(),
            detail: "a\n\"b\"\u{1b}\u{7f}\u{9b}2J\u{e4}".to_owned(),
        };
        [
            Event::Request(Box::new(request())),
            Event::Request(Box::new(full)),
            Event::Operation(operation),
            Event::Lost { lines: 9 },
        ]
    }

    #[test]
    fn every_field_is_documented() {
        let page = include_str!("../../../../docs/audit.md");
        for event in events() {
            let line = serde_json::to_value(line(event)).unwrap();
            for name in line.as_object().unwrap().keys() {
                assert!(page.contains(&format!("`{name}`")), "docs/audit.md lacks {name}");
            }
        }
        for by in <PermittedBy as clap::ValueEnum>::value_variants() {
            assert!(page.contains(&format!("| `{}` |", by.name())), "docs/audit.md lacks {}", by.name());
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for event in events() {
            let line = line(event);
            let text = line.to_json().unwrap();
            assert!(!text.contains(|c: char| c.is_control()), "one line, whatever is in it: {text}");
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
        assert!(serde_json::from_str::<Line>(r#"{"time":"now","event":"lost","lines":1}"#).is_err());
        let text = r#"{"time":"2026-01-31T08:00:00.0142Z","event":"lost","lines":1}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        let again = line.to_json().unwrap();
        assert!(again.contains("08:00:00.014Z"), "{again}");
        assert_eq!(serde_json::from_str::<Line>(&again).unwrap(), line);
    }

    #[test]
    fn names_are_those_of_the_line() {
        use clap::ValueEnum as _;
        for by in PermittedBy::value_variants() {
            assert_eq!(serde_json::to_value(by).unwrap(), by.name());
            assert_eq!(PermittedBy::from_str(by.name(), false).unwrap(), *by);
        }
    }
}
