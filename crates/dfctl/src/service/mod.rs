//! `dfctl service`: the daemon or the scheduler as a service of systemd's, on a host without Kubernetes, and away again.
//!
//! As in `runtime`, what has to change is worked out whole (`plan`), shown or recorded (`record`), and then done (`hands`),
//! in the order that `desk` has. Units and programs are all ours, and refused where others have put theirs; of a file with
//! settings only our lines are (`env_file`). systemd itself is told only when the operator says so (`calls`).

mod calls;
mod desk;
mod env_file;
mod hands;
mod join;
mod options;
mod plan;
mod purge;
mod record;
mod report;

pub(crate) use options::{Machine, Service, ServiceCommand};

use crate::machine::Files;
use crate::{Error, Output};
use desk::Desk;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a daemon joins a cluster by, as its unit hands it on.
const JOIN: &str = "DFDAEMON_JOIN";

/// Where units are that were put there by hand, or by us.
const UNITS: &str = "/etc/systemd/system";

/// Where packages put theirs.
const PACKAGED: [&str; 3] =
    ["/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system"];

impl Service {
    /// All of them.
    const ALL: [Self; 2] = [Self::Dfdaemon, Self::Scheduler];

    /// As the operator knows it.
    const fn name(self) -> &'static str {
        match self {
            Self::Dfdaemon => "dfdaemon",
            Self::Scheduler => "scheduler",
        }
    }

    /// As systemd knows it.
    const fn unit(self) -> &'static str {
        match self {
            Self::Dfdaemon => "dfdaemon.service",
            Self::Scheduler => "damselfly-scheduler.service",
        }
    }

    const fn unit_text(self) -> &'static str {
        match self {
            Self::Dfdaemon => include_str!("../../../../dfdaemon/systemd/dfdaemon.service"),
            Self::Scheduler => include_str!("../../../../scheduler/systemd/damselfly-scheduler.service"),
        }
    }

    fn unit_path(self) -> PathBuf {
        Path::new(UNITS).join(self.unit())
    }

    /// Where its unit would be if a package had brought it.
    fn packaged_units(self) -> [PathBuf; 3] {
        PACKAGED.map(|dir| Path::new(dir).join(self.unit()))
    }

    /// What is there while it is started with the machine.
    fn enabled_link(self) -> PathBuf {
        Path::new(UNITS).join("multi-user.target.wants").join(self.unit())
    }

    /// Its programs, as they are called where they are built and where its unit has them; the first is the one it starts.
    const fn programs(self) -> [(&'static str, &'static str); 2] {
        let dfctl = ("dfctl", "/usr/bin/dfctl");
        match self {
            Self::Dfdaemon => [("dfdaemon", "/usr/bin/dfdaemon"), dfctl],
            Self::Scheduler => [("scheduler", "/usr/bin/damselfly-scheduler"), dfctl],
        }
    }

    /// The one that its unit starts.
    fn program(self) -> &'static Path {
        Path::new(self.programs()[0].1)
    }

    /// The variables that its unit reads.
    const fn env_file(self) -> &'static str {
        match self {
            Self::Dfdaemon => "/etc/damselfly/dfdaemon.env",
            Self::Scheduler => "/etc/damselfly/scheduler.env",
        }
    }

    /// The variable with its flags.
    const fn flags(self) -> &'static str {
        match self {
            Self::Dfdaemon => "DFDAEMON_FLAGS",
            Self::Scheduler => "SCHEDULER_FLAGS",
        }
    }

    /// What it keeps.
    const fn state(self) -> &'static str {
        match self {
            Self::Dfdaemon => "/var/lib/damselfly",
            Self::Scheduler => "/var/lib/damselfly-scheduler",
        }
    }

    /// Where it may write logs.
    const fn logs(self) -> &'static str {
        match self {
            Self::Dfdaemon => "/var/log/damselfly",
            Self::Scheduler => "/var/log/damselfly-scheduler",
        }
    }
}

/// Does what the command line says.
pub(crate) async fn run(
    machine: &Machine,
    command: ServiceCommand,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    let files =
        Files::below(&machine.root).map_err(|source| Error::File { path: machine.root.clone(), source })?;
    let desk = Desk::new(files, &machine.root);
    // What was done is told even if not all of it could be.
    let (report, result) = match command {
        ServiceCommand::Install(options) => desk.install(&options).await?,
        ServiceCommand::Uninstall(options) => desk.uninstall(&options).await?,
        ServiceCommand::Status => {
            return Ok(report::write_status(&desk.status().await?, output, out)?);
        }
    };
    report.write(output, out)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_name_what_is_installed() {
        for service in Service::ALL {
            let unit = service.unit_text();
            for line in [
                format!("ExecStart={} ${}", service.program().display(), service.flags()),
                format!("EnvironmentFile=-{}", service.env_file()),
                format!("StateDirectory={}", service.state().trim_start_matches("/var/lib/")),
                format!("LogsDirectory={}", service.logs().trim_start_matches("/var/log/")),
                "WantedBy=multi-user.target".to_owned(),
            ] {
                assert!(unit.lines().any(|there| there == line), "{}: {line}", service.unit());
            }
        }
        assert!(Service::Dfdaemon.unit_text().contains(JOIN));
    }
}
