//! Whose a file is: what a secret is read from, or put into, belongs to whoever runs this, or to root.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What others could do to a file with a secret; nothing if all is well.
pub(crate) fn strangers(meta: &Metadata) -> Option<String> {
    stranger(meta.uid()).or_else(|| {
        let mode = meta.mode() & 0o777;
        let why = || format!("it has mode {mode:03o}: others could read it; set it to 600");
        (mode & 0o077 != 0).then(why)
    })
}

/// The same of the directory that it is in.
pub(super) fn strangers_above(meta: &Metadata) -> Option<String> {
    stranger(meta.uid()).or_else(|| {
        let mode = meta.mode() & 0o777;
        let why = || format!("it has mode {mode:03o}: others could write into it; set it to 755");
        (mode & 0o022 != 0).then(why)
    })
}

fn stranger(owner: u32) -> Option<String> {
    let user = rustix::process::geteuid().as_raw();
    let is_ours = owner == 0 || owner == user;
    (!is_ours).then(|| format!("it belongs to user {owner}, who could change it; set its owner to {user}"))
}
