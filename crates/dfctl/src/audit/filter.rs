//! Which lines of the audit log somebody wants to see. A filter on a field lets no line pass that lacks it.

use process::audit::{Event, Line, PermittedBy, Request};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::SystemTime;
use types::Digest;

/// Which lines; each that is given must fit.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// From this time on (as in 2026-01-31T08:00:00Z), or for so long until now (as in 2h).
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<Since>,
    /// Of this client: an address, or an address with its port.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<ClientFilter>,
    /// Of this user's processes on the daemon's machine.
    #[arg(long, value_name = "N")]
    pub uid: Option<u32>,
    /// Of repositories that begin so, with or without their registry, as in library/ or ghcr.io/org/.
    #[arg(long, value_name = "PREFIX")]
    pub repository: Option<String>,
    /// Of this manifest or blob.
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<Digest>,
    /// With this HTTP status, or with one of its hundred, as in 4xx.
    #[arg(long, value_name = "N|Nxx")]
    pub status: Option<StatusFilter>,
    /// Permitted by this.
    #[arg(long, value_name = "WHAT")]
    pub permitted_by: Option<PermittedBy>,
}

/// A time, given as such or by how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(SystemTime);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return SystemTime::now()
                .checked_sub(ago)
                .map(Self)
                .ok_or_else(|| "it is too long ago".to_owned());
        }
        humantime::parse_rfc3339_weak(text)
            .map(Self)
            .map_err(|_| "neither a time (2026-01-31T08:00:00Z) nor a duration (2h)".to_owned())
    }
}

/// A client's address, with or without the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFilter {
    /// Any of its ports.
    Address(IpAddr),
    /// One connection.
    Connection(SocketAddr),
}

impl FromStr for ClientFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse().map(Self::Address);
        address.or_else(|_| text.parse().map(Self::Connection)).map_err(|_| "not an address".to_owned())
    }
}

/// A status, or the hundred that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// This one.
    One(u16),
    /// Any that begins with this digit.
    Class(u16),
}

impl FromStr for StatusFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        let parsed = match (class, text.parse()) {
            (Some(class), _) if (1..=5).contains(&class) => Some(Self::Class(class)),
            (None, Ok(status)) if (100..=599).contains(&status) => Some(Self::One(status)),
            _ => None,
        };
        parsed.ok_or_else(|| "neither a status (404) nor a hundred of them (4xx)".to_owned())
    }
}

impl Filter {
    /// Whether this line is wanted.
    pub(super) fn passes(&self, line: &Line) -> bool {
        let of_any = self.since.is_none_or(|since| line.time >= since.0)
            && self.client.is_none_or(|wanted| line.client.is_some_and(|client| wanted.is(client)))
            && self.uid.is_none_or(|uid| line.uid == Some(uid));
        let of_request = match &line.event {
            Event::Request(request) => self.wants(request),
            Event::Operation(_) | Event::Lost { .. } => self.wants_any_request(),
        };
        of_any && of_request
    }

    fn wants_any_request(&self) -> bool {
        let Self { repository, digest, status, permitted_by, .. } = self;
        repository.is_none() && digest.is_none() && status.is_none() && permitted_by.is_none()
    }

    fn wants(&self, request: &Request) -> bool {
        self.repository.as_ref().is_none_or(|prefix| {
            request.repository.starts_with(prefix)
                || format!("{}/{}", request.registry, request.repository).starts_with(prefix)
        }) && self.digest.is_none_or(|digest| request.digest.as_deref() == Some(&digest.to_string()))
            && self.status.is_none_or(|wanted| request.status.is_some_and(|status| wanted.is(status)))
            && self
                .permitted_by
                .is_none_or(|by| request.permit.is_some_and(|permit| permit.permitted_by == by))
    }
}

impl ClientFilter {
    fn is(self, client: SocketAddr) -> bool {
        match self {
            Self::Address(address) => client.ip() == address,
            Self::Connection(address) => client == address,
        }
    }
}

impl StatusFilter {
    const fn is(self, status: u16) -> bool {
        match self {
            Self::One(wanted) => status == wanted,
            Self::Class(class) => status / 100 == class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(arguments: &[&str]) -> Result<Filter, clap::Error> {
        Arguments::try_parse_from([&["audit"], arguments].concat()).map(|parsed| parsed.filter)
    }

    fn digest() -> String {
        format!("sha256:{}", "a".repeat(64))
    }

    /// A pull with a client's own token, ten minutes ago.
    fn request() -> Line {
        let time = humantime::format_rfc3339_millis(SystemTime::now() - std::time::Duration::from_secs(600));
        let text = format!(
            r#"{{"time":"{time}","client":"10.0.0.7:5000","uid":1000,"event":"request","method":"GET","kind":"blob",
            "registry":"ghcr.io","repository":"org/app","digest":"{}","status":206,"outcome":"ok",
            "permitted_by":"client","sent_bytes":1,"duration_ms":1,"later":"fields are no harm"}}"#,
            digest()
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn each_filter_passes_what_fits_and_nothing_else() {
        let (digest, other) = (digest(), format!("sha256:{}", "b".repeat(64)));
        let table: [(&[&str], bool); 24] = [
            (&[], true),
            (&["--since", "11m"], true),
            (&["--since", "9m"], false),
            (&["--since", "2026-01-01 00:00:00"], true),
            (&["--since", "2999-01-01T00:00:00Z"], false),
            (&["--client", "10.0.0.7"], true),
            (&["--client", "10.0.0.7:5000"], true),
            (&["--client", "10.0.0.7:5001"], false),
            (&["--client", "10.0.0.8"], false),
            (&["--uid", "1000"], true),
            (&["--uid", "0"], false),
            (&["--repository", "org/"], true),
            (&["--repository", "ghcr.io/org/app"], true),
            (&["--repository", "app"], false),
            (&["--digest", &digest], true),
            (&["--digest", &other], false),
            (&["--status", "206"], true),
            (&["--status", "2xx"], true),
            (&["--status", "200"], false),
            (&["--status", "4xx"], false),
            (&["--permitted-by", "client"], true),
            (&["--permitted-by", "grace"], false),
            (&["--uid", "1000", "--status", "2xx"], true),
            (&["--uid", "1000", "--status", "4xx"], false),
        ];
        for (arguments, passes) in table {
            assert_eq!(filter(arguments).unwrap().passes(&request()), passes, "{arguments:?}");
        }
    }

    #[test]
    fn what_has_no_such_field_does_not_pass() {
        let text = r#"{"time":"2026-01-01T00:00:00Z","client":"[::1]:9","uid":0,"event":"operation",
            "name":"refresh","by":"admin","detail":""}"#;
        let operation: Line = serde_json::from_str(text).unwrap();
        for (arguments, passes) in [
            (vec![], true),
            (vec!["--client", "::1"], true),
            (vec!["--uid", "0"], true),
            (vec!["--repository", ""], false),
            (vec!["--status", "2xx"], false),
            (vec!["--permitted-by", "client"], false),
        ] {
            assert_eq!(filter(&arguments).unwrap().passes(&operation), passes, "{arguments:?}");
        }
        let lost: Line =
            serde_json::from_str(r#"{"time":"2026-01-01T00:00:00Z","event":"lost","lines":1}"#).unwrap();
        assert!(filter(&[]).unwrap().passes(&lost));
        assert!(!filter(&["--uid", "0"]).unwrap().passes(&lost));
    }

    #[test]
    fn filters_that_make_no_sense() {
        for arguments in [
            ["--since", "soon"],
            ["--client", "here"],
            ["--uid", "root"],
            ["--digest", "sha256:00"],
            ["--status", "6xx"],
            ["--status", "20"],
            ["--status", "0xx"],
            ["--permitted-by", "nobody"],
        ] {
            assert!(filter(&arguments).is_err(), "{arguments:?}");
        }
    }
}
