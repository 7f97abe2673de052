//! The words that messages are made of: digests, keys, sets of pieces, states, addresses.
//!
//! Going out is total; coming in checks every bound. A [`Blob`] is what is known of the blob that a message is about,
//! so that a piece that the blob does not have never reaches a core.

use crate::{ConvertError, wire};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use types::{
    Algorithm, BlobKey, Credential, Digest, HostId, HostSpec, Label, PieceIndex, PieceLayout, PieceSet,
    Registry, State,
};

/// The most pieces of a blob: what the largest layout has.
pub(crate) const PIECES_MAX: u32 = 65_536;

/// The longest zone, rack or cluster name, in bytes.
pub const LABEL_BYTES_MAX: usize = 253;

/// What a message's key says of its blob.
#[derive(Clone, Copy)]
pub(crate) struct Blob {
    algorithm: Algorithm,
    /// How many pieces; nothing if the size is beyond the limit, so that the core answers that the key is bad.
    count: Option<u32>,
}

impl Blob {
    pub(crate) fn of(key: &BlobKey) -> Self {
        let count = PieceLayout::for_size(key.size).map(PieceLayout::count);
        Self { algorithm: key.digest.algorithm(), count }
    }

    /// The blob's number of pieces, or the most that any blob has.
    fn limit(self) -> u32 {
        self.count.unwrap_or(PIECES_MAX)
    }

    /// A piece of the blob.
    pub(crate) fn piece(self, piece: u32) -> Result<PieceIndex, ConvertError> {
        let count = self.limit();
        if piece < count { Ok(PieceIndex(piece)) } else { Err(ConvertError::Piece { piece, count }) }
    }

    /// A piece of the blob or the boundary after the last.
    pub(crate) fn boundary(self, boundary: u32) -> Result<u32, ConvertError> {
        let count = self.limit();
        if boundary <= count { Ok(boundary) } else { Err(ConvertError::Piece { piece: boundary, count }) }
    }

    pub(crate) fn state(self, bytes: &[u8]) -> Result<State, ConvertError> {
        State::from_bytes(self.algorithm, bytes)
            .ok_or(ConvertError::States { bytes: bytes.len(), state: self.algorithm.digest_len() })
    }

    /// States that stand at `boundary` and after.
    pub(crate) fn states(self, boundary: u32, bytes: &[u8]) -> Result<Vec<State>, ConvertError> {
        let state = self.algorithm.digest_len();
        if !bytes.len().is_multiple_of(state) {
            return Err(ConvertError::States { bytes: bytes.len(), state });
        }
        let room = (u64::from(self.limit()) + 1).saturating_sub(u64::from(boundary));
        let got = bytes.len() / state;
        if got as u64 > room {
            return Err(ConvertError::TooLarge { field: "states", value: got as u64, max: room });
        }
        bytes.chunks_exact(state).map(|chunk| self.state(chunk)).collect()
    }

    pub(crate) fn set(self, set: Option<wire::PieceSet>) -> Result<PieceSet, ConvertError> {
        let set = required("piece set", set)?;
        if set.count > PIECES_MAX {
            let value = u64::from(set.count);
            return Err(ConvertError::TooLarge { field: "piece set", value, max: u64::from(PIECES_MAX) });
        }
        if let Some(expected) = self.count
            && expected != set.count
        {
            return Err(ConvertError::PieceCount { got: set.count, expected });
        }
        let (pairs, rest) = set.runs.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > set.count as usize {
            return Err(ConvertError::Runs);
        }
        let mut at = 0u32;
        let mut runs = Vec::with_capacity(pairs.len());
        for [gap, len] in pairs {
            let start = at.checked_add(*gap).ok_or(ConvertError::Runs)?;
            at = start.checked_add(*len).ok_or(ConvertError::Runs)?;
            runs.push(start..at);
        }
        PieceSet::from_runs(set.count, runs).ok_or(ConvertError::Runs)
    }
}

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { field })
}

/// Refuses more than `max` elements or bytes.
pub(crate) fn bounded(field: &'static str, got: usize, max: usize) -> Result<(), ConvertError> {
    if got <= max { Ok(()) } else { Err(ConvertError::TooLong { field, got, max }) }
}

pub(crate) fn set_out(set: &PieceSet) -> wire::PieceSet {
    let mut at = 0;
    let mut runs = Vec::new();
    for run in set.runs() {
        runs.extend([run.start - at, run.end - run.start]);
        at = run.end;
    }
    wire::PieceSet { count: set.count(), runs }
}

/// States one after the other. They are all of one hash function, the key's: no core mixes them.
pub(crate) fn states_out(states: &[State]) -> Bytes {
    states.iter().flat_map(State::to_bytes).collect()
}

pub(crate) fn state_out(state: &State) -> Bytes {
    state.to_bytes().into()
}

pub(crate) fn digest_out(digest: &Digest) -> wire::Digest {
    let bytes = Bytes::copy_from_slice(digest.as_bytes());
    let value = match digest.algorithm() {
        Algorithm::Sha256 => wire::digest::Value::Sha256(bytes),
        Algorithm::Sha512 => wire::digest::Value::Sha512(bytes),
    };
    wire::Digest { value: Some(value) }
}

pub(crate) fn digest_in(digest: Option<wire::Digest>) -> Result<Digest, ConvertError> {
    Ok(match required("digest", digest.and_then(|d| d.value))? {
        wire::digest::Value::Sha256(bytes) => Digest::new(Algorithm::Sha256, &bytes)?,
        wire::digest::Value::Sha512(bytes) => Digest::new(Algorithm::Sha512, &bytes)?,
    })
}

pub(crate) fn key_out(key: &BlobKey) -> wire::BlobKey {
    wire::BlobKey {
        digest: Some(digest_out(&key.digest)),
        size: key.size,
        registry: key.registry.as_str().to_owned(),
    }
}

pub(crate) fn key_in(key: wire::BlobKey) -> Result<BlobKey, ConvertError> {
    Ok(BlobKey { digest: digest_in(key.digest)?, size: key.size, registry: Registry::parse(&key.registry)? })
}

pub(crate) fn host_out(host: HostId) -> Bytes {
    Bytes::copy_from_slice(host.as_bytes())
}

pub(crate) fn host_in(bytes: &[u8]) -> Result<HostId, ConvertError> {
    Ok(HostId::try_from(bytes)?)
}

/// Nanoseconds; more than 584 years become 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn credential_out(credential: Credential) -> wire::Credential {
    use wire::credential::Kind;
    let kind = match credential {
        Credential::None => Kind::None(wire::Empty {}),
        Credential::Anonymous => Kind::Anonymous(wire::Empty {}),
        Credential::Configured => Kind::Configured(wire::Empty {}),
        Credential::Client { remaining } => Kind::ClientRemainingNanos(nanos(remaining)),
    };
    wire::Credential { kind: Some(kind) }
}

pub(crate) fn credential_in(credential: Option<wire::Credential>) -> Result<Credential, ConvertError> {
    use wire::credential::Kind;
    Ok(match required("credential", credential.and_then(|c| c.kind))? {
        Kind::None(_) => Credential::None,
        Kind::Anonymous(_) => Credential::Anonymous,
        Kind::Configured(_) => Credential::Configured,
        Kind::ClientRemainingNanos(nanos) => Credential::Client { remaining: Duration::from_nanos(nanos) },
    })
}

pub(crate) fn label_in(field: &'static str, name: &str) -> Result<Label, ConvertError> {
    bounded(field, name.len(), LABEL_BYTES_MAX)?;
    Ok(Label::new(name))
}

pub(crate) fn spec_out(spec: &HostSpec) -> wire::HostSpec {
    wire::HostSpec {
        zone: spec.zone.as_str().to_owned(),
        rack: spec.rack.as_str().to_owned(),
        upload_slots: spec.upload_slots.into(),
        download_slots: spec.download_slots.into(),
        upload_rate: spec.upload_rate,
        download_rate: spec.download_rate,
    }
}

pub(crate) fn spec_in(spec: Option<wire::HostSpec>) -> Result<HostSpec, ConvertError> {
    let spec = required("spec", spec)?;
    let slots = |field, value: u32| {
        let max = u64::from(u16::MAX);
        u16::try_from(value).map_err(|_| ConvertError::TooLarge { field, value: value.into(), max })
    };
    Ok(HostSpec {
        zone: label_in("zone", &spec.zone)?,
        rack: label_in("rack", &spec.rack)?,
        upload_slots: slots("upload slots", spec.upload_slots)?,
        download_slots: slots("download slots", spec.download_slots)?,
        upload_rate: spec.upload_rate,
        download_rate: spec.download_rate,
    })
}

pub(crate) fn address_out(address: SocketAddr) -> wire::Address {
    let ip = match address.ip() {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    };
    wire::Address { ip, port: address.port().into() }
}

pub(crate) fn address_in(field: &'static str, address: &wire::Address) -> Result<SocketAddr, ConvertError> {
    let ip = if let Ok(octets) = <[u8; 4]>::try_from(&address.ip[..]) {
        IpAddr::from(octets)
    } else if let Ok(octets) = <[u8; 16]>::try_from(&address.ip[..]) {
        IpAddr::from(octets)
    } else {
        return Err(ConvertError::Address { field });
    };
    match u16::try_from(address.port) {
        Ok(port) if port > 0 => Ok(SocketAddr::new(ip, port)),
        _ => Err(ConvertError::Address { field }),
    }
}

/// Both directions between a wire enum and the word of the same name.
macro_rules! same_variants {
    ($word:ident, $out:ident, $in:ident, $field:literal: $($variant:ident)*) => {
        pub(crate) fn $out(word: &types::$word) -> i32 {
            match word {
                $(types::$word::$variant => wire::$word::$variant,)*
            }
            .into()
        }

        pub(crate) fn $in(value: i32) -> Result<types::$word, ConvertError> {
            match wire::$word::try_from(value) {
                $(Ok(wire::$word::$variant) => Ok(types::$word::$variant),)*
                _ => Err(ConvertError::Variant { field: $field, value }),
            }
        }
    };
}

same_variants!(Priority, priority_out, priority_in, "priority": Waiting Preheat Prefetch);
same_variants!(FetchFailure, fetch_failure_out, fetch_failure_in, "fetch failure":
    Corrupt NotHeld Busy NotAllowed Unreachable Stalled Local);
same_variants!(LeaseFailure, lease_failure_out, lease_failure_in, "lease failure":
    Refused CredentialEnds NoReader NotFound Throttled Unreachable Wrong Local);
same_variants!(BlobFailure, blob_failure_out, blob_failure_in, "blob failure":
    NoEligibleHost NotFound OriginWrong BadKey);
