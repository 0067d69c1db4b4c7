//! Whether what a server has answered with success is still there after it was killed, or after the power went.
//!
//! In flows the binary, out flow PASS and FAIL lines. [`kills`] ends real processes at random moments during writes;
//! [`trace`] shows, call by call, that the disk was asked before the client was told.

mod kills;
mod trace;

use std::path::Path;

use anyhow::Result;

use crate::report::Report;

/// Runs both, with so many kills; tells whether nothing was lost.
///
/// # Errors
/// The run itself could not go on.
pub async fn run(exedra: &Path, dir: &Path, kills: usize) -> Result<bool> {
    let report = Report::default();
    let found =
        report.check(&format!("{kills} kills during writes lose nothing"), kills::run(exedra, dir, kills)).await?;
    if let Some(tally) = found {
        report.note(&tally.to_string())?;
    }
    let name = "the disk is asked before a registration and a token are answered";
    match trace::tool().await {
        Ok(tool) => drop(report.check(name, trace::run(&tool, exedra, dir)).await?),
        Err(why) => report.skip(name, &format!("{why:#}"))?,
    }
    report.finish()
}
