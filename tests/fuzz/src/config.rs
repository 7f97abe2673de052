//! The configuration files of both programs.
//!
//! A file that is refused is refused with the line of the mistake, and no secret in a file is shown by anything that is
//! made of it.

use crate::input::Input;
use dfdaemon::config_flags::Flags as DaemonFlags;
use scheduler::Flags as SchedulerFlags;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;
use tempfile::NamedTempFile;

/// Nothing else in a file is like it.
const SECRET: &str = "correct-horse-battery-staple";

/// A table that is added to every file.
const CREDENTIAL: &str = "\n[origin.registries.\"secret.example\".credential]\nusername = \"u\"\npassword = ";

/// The first byte chooses the program, the others are the file.
pub fn config(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let load =
        [load_daemon as fn(&Path) -> Result<String, String>, load_scheduler][usize::from(input.u8() % 2)];
    let text = input.rest();
    check(text, load);
    let secret = format!("{CREDENTIAL}\"{SECRET}\"\n");
    check(&[text, secret.as_bytes()].concat(), load);
}

fn check(text: &[u8], load: fn(&Path) -> Result<String, String>) {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text).expect("room for a temporary file");
    let shown = match load(file.path()) {
        Ok(shown) => shown,
        Err(error) => {
            let line = error.split_once(", line ").and_then(|(_, rest)| rest.split_once(':'));
            if let Some(line) = line.and_then(|(line, _)| line.parse::<usize>().ok()) {
                let lines = 1 + text.iter().filter(|b| **b == b'\n').count();
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
            }
            error
        }
    };
    assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
}

/// What the configuration shows of itself, or the error.
fn load_daemon(file: &Path) -> Result<String, String> {
    // With an address of its own it need not find out which it has: no name is looked up.
    let advertise = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let flags = DaemonFlags { config: Some(file.to_owned()), advertise, ..DaemonFlags::default() };
    let config = dfdaemon::config::Config::load(flags).map_err(|error| chain(&error))?;
    assert!((1..=65_536).contains(&config.proxy.connections_max));
    assert!((Duration::from_millis(100)..=Duration::from_secs(60)).contains(&config.proxy.patience));
    assert!((1..=64).contains(&config.p2p.upload_slots) && (1..=256).contains(&config.p2p.download_slots));
    assert_eq!(origin::canonical(&config.proxy.upstream), config.proxy.upstream);
    config.origin.validate().expect("what is taken makes sense");
    check_resolver(&config.resolver);
    Ok(format!("{config:?}"))
}

fn load_scheduler(file: &Path) -> Result<String, String> {
    let flags = SchedulerFlags { config: Some(file.to_owned()), ..SchedulerFlags::default() };
    let (options, _) = scheduler::load(flags).map_err(|failure| failure.to_string())?;
    options.validate().expect("what is taken makes sense");
    options.origin.validate().expect("what is taken makes sense");
    check_resolver(&options.resolver);
    Ok(format!("{options:?}"))
}

/// Times that can be added, and that a cache takes.
fn check_resolver(options: &origin::ResolverOptions) {
    let longest = options.tag_lifetime.max(options.access_lifetime).checked_add(options.grace);
    assert!(longest.is_some_and(|time| time < Duration::from_secs(366 * 24 * 3600)), "{options:?}");
}

/// An error with its causes and its other form.
fn chain(error: &impl std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
