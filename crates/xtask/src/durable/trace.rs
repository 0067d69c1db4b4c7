//! The system calls of a write, in their order: the log of the database, the disk's word, and only then the answer.
//!
//! Needs `strace`, and the right to use it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::child::Spawn;
use crate::load::post::post;
use crate::plane::{Plane, READY};

/// What is traced: everything that writes, and what waits for the disk.
const CALLS: &str = "trace=fsync,fdatasync,pwrite64,pwritev,sendto,sendmsg,write,writev";
/// Registrations that are looked at.
const REGISTRATIONS: usize = 5;
/// For a short look at the tool.
const LOOK: Duration = Duration::from_secs(10);

/// The tool, if it works here.
pub(super) async fn tool() -> Result<PathBuf> {
    let tool = PathBuf::from("strace");
    let look = Spawn::new(&tool).args(["-f", "-e", "trace=fsync", "true"]).output(LOOK).await?;
    ensure!(look.status.success(), "strace does not work here: {}", String::from_utf8_lossy(&look.stderr).trim());
    Ok(tool)
}

pub(super) async fn run(tool: &Path, exedra: &Path, dir: &Path) -> Result<()> {
    let dir = dir.join("trace");
    std::fs::create_dir_all(&dir)?;
    let traced =
        |calls: &Path| Spawn::new(tool).args(["-f", "-y", "-s", "24", "-e", CALLS, "-o"]).arg(calls).arg(exedra);

    let calls = dir.join("server.calls");
    let mut plane = Plane::start_wrapped(traced(&calls), exedra, &dir).await?;
    for number in 0..REGISTRATIONS {
        let executor = format!("traced-{number}");
        let body = format!(r#"{{"idempotency_id":"i","executor_id":"{executor}"}}"#);
        let path = format!("/cloud/executor/{executor}/register");
        let answer = post(plane.address()?, &path, &plane.executor_token, body.as_bytes()).await?;
        ensure!(answer.status == 200, "{} for {executor}", answer.status);
    }
    plane.stop().await?;
    let answers = durable_answers(&std::fs::read_to_string(&calls)?, "HTTP/1.1 200")?;
    ensure!(answers == REGISTRATIONS, "{answers} of {REGISTRATIONS} answers are in the trace");

    let calls = dir.join("token.calls");
    let create = traced(&calls).args(["token", "create", "--role", "client", "--data-dir"]).arg(dir.join("data"));
    let secret = create.text(READY).await?;
    let begin = secret.get(..8).context("a token that is too short")?;
    let answers = durable_answers(&std::fs::read_to_string(&calls)?, begin)?;
    ensure!(answers == 1, "{answers} answers of `token create` are in the trace");
    Ok(())
}

/// How many answers that begin with `answer` there are, each behind a write to the log of its own and the disk's word
/// for it.
fn durable_answers(calls: &str, answer: &str) -> Result<usize> {
    let (mut written, mut synced, mut answers) = (false, false, 0);
    // A call that others interrupted stands in two lines; the second tells when it was done.
    let done = |line: &str| !line.contains("<unfinished");
    let mut syncing = Vec::new();
    for line in calls.lines() {
        let (thread, call) = line.split_once(' ').context("a line without a thread")?;
        let call = call.trim_start();
        let is_log = call.contains("-wal>");
        if call.starts_with("pwrite") && is_log {
            (written, synced) = (true, false);
        } else if (call.starts_with("fdatasync(") || call.starts_with("fsync(")) && is_log {
            if done(call) { synced = written } else { syncing.push(thread) }
        } else if call.starts_with("<...") && call.contains("sync resumed") && syncing.contains(&thread) {
            syncing.retain(|other| *other != thread);
            synced = written;
        } else if call.contains(&format!("\"{answer}")) {
            if !written || !synced {
                bail!("an answer came before the disk's word: {line}");
            }
            (written, synced, answers) = (false, false, answers + 1);
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "7  pwrite64(9</d/exedra.db-wal>, \"7\"..., 24, 0) = 24\n";
    const SYNC: &str = "7  fdatasync(9</d/exedra.db-wal>) = 0\n";
    const ANSWER: &str = "8  writev(12<TCP:[1]>, [{iov_base=\"HTTP/1.1 200 OK\\r\\n\"...}], 2) = 9\n";

    #[test]
    fn an_answer_needs_a_write_and_the_disks_word_behind_it() {
        let count = |parts: &[&str]| durable_answers(&parts.concat(), "HTTP/1.1 200").ok();
        assert_eq!(count(&[WRITE, SYNC, ANSWER, WRITE, SYNC, ANSWER]), Some(2));
        assert_eq!(count(&[SYNC, WRITE, ANSWER]), None);
        assert_eq!(count(&[WRITE, ANSWER, SYNC]), None);
        assert_eq!(count(&[WRITE, SYNC, ANSWER, ANSWER]), None);
        assert_eq!(count(&[WRITE, SYNC, WRITE, ANSWER]), None);
        let begun = "7  fdatasync(9</d/exedra.db-wal> <unfinished ...>\n";
        assert_eq!(count(&[WRITE, begun, ANSWER]), None);
        assert_eq!(count(&[WRITE, begun, "7  <... fdatasync resumed>) = 0\n", ANSWER]), Some(1));
    }
}
