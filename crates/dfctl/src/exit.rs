//! The codes that `dfctl` ends with, after `sysexits.h`: scripts rely on them. docs/dfctl.md has the same table.

use crate::Error;
use process::exit::Exit;
use std::io::ErrorKind;

/// Somebody said no, or not all of it was done.
const REFUSED: u8 = 1;

/// What was waited for goes on: `EX_TEMPFAIL`, as the nearest.
const GOES_ON: u8 = 75;

/// What `dfctl --help` says about them.
pub(crate) const HELP: &str = "\
Exit codes:
   0  done
   1  refused, or not all of it was done; standard error says why
  64  the command line makes no sense
  65  what came is not what was asked for: a wrong digest, an answer that is none
  69  nobody answers: no daemon, no scheduler, or the registry behind them
  74  a file or directory cannot be read or written
  75  it goes on: only the wait for it has ended
  77  denied: by the registry, or by the permissions of a file

With -o json an error is one line of JSON on standard error: {\"error\": \"...\", \"exit\": N}";

impl Error {
    /// The code that `dfctl` ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => Exit::Usage.code(),
            Self::NotRunning { .. } | Self::NoScheduler { .. } | Self::Broken { .. } | Self::Blob { .. } => {
                Exit::Unavailable.code()
            }
            Self::Unauthorized { .. } => Exit::Denied.code(),
            Self::Refused { status, .. } => match *status {
                403 => Exit::Denied.code(),
                502..=504 => Exit::Unavailable.code(),
                _ => REFUSED,
            },
            Self::Unexpected(_) | Self::WrongDigest(_) | Self::WrongSize { .. } => Exit::Data.code(),
            Self::Platform { .. }
            | Self::Runtimes(_)
            | Self::Stop(_)
            | Self::Systemd(_)
            | Self::Reload(_)
            | Self::Preheat { .. } => REFUSED,
            Self::GoesOn { .. } => GOES_ON,
            Self::Unchanged { kind, .. } => of_file(*kind),
            Self::Audit { source, .. }
            | Self::File { source, .. }
            | Self::Half { source, .. }
            | Self::Output(source) => of_file(source.kind()),
        }
    }
}

fn of_file(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::PermissionDenied => Exit::Denied.code(),
        // Not the file system's words but ours: what is asked for is not safe, or not now.
        ErrorKind::InvalidInput | ErrorKind::ResourceBusy | ErrorKind::WouldBlock => REFUSED,
        _ => Exit::Io.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_errors() {
        let refused = |status| Error::Refused { status, message: String::new() };
        let file = |kind: ErrorKind| Error::File { path: "/a".into(), source: kind.into() };
        let unchanged = |kind| Error::Unchanged { why: String::new(), kind };
        for (error, code) in [
            (Error::unchanged("no"), 1),
            (unchanged(ErrorKind::NotFound), 74),
            (unchanged(ErrorKind::PermissionDenied), 77),
            (unchanged(ErrorKind::ResourceBusy), 1),
            (Error::Stop(String::new()), 1),
            (Error::Usage("no"), 64),
            (refused(404), 1),
            (refused(403), 77),
            (refused(502), 69),
            (Error::Unexpected("no".to_owned()), 65),
            (Error::Preheat { id: 1, why: String::new() }, 1),
            (Error::GoesOn { id: 1, why: String::new(), hint: String::new() }, 75),
            (file(ErrorKind::NotFound), 74),
            (file(ErrorKind::PermissionDenied), 77),
            (file(ErrorKind::ResourceBusy), 1),
            (Error::Output(ErrorKind::BrokenPipe.into()), 74),
        ] {
            assert_eq!(error.exit_code(), code, "{error:?}");
        }
    }
}
