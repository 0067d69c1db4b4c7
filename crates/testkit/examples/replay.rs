//! Replays a recording against a running listener: `replay ADDRESS DIRECTORY RECORDING [INTENDED]`.
//!
//! The directory is emptied and refilled before each case.

use std::io::Write as _;
use std::path::PathBuf;

use exedra_testkit::pattern::Bindings;
use exedra_testkit::{replay, stage};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: replay ADDRESS DIRECTORY RECORDING [INTENDED]");
    let (address, dir, recording) = (next()?, PathBuf::from(next()?), next()?);
    let mut cases: Vec<replay::Case> = replay::parse_lines(&std::fs::read_to_string(recording)?)?;
    if let Ok(intended) = next() {
        let intended: Vec<replay::Intended> = replay::parse_lines(&std::fs::read_to_string(intended)?)?;
        replay::amend(&mut cases, intended)?;
    }
    let server = stage::HttpServer::start().await?;
    let mut failed = 0;
    for case in &cases {
        stage::fill(&dir)?;
        let mut bindings = Bindings::default();
        bindings.bind("<dir>", dir.to_string_lossy());
        bindings.bind("<http-server>", server.address.clone());
        if let Err(difference) = replay::run(case, &address, bindings, 1.0).await {
            failed += 1;
            writeln!(std::io::stdout(), "{}: {difference}", case.case)?;
        }
    }
    writeln!(std::io::stdout(), "{} passed, {failed} failed", cases.len() - failed)?;
    Ok(())
}
