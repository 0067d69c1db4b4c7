//! `exedra doctor`: what works on this machine and what does not, before somebody needs it.
//!
//! In flows nothing but the machine, out flow a table or JSON, and a status that a script can ask for.

use exedra_host::sandbox::Strength;
use exedra_host::{Host, HostConfig};
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::{log, output, runtime};

#[derive(Serialize)]
struct Finding {
    name: String,
    works: bool,
    /// What it is, or what is wrong.
    text: String,
}

/// Looks, and tells.
///
/// # Errors
/// It could not look.
pub fn run(args: DoctorArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::ERROR)?;
    let findings = runtime::light(look())?;
    let sound = findings.iter().all(|finding| finding.works);
    if args.json {
        output::json(&findings)?;
    } else {
        let word = |works| if works { "ok" } else { "no" };
        output::table(findings.into_iter().map(|found| [word(found.works).to_owned(), found.name, found.text]))?;
    }
    Ok(if sound { Exit::Success } else { Exit::Lacking })
}

async fn look() -> Result<Vec<Finding>, Failure> {
    let mut config = HostConfig::default();
    config.launcher = Some("/proc/self/exe".into());
    let support = Host::start(config)?.support().await;
    let system = rustix::system::uname();
    let kernel = format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy());
    let strength = support.strength();
    let mut findings = vec![
        Finding { name: "kernel".to_owned(), works: true, text: kernel },
        Finding { name: "sandbox".to_owned(), works: strength == Strength::Whole, text: strength.to_string() },
    ];
    findings.extend(support.parts().map(|part| Finding {
        name: part.name.to_owned(),
        works: part.problem.is_none(),
        text: part.problem.clone().unwrap_or_else(|| "works".to_owned()),
    }));
    Ok(findings)
}
