//! Flags and the configuration file, put together.

use crate::{Error, Invalid, Options};
use clap::Parser;
use process::config::Document;
use process::exit::Failure;
use process::reload::Loaded;
use process::telemetry::Format;
use process::traces::{EndpointError, EndpointText};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Damselfly's scheduler: tells hosts which piece of which image layer to get from whom, so that each layer leaves its
/// registry once.
///
/// Exit codes: 0 stopped in good order, 64 a flag or the configuration is wrong, 69 a port or
/// the state directory is taken, 73 the state directory cannot be used.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "scheduler", version)]
pub struct Flags {
    /// Configuration file (TOML); flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say whether flags and file are good, and end
    #[arg(long)]
    pub check: bool,
    /// Where hosts connect, by gRPC [default: 127.0.0.1:6510]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where operators ask, by HTTP: /healthz /readyz /metrics /v1/status [default: 127.0.0.1:6511]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<SocketAddr>,
    /// The directory of the cluster's keys and join tokens [default: /var/lib/damselfly-scheduler]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// A directory with ca.key and ticket.key, and perhaps a join-token, that others keep: a mounted Secret
    #[arg(long, value_name = "DIR", conflicts_with = "insecure_plain_grpc")]
    pub identity: Option<PathBuf>,
    /// Speak gRPC without TLS: whoever reaches the port is a host
    #[arg(long)]
    pub insecure_plain_grpc: bool,
    /// The cluster's name [default: damselfly]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// How long a tag is believed before its registry is asked again [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub tag_lifetime: Option<Duration>,
    /// Keep who joined and what operators do in this file
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// A collector that takes traces, OTLP by gRPC: http://HOST:PORT or https://HOST:PORT [default: none are made]
    #[arg(long, value_name = "URL", env = "SCHEDULER_TRACES", hide_env_values = true)]
    pub traces: Option<EndpointText>,
    /// What is logged: a level, or directives as in warn,scheduler=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// The form of the log [default: auto, which is json unless on a terminal]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<Format>,
}

impl Flags {
    /// The options, where they are not overruled.
    ///
    /// # Errors
    /// A flag that makes no sense, of which the value is not quoted.
    fn over(self, mut options: Options) -> Result<Options, Invalid> {
        set(&mut options.listen, self.listen);
        options.admin = self.admin.or(options.admin);
        options.insecure_plain_grpc |= self.insecure_plain_grpc;
        set(&mut options.state, self.state);
        if self.identity.is_some() {
            options.identity = self.identity;
        }
        set(&mut options.cluster, self.cluster);
        set(&mut options.resolver.tag_lifetime, self.tag_lifetime);
        options.audit.file = self.audit.or(options.audit.file);
        if let Some(text) = self.traces {
            let wrong = |error: EndpointError| Invalid { key: "--traces", why: error.to_string() };
            options.traces.endpoint = Some(text.endpoint().map_err(wrong)?);
        }
        set(&mut options.log.filter, self.log);
        set(&mut options.log.format, self.log_format);
        Ok(options)
    }
}

fn set<T>(option: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *option = value;
    }
}

/// The options that the flags and the file they name make, checked, and the file.
///
/// # Errors
/// A failure with exit code 64 that names the key and, where the file has it, the line.
pub fn load(flags: Flags) -> Result<Loaded<Options>, Failure> {
    let file = flags.config.as_deref().map(Document::read).transpose()?;
    let options = match &file {
        Some(file) => file.parse()?,
        None => Options::default(),
    };
    let options = flags.over(options).map_err(Error::Invalid)?;
    match (options.validate(), &file) {
        (Ok(()), _) => {}
        (Err(invalid), Some(file)) => return Err(file.wrong(invalid.key, invalid.why).into()),
        (Err(invalid), None) => return Err(Error::Invalid(invalid).into()),
    }
    options.origin.validate().map_err(Error::Origin)?;
    Ok((options, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn load_with(file: &str, args: &[&str]) -> Result<Options, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scheduler.toml");
        std::fs::write(&path, file).unwrap();
        let path = path.to_str().unwrap();
        let args = [&["scheduler", "--config", path], args].concat();
        load(Flags::try_parse_from(args).unwrap()).map(|(options, _)| options).map_err(|failure| {
            assert_eq!(failure.exit.code(), 64);
            failure.to_string().replace(dir.path().to_str().unwrap(), "")
        })
    }

    #[test]
    fn flags_are_well_formed() {
        Flags::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\n[resolver]\ntag_lifetime = \"9s\"\n";
        let options = load_with(file, &["--listen", "127.0.0.1:3", "--log", "warn"]).unwrap();
        assert_eq!(options.listen.port(), 3);
        assert_eq!(options.admin.unwrap().port(), 2);
        assert_eq!(options.resolver.tag_lifetime, Duration::from_secs(9));
        assert_eq!(options.log.filter, "warn");
    }

    #[test]
    fn mistakes_in_the_file_are_named_with_key_and_line() {
        for (file, why) in [
            ("\nlissten = 1", "/scheduler.toml, line 2: lissten: unknown field `lissten`"),
            ("[hosts]\nmax = \"many\"", "/scheduler.toml, line 2: hosts.max: invalid type"),
            ("[hosts]\n\nmax = 0", "/scheduler.toml, line 3: hosts.max: must be 1 to 20000"),
            ("[hosts]\nheartbeat = \"often\"", "/scheduler.toml, line 2: hosts.heartbeat: "),
            (
                "\n[resolver]\ntag_lifetime = \"31days\"",
                "/scheduler.toml, line 2: resolver: tag_lifetime must be at most",
            ),
            ("[origin]\nretries = 11", "origin.retries must be at most 10"),
            (
                "[traces]\nendpoint = \"collector:4317\"",
                "/scheduler.toml, line 2: traces.endpoint: must be of the form http://HOST:PORT",
            ),
            (
                "[kubernetes]\nservice_accounts = [\"a/b\", \"system:serviceaccount:a:b\"]",
                "/scheduler.toml, line 2: kubernetes.service_accounts: must be of the form NAMESPACE/NAME",
            ),
            (
                "[kubernetes]\n\napi = \"http://10.0.0.1\"",
                "/scheduler.toml, line 3: kubernetes.api: must be of the form https://HOST:PORT",
            ),
            ("[kubernetes]\naudience = \"\"", "/scheduler.toml, line 2: kubernetes.audience: must have"),
            (
                "insecure_plain_grpc = true\n[kubernetes]\nservice_accounts = [\"a/b\"]",
                "/scheduler.toml, line 3: kubernetes.service_accounts: nobody joins",
            ),
        ] {
            let error = load_with(file, &[]).expect_err(file);
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn what_a_collectors_url_says_is_never_quoted() {
        for bad in [
            "http://ada:hunter2@collector:4317",
            "http://collector:4317/?token=hunter2",
            "http://collector:4317?token=hunter2",
            "hunter2",
        ] {
            let of_flag = load_with("", &["--traces", bad]).expect_err(bad);
            assert!(of_flag.starts_with("--traces: must be of the form http://HOST:PORT"), "{of_flag}");
            let of_file = load_with(&format!("[traces]\nendpoint = {bad:?}"), &[]).expect_err(bad);
            assert!(of_file.contains("line 2: traces.endpoint: must be of the form"), "{of_file}");
            let flags = Flags::try_parse_from(["scheduler", "--traces", bad]).unwrap();
            for said in [of_flag, of_file, format!("{flags:?}")] {
                assert!(!said.contains("hunter2"), "{said}");
            }
        }
        let command = Flags::command();
        let mut arguments = command.get_arguments();
        let traces = arguments.find(|argument| argument.get_long() == Some("traces")).unwrap();
        assert!(traces.is_hide_env_values_set(), "--help shows what the variable says");
    }

    #[test]
    fn a_flag_says_where_traces_go() {
        let file = "[traces]\nendpoint = \"http://collector:4317\"";
        for (args, expected) in [
            (vec![], "http://collector:4317"),
            (vec!["--traces", "https://other:4318"], "https://other:4318"),
        ] {
            let options = load_with(file, &args).unwrap();
            assert_eq!(options.traces.endpoint.unwrap().to_string(), expected);
        }
    }

    const EXAMPLE: &str = include_str!("../scheduler.example.toml");

    #[test]
    fn the_example_shows_the_defaults() {
        assert_eq!(format!("{:?}", load_with(EXAMPLE, &[]).unwrap()), format!("{:?}", Options::default()));
    }
}
