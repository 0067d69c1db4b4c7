//! `exedra audit`: verifies, shows and signs for the log of an executor; and opens it for the commands that write one.
//!
//! In flow the flags, out flow findings on stdout, or the first fault and an exit code of 1.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exedra_executor::audit::log::{Place, Verdict, each_line, read_head, verify};
use exedra_executor::audit::{Audit, AuditConfig};
use exedra_executor::identity::Identity;
use serde_json::Value;

use crate::cli::audit::{AuditArgs, AuditCommand, AuditKeyArgs, AuditShowArgs, AuditVerifyArgs};
use crate::exit::{Exit, Failure};
use crate::{output, settings};

/// Members that stand at the beginning of a line, or say nothing to people.
const NOT_SHOWN: &[&str] = &["n", "at", "prev", "kind", "sig"];

/// Does what the command says.
///
/// # Errors
/// The log or the key cannot be read.
pub fn run(command: AuditCommand) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(args) => check(args),
        AuditCommand::Show(args) => show(&args),
        AuditCommand::Key(args) => key(args),
    }
}

/// The audit that the flags ask for.
///
/// # Errors
/// It cannot be opened.
pub fn open(args: &AuditArgs) -> Result<Option<Audit>, Failure> {
    let Some(dir) = &args.dir else { return Ok(None) };
    let mut config = AuditConfig::new(dir.clone(), settings::identity(args.identity.clone())?);
    config.output = args.output.then(|| args.mask.clone());
    Ok(Some(Audit::open(&config)?))
}

fn check(args: AuditVerifyArgs) -> Result<Exit, Failure> {
    let heads = args.head.iter().map(|path| read_head(path)).collect::<Result<Vec<_>, _>>()?;
    let trusted = args.key.is_some() || !heads.is_empty();
    match verify(&args.dir, heads, args.key.map(|key| key.to_ascii_lowercase()))? {
        Verdict::Sound(findings) => {
            if args.json {
                output::json(&serde_json::json!({"sound": true, "findings": findings}))?;
                return Ok(Exit::Success);
            }
            let last = (findings.first + findings.lines).saturating_sub(1);
            output::line(&format!("sound: lines {} to {last}, {} signed heads", findings.first, findings.heads))?;
            if findings.first > 0 {
                output::line(&format!("lines 0 to {} are in older files that are not here", findings.first - 1))?;
            }
            if findings.unsigned > 0 {
                output::line(&format!("the last {} are not signed yet", findings.unsigned))?;
            }
            if findings.unfinished > 0 {
                let text = "bytes of an unfinished line at the end: the executor was killed while it wrote it, or writes it now";
                output::line(&format!("{} {text}", findings.unfinished))?;
            }
            let key = findings.key.unwrap_or_default();
            output::line(&format!("signed by {key}"))?;
            if !trusted {
                output::note("nothing was kept elsewhere to compare with: give --key or --head to trust the signer");
            }
            Ok(Exit::Success)
        }
        Verdict::Faulty { fault, place } => {
            let at = place.as_ref().map(describe);
            if args.json {
                let (file, row) = place.map(|place| (place.file, place.row)).unzip();
                output::json(&serde_json::json!({"sound": false, "fault": fault, "file": file, "row": row}))?;
            } else {
                output::line(&format!("NOT sound: {fault}{}", at.unwrap_or_default()))?;
            }
            Ok(Exit::Refused)
        }
    }
}

fn describe(place: &Place) -> String {
    format!(" (noticed at {}:{})", place.file.display(), place.row)
}

fn show(args: &AuditShowArgs) -> Result<Exit, Failure> {
    let kinds: HashSet<&str> = args.kind.iter().map(String::as_str).collect();
    let from = args.since.map(since);
    let mut failed = None;
    each_line(&args.dir, &mut |place, bytes| {
        let Ok(line) = serde_json::from_slice::<Value>(bytes) else {
            output::note(&format!("not a line of a log: {}:{}", place.file.display(), place.row));
            return true;
        };
        let is = |name: &str, wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| line[name] == wanted);
        let kind = line["kind"].as_str().unwrap_or_default();
        let recent = from.is_none_or(|from| line["at"].as_u64().is_some_and(|at| at >= from));
        let wanted = is("session", &args.session) && is("process", &args.process) && recent;
        if wanted && (kinds.is_empty() || kinds.contains(kind)) {
            let text = if args.json { String::from_utf8_lossy(bytes).into_owned() } else { readable(&line) };
            failed = output::line(&text).err();
        }
        failed.is_none()
    })?;
    failed.map_or(Ok(Exit::Success), |error| Err(error.into()))
}

fn key(args: AuditKeyArgs) -> Result<Exit, Failure> {
    let identity = Identity::load(Path::new(&settings::identity(args.identity)?))
        .map_err(exedra_executor::audit::AuditError::from)?;
    output::line(&identity.public_key())?;
    Ok(Exit::Success)
}

fn since(ago: Duration) -> u64 {
    let from = SystemTime::now().checked_sub(ago).and_then(|from| from.duration_since(UNIX_EPOCH).ok());
    from.map_or(0, |from| u64::try_from(from.as_millis()).unwrap_or(u64::MAX))
}

/// Number, time, kind and members; control characters stay escaped, as they are in JSON.
fn readable(line: &Value) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(line["at"].as_u64().unwrap_or(0).min(u64::from(u32::MAX) * 1000));
    let (n, kind) = (line["n"].as_u64().unwrap_or(0), line["kind"].as_str().unwrap_or("?"));
    let mut text = format!("{n:>8}  {}  {:<13}", httpdate::fmt_http_date(at), kind.escape_debug().to_string());
    for (name, value) in line.as_object().into_iter().flatten().filter(|(name, _)| !NOT_SHOWN.contains(&name.as_str()))
    {
        text.push_str(&format!("  {}={value}", name.escape_debug()));
    }
    text
}
