//! What a daemon joins a cluster by, from a file: on a command line other users would see it.

use crate::machine::{Refusal, strangers};
use membership::{AuthorityHash, JoinToken};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use url::Url;

/// The longest file with it, as the daemon has it.
const LEN_MAX: u64 = 1024;

/// TOKEN@HOST:PORT, from a file that only its owner may read, who is this user or root. It is never quoted.
///
/// # Errors
/// If others could read the file or change it, or the daemon would not take what is in it.
pub(super) fn read(path: &Path) -> Result<String, Refusal> {
    let refuse = |why: &str| Refusal::new(format!("{}: {why}", path.display()));
    let of_system = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => Refusal { kind: error.kind(), ..refuse("there is no such file") },
        _ => Refusal::of(path, error),
    };
    // Not blocking: it may be a pipe that nobody writes to.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map(File::from);
    let file = file.map_err(|error| of_system(&io::Error::from(error)))?;
    let meta = file.metadata().map_err(|error| of_system(&error))?;
    if !meta.is_file() {
        return Err(refuse("it is no file"));
    }
    if let Some(why) = strangers(&meta) {
        return Err(refuse(&why));
    }
    let mut bytes = Vec::new();
    file.take(LEN_MAX + 1).read_to_end(&mut bytes).map_err(|error| of_system(&error))?;
    if bytes.len() as u64 > LEN_MAX {
        return Err(refuse(&format!("it has more than {LEN_MAX} bytes")));
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    check(text).map_err(|why| refuse(&why))?;
    Ok(text.to_owned())
}

fn check(text: &str) -> Result<(), String> {
    let form = || "it must have TOKEN@HOST:PORT, and nothing else".to_owned();
    let (token, address) = text.rsplit_once('@').ok_or_else(form)?;
    if token.starts_with(AuthorityHash::PREFIX) {
        return Err(format!(
            "{}HASH is for pods, which have a service account's token",
            AuthorityHash::PREFIX
        ));
    }
    token.parse::<JoinToken>().map_err(|error| error.to_string())?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ['.', '-', ':', '[', ']'].contains(&c);
    let url = Url::parse(&format!("http://{address}")).ok().filter(|_| address.chars().all(is_plain));
    let sound = url.is_some_and(|url| url.has_host() && url.path() == "/");
    if sound { Ok(()) } else { Err("no HOST:PORT after the @".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_takes() {
        let token = format!("dfjoin1.{0}.{0}", "A".repeat(43));
        for address in ["10.0.0.1:6510", "scheduler.example:6510", "[::1]:6510", "host"] {
            assert_eq!(check(&format!("{token}@{address}")), Ok(()), "{address}");
        }
        for address in ["", ":6510", "a:b", "a:99999", "a/b:1", "a b:1", "a:1\nX=1", "a:1\"", "u@a:1"] {
            let error = check(&format!("{token}@{address}")).unwrap_err();
            assert!(!error.contains("AAAA"), "{error}");
        }
        let hash = format!("dfauth1.{}@host:1", "A".repeat(43));
        for text in ["", "@", &token, &token[1..], &format!("{}@host:1", &token[..60]), &hash] {
            let error = check(text).unwrap_err();
            assert!(!error.contains("AAAA"), "{error}");
        }
    }
}
