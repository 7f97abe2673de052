//! Tables of the words that are parsed at the edge.

use types::{Algorithm, ByteRange, Digest, HostId, Registry, Timestamp};

#[test]
fn digests() {
    let a64 = "a".repeat(64);
    let a128 = "0".repeat(128);
    for good in [
        format!("sha256:{a64}"),
        format!("sha512:{a128}"),
        format!("sha256:{}", "0123456789abcdef".repeat(4)),
    ] {
        let digest: Digest = good.parse().unwrap();
        assert_eq!(digest.to_string(), good);
        assert_eq!(Digest::new(digest.algorithm(), digest.as_bytes()).unwrap(), digest);
        assert!(good.ends_with(&digest.encoded()));
    }
    let bad = [
        String::new(),
        "sha256".into(),
        "sha256:".into(),
        a64.clone(),
        format!("sha256:{}", &a64[1..]),
        format!("sha256:{a64}a"),
        format!("sha256:{}", a64.to_uppercase()),
        format!("sha256:{}g", &a64[1..]),
        format!("sha256: {}", &a64[1..]),
        format!("sha256:{a128}"),
        format!("sha512:{a64}"),
        format!("SHA256:{a64}"),
        format!("md5:{a64}"),
        format!("sha256+b64u:{a64}"),
        format!("sha256::{a64}"),
        format!("sha256:{}é", &a64[2..]),
        format!(" sha256:{a64}"),
        format!("sha256:{a64}\n"),
    ];
    for text in bad {
        assert!(text.parse::<Digest>().is_err(), "{text:?}");
    }
    assert!(Digest::new(Algorithm::Sha256, &[0; 31]).is_err());
    assert!(Digest::new(Algorithm::Sha512, &[0; 32]).is_err());
    assert!(Digest::sha256(b"abc").matches(b"abc") && !Digest::sha256(b"abc").matches(b"abd"));
    // FIPS 180-4's example.
    let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Digest::sha256(b"abc").to_string(), abc);
}

#[test]
fn an_error_does_not_repeat_a_long_text() {
    let error = format!("{}:00", "x".repeat(10_000)).parse::<Digest>().unwrap_err();
    assert!(error.to_string().len() < 100);
    let error = Registry::parse(&"x".repeat(10_000)).unwrap_err();
    assert!(error.to_string().len() < 400);
}

#[test]
fn registries() {
    let good = [
        ("docker.io", "docker.io"),
        ("GHCR.io", "ghcr.io"),
        ("localhost:5000", "localhost:5000"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("[fe80::1]", "[fe80::1]"),
        ("a-b.c-d:1", "a-b.c-d:1"),
    ];
    for (text, name) in good {
        assert_eq!(Registry::parse(text).unwrap().as_str(), name, "{text:?}");
    }
    let long = "a".repeat(Registry::LEN_MAX + 1);
    let bad = [
        "",
        ":5000",
        "a:",
        "a:b",
        "a:65536",
        "a:+1",
        "a:-1",
        "a:1:2",
        "a b",
        "a/b",
        "a_b",
        "user@host",
        "-a",
        ".a",
        "ä.de",
        "[]",
        "[]:1",
        "[::1",
        "[::1]x",
        "[::1]:",
        "::1",
        "a..b",
        "10..0.1:80",
        "[a.b]",
        "[:]:5000",
        "[1.2.3.4]",
        "a\0",
        "a?b",
        "a#b",
        "a%2fb",
        long.as_str(),
    ];
    for text in bad {
        assert!(Registry::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn hosts() {
    let host = HostId::of_peer_id(b"abc");
    assert_eq!(host.to_string(), "ba7816bf8f01cfea");
    assert_eq!(HostId::try_from(&host.as_bytes()[..]).unwrap(), host);
    assert!(HostId::try_from(&[0u8; 31][..]).is_err());
}

#[test]
fn ranges() {
    let range = |a, b| ByteRange::new(a, b).unwrap();
    assert!(ByteRange::new(2, 1).is_none());
    assert!(range(3, 3).is_empty() && !range(3, 3).contains(3));
    assert!(range(3, 5).contains(3) && range(3, 5).contains(4) && !range(3, 5).contains(5));
    assert_eq!(range(0, 5).intersect(range(3, 9)), Some(range(3, 5)));
    assert_eq!(range(0, 3).intersect(range(3, 9)), None);
    assert_eq!(ByteRange::whole(7), range(0, 7));
    assert_eq!(range(3, 9).len(), 6);
}

#[test]
fn time_does_not_wrap() {
    let end = Timestamp::from_nanos(u64::MAX);
    assert_eq!(end + std::time::Duration::from_secs(1), end);
    assert_eq!(Timestamp::ZERO.since(end), std::time::Duration::ZERO);
}
