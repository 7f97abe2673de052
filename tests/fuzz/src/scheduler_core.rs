//! What lying hosts say, all the way into the scheduler's core: its invariants hold after each event, and it never speaks to
//! a host that is not there.

use crate::input::Input;
use prost::Message as _;
use proto::{FromHost, HOST_FRAME_BYTES_MAX, wire};
use scheduler_core::{Effect, Event, Options, Scheduler};
use std::collections::BTreeSet;
use std::time::Duration;
use types::{HostId, HostSpec, Label, Timestamp};

/// Hosts that say something; more do not make more of a difference.
const HOSTS: u8 = 4;

/// Events of one input at most: each is followed by a check of everything.
const EVENTS_MAX: usize = 64;

/// The largest blob, in bytes: a check looks at each of its pieces.
const SIZE_MAX: u64 = 64 << 20;

/// One event after the other: a byte that says what, a byte that says whose, and what follows from it. A frame is behind
/// its length of two bytes.
pub fn scheduler_core(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut scheduler = Scheduler::new(Options { quiet_period: Duration::ZERO, ..Options::default() }, 1);
    let mut now = Timestamp::ZERO;
    let mut connected = BTreeSet::new();
    let mut effects = Vec::new();
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.u8() % 8;
        let number = input.u8() % HOSTS;
        let host = HostId::of_peer_id(&[number]);
        let events = match kind {
            0 => {
                connected.insert(host);
                vec![Event::HostJoined { host, spec: spec(number, input.u8()) }]
            }
            1 => {
                connected.remove(&host);
                vec![Event::HostLeft { host }]
            }
            2 => {
                now += Duration::from_millis(input.u16().into());
                vec![Event::Tick]
            }
            _ => {
                let len = input.u16().into();
                said(input.bytes(len)).into_iter().map(|message| Event::Message { host, message }).collect()
            }
        };
        for event in events.into_iter().take(EVENTS_MAX).chain([Event::Tick]) {
            scheduler.handle(now, event, &mut effects);
            scheduler.check_invariants();
            for Effect::Send { host, .. } in effects.drain(..) {
                assert!(connected.contains(&host), "told a host that has left");
            }
        }
        assert!(scheduler.next_deadline().is_none_or(|deadline| deadline > now), "due for ever");
    }
}

fn spec(number: u8, zone: u8) -> HostSpec {
    HostSpec {
        zone: Label::new(if zone.is_multiple_of(2) { "a" } else { "b" }),
        rack: Label::default(),
        upload_slots: 1 + u16::from(number),
        download_slots: 4,
        upload_rate: 0,
        download_rate: 0,
    }
}

/// What a frame says of small blobs.
fn said(frame: &[u8]) -> Vec<types::HostMessage> {
    let frame =
        wire::HostFrame::decode(frame).ok().filter(|frame| frame.encoded_len() <= HOST_FRAME_BYTES_MAX);
    let said = frame.and_then(|frame| FromHost::try_from(frame).ok());
    let Some(FromHost::Messages(mut messages)) = said else { return Vec::new() };
    messages.retain(|message| message.key.size <= SIZE_MAX || message.key.size > 1 << 40);
    messages
}
