//! A membership on disk: certificate, ticket and the keys that verify others' tickets, in one file of mode 0600.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use membership::{AuthorityHash, HostCredentials, TicketKey, file};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest such file, in bytes.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// However short a ticket's life is said to be, it is not renewed more often.
const RENEWAL_MIN: Duration = Duration::from_secs(5);

/// What makes this host a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    authority: String,
    obtained: SystemTime,
    lifetime: Duration,
    certificate: Vec<u8>,
    ticket: Vec<u8>,
    ticket_keys: Vec<TicketKey>,
}

/// The file. Bytes are in base64, times in seconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    authority: String,
    obtained: u64,
    lifetime: u64,
    certificate: String,
    ticket: String,
    ticket_keys: Vec<String>,
}

impl Kept {
    pub(super) fn new(authority: AuthorityHash, got: &HostCredentials, now: SystemTime) -> Self {
        Self {
            authority: authority.to_string(),
            obtained: now,
            lifetime: got.lifetime,
            certificate: got.certificate.clone(),
            ticket: got.ticket.clone(),
            ticket_keys: got.ticket_keys.clone(),
        }
    }

    /// The one in the file, if there is one that can be read. Blocks on the disk.
    pub(super) fn load(path: &Path) -> io::Result<Option<Self>> {
        let Some(content) = file::read(path, FILE_LEN_MAX)? else { return Ok(None) };
        let kept = serde_json::from_slice(&content).ok().and_then(Self::decode);
        if kept.is_none() {
            tracing::warn!(file = %path.display(), "not a membership: this host joins anew");
        }
        Ok(kept)
    }

    /// Blocks on the disk.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        file::replace(path, &serde_json::to_vec_pretty(&self.encode())?)
    }

    fn encode(&self) -> Form {
        Form {
            authority: self.authority.clone(),
            obtained: self.obtained.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            lifetime: self.lifetime.as_secs(),
            certificate: STANDARD.encode(&self.certificate),
            ticket: STANDARD.encode(&self.ticket),
            ticket_keys: self.ticket_keys.iter().map(|key| STANDARD.encode(key.as_bytes())).collect(),
        }
    }

    fn decode(form: Form) -> Option<Self> {
        let bytes = |text: &String| STANDARD.decode(text).ok();
        let key = |text: &String| Some(TicketKey::from_bytes(bytes(text)?.try_into().ok()?));
        Some(Self {
            authority: form.authority,
            obtained: UNIX_EPOCH.checked_add(Duration::from_secs(form.obtained))?,
            lifetime: Duration::from_secs(form.lifetime),
            certificate: bytes(&form.certificate)?,
            ticket: bytes(&form.ticket)?,
            ticket_keys: form.ticket_keys.iter().map(key).collect::<Option<_>>()?,
        })
    }

    /// Whether it is of this cluster.
    pub(super) fn is_of(&self, authority: &AuthorityHash) -> bool {
        self.authority == authority.to_string()
    }

    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(super) fn ticket(&self) -> &[u8] {
        &self.ticket
    }

    pub(super) fn ticket_keys(&self) -> Vec<TicketKey> {
        self.ticket_keys.clone()
    }

    /// In how long it is to be renewed: at half the ticket's life; at once if the clock says that it is from the future.
    pub(super) fn renewal_in(&self, now: SystemTime) -> Duration {
        let half = (self.lifetime / 2).max(RENEWAL_MIN);
        now.duration_since(self.obtained).map_or(Duration::ZERO, |age| half.saturating_sub(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_comes_back_as_it_was_and_is_renewed_at_half_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("membership.json");
        assert_eq!(Kept::load(&path).unwrap(), None);
        let authority = membership::Authority::load_or_create(dir.path()).unwrap();
        let key = membership::HostKey::from_secret(&[1; 32]).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let kept = Kept::new(authority.hash(), &authority.certify(&key.public(), now).unwrap(), now);
        kept.save(&path).unwrap();
        let again = Kept::load(&path).unwrap().unwrap();
        assert_eq!(again, kept);
        assert!(again.is_of(&authority.hash()));
        let half = membership::TICKET_LIFETIME / 2;
        assert_eq!(again.renewal_in(now), half);
        assert_eq!(again.renewal_in(now + half), Duration::ZERO);
        assert_eq!(again.renewal_in(now - Duration::from_secs(1)), Duration::ZERO);
        for content in [&b"{}"[..], b"", b"[1]"] {
            file::replace(&path, content).unwrap();
            assert_eq!(Kept::load(&path).unwrap(), None);
        }
    }
}
