//! `exedra backup` and `exedra restore`: the records of a server in a directory of their own, and back.
//!
//! In flow the flags, out flows a line on what was saved. A server may run during the one, and none during the other.

use exedra_registry::backup::{Backup, backup, restore};
use tracing_subscriber::filter::LevelFilter;

use crate::cli::backup::BackupArgs;
use crate::exit::{Exit, Failure};
use crate::{log, output, owner, runtime, settings};

/// Saves the records.
///
/// # Errors
/// They cannot be read, or not be saved there.
pub fn save(args: BackupArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::WARN)?;
    let data_dir = settings::data_dir(args.data_dir)?;
    let saved = owner::making(&data_dir, &args.directory, |directory| {
        runtime::light(async { Ok(backup(&data_dir, directory).await?) })
    })?;
    tell(&saved, args.json, &format!("saved in {}", args.directory.display()))
}

/// Puts them in place.
///
/// # Errors
/// They are not whole, or something is there already.
pub fn put(args: BackupArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::WARN)?;
    let data_dir = settings::data_dir(args.data_dir)?;
    let restored =
        owner::acting(&data_dir, || runtime::light(async { Ok(restore(&args.directory, &data_dir).await?) }))?;
    tell(&restored, args.json, &format!("restored into {}", data_dir.display()))
}

fn tell(backup: &Backup, json: bool, done: &str) -> Result<Exit, Failure> {
    if json {
        output::json(backup)?;
    } else {
        let bytes: u64 = backup.files.iter().map(|file| file.bytes).sum();
        output::line(&format!("{done}: {bytes} bytes, schema {}", backup.schema))?;
    }
    Ok(Exit::Success)
}
