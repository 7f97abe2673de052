//! What is said when a host joins, before it has a stream.

use crate::words::bounded;
use crate::{ConvertError, wire};
use bytes::Bytes;
use std::fmt;
use std::time::Duration;

/// The longest token of a service account, in bytes.
const TOKEN_BYTES_MAX: usize = 8192;

/// The longest certificate or ticket, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 4096;

/// The most keys that verify tickets: one, and those of a change of keys.
const TICKET_KEYS_MAX: usize = 8;

/// The longest lifetime of a ticket.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A host wants to become a member.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Its Ed25519 libp2p peer id's bytes.
    pub peer_id: Vec<u8>,
    /// A join token's secret.
    pub secret: [u8; 32],
    /// The host's signature of what the token is for.
    pub proof: [u8; 64],
}

impl From<JoinRequest> for wire::JoinRequest {
    fn from(request: JoinRequest) -> Self {
        Self {
            peer_id: request.peer_id.into(),
            secret: Bytes::copy_from_slice(&request.secret),
            proof: Bytes::copy_from_slice(&request.proof),
        }
    }
}

impl TryFrom<wire::JoinRequest> for JoinRequest {
    type Error = ConvertError;

    fn try_from(request: wire::JoinRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            peer_id: crate::link::peer_id_in(&request.peer_id)?,
            secret: exactly("secret", &request.secret)?,
            proof: exactly("proof", &request.proof)?,
        })
    }
}

/// Without the secret.
impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// Without the secret.
impl fmt::Debug for wire::JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// A host with a Kubernetes service account's token wants to become a member.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccountJoinRequest {
    /// Its Ed25519 libp2p peer id's bytes.
    pub peer_id: Vec<u8>,
    /// The token.
    pub token: Bytes,
    /// The host's signature of what the token is for.
    pub proof: [u8; 64],
}

impl From<ServiceAccountJoinRequest> for wire::ServiceAccountJoinRequest {
    fn from(request: ServiceAccountJoinRequest) -> Self {
        Self {
            peer_id: request.peer_id.into(),
            token: request.token,
            proof: Bytes::copy_from_slice(&request.proof),
        }
    }
}

impl TryFrom<wire::ServiceAccountJoinRequest> for ServiceAccountJoinRequest {
    type Error = ConvertError;

    fn try_from(request: wire::ServiceAccountJoinRequest) -> Result<Self, ConvertError> {
        bounded("token", request.token.len(), TOKEN_BYTES_MAX)?;
        Ok(Self {
            peer_id: crate::link::peer_id_in(&request.peer_id)?,
            token: request.token,
            proof: exactly("proof", &request.proof)?,
        })
    }
}

/// Without the token.
impl fmt::Debug for ServiceAccountJoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountJoinRequest").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// Without the token.
impl fmt::Debug for wire::ServiceAccountJoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountJoinRequest").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// What makes a host a member for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its certificate, DER.
    pub certificate: Bytes,
    /// Its ticket.
    pub ticket: Bytes,
    /// The keys that verify its peers' tickets.
    pub ticket_keys: Vec<[u8; 32]>,
    /// How long the ticket is good for, from when it was sent; whole seconds.
    pub lifetime: Duration,
}

impl From<Credentials> for wire::Credentials {
    fn from(credentials: Credentials) -> Self {
        Self {
            certificate: credentials.certificate,
            ticket: credentials.ticket,
            ticket_keys: credentials.ticket_keys.iter().map(|key| Bytes::copy_from_slice(key)).collect(),
            lifetime_seconds: credentials.lifetime.as_secs(),
        }
    }
}

impl TryFrom<wire::Credentials> for Credentials {
    type Error = ConvertError;

    fn try_from(credentials: wire::Credentials) -> Result<Self, ConvertError> {
        bounded("certificate", credentials.certificate.len(), CREDENTIAL_BYTES_MAX)?;
        bounded("ticket", credentials.ticket.len(), CREDENTIAL_BYTES_MAX)?;
        bounded("ticket keys", credentials.ticket_keys.len(), TICKET_KEYS_MAX)?;
        if credentials.ticket_keys.is_empty() {
            return Err(ConvertError::Missing { field: "ticket key" });
        }
        let keys = credentials.ticket_keys.iter().map(|key| exactly("ticket key", key));
        if credentials.lifetime_seconds > LIFETIME_MAX.as_secs() {
            return Err(ConvertError::TooLarge {
                field: "lifetime",
                value: credentials.lifetime_seconds,
                max: LIFETIME_MAX.as_secs(),
            });
        }
        Ok(Self {
            ticket_keys: keys.collect::<Result<_, _>>()?,
            certificate: credentials.certificate,
            ticket: credentials.ticket,
            lifetime: Duration::from_secs(credentials.lifetime_seconds),
        })
    }
}

fn exactly<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], ConvertError> {
    bytes.try_into().map_err(|_| ConvertError::Length { field, got: bytes.len(), expected: N })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back_as_it_was() {
        let request = JoinRequest { peer_id: vec![1; 38], secret: [2; 32], proof: [3; 64] };
        assert_eq!(JoinRequest::try_from(wire::JoinRequest::from(request.clone())).unwrap(), request);
        let request =
            ServiceAccountJoinRequest { peer_id: vec![1; 38], token: "a.b.c".into(), proof: [3; 64] };
        let wire = wire::ServiceAccountJoinRequest::from(request.clone());
        assert_eq!(ServiceAccountJoinRequest::try_from(wire).unwrap(), request);
        let credentials = Credentials {
            certificate: vec![1; 500].into(),
            ticket: vec![2; 121].into(),
            ticket_keys: vec![[3; 32], [4; 32]],
            lifetime: Duration::from_secs(3600),
        };
        assert_eq!(Credentials::try_from(wire::Credentials::from(credentials.clone())).unwrap(), credentials);
    }

    #[test]
    fn what_breaks_a_bound_is_refused() {
        let good = wire::Credentials { ticket_keys: vec![vec![3; 32].into()], ..Default::default() };
        Credentials::try_from(good.clone()).unwrap();
        type Break = fn(&mut wire::Credentials);
        let breaks: [Break; 6] = [
            |c| c.certificate = vec![0; 4097].into(),
            |c| c.ticket = vec![0; 4097].into(),
            |c| c.ticket_keys.clear(),
            |c| c.ticket_keys = vec![vec![3; 32].into(); 9],
            |c| c.ticket_keys = vec![vec![3; 31].into()],
            |c| c.lifetime_seconds = u64::MAX,
        ];
        for break_it in breaks {
            let mut bad = good.clone();
            break_it(&mut bad);
            Credentials::try_from(bad.clone()).expect_err(&format!("{bad:?}"));
        }
        let short = wire::JoinRequest { peer_id: vec![1; 38].into(), ..Default::default() };
        assert!(JoinRequest::try_from(short).is_err());
        let long = ServiceAccountJoinRequest {
            peer_id: vec![1; 38],
            token: vec![b'a'; TOKEN_BYTES_MAX + 1].into(),
            proof: [3; 64],
        };
        let error =
            ServiceAccountJoinRequest::try_from(wire::ServiceAccountJoinRequest::from(long)).unwrap_err();
        assert!(matches!(error, ConvertError::TooLong { field: "token", .. }), "{error}");
    }

    #[test]
    fn no_form_of_a_request_shows_its_secret() {
        let request = JoinRequest { peer_id: vec![1; 38], secret: [173; 32], proof: [3; 64] };
        let wire = wire::JoinRequest::from(request.clone());
        assert!(!format!("{request:?}{wire:?}{wire:#?}").contains("173"));
        assert!(!format!("{wire:?}").contains("\\xad"));
        let request =
            ServiceAccountJoinRequest { peer_id: vec![1; 38], token: "eyJh.b.c".into(), proof: [3; 64] };
        let wire = wire::ServiceAccountJoinRequest::from(request.clone());
        assert!(!format!("{request:?}{request:#?}{wire:?}{wire:#?}").contains("eyJh"));
    }
}
