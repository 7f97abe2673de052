//! The calls beside the stream: what is asked of the scheduler and what it answers, joining among it.
//!
//! What is taken says the same after it was written and read again.

use crate::input::Input;
use prost::Message;
use proto::{
    Access, AccessRequest, Credentials, JoinRequest, MANIFEST_BYTES_MAX, Manifest, OriginRefusal,
    RefreshRequest, ResolveRequest, STATUS_ROWS_MAX, Status, wire,
};
use std::fmt::Debug;
use types::Digest;

/// The first byte says which message the others are.
pub fn questions(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.u8() % 10;
    let bytes = input.rest();
    match kind {
        0 => drop(again::<wire::ResolveRequest, ResolveRequest>(bytes)),
        1 => resolved(bytes),
        2 => drop(again::<wire::AccessRequest, AccessRequest>(bytes)),
        3 => drop(again::<wire::AccessResponse, Result<Access, OriginRefusal>>(bytes)),
        4 => drop(again::<wire::RefreshRequest, RefreshRequest>(bytes)),
        5 => drop(again::<wire::RefreshResponse, Result<Digest, OriginRefusal>>(bytes)),
        6 => status(bytes),
        7 => join(bytes),
        8 => credentials(bytes),
        _ => drop(wire::RenewRequest::decode(bytes)),
    }
}

/// What the message says, if it is taken.
fn again<W, T>(bytes: &[u8]) -> Option<T>
where
    W: Message + Default + From<T>,
    T: TryFrom<W> + Clone + Debug + PartialEq,
{
    let read = |bytes: &[u8]| T::try_from(W::decode(bytes).ok()?).ok();
    let said = read(bytes)?;
    let ours = W::from(said.clone()).encode_to_vec();
    assert_eq!(read(&ours).as_ref(), Some(&said), "what we write can be read, and says the same");
    Some(said)
}

fn resolved(bytes: &[u8]) {
    match again::<wire::ResolveResponse, Result<Manifest, OriginRefusal>>(bytes) {
        Some(Ok(manifest)) => {
            assert!(manifest.content.len() <= MANIFEST_BYTES_MAX && manifest.media_type.len() <= 255);
        }
        Some(Err(refusal)) => {
            assert!((100..=999).contains(&refusal.status));
            assert!(refusal.body.len() <= 64 << 10 && refusal.message.len() <= 1024);
        }
        None => {}
    }
}

fn status(bytes: &[u8]) {
    if let Some(status) = again::<wire::StatusResponse, Status>(bytes) {
        assert!(status.hosts.len().max(status.blobs.len()) <= STATUS_ROWS_MAX);
        assert!(status.hosts.iter().all(|host| host.address.port() > 0));
    }
}

fn join(bytes: &[u8]) {
    if let Some(request) = again::<wire::JoinRequest, JoinRequest>(bytes) {
        let other = JoinRequest { secret: [0; 32], ..request.clone() };
        assert_eq!(format!("{request:?}"), format!("{other:?}"), "a secret is shown to nobody");
        let (request, other) = (wire::JoinRequest::from(request), wire::JoinRequest::from(other));
        assert_eq!(format!("{request:?}"), format!("{other:?}"), "a secret is shown to nobody");
    }
}

fn credentials(bytes: &[u8]) {
    if let Some(credentials) = again::<wire::Credentials, Credentials>(bytes) {
        assert!((1..=8).contains(&credentials.ticket_keys.len()));
        assert!(credentials.certificate.len().max(credentials.ticket.len()) <= 4096);
    }
}
