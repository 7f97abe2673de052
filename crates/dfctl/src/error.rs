//! Why something could not be done, in words for the operator.

use crate::machine::Refusal;
use std::path::PathBuf;
use types::Digest;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The words make sense one by one, and not together.
    #[error("{0}")]
    Usage(&'static str),
    /// Nobody listens there.
    #[error("no daemon answers at {address}: start it with `dfdaemon`, or name another with {flag}")]
    NotRunning {
        /// Where.
        address: String,
        /// The flag that names the address.
        flag: &'static str,
    },
    /// No scheduler can be spoken to at its operator's socket.
    #[error(
        "no scheduler answers at {}: {why}; it has to run on this machine, and as this user unless you are root (its \
         --state directory has the socket: name another with --socket)",
        socket.display()
    )]
    NoScheduler {
        /// Where.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// The connection broke, or an answer never came.
    #[error("the daemon at {address} does not answer: {why}")]
    Broken {
        /// Where.
        address: String,
        /// What happened.
        why: String,
    },
    /// The registry wants a credential.
    #[error(
        "the registry wants a credential: {message}\nput one into the daemon's [origin.registries] (or docker_config) \
         and set share_credential"
    )]
    Unauthorized {
        /// The registry's or the daemon's words.
        message: String,
    },
    /// The daemon refused, or the registry behind it.
    #[error("{message} (status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The daemon's words.
        message: String,
    },
    /// The answer is not what was asked for.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// The image is not there for this platform.
    #[error("the image has nothing for {wanted}; it has: {offered}")]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// Bytes that do not have their digest.
    #[error("the bytes of {0} do not have this digest")]
    WrongDigest(Digest),
    /// More or fewer bytes than the manifest says.
    #[error("{digest} has {got} bytes instead of {expected}")]
    WrongSize {
        /// Of which blob.
        digest: Digest,
        /// By the manifest.
        expected: u64,
        /// What came, or was announced.
        got: u64,
    },
    /// A blob's connection broke again and again.
    #[error("the pull of {digest} broke at byte {at}: {why}")]
    Blob {
        /// Which blob.
        digest: Digest,
        /// How far it came.
        at: u64,
        /// What happened last.
        why: String,
    },
    /// The audit log cannot be read.
    #[error(
        "cannot read the audit log {}: {source}; is it switched on ([audit] in the daemon's configuration), and is this \
         user its owner?",
        path.display()
    )]
    Audit {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of this machine cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Some container runtimes could not be set up, or set back; why is in what was printed.
    #[error("not done for {0}")]
    Runtimes(String),
    /// A service could not be installed or taken away safely.
    #[error("nothing was changed: {why}")]
    Unchanged {
        /// Why not.
        why: String,
        /// Of what the system said; `InvalidInput` where the words are ours.
        kind: std::io::ErrorKind,
    },
    /// systemd does not stop a service, so that it was not taken away.
    #[error("{0}; services may be stopped or disabled; no file was changed")]
    Stop(String),
    /// A service was installed, or taken away, up to a file.
    #[error(
        "{}: {source}; not all of it is done: the next `dfctl service install` or `uninstall` puts that in order",
        path.display()
    )]
    Half {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The files of a service are as they are to be, and systemd does not do its part.
    #[error("the files are in place, and {0}")]
    Systemd(String),
    /// The files of a service are gone, and systemd does not do its part.
    #[error("the files are gone, and {0}")]
    Reload(String),
    /// A preheat did not end as it was meant to.
    #[error("preheat {id} {why}")]
    Preheat {
        /// Which.
        id: u64,
        /// How it ended.
        why: String,
    },
    /// A preheat was waited for, and not to its end.
    #[error("preheat {id} {why}, and goes on: {hint}")]
    GoesOn {
        /// Which.
        id: u64,
        /// Why it is waited for no longer.
        why: String,
        /// What an operator can do about it.
        hint: String,
    },
    /// The result cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// A refusal in our own words.
    pub(crate) fn unchanged(why: impl Into<String>) -> Self {
        Refusal::new(why.into()).into()
    }
}

impl From<Refusal> for Error {
    fn from(Refusal { why, kind }: Refusal) -> Self {
        Self::Unchanged { why, kind }
    }
}
