//! Round trips of everything that travels, and a table of what is refused.

use super::*;
use proptest::prelude::*;
use prost::Message as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;
use types::{
    Algorithm, BlobFailure, BlobKey, Credential, Digest, Epoch, FetchFailure, HostBody, HostId, HostMessage,
    HostSpec, Label, LeaseFailure, PieceFrom, PieceIndex, PieceLayout, PieceSet, Priority, Registry,
    SchedulerBody, SchedulerMessage, State,
};

fn key() -> impl Strategy<Value = BlobKey> {
    let digest = prop_oneof![
        any::<[u8; 32]>().prop_map(|b| Digest::new(Algorithm::Sha256, &b).unwrap()),
        any::<[u8; 64]>().prop_map(|b| Digest::new(Algorithm::Sha512, &b).unwrap()),
    ];
    let size = prop_oneof![0u64..40 << 20, 0u64..8 << 30, Just(PieceLayout::SIZE_MAX)];
    (digest, size, "[a-z]{1,8}(\\.[a-z]{1,8}){1,3}(:5000)?").prop_map(|(digest, size, name)| BlobKey {
        digest,
        size,
        registry: Registry::parse(&name).unwrap(),
    })
}

fn count(key: &BlobKey) -> u32 {
    PieceLayout::for_size(key.size).unwrap().count()
}

fn host() -> impl Strategy<Value = HostId> {
    any::<[u8; 32]>().prop_map(HostId::from_bytes)
}

fn set(count: u32) -> BoxedStrategy<PieceSet> {
    let sparse = prop::collection::vec(0..count.max(1), 0..20).prop_map(move |pieces| {
        let mut set = PieceSet::empty(count);
        pieces.into_iter().filter(|p| *p < count).for_each(|p| {
            set.insert(PieceIndex(p));
        });
        set
    });
    prop_oneof![
        sparse.clone(),
        sparse.prop_map(|set| set.complement()),
        Just(PieceSet::empty(count)),
        Just(PieceSet::full(count)),
    ]
    .boxed()
}

fn state(algorithm: Algorithm) -> impl Strategy<Value = State> {
    any::<[u8; 64]>().prop_map(move |b| State::from_bytes(algorithm, &b[..algorithm.digest_len()]).unwrap())
}

/// A boundary and states that stand there, none beyond the end.
fn states(key: &BlobKey) -> impl Strategy<Value = (u32, Vec<State>)> + use<> {
    let (count, algorithm) = (count(key), key.digest.algorithm());
    (0..=count).prop_flat_map(move |at| {
        let room = (count + 1 - at).min(40) as usize;
        (Just(at), prop::collection::vec(state(algorithm), 0..=room))
    })
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn host_body(key: &BlobKey) -> BoxedStrategy<HostBody> {
    let n = count(key);
    let piece = move || (0..n.max(1)).prop_map(PieceIndex);
    let epoch = || any::<u64>().prop_map(Epoch);
    let credential = prop_oneof![
        Just(Credential::None),
        Just(Credential::Anonymous),
        Just(Credential::Configured),
        duration().prop_map(|remaining| Credential::Client { remaining }),
    ];
    let priority = prop_oneof![Just(Priority::Waiting), Just(Priority::Preheat), Just(Priority::Prefetch)];
    let failure = prop::sample::select(vec![
        FetchFailure::Corrupt,
        FetchFailure::NotHeld,
        FetchFailure::Busy,
        FetchFailure::NotAllowed,
        FetchFailure::Unreachable,
        FetchFailure::Stalled,
        FetchFailure::Local,
    ]);
    let lease_failure = prop::sample::select(vec![
        LeaseFailure::Refused,
        LeaseFailure::CredentialEnds,
        LeaseFailure::NoReader,
        LeaseFailure::NotFound,
        LeaseFailure::Throttled,
        LeaseFailure::Unreachable,
        LeaseFailure::Wrong,
        LeaseFailure::Local,
    ]);
    let any_size = prop_oneof![
        (any::<bool>(), set(n)).prop_map(|(closed, pieces)| HostBody::Hold { closed, pieces }),
        Just(HostBody::Drop),
        (set(n), credential, priority, 0..=n, prop::option::of(epoch())).prop_map(
            |(held, credential, priority, position, lease)| HostBody::Want {
                held,
                credential,
                priority,
                position: PieceIndex(position),
                lease,
            }
        ),
        (0..=n, any::<bool>())
            .prop_map(|(piece, blocked)| HostBody::Position { piece: PieceIndex(piece), blocked }),
        Just(HostBody::Leave),
        (epoch(), states(key), any::<bool>()).prop_map(|(epoch, (boundary, states), closed)| {
            HostBody::Chain { epoch, boundary, states, closed }
        }),
        (epoch(), lease_failure).prop_map(|(epoch, why)| HostBody::LeaseReturned { epoch, why }),
        epoch().prop_map(|epoch| HostBody::ChainFalse { epoch }),
        epoch().prop_map(|epoch| HostBody::LeaseAlive { epoch }),
    ];
    if n == 0 {
        return any_size.boxed();
    }
    let from =
        prop_oneof![Just(PieceFrom::Origin), Just(PieceFrom::Fallback), host().prop_map(PieceFrom::Peer)];
    prop_oneof![
        any_size,
        (piece(), from).prop_map(|(piece, from)| HostBody::Verified { piece, from }),
        piece().prop_map(|piece| HostBody::NearlyDone { piece }),
        (piece(), host(), epoch(), failure).prop_map(|(piece, parent, epoch, why)| HostBody::Failed {
            piece,
            parent,
            epoch,
            why
        }),
    ]
    .boxed()
}

fn scheduler_body(key: &BlobKey) -> BoxedStrategy<SchedulerBody> {
    let (n, algorithm) = (count(key), key.digest.algorithm());
    let piece = move || (0..n.max(1)).prop_map(PieceIndex);
    let epoch = || any::<u64>().prop_map(Epoch);
    let failure = prop::sample::select(vec![
        BlobFailure::NoEligibleHost,
        BlobFailure::NotFound,
        BlobFailure::OriginWrong,
        BlobFailure::BadKey,
    ]);
    let prefix = prop::collection::vec(state(algorithm), 0..=(n + 1).min(40) as usize);
    let any_size = prop_oneof![
        (epoch(), duration(), set(n), prefix, 0..=n).prop_map(|(epoch, ttl, missing, prefix, limit)| {
            SchedulerBody::Lease { epoch, ttl, missing, prefix, limit }
        }),
        (epoch(), 0..=n).prop_map(|(epoch, limit)| SchedulerBody::LeaseLimit { epoch, limit }),
        epoch().prop_map(|epoch| SchedulerBody::Revoke { epoch }),
        epoch().prop_map(|epoch| SchedulerBody::ChainReset { epoch }),
        (epoch(), 0..=n + 1, 0..=n + 1).prop_map(|(epoch, a, b)| SchedulerBody::WantChain {
            epoch,
            boundaries: Range { start: a.min(b), end: a.max(b) },
        }),
        Just(SchedulerBody::SourceReads),
        failure.prop_map(|why| SchedulerBody::Failed { why }),
    ];
    if n == 0 {
        return any_size.boxed();
    }
    prop_oneof![
        any_size,
        (piece(), host(), epoch(), state(algorithm), state(algorithm)).prop_map(
            |(piece, parent, epoch, before, after)| SchedulerBody::Assign {
                piece,
                parent,
                epoch,
                before,
                after
            }
        ),
        (piece(), host()).prop_map(|(piece, parent)| SchedulerBody::Cancel { piece, parent }),
    ]
    .boxed()
}

fn host_message() -> impl Strategy<Value = HostMessage> {
    key().prop_flat_map(|key| host_body(&key).prop_map(move |body| HostMessage { key: key.clone(), body }))
}

fn scheduler_message() -> impl Strategy<Value = SchedulerMessage> {
    key().prop_flat_map(|key| {
        scheduler_body(&key).prop_map(move |body| SchedulerMessage { key: key.clone(), body })
    })
}

fn label() -> impl Strategy<Value = Label> {
    "[a-z0-9-]{0,20}".prop_map(|name| Label::new(&name))
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), 1..=u16::MAX).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), 1..=u16::MAX).prop_map(SocketAddr::from),
    ]
}

fn peer_id() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..64)
}

fn hello() -> impl Strategy<Value = Hello> {
    let rates = (any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>());
    let spec = (label(), label(), rates).prop_map(|(zone, rack, (up, down, up_rate, down_rate))| HostSpec {
        zone,
        rack,
        upload_slots: up,
        download_slots: down,
        upload_rate: up_rate,
        download_rate: down_rate,
    });
    (any::<u32>(), any::<u32>(), peer_id(), address(), prop::option::of(address()), spec).prop_map(
        |(protocol_min, protocol_max, peer_id, bulk, control, spec)| Hello {
            protocol_min,
            protocol_max,
            peer_id,
            bulk,
            control,
            spec,
            version: "0.1.0".to_owned(),
            flushed: 1 << 50,
            platform: "linux/amd64".to_owned(),
        },
    )
}

fn member() -> impl Strategy<Value = Member> {
    (peer_id(), address(), prop::option::of(address()), label(), label())
        .prop_map(|(peer_id, bulk, control, zone, rack)| Member { peer_id, bulk, control, zone, rack })
}

fn preheat_image() -> impl Strategy<Value = PreheatImage> {
    let digest = || key().prop_map(|key| key.digest);
    let blob = (digest(), any::<u64>()).prop_map(|(digest, size)| PreheatBlob { digest, size });
    let contents = (prop::collection::vec(digest(), 0..4), prop::collection::vec(blob, 0..9));
    contents.prop_map(|(manifests, blobs)| PreheatImage {
        registry: Registry::parse("r.example:5000").expect("a registry"),
        repository: "team/app".to_owned(),
        manifests,
        blobs,
    })
}

/// Over the wire and back, with the frames put together again.
fn host_trip(sent: FromHost) -> Vec<FromHost> {
    let over = |frame: wire::HostFrame| {
        let bytes = frame.encode_to_vec();
        assert!(bytes.len() <= HOST_FRAME_BYTES_MAX, "{} bytes", bytes.len());
        wire::HostFrame::decode(&bytes[..]).unwrap().try_into().unwrap()
    };
    sent.into_frames().into_iter().map(over).collect()
}

fn scheduler_trip(sent: FromScheduler) -> Vec<FromScheduler> {
    let over = |frame: wire::SchedulerFrame| {
        let bytes = frame.encode_to_vec();
        assert!(bytes.len() <= SCHEDULER_FRAME_BYTES_MAX, "{} bytes", bytes.len());
        wire::SchedulerFrame::decode(&bytes[..]).unwrap().try_into().unwrap()
    };
    sent.into_frames().into_iter().map(over).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn host_messages_travel_unchanged(messages in prop::collection::vec(host_message(), 1..20)) {
        let got: Vec<_> = host_trip(FromHost::Messages(messages.clone()))
            .into_iter()
            .flat_map(|frame| match frame { FromHost::Messages(m) => m, other => panic!("{other:?}") })
            .collect();
        prop_assert_eq!(got, messages);
    }

    #[test]
    fn scheduler_messages_travel_unchanged(messages in prop::collection::vec(scheduler_message(), 1..20)) {
        let got: Vec<_> = scheduler_trip(FromScheduler::Messages(messages.clone()))
            .into_iter()
            .flat_map(|frame| match frame { FromScheduler::Messages(m) => m, other => panic!("{other:?}") })
            .collect();
        prop_assert_eq!(got, messages);
    }

    #[test]
    fn greetings_travel_unchanged(hello in hello(), number in any::<u64>(), heartbeat in duration()) {
        let welcome = Welcome { protocol: 1, heartbeat, cluster: Label::new("c"), instance: number };
        prop_assert_eq!(host_trip(FromHost::Hello(hello.clone())), vec![FromHost::Hello(hello)]);
        prop_assert_eq!(host_trip(FromHost::Ping(number)), vec![FromHost::Ping(number)]);
        prop_assert_eq!(
            scheduler_trip(FromScheduler::Welcome(welcome.clone())),
            vec![FromScheduler::Welcome(welcome)]
        );
        prop_assert_eq!(scheduler_trip(FromScheduler::Pong(number)), vec![FromScheduler::Pong(number)]);
        let registry = Registry::parse("r.example:5000").expect("a registry");
        for of in [None, Some((registry, format!("team/app{number}")))] {
            prop_assert_eq!(
                scheduler_trip(FromScheduler::Forget(Forget { number, of: of.clone() })),
                vec![FromScheduler::Forget(Forget { number, of })]
            );
        }
    }

    #[test]
    fn members_travel_unchanged(
        joined in prop::collection::vec(member(), 0..10),
        left in prop::collection::vec(host(), 0..10),
        reset in any::<bool>(),
    ) {
        let sent = FromScheduler::Members { reset, joined, left };
        prop_assert_eq!(scheduler_trip(sent.clone()), vec![sent]);
    }

    #[test]
    fn traffic_travels_unchanged(n in any::<[u64; 7]>(), peers in prop::collection::vec((host(), any::<u64>()), 0..64)) {
        let peers = peers.into_iter().map(|(host, n)| PeerTraffic { host, received: n, sent: n / 2 }).collect();
        let [origin, fallback, rack, zone, elsewhere, cache, uploaded] = n;
        let sent = FromHost::Traffic(Traffic { origin, fallback, rack, zone, elsewhere, cache, uploaded, peers });
        prop_assert_eq!(host_trip(sent.clone()), vec![sent]);
    }

    #[test]
    fn preheats_travel_unchanged(number in any::<u64>(), images in prop::collection::vec(preheat_image(), 0..4)) {
        let order = FromScheduler::Preheat(PreheatOrder { number, images });
        prop_assert_eq!(scheduler_trip(order.clone()), vec![order]);
        let over = FromScheduler::PreheatOver(number);
        prop_assert_eq!(scheduler_trip(over.clone()), vec![over]);
        let report = PreheatReport {
            number,
            held_bytes: number / 2,
            held_blobs: 7,
            ended: number.is_multiple_of(2),
            failure: "the origin does not have it".to_owned(),
        };
        let reports = FromHost::Preheats(vec![report; PREHEAT_REPORTS_MAX]);
        prop_assert_eq!(host_trip(reports.clone()), vec![reports]);
    }

    #[test]
    fn noise_is_refused_or_read_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(frame) = wire::HostFrame::decode(&bytes[..]) {
            let _ = FromHost::try_from(frame);
        }
        if let Ok(frame) = wire::SchedulerFrame::decode(&bytes[..]) {
            let _ = FromScheduler::try_from(frame);
        }
    }

    /// A valid frame with one byte changed reaches the conversions far more often than noise does.
    #[test]
    fn a_changed_byte_is_no_panic(message in host_message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for frame in host_frames(&[message]) {
            let mut bytes = frame.encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(frame) = wire::HostFrame::decode(&bytes[..]) {
                let _ = FromHost::try_from(frame);
            }
        }
    }
}

fn some_key(size: u64) -> BlobKey {
    BlobKey { digest: Digest::sha256(b"x"), size, registry: Registry::parse("docker.io").unwrap() }
}

/// The largest messages of the largest blob stay within the limits for decoding.
#[test]
fn the_largest_messages_fit() {
    let digest = Digest::new(Algorithm::Sha512, &[7; 64]).unwrap();
    let key = BlobKey { digest, ..some_key(PieceLayout::SIZE_MAX) };
    let n = count(&key);
    let mut odd = PieceSet::empty(n);
    (0..n).step_by(2).for_each(|i| {
        odd.insert(PieceIndex(i));
    });
    let all = vec![State::initial(Algorithm::Sha512); n as usize + 1];
    let lease = SchedulerBody::Lease {
        epoch: Epoch(u64::MAX),
        ttl: Duration::from_secs(3),
        missing: odd.clone(),
        prefix: all.clone(),
        limit: n,
    };
    let lease = FromScheduler::Messages(vec![SchedulerMessage { key: key.clone(), body: lease }]);
    assert_eq!(scheduler_trip(lease.clone()), vec![lease]);

    // A host's long chain goes in several messages, the last of which says that it is closed.
    let chain = HostBody::Chain { epoch: Epoch(3), boundary: 0, states: all, closed: true };
    let hold = HostBody::Hold { closed: true, pieces: odd };
    let sent = [chain, hold.clone()].map(|body| HostMessage { key: key.clone(), body });
    let mut next = 0;
    let mut last = None;
    for frame in host_trip(FromHost::Messages(sent.to_vec())) {
        let FromHost::Messages(messages) = frame else { panic!("{frame:?}") };
        for message in messages {
            assert_eq!(message.key, key);
            if let HostBody::Chain { epoch, boundary, states, closed } = &message.body {
                assert_eq!((*epoch, *boundary), (Epoch(3), next));
                next += u32::try_from(states.len()).unwrap();
                assert_eq!(*closed, next == n + 1, "closed only at the end");
            }
            last = Some(message.body);
        }
    }
    assert_eq!((next, last), (n + 1, Some(hold)));
}

#[test]
fn many_messages_are_cut_into_frames_in_order() {
    let sent: Vec<_> = (0..10_000)
        .map(|i| HostMessage { key: some_key(i), body: HostBody::ChainFalse { epoch: Epoch(i) } })
        .collect();
    let frames = host_trip(FromHost::Messages(sent.clone()));
    assert_eq!(frames.len(), 3);
    let got: Vec<_> = frames
        .into_iter()
        .flat_map(|frame| match frame {
            FromHost::Messages(messages) => messages,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(got, sent);
}

/// One message of a host about a blob of three pieces.
fn about_three_pieces(body: wire::host_message::Body) -> wire::HostFrame {
    let keys = vec![words::key_out(&some_key(1_500_000))];
    let messages = vec![wire::HostMessage { key: 0, body: Some(body) }];
    wire::HostFrame {
        content: Some(wire::host_frame::Content::Messages(wire::HostMessages { keys, messages })),
    }
}

fn refused(frame: wire::HostFrame) -> String {
    FromHost::try_from(frame).expect_err("refused").to_string()
}

#[test]
fn what_the_blob_cannot_have_is_refused() {
    use wire::host_message::Body;
    let set = |count, runs: &[u32]| Some(wire::PieceSet { count, runs: runs.to_vec() });
    let hold = |pieces| about_three_pieces(Body::Hold(wire::Hold { closed: false, pieces }));
    let states = |boundary, bytes: usize| {
        let states = vec![0; bytes].into();
        about_three_pieces(Body::Chain(wire::ChainStates { epoch: 1, boundary, states, closed: false }))
    };
    assert!(FromHost::try_from(hold(set(3, &[1, 2]))).is_ok());
    for (frame, why) in [
        (about_three_pieces(Body::NearlyDone(3)), "piece 3 of a blob of 3"),
        (hold(None), "piece set is missing or unknown"),
        (hold(set(4, &[])), "a set of 4 pieces for a blob of 3"),
        (hold(set(u32::MAX, &[])), "piece set is 4294967295, more than 65536"),
        (hold(set(3, &[0, 4])), "the runs of a piece set are malformed"),
        (hold(set(3, &[0, 0])), "the runs of a piece set are malformed"),
        (hold(set(3, &[0])), "the runs of a piece set are malformed"),
        (hold(set(3, &[1, u32::MAX])), "the runs of a piece set are malformed"),
        (states(0, 33), "33 bytes are no whole number of states of 32 bytes"),
        (states(3, 64), "states is 2, more than 1"),
        (states(4, 32), "piece 4 of a blob of 3"),
        (
            about_three_pieces(Body::LeaseReturned(wire::LeaseReturned { epoch: 1, why: 99 })),
            "lease failure has no variant 99",
        ),
        (
            about_three_pieces(Body::Verified(wire::Verified { piece: 0, from: None })),
            "from is missing or unknown",
        ),
        (wire::HostFrame { content: None }, "frame content is missing or unknown"),
    ] {
        assert_eq!(refused(frame), why);
    }
}

#[test]
fn what_a_frame_cannot_have_is_refused() {
    use wire::host_frame::Content;
    let frame = |keys, messages| wire::HostFrame {
        content: Some(Content::Messages(wire::HostMessages { keys, messages })),
    };
    let leave = |key| wire::HostMessage { key, body: Some(wire::host_message::Body::Leave(wire::Empty {})) };
    let key = || words::key_out(&some_key(1));
    assert_eq!(refused(frame(vec![key()], vec![leave(1)])), "key 1 of 1");
    assert_eq!(refused(frame(vec![key()], vec![leave(0); 4097])), "messages has length 4097, more than 4096");
    assert_eq!(refused(frame(vec![key(); 4097], vec![])), "keys has length 4097, more than 4096");
    let no_digest = wire::BlobKey { digest: None, ..key() };
    assert_eq!(refused(frame(vec![no_digest], vec![])), "digest is missing or unknown");
    let bad = wire::BlobKey { registry: "a b".to_owned(), ..key() };
    assert_eq!(
        refused(frame(vec![bad], vec![])),
        "not a registry name: \"a b\" (a character that no host name has)"
    );
}

#[test]
fn orders_are_bounded_and_words_are_cut() {
    let digest = Digest::sha256(b"x");
    let image = |blobs| PreheatImage {
        registry: Registry::parse("docker.io").unwrap(),
        repository: "library/alpine".to_owned(),
        manifests: vec![digest],
        blobs: vec![PreheatBlob { digest, size: 1 }; blobs],
    };
    let order = |images: Vec<PreheatImage>| {
        let frames = FromScheduler::Preheat(PreheatOrder { number: 1, images }).into_frames();
        frames.into_iter().next().map(FromScheduler::try_from).unwrap()
    };
    assert!(order(vec![image(PREHEAT_CONTENTS_MAX - 1)]).is_ok());
    let why = order(vec![image(PREHEAT_CONTENTS_MAX)]).expect_err("too much").to_string();
    assert_eq!(why, "preheat contents has length 4097, more than 4096");
    let why = order(vec![image(1); 33]).expect_err("too many").to_string();
    assert_eq!(why, "preheat images has length 33, more than 32");

    let failure = "é".repeat(300);
    let report = PreheatReport { number: 1, held_bytes: 0, held_blobs: 0, ended: true, failure };
    let [FromHost::Preheats(got)] = &host_trip(FromHost::Preheats(vec![report; 65]))[..] else { panic!() };
    assert_eq!((got.len(), got[0].failure.len()), (PREHEAT_REPORTS_MAX, 512));
}

#[test]
fn versions_are_negotiated() {
    assert_eq!(negotiate(1, 1), Some(1));
    assert_eq!(negotiate(1, 9), Some(PROTOCOL));
    assert_eq!(negotiate(0, 3), Some(PROTOCOL));
    assert_eq!(negotiate(PROTOCOL + 1, PROTOCOL + 3), None);
    assert_eq!(negotiate(0, PROTOCOL_MIN - 1), None);
    assert_eq!(negotiate(2, 1), None);
}
