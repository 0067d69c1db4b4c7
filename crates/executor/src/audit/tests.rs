//! The audit through its files: written, verified, altered, cut, rotated, torn, on a disk without room.

use std::path::Path;
use std::sync::Arc;

use exedra_proto::ids::ProcessId;

use super::log::{Verdict, each_line, read_head, verify};
use super::segments::{HEAD_FILE, numbers, segment};
use super::*;

fn config(dir: &Path) -> AuditConfig {
    AuditConfig::new(dir.join("log"), dir.join("identity"))
}

fn signal(n: usize) -> Record {
    let by = By { session: SessionId::new("s"), connection: 1, request: n.into() };
    Record::Signal { by, process: ProcessId::new("p"), method: "process/terminate" }
}

fn fill(config: &AuditConfig, count: usize) {
    let audit = Audit::open(config).unwrap();
    for n in 0..count {
        audit.tell(signal(n));
    }
    audit.stop();
}

fn sound(config: &AuditConfig) -> Findings {
    match verify(&config.dir, vec![], None).unwrap() {
        Verdict::Sound(findings) => findings,
        faulty => panic!("{faulty:?}"),
    }
}

fn fault(config: &AuditConfig, heads: Vec<Head>) -> String {
    match verify(&config.dir, heads, None).unwrap() {
        Verdict::Sound(findings) => panic!("{findings:?}"),
        Verdict::Faulty { fault, .. } => fault,
    }
}

fn lines(config: &AuditConfig) -> Vec<serde_json::Value> {
    let mut lines = Vec::new();
    each_line(&config.dir, &mut |_, line| {
        lines.push(serde_json::from_slice(line).unwrap());
        true
    })
    .unwrap();
    lines
}

#[test]
fn what_is_told_is_there_in_order_and_signed_every_64_lines() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fill(&config, 200);
    let findings = sound(&config);
    // Opened, 200, stopped, and the heads: after 64 lines each, and at the end.
    assert_eq!((findings.lines, findings.heads, findings.unsigned, findings.kept_heads), (206, 4, 0, 1));
    let told: Vec<u64> = lines(&config).iter().filter_map(|line| line["request"].as_u64()).collect();
    assert_eq!(told, (0..200).collect::<Vec<_>>());
    fill(&config, 1);
    assert_eq!(sound(&config).lines, 210);
}

#[test]
fn a_rotation_keeps_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig { segment: 4096, ..config(dir.path()) };
    for _ in 0..3 {
        fill(&config, 50);
    }
    assert!(numbers(&config.dir).unwrap().len() >= 3);
    let lines = sound(&config).lines;
    // An older file was taken away: what is there is sound, and begins later.
    std::fs::remove_file(segment(&config.dir, 1)).unwrap();
    let findings = sound(&config);
    assert!(findings.first > 0 && findings.first + findings.lines == lines);
    std::fs::remove_file(segment(&config.dir, 3)).ok();
    assert!(fault(&config, vec![]).contains("missing"));
}

#[test]
fn an_altered_line_is_found_and_placed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fill(&config, 100);
    let path = segment(&config.dir, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"request\":42", "\"request\":43")).unwrap();
    let Verdict::Faulty { fault, place } = verify(&config.dir, vec![], None).unwrap() else { panic!("sound") };
    assert_eq!(fault, "line 43 was changed");
    assert_eq!(place.unwrap().file, path);
    // An executor does not go on with it.
    assert!(matches!(Audit::open(&config), Err(AuditError::Damaged { .. })));
}

#[test]
fn a_cut_tail_is_found_by_the_head_that_was_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fill(&config, 100);
    let kept = read_head(&config.dir.join(HEAD_FILE)).unwrap();
    let path = segment(&config.dir, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    let cut: String = text.lines().take(80).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, cut).unwrap();
    assert!(fault(&config, vec![]).contains("the log was cut off"), "by the head beside it");
    std::fs::remove_file(config.dir.join(HEAD_FILE)).unwrap();
    assert!(fault(&config, vec![kept.clone()]).contains("lines 80 to"));
    assert_eq!(sound(&config).lines, 80);
    let forged = Head { n: 10, ..kept };
    assert!(fault(&config, vec![forged]).contains("not genuine"));
}

#[test]
fn a_line_torn_by_a_crash_is_put_aside_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fill(&config, 3);
    let path = segment(&config.dir, 1);
    let mut text = std::fs::read(&path).unwrap();
    text.extend(b"{\"n\":99,\"half");
    std::fs::write(&path, text).unwrap();
    assert!(
        fault(&config, vec![]).contains("13 bytes after the last line are no line"),
        "it is not how the next one begins"
    );
    fill(&config, 1);
    sound(&config);
    assert!(lines(&config).iter().any(|line| line["torn"] == 13));
    assert_eq!(std::fs::read_dir(&config.dir).unwrap().filter(|e| is_torn(e.as_ref().unwrap())).count(), 1);
}

#[test]
fn what_a_kill_leaves_of_a_line_is_told_from_what_somebody_added() {
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig { segment: 4096, ..config(dir.path()) };
    let newest = || *numbers(&config.dir).unwrap().last().unwrap();
    fill(&config, 50);
    // A rotation may have been the last that was done.
    while segment(&config.dir, newest()).metadata().unwrap().len() == 0 {
        fill(&config, 1);
    }
    let (path, count) = (segment(&config.dir, newest()), sound(&config).lines);
    assert!(newest() >= 2);
    let whole = std::fs::read(&path).unwrap();
    let with = |more: &[u8]| std::fs::write(&path, [&whole[..], more].concat()).unwrap();
    with(format!("{{\"n\":{count},\"at\":17").as_bytes());
    let findings = sound(&config);
    assert_eq!((findings.lines, findings.unfinished), (count, 5 + count.to_string().len() as u64 + 8));
    for more in [&[0; 4096][..], b"\0", b"x", b"{\"n\":0,\"at\":17"] {
        with(more);
        assert!(fault(&config, vec![]).contains("are no line"), "{more:?}");
    }
    // The line feed of the last line is missing.
    with(b"");
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let kept = read_head(&config.dir.join(HEAD_FILE)).unwrap();
    assert_eq!((sound(&config).unfinished > 0, kept.n), (true, count - 2), "it is the line of the last head");
    with(b"");
    // In an older file nothing may stand there at all.
    let older = segment(&config.dir, 1);
    let first = std::fs::read(&older).unwrap();
    std::fs::write(&older, [&first[..], b"\0\0"].concat()).unwrap();
    assert!(fault(&config, vec![]).contains("2 bytes after the last line of a file that is not the newest"));
    assert!(matches!(Audit::open(&config), Err(AuditError::Damaged { .. })));
    std::fs::write(&older, first).unwrap();
    sound(&config);
}

#[test]
fn lines_taken_from_the_front_of_the_first_file_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fill(&config, 20);
    let path = segment(&config.dir, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    let rest: String = text.lines().skip(5).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, rest).unwrap();
    assert_eq!(fault(&config, vec![]), "lines 0 to 4 are missing");
    assert!(
        matches!(Audit::open(&config), Err(AuditError::Damaged { fault, .. }) if fault == "lines 0 to 4 are missing")
    );
}

/// What [`Audit::open`] says, which must leave everything as it is.
fn refusal(config: &AuditConfig) -> String {
    let content = |dir: &Path| {
        let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = content(&config.dir);
    let refusal = Audit::open(config).unwrap_err();
    assert_eq!(content(&config.dir), before, "an executor that does not start changes nothing");
    assert_eq!(refusal.hint(), Some("keep it as evidence, and name an empty directory to go on in"));
    refusal.to_string()
}

#[test]
fn an_executor_does_not_go_on_with_a_log_that_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fill(&config, 180);
    let path = segment(&config.dir, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    let cut = |lines: usize| text.lines().take(lines).map(|line| format!("{line}\n")).collect::<String>();
    for (left, torn) in [(30, ""), (30, "{\"n\":30,\"at\""), (1, ""), (0, ""), (0, "{\"n\":0")] {
        std::fs::write(&path, cut(left) + torn).unwrap();
        let refusal = refusal(&config);
        assert!(refusal.contains(if left == 0 { "all its lines are missing" } else { "was cut off" }), "{refusal}");
        assert!(fault(&config, vec![]).contains("was cut off"), "{left}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&config).contains("all its lines are missing"));
    std::fs::write(&path, &text).unwrap();
    // The line that the head signs is another one.
    let head = config.dir.join(HEAD_FILE);
    let kept = std::fs::read(&head).unwrap();
    std::fs::write(&head, "{}").unwrap();
    assert!(refusal(&config).contains("the head beside the log was changed"));
    let stranger = Identity::from_seed(&[5; 32]).unwrap();
    let read: Head = serde_json::from_slice(&kept).unwrap();
    let forged = Head::sign(&stranger, read.n, &read.hash, read.at);
    std::fs::write(&head, serde_json::to_vec(&forged).unwrap()).unwrap();
    assert!(refusal(&config).contains("another key"));
    std::fs::write(&head, kept).unwrap();
    fill(&config, 1);
    sound(&config);
}

#[test]
fn a_file_that_is_missing_between_others_is_noticed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig { segment: 4096, ..config(dir.path()) };
    for _ in 0..3 {
        fill(&config, 50);
    }
    let numbers = numbers(&config.dir).unwrap();
    assert!(numbers.len() >= 4, "{numbers:?}");
    let middle = segment(&config.dir, numbers[1]);
    let content = std::fs::read(&middle).unwrap();
    std::fs::remove_file(&middle).unwrap();
    assert!(refusal(&config).contains("missing"));
    std::fs::write(&middle, content).unwrap();
    // From the front they may be taken away.
    std::fs::remove_file(segment(&config.dir, numbers[0])).unwrap();
    fill(&config, 1);
    assert!(sound(&config).first > 0);
}

fn is_torn(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_str().unwrap().starts_with("torn-")
}

#[test]
fn a_log_has_one_writer_and_one_identity() {
    let dir = tempfile::tempdir().unwrap();
    let first = config(dir.path());
    let audit = Audit::open(&first).unwrap();
    assert!(matches!(Audit::open(&first), Err(AuditError::Held(_))));
    audit.stop();
    drop(audit);
    let other = AuditConfig { identity: dir.path().join("another"), ..first.clone() };
    assert!(matches!(Audit::open(&other), Err(AuditError::Foreign { .. })));
    std::fs::set_permissions(&first.dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(Audit::open(&first), Err(AuditError::Exposed { mode: 0o777, .. })));
}

#[tokio::test]
async fn what_was_committed_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let audit = Audit::open(&config).unwrap();
    audit.commit(signal(7)).await.unwrap();
    // The writer is still at work.
    assert!(lines(&config).iter().any(|line| line["request"] == 7));
    audit.before(signal(8)).await.unwrap();
    audit.stop();
    assert!(audit.commit(signal(9)).await.is_err());
}

/// Many at once: every one that was let through is in the log, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig { segment: 64 * 1024, ..config(dir.path()) };
    let audit = Arc::new(Audit::open(&config).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let audit = Arc::clone(&audit);
        tasks.spawn(async move {
            for n in 0..500 {
                audit.before(signal(task * 1000 + n)).await.unwrap();
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    audit.stop();
    sound(&config);
    let mut told: Vec<u64> = lines(&config).iter().filter_map(|line| line["request"].as_u64()).collect();
    told.sort_unstable();
    assert_eq!(told.len(), 4000);
    told.dedup();
    assert_eq!(told.len(), 4000);
}
