//! `exedra doctor`: what works and what does not, before somebody needs it: on this machine, on the way to a server, or in
//! a data directory.
//!
//! In flow the flags, out flow a table or JSON, and a status that a script can ask for. How each part is looked at stands
//! beneath.

mod server;

use exedra_host::sandbox::Strength;
use exedra_host::{Host, HostConfig};
use exedra_registry::checkup::{self, Verdict};
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::{log, output, owner, runtime};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    status: Status,
    /// Whether it did not fail.
    works: bool,
    /// What it is, or what is wrong.
    text: String,
}

impl Finding {
    fn new(name: impl Into<String>, status: Status, text: impl Into<String>) -> Self {
        Self { name: name.into(), status, works: status != Status::Fail, text: text.into() }
    }
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl From<checkup::Finding> for Finding {
    fn from(found: checkup::Finding) -> Self {
        let status = match found.verdict {
            Verdict::Sound => Status::Ok,
            Verdict::Doubtful => Status::Warn,
            Verdict::Bad => Status::Fail,
        };
        Self::new(found.name, status, found.text)
    }
}

/// Looks, and tells.
///
/// # Errors
/// It could not look.
pub fn run(args: DoctorArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::ERROR)?;
    let mut findings = Vec::new();
    if let Some(url) = &args.server {
        findings.extend(runtime::light(async { Ok(server::look(url).await) })?);
    }
    if let Some(dir) = &args.data_dir {
        let found = owner::acting(dir, || runtime::light(async { Ok(checkup::checkup(dir).await) }))?;
        findings.extend(found.into_iter().map(Finding::from));
    }
    if args.server.is_none() && args.data_dir.is_none() {
        findings.extend(runtime::light(machine())?);
    }
    let sound = findings.iter().all(|finding| finding.works);
    if args.json {
        output::json(&findings)?;
    } else {
        let rows = findings.into_iter().map(|found| [found.status.word().to_owned(), found.name, found.text]);
        output::table(rows)?;
    }
    Ok(if sound { Exit::Success } else { Exit::Lacking })
}

async fn machine() -> Result<Vec<Finding>, Failure> {
    let mut config = HostConfig::default();
    config.launcher = Some("/proc/self/exe".into());
    let support = Host::start(config)?.support().await;
    let system = rustix::system::uname();
    let kernel = format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy());
    let strength = support.strength();
    let status = |works| if works { Status::Ok } else { Status::Fail };
    let mut findings = vec![
        Finding::new("kernel", Status::Ok, kernel),
        Finding::new("sandbox", status(strength == Strength::Whole), strength.to_string()),
    ];
    findings.extend(support.parts().map(|part| {
        let text = part.problem.clone().unwrap_or_else(|| "works".to_owned());
        Finding::new(part.name, status(part.problem.is_none()), text)
    }));
    Ok(findings)
}
