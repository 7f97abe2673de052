//! What shows who belongs to the cluster: tickets, join tokens, peer ids, certificates.

use crate::input::Input;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use membership::{CLOCK_LEEWAY, JoinToken, PeerKey, SecretHash, Ticket, TicketError, TicketKey};
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a ticket's signature is of, before the ticket.
const DOMAIN: &[u8] = b"damselfly ticket\0";

/// The first byte says what the others are.
pub fn membership(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.u8() % 6;
    if kind == 0 {
        return signed_ticket(input);
    }
    let bytes = input.rest();
    match kind {
        1 => any_ticket(bytes),
        2 => join_token(bytes),
        3 => {
            if let Ok(key) = PeerKey::of_peer_id(bytes) {
                assert_eq!(key.peer_id(), bytes, "a key has one peer id");
            }
        }
        4 => {
            if let Ok(key) = PeerKey::of_certificate(&CertificateDer::from(bytes)) {
                assert_eq!(PeerKey::of_peer_id(&key.peer_id()), Ok(key));
            }
        }
        _ => {
            if let Some(hash) = std::str::from_utf8(bytes).ok().and_then(SecretHash::from_hex) {
                assert_eq!(SecretHash::from_hex(&hash.to_hex()), Some(hash));
                assert!(hash.to_hex().starts_with(&hash.id()));
            }
        }
    }
}

fn authority() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed of 32 bytes")
}

fn public(key: &Ed25519KeyPair) -> [u8; 32] {
    key.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes")
}

fn peer() -> PeerKey {
    PeerKey::from_bytes([9; 32])
}

/// Nothing is let in that the authority has not signed.
fn any_ticket(bytes: &[u8]) {
    let key = public(&authority());
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    if Ticket::verify(bytes, &[TicketKey::from_bytes(key)], &peer(), now).is_ok() {
        assert_eq!(bytes.len(), Ticket::LEN);
        let (signed, signature) = bytes.split_at(Ticket::LEN - 64);
        assert!(PeerKey::from_bytes(key).verifies(&[DOMAIN, signed].concat(), signature), "a forged ticket");
    }
}

/// What the authority has signed lets in its peer, in its time, as it was signed, and nobody else.
fn signed_ticket(mut input: Input<'_>) {
    let key = authority();
    let (not_before, not_after, now) = (input.u64(), input.u64(), u64::from(input.u32()));
    let whose = if input.u8().is_multiple_of(4) { PeerKey::from_bytes(input.array()) } else { peer() };
    let (at, flip) = (usize::from(input.u8()), input.u8());

    let mut ticket = vec![1];
    ticket.extend(&sha2_of(&public(&key))[..8]);
    ticket.extend(whose.as_bytes());
    ticket.extend(not_before.to_be_bytes());
    ticket.extend(not_after.to_be_bytes());
    let signature = key.sign(&[DOMAIN, &ticket].concat());
    ticket.extend(signature.as_ref());
    let changed = flip != 0 && at < ticket.len();
    if changed {
        ticket[at] ^= flip;
    }

    let time = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let now = time(now).expect("a time of this age");
    let later = |time: SystemTime| time.checked_add(CLOCK_LEEWAY);
    let found = Ticket::verify(&ticket, &[TicketKey::from_bytes(public(&key))], &peer(), now);
    let expected = match (time(not_before), time(not_after)) {
        _ if changed => return assert!(found.is_err(), "a changed ticket lets somebody in"),
        _ if whose != peer() => Err(TicketError::AnotherPeer),
        (Some(begin), Some(_)) if later(now).is_none_or(|now| now < begin) => Err(TicketError::NotYet),
        (Some(_), Some(end)) if later(end).is_some_and(|end| end > now) => Ok(end),
        (Some(_), Some(_)) => Err(TicketError::Expired),
        _ => Err(TicketError::Malformed),
    };
    assert_eq!(found.map(|ticket| ticket.not_after), expected);
}

fn sha2_of(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

/// A token has one form, and shows its secret to nobody; what is none is not quoted.
fn join_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<JoinToken>() {
        Ok(token) => {
            assert_eq!(token.expose(), text);
            let mut parts = text.rsplit('.');
            let (secret, hash) = (parts.next().expect("a last part"), parts.next());
            // The hash may be shown, also that of a token that has the same for a secret.
            let shown = format!("{token:?} {:?}", token.secret);
            assert!(hash == Some(secret) || !shown.contains(secret), "a secret that is shown");
        }
        Err(error) => {
            let no_secret = format!("dfjoin1.{}.x", "A".repeat(43));
            let known = ["", "dfjoin1", "dfjoin1.x.x", &no_secret];
            let known = known.map(|text| text.parse::<JoinToken>().expect_err("no token"));
            assert!(known.contains(&error), "{error}");
        }
    }
}
