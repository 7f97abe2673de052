//! Blobs: ranges, faults in the midst of a body, sizes.

use crate::*;
use std::mem::discriminant;
use support::origin::{Fault, When};

const LEN: usize = 3_000_000;

/// A server with one blob of [`LEN`] bytes.
async fn one_blob() -> (FaultyOrigin, Origin, Digest) {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client(&server);
    let digest = server.add_blob(REPOSITORY, content(LEN));
    (server, origin, digest)
}

#[tokio::test]
async fn whole_and_in_part() {
    let (server, origin, digest) = one_blob().await;
    let size = LEN as u64;
    for (asked, ranged) in [
        (None, false),
        (Some(range(0, size)), true),
        (Some(range(0, 1)), true),
        (Some(range(1_000_000, 2_000_000)), true),
        (Some(range(size - 1, size)), true),
        (Some(range(7, 7)), true),
    ] {
        for known in [None, Some(size)] {
            let read = origin
                .read_blob(&repository(&server), &digest, asked, known, &Auth::Anonymous)
                .await
                .unwrap();
            assert_eq!(read.ranged, ranged, "{asked:?}");
            let whole = asked.unwrap_or(ByteRange::whole(size));
            assert!(read.size == Some(size) || whole.is_empty());
            let got = collect(read).await.unwrap();
            assert_eq!(
                got,
                content(LEN)[whole.start() as usize..whole.end() as usize],
                "{asked:?} {known:?}"
            );
        }
    }
    let identity = server.requests().iter().all(|r| r.header("accept-encoding") == Some("identity"));
    assert!(identity);
}

#[tokio::test]
async fn a_range_that_is_ignored() {
    let (server, origin, digest) = one_blob().await;
    server.fault(When::blob(&digest), Fault::IgnoreRange);
    for asked in [range(0, 10), range(1_000_000, 2_000_000), range(2_999_999, 3_000_000)] {
        for known in [None, Some(LEN as u64)] {
            let read = origin
                .read_blob(&repository(&server), &digest, Some(asked), known, &Auth::Anonymous)
                .await
                .unwrap();
            assert!(!read.ranged);
            assert_eq!(read.size, Some(LEN as u64));
            let got = collect(read).await.unwrap();
            assert_eq!(got, content(LEN)[asked.start() as usize..asked.end() as usize]);
        }
    }
    server.fault(When::blob(&digest), Fault::NoContentLength);
    let got = read(&server, &origin, &digest, Some(range(5, 1_000_005)), None).await.unwrap();
    assert_eq!(got, content(LEN)[5..1_000_005]);
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    let (server, origin, digest) = one_blob().await;
    server.fault(When::blob(&digest).times(1), Fault::BreakAfter(1_000_000));
    server.fault(When::blob(&digest).skip(1).times(1), Fault::BreakAfter(500_000));
    let got = read(&server, &origin, &digest, None, Some(LEN as u64)).await.unwrap();
    assert_eq!(got, content(LEN));
    assert_eq!(server.blob_gets(&digest), 3);
    let requests = server.requests();
    assert_eq!(requests[0].header("range"), None);
    for request in &requests[1..] {
        assert!(request.header("range").is_some_and(|r| r.ends_with("-2999999")), "{request:?}");
    }
    // What was handed to a connection that broke may not all have arrived.
    assert!((LEN as u64..=LEN as u64 + 1_500_000).contains(&server.blob_bytes(&digest)));

    server.heal();
    server.fault(When::blob(&digest), Fault::IgnoreRange);
    server.fault(When::blob(&digest).times(1), Fault::BreakAfter(1_000_000));
    let got = read(&server, &origin, &digest, Some(range(500_000, 2_500_000)), None).await.unwrap();
    assert_eq!(got, content(LEN)[500_000..2_500_000]);
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again() {
    let (server, origin, digest) = one_blob().await;
    server.fault(When::blob(&digest), Fault::BreakAfter(1000));
    let error = read(&server, &origin, &digest, None, Some(LEN as u64)).await.unwrap_err();
    assert!(matches!(error, OriginError::Broken { .. }), "{error}");
    assert_eq!(server.blob_gets(&digest), 4);
    // Progress counts: then it may break more often.
    server.heal();
    server.forget_requests();
    server.fault(When::blob(&digest), Fault::BreakAfter(400_000));
    assert_eq!(read(&server, &origin, &digest, None, Some(LEN as u64)).await.unwrap(), content(LEN));
    assert!(server.blob_gets(&digest) >= 8);
}

#[tokio::test]
async fn a_body_that_stalls() {
    let server = FaultyOrigin::start().await.unwrap();
    let options = Options { stall_timeout: Duration::from_millis(50), ..options(&server) };
    let origin = client_with(options);
    let digest = server.add_blob(REPOSITORY, content(LEN));
    server.fault(When::blob(&digest).times(1), Fault::StallAfter(1_000_000));
    assert_eq!(read(&server, &origin, &digest, None, None).await.unwrap(), content(LEN));
    server.heal();
    server.fault(When::blob(&digest), Fault::StallAfter(10));
    let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Stalled), "{error}");
}

#[tokio::test]
async fn wrong_sizes() {
    let size = LEN as u64;
    let too_short = OriginError::TooShort { expected: 0, got: 0 };
    let too_long = OriginError::TooLong { expected: 0 };
    let wrong_length = OriginError::WrongLength { expected: 0, got: 0 };
    for (fault, asked, known, expected) in [
        (Fault::TooFew(10), None, Some(size), &too_short),
        (Fault::TooFew(10), Some(range(0, size)), None, &too_short),
        (Fault::TooMany(10), None, Some(size), &too_long),
        (Fault::TooMany(10), Some(range(0, size)), Some(size), &too_long),
        (Fault::TooMany(10), Some(range(5, 10)), None, &too_long),
        (Fault::Endless, None, Some(size), &too_long),
        (Fault::Endless, Some(range(0, 100)), None, &too_long),
        (Fault::ContentLength(size + 1), None, Some(size), &wrong_length),
        (Fault::ContentLength(size - 1), None, Some(size), &wrong_length),
        (Fault::ContentLength(size - 1), Some(range(0, size)), None, &wrong_length),
        (Fault::ContentLength(size + 1), None, None, &too_short),
        (Fault::NoContentLength, None, Some(size + 1), &too_short),
        (Fault::NoContentLength, None, Some(size - 1), &too_long),
        (Fault::IgnoreRange, Some(range(size - 5, size + 5)), None, &too_short),
        (Fault::IgnoreRange, Some(range(0, 5)), Some(size + 5), &wrong_length),
    ] {
        let (server, origin, digest) = one_blob().await;
        server.fault(When::blob(&digest), fault.clone());
        let error = read(&server, &origin, &digest, asked, known).await.unwrap_err();
        assert_eq!(discriminant(&error), discriminant(expected), "{fault:?} {asked:?} {known:?}: {error}");
    }
    // A range beyond the end, from a registry that takes it into account.
    let (server, origin, digest) = one_blob().await;
    for asked in [range(size, size + 5), range(size - 5, size + 5)] {
        let error = read(&server, &origin, &digest, Some(asked), None).await.unwrap_err();
        assert!(matches!(error, OriginError::TooShort { .. }), "{asked}: {error}");
    }
}

#[tokio::test]
async fn an_unknown_size() {
    let (server, origin, digest) = one_blob().await;
    server.fault(When::blob(&digest), Fault::NoContentLength);
    let read = origin.read_blob(&repository(&server), &digest, None, None, &Auth::Anonymous).await.unwrap();
    assert_eq!(read.size, None);
    assert_eq!(collect(read).await.unwrap(), content(LEN));
    assert_eq!(origin.head_blob(&repository(&server), &digest, &Auth::Anonymous).await.unwrap().size, None);
    let empty = server.add_blob(REPOSITORY, "");
    assert_eq!(crate::read(&server, &origin, &empty, None, None).await.unwrap(), "");
    assert_eq!(crate::read(&server, &origin, &empty, None, Some(0)).await.unwrap(), "");
}

#[tokio::test]
async fn heads() {
    let (server, origin, digest) = one_blob().await;
    let head = || async {
        origin.head_blob(&repository(&server), &digest, &Auth::Anonymous).await.map(|head| head.size)
    };
    assert_eq!(head().await.unwrap(), Some(LEN as u64));
    for status in [401, 403, 405] {
        server.heal();
        server.forget_requests();
        server.fault(When::blob(&digest).head(), Fault::Status(status));
        assert_eq!(head().await.unwrap(), Some(LEN as u64), "{status}");
        assert_eq!(server.blob_bytes(&digest), 1);
    }
    server.fault(When::blob(&digest), Fault::Status(403));
    assert!(matches!(head().await, Err(OriginError::Denied { .. })));
    server.remove(REPOSITORY, &digest);
    server.heal();
    assert!(matches!(head().await, Err(OriginError::NotFound { .. })));
}

#[tokio::test]
async fn statuses_and_retries() {
    for (fault, tries, check) in [
        (
            Fault::Status(500),
            4,
            (|e| matches!(e, OriginError::Server { status } if status.as_u16() == 500)) as fn(&_) -> _,
        ),
        (Fault::Status(503), 4, |e| matches!(e, OriginError::Server { .. })),
        (Fault::Status(501), 1, |e| matches!(e, OriginError::Server { .. })),
        (Fault::Throttle(None), 4, |e| matches!(e, OriginError::Throttled { retry_after: None, .. })),
        (Fault::Throttle(Some(0)), 4, |e| matches!(e, OriginError::Throttled { .. })),
        (
            Fault::Throttle(Some(3600)),
            1,
            |e| matches!(e, OriginError::Throttled { retry_after: Some(t), .. } if t.as_secs() == 3600),
        ),
        (Fault::Status(403), 1, |e| matches!(e, OriginError::Denied { body, .. } if !body.is_empty())),
        (Fault::Status(404), 1, |e| matches!(e, OriginError::NotFound { body } if !body.is_empty())),
        (Fault::Status(401), 1, |e| matches!(e, OriginError::Unauthorized { .. })),
        (Fault::Status(418), 1, |e| matches!(e, OriginError::Unexpected { .. })),
        (Fault::Status(304), 1, |e| matches!(e, OriginError::Unexpected { .. })),
    ] {
        let (server, origin, digest) = one_blob().await;
        server.fault(When::blob(&digest), fault.clone());
        let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
        assert!(check(&error), "{fault:?}: {error:?}");
        assert_eq!(server.blob_gets(&digest), tries, "{fault:?}");
    }
    let (server, origin, digest) = one_blob().await;
    server.fault(When::blob(&digest).times(1), Fault::Status(502));
    server.fault(When::blob(&digest).skip(1).times(1), Fault::Throttle(Some(0)));
    assert_eq!(read(&server, &origin, &digest, None, None).await.unwrap(), content(LEN));
}

#[tokio::test]
async fn an_origin_out_of_reach() {
    let (server, origin, digest) = one_blob().await;
    server.set_reachable(false);
    let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Unreachable(_)) && error.is_outage(), "{error}");
    server.set_reachable(true);
    assert!(read(&server, &origin, &digest, None, None).await.is_ok());

    let options = Options { response_timeout: Duration::from_millis(50), retries: 1, ..options(&server) };
    let origin = client_with(options);
    server.fault(When::blob(&digest), Fault::Hang);
    server.forget_requests();
    let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::TimedOut), "{error}");
    assert_eq!(server.blob_gets(&digest), 2);
}

#[tokio::test]
async fn the_origins_rate_is_one_for_all_connections() {
    let server = FaultyOrigin::builder().rate(30_000_000).start().await.unwrap();
    let origin = client(&server);
    let digest = server.add_blob(REPOSITORY, content(LEN));
    let start = std::time::Instant::now();
    let all = futures::future::join_all((0..4).map(|_| read(&server, &origin, &digest, None, None))).await;
    let took = start.elapsed();
    assert!(all.into_iter().all(|got| got.unwrap() == content(LEN)));
    // 12 MB at 30 MB/s, less what may run ahead.
    assert!(took >= Duration::from_millis(390), "{took:?}");
    eprintln!("12 MB at 30 MB/s took {took:?} instead of 400 ms");
}
