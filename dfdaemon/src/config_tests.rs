//! What a configuration becomes, and what is said of one that cannot be used.

use super::*;
use clap::{CommandFactory as _, Parser as _};

/// Loads what the flags and the file say.
fn load(flags: &[&str], file: &str) -> Result<Config, MergeError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dfdaemon.toml");
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    let arguments = ["dfdaemon", "--config", path].into_iter().chain(flags.iter().copied());
    Config::load(Flags::try_parse_from(arguments).unwrap())
}

#[test]
fn defaults_need_no_file() {
    let config = Config::load(Flags::try_parse_from(["dfdaemon"]).unwrap()).unwrap();
    assert_eq!(config.proxy.listen.to_string(), "127.0.0.1:6500");
    assert_eq!(config.proxy.upstream.as_str(), "docker.io");
    assert_eq!(config.proxy.allow, AllowRegistries::Public);
    assert_eq!(config.p2p.control_listen.to_string(), "127.0.0.1:6501");
    assert_eq!(config.p2p.bulk_listen.to_string(), "127.0.0.1:6502");
    assert_eq!((config.p2p.advertise, config.p2p.upload_rate), (None, None));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:6503");
    assert_eq!(config.store.dir.to_str(), Some("/var/lib/damselfly"));
    assert!(
        matches!(config.scheduler, SchedulerConfig::Embedded { listen, plain: false } if listen.to_string() == "127.0.0.1:0")
    );
    assert!(!config.scheduler.is_open_to_strangers());
    assert!(load(&["--insecure-plain-grpc"], "").unwrap().scheduler.is_open_to_strangers());
}

#[test]
fn a_flag_wins_over_the_file() {
    let file = r#"
        [proxy]
        listen = "127.0.0.1:1"
        upstream = "index.docker.io"
        allow = ["ghcr.io"]
        patience = "500ms"
        [scheduler]
        address = "http://127.0.0.1:6510"
        insecure_plain_grpc = true
        [p2p]
        upload_rate = "100MB"
        upload_slots = 8
        [store]
        dir = "/a"
        quota = "1GiB"
        [origin.registries."registry.example:5000"]
        endpoint = "http://127.0.0.1:5000"
        [resolver]
        tag_lifetime = "5s"
        [host]
        zone = "z1"
        [audit]
        file = "/a/audit.log"
        max_size = "1MiB"
        keep = 2
        [traces]
        endpoint = "http://collector:4317"
        sample_ratio = 0.5
        [log]
        filter = "debug"
        format = "json"
    "#;
    let config = load(&[], file).unwrap();
    assert_eq!(config.proxy.listen.port(), 1);
    assert_eq!(config.proxy.upstream.as_str(), "docker.io");
    assert_eq!(config.proxy.allow, AllowRegistries::Only(vec![Registry::parse("ghcr.io").unwrap()]));
    assert_eq!(config.proxy.patience, Duration::from_millis(500));
    assert_eq!((config.p2p.upload_rate, config.p2p.upload_slots), (Some(100_000_000), 8));
    assert_eq!(config.store.quota_bytes, 1 << 30);
    assert_eq!(config.origin.registries.len(), 1);
    assert_eq!(config.resolver.tag_lifetime, Duration::from_secs(5));
    assert_eq!(config.host.zone.as_str(), "z1");
    let audit = |file: &str| process::audit::Options { file: file.into(), max_bytes: 1 << 20, keep: 2 };
    assert_eq!(config.audit, Some(audit("/a/audit.log")));
    let traces = |config: &Config| {
        let process::traces::Options { endpoint, sample_ratio } = &config.traces;
        (endpoint.as_ref().map(ToString::to_string), sample_ratio.get())
    };
    assert_eq!(traces(&config), (Some("http://collector:4317".to_owned()), 0.5));
    assert!(matches!(config.scheduler, SchedulerConfig::Remote { .. }));
    let flags = [
        "--listen",
        "127.0.0.1:2",
        "--store",
        "/b",
        "--zone",
        "z2",
        "--upload-rate",
        "2KiB",
        "--log",
        "warn",
        "--audit",
        "b.log",
        "--traces",
        "https://other:4318",
        "--traces-sample-ratio",
        "1",
    ];
    let config = load(&flags, file).unwrap();
    assert_eq!(config.proxy.listen.port(), 2);
    assert_eq!(config.store.dir.to_str(), Some("/b"));
    assert_eq!(config.host.zone.as_str(), "z2");
    assert_eq!(config.p2p.upload_rate, Some(2048));
    assert_eq!(config.log.filter, "warn");
    assert_eq!(config.audit, Some(audit("b.log")));
    assert_eq!(traces(&config), (Some("https://other:4318".to_owned()), 1.0));
    let config = load(&["--scheduler-listen", "127.0.0.1:7"], file).unwrap();
    assert!(matches!(config.scheduler, SchedulerConfig::Embedded { .. }));
}

#[test]
fn mistakes_in_the_file_are_named_with_key_and_line() {
    let table = [
        ("[proxy]\nlsten = 1", "line 2: proxy.lsten: unknown field"),
        ("[proxy]\n\nlisten = \"here\"", "line 3: proxy.listen: invalid socket address"),
        ("[proxy]\nlisten = 6500", "line 2: proxy.listen: invalid type"),
        ("[proxy]\nupstream = \"a b\"", "line 2: proxy.upstream: not a registry name"),
        ("[proxy]\nallow = [\"a\", \"b/c\"]", "line 2: proxy.allow: not a registry name"),
        ("[proxy]\npatience = \"soon\"", "line 2: proxy.patience: "),
        ("[proxy]\npatience = \"0s\"", "line 2: proxy.patience: must be 100 ms to 60 s"),
        ("[proxy]\nlinger = \"1h\"", "line 2: proxy.linger: must be at most 10 min"),
        ("[proxy]\nlisten = \"0.0.0.0:6500\"", "line 2: proxy.listen: 0.0.0.0:6500 is no loopback address"),
        ("[proxy]\nconnections_max = 0", "line 2: proxy.connections_max: must be 1 to 65536"),
        ("[p2p]\nupload_slots = 65", "line 2: p2p.upload_slots: must be 1 to 64"),
        ("[p2p]\nupload_slots = -1", "line 2: p2p.upload_slots: invalid value"),
        ("[p2p]\nupload_rate = \"fast\"", "line 2: p2p.upload_rate: "),
        ("[p2p]\nupload_rate = 0", "line 2: p2p.upload_rate: must be at least"),
        ("[p2p]\nadvertise = \"0.0.0.0\"", "line 2: p2p.advertise: must be an address"),
        ("[store]\nquota = \"1MiB\"", "line 2: store.quota: must be at least 64.0 MiB"),
        (
            "[scheduler]\naddress = \"http://10.0.0.1:6510\"",
            "line 2: scheduler.address: a scheduler without joining",
        ),
        (
            "[scheduler]\naddress = \"127.0.0.1:6510\"",
            "line 2: scheduler.address: 127.0.0.1:6510 is not of the form",
        ),
        (
            "[scheduler]\naddress = \"https://127.0.0.1:1\"",
            "line 2: scheduler.address: https://127.0.0.1:1/ is not of",
        ),
        (
            "[scheduler]\naddress = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"",
            "line 1: scheduler: only one of join_file, address and listen",
        ),
        ("[origin]\nretries = 1000", "line 1: origin: retries must be at most 10"),
        ("[resolver]\ngrace = \"2000years\"", "line 1: resolver: grace must be at most 30 days"),
        (
            "[resolver]\naccess_lifetime = \"31days\"",
            "line 1: resolver: access_lifetime must be at most 30 days",
        ),
        ("[host]\nzone = 7", "line 2: host.zone: invalid type"),
        ("[audit]\nfile = 7", "line 2: audit.file: invalid type"),
        ("[audit]\nfile = \"\"", "line 2: audit.file: must name a file"),
        ("[audit]\nmax_size = \"1KiB\"", "line 2: audit.max_size: must be at least 1.0 MiB"),
        ("[audit]\nkeep = 0", "line 2: audit.keep: must be 1 to 100"),
        (
            "[traces]\nendpoint = \"collector:4317\"",
            "line 2: traces.endpoint: must be of the form http://HOST:PORT",
        ),
        ("[traces]\nsample_ratio = 2", "line 2: traces.sample_ratio: must be a number from 0 to 1"),
        ("[log]\nformat = \"xml\"", "line 2: log.format: unknown variant"),
        ("[cache]\n", "line 1: cache: unknown field"),
    ];
    for (file, expected) in table {
        let error = load(&[], file).expect_err(file);
        assert!(error.to_string().contains(expected), "{file}: {error}");
        assert_eq!(Failure::from(error).exit.code(), 64);
    }
}

#[test]
fn mistakes_in_flags_are_named_by_their_flag() {
    let table = [
        (vec!["--listen", "0.0.0.0:6500"], "--listen: 0.0.0.0:6500 is no loopback address"),
        (vec!["--scheduler", "http://10.0.0.1:1"], "--scheduler: a scheduler without joining"),
        (vec!["--join-file", "/nowhere"], "--join-file: /nowhere: there is no such file"),
        (vec!["--upload-slots", "0"], "--upload-slots: must be 1 to 64"),
        (vec!["--quota", "1"], "--quota: must be at least"),
        (vec!["--advertise", "0.0.0.0"], "--advertise: must be"),
        (vec!["--audit", "/"], "--audit: must name a file"),
        (vec!["--traces", "collector:4317"], "--traces: must be of the form http://HOST:PORT"),
    ];
    for (flags, expected) in table {
        let error = Config::load(Flags::try_parse_from([&["dfdaemon"], &flags[..]].concat()).unwrap());
        let error = error.expect_err(expected);
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(Failure::from(error).exit.code(), 64);
    }
    let both = ["dfdaemon", "--scheduler", "http://127.0.0.1:1", "--scheduler-listen", "127.0.0.1:2"];
    assert!(Flags::try_parse_from(both).is_err());
    assert!(Flags::try_parse_from(["dfdaemon", "--traces-sample-ratio", "2"]).is_err());
}

#[test]
fn what_a_collectors_url_says_is_never_quoted() {
    for bad in [
        "http://ada:hunter2@collector:4317",
        "http://collector:4317/?token=hunter2",
        "http://collector:4317?token=hunter2",
        "hunter2",
    ] {
        let flags = Flags::try_parse_from(["dfdaemon", "--traces", bad]).unwrap();
        let shown = format!("{flags:?}");
        let of_flag = Config::load(flags).expect_err(bad).to_string();
        let of_file = load(&[], &format!("[traces]\nendpoint = {bad:?}")).expect_err(bad).to_string();
        assert!(of_flag.starts_with("--traces: must be of the form http://HOST:PORT"), "{of_flag}");
        assert!(of_file.contains("line 2: traces.endpoint: must be of the form"), "{of_file}");
        for said in [shown, of_flag, of_file] {
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
    let command = Flags::command();
    for flag in ["join", "traces"] {
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag)).unwrap();
        assert!(argument.is_hide_env_values_set(), "--help shows what the variable of --{flag} says");
    }
}

#[test]
fn beyond_loopback_only_where_a_flag_says_so() {
    let flags = ["--insecure-listen", "--listen", "0.0.0.0:6500"];
    assert_eq!(load(&flags, "").unwrap().proxy.listen.to_string(), "0.0.0.0:6500");
    let flags = ["--insecure-plain-grpc", "--scheduler", "http://10.0.0.1:6510", "--advertise", "10.0.0.2"];
    let config = load(&flags, "").unwrap();
    assert_eq!(config.p2p.bulk_listen.to_string(), "0.0.0.0:6502");
    assert_eq!(config.p2p.advertise, Some("10.0.0.2".parse().unwrap()));
    // With an address of its own to listen on, a host need not be told which one others use.
    let flags = ["--insecure-plain-grpc", "--scheduler", "http://10.0.0.1:6510"];
    let file = "[p2p]\ncontrol_listen = \"127.0.0.1:0\"\nbulk_listen = \"127.0.0.1:0\"";
    assert_eq!(load(&flags, file).unwrap().p2p.advertise, None);
}

#[test]
fn a_join_token_says_where_and_whose_and_is_never_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let hash = "A".repeat(43);
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I";
    let token = format!("dfjoin1.{hash}.{secret}");
    let text = format!("{token}@10.0.0.1:7000");
    let file = dir.path().join("join");
    membership::file::create(&file, format!("{text}\n").as_bytes()).unwrap();
    let in_file = format!("[scheduler]\njoin_file = {:?}", file.display().to_string());
    for (flags, file) in [(vec!["--join", &text], ""), (vec![], in_file.as_str())] {
        let config = load(&[&flags[..], &["--advertise", "10.0.0.2"]].concat(), file).unwrap();
        let SchedulerConfig::Remote { address, join: Some(JoinBy::Token(got)) } = &config.scheduler else {
            panic!()
        };
        assert_eq!(address.to_string(), "http://10.0.0.1:7000/");
        assert_eq!(got.expose(), token);
        assert!(!format!("{config:?}").contains(secret));
        assert_eq!(config.p2p.bulk_listen.to_string(), "0.0.0.0:6502");
    }
    let address = |text: &str| {
        let config = load(&["--join", text, "--advertise", "10.0.0.2"], "").unwrap();
        let SchedulerConfig::Remote { address, .. } = config.scheduler else { panic!() };
        address.to_string()
    };
    assert_eq!(address(&format!("{token}@scheduler.example")), "http://scheduler.example:6510/");
    assert_eq!(address(&format!("{token}@[fd00::1]:7000")), "http://[fd00::1]:7000/");
    for bad in [
        token.clone(),
        format!("{token}@"),
        format!("{token}x@10.0.0.1:1"),
        format!("{token}@10.0.0.1:1/path"),
        format!("{secret}@10.0.0.1:1"),
    ] {
        let error = load(&["--join", &bad], "").expect_err(&bad);
        assert!(error.to_string().starts_with("--join: ") && !error.to_string().contains(secret), "{error}");
        let flags = Flags::try_parse_from(["dfdaemon", "--join", &bad]).unwrap();
        assert!(!format!("{flags:?}").contains(secret));
    }
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = load(&[], &in_file).unwrap_err().to_string();
    assert!(error.contains("line 2: scheduler.join_file: ") && error.contains("set it to 600"), "{error}");
}

#[test]
fn a_service_account_joins_where_the_authority_is_named() {
    let text = format!("dfauth1.{}@10.0.0.1:7000", "A".repeat(43));
    let of_file = "[scheduler]\nservice_account_token_file = \"/run/token\"";
    let of_flag = ["--join", &text, "--service-account-token-file", "/run/token", "--advertise", "10.0.0.2"];
    for (flags, file) in [(&of_flag[..], ""), (&["--join", &text, "--advertise", "10.0.0.2"], of_file)] {
        let config = load(flags, file).unwrap();
        let SchedulerConfig::Remote { address, join: Some(by) } = &config.scheduler else { panic!() };
        let JoinBy::ServiceAccount { authority, token_file } = by else { panic!() };
        assert_eq!(address.to_string(), "http://10.0.0.1:7000/");
        assert_eq!(format!("{}@10.0.0.1:7000", authority.to_text()), text);
        assert_eq!(token_file.to_str(), Some("/run/token"));
        assert!(!config.scheduler.is_open_to_strangers());
    }
    let secret = format!("dfjoin1.{0}.{0}@10.0.0.1:7000", "A".repeat(43));
    let useless = "is of use only where this host joins with dfauth1.HASH@HOST:PORT";
    for (flags, file, why) in [
        (&["--join", &text][..], "", "--join: dfauth1.HASH lets nobody in by itself"),
        (&["--join", &secret, of_flag[2], of_flag[3]], "", "--service-account-token-file: is of use only"),
        (&of_flag[2..4], "", "--service-account-token-file: is of use only"),
        (&[], of_file, useless),
        (&["--join", "dfauth1.AAAA@10.0.0.1:1", of_flag[2], of_flag[3]], "", "--join: not an authority"),
    ] {
        let error = load(flags, file).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    // A flag for another kind wins.
    load(&["--join", &secret, "--advertise", "10.0.0.2"], of_file).unwrap();
}

#[test]
fn the_address_towards_the_scheduler_is_advertised() {
    let file = "[p2p]\nbulk_listen = \"0.0.0.0:0\"";
    let config = load(&["--insecure-plain-grpc", "--scheduler", "http://127.0.0.1:9"], file).unwrap();
    assert_eq!(config.p2p.advertise, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
}

/// The example with its comment signs taken off: keys at their defaults only, or those of the deeper column too.
fn example(deeper: bool) -> String {
    let uncomment = |line: &str| {
        let deep = line.strip_prefix("#     ").filter(|_| deeper);
        let key = line.strip_prefix("# ").filter(|rest| rest.split(" = ").next().is_some_and(is_key));
        deep.or(key).unwrap_or(line).to_owned() + "\n"
    };
    include_str!("../dfdaemon.example.toml").lines().map(uncomment).collect()
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn the_example_shows_the_defaults() {
    let defaults = load(&[], "").unwrap();
    assert_eq!(format!("{:?}", load(&[], &example(false)).unwrap()), format!("{defaults:?}"));
    assert_eq!(
        format!("{:?}", load(&[], include_str!("../dfdaemon.example.toml")).unwrap()),
        format!("{defaults:?}")
    );
}

#[test]
fn the_example_is_right_in_every_key() {
    let text = example(true).replace("insecure_plain_grpc = false", "insecure_plain_grpc = true");
    // An address excludes joining, and a scheduler inside.
    let text =
        text.replace("listen = \"127.0.0.1:0\"\n", "").replace("join_file = \"/etc/damselfly/join\"\n", "");
    let text = text.replace("service_account_token_file = \"/var/run/secrets/damselfly/token\"\n", "");
    let config = load(&[], &text).unwrap();
    assert_eq!(config.origin.registries.len(), 1);
    assert_eq!(config.p2p.download_rate, Some(100_000_000));
}
