//! Ends: signals, termination of whole trees, shutdown with and without grace, and that nothing is left.

use std::time::{Duration, Instant};

use exedra_host::process::{StartError, Table};
use serde_json::json;

use crate::rig::{PATIENCE, Rig, eventually, id, is_alive, sh};

async fn pids(rig: &Rig, count: usize) -> Vec<String> {
    let marker = format!("end{count}");
    let text = rig.until_output(&marker).await;
    text.split_whitespace().filter(|word| word.parse::<u32>().is_ok()).map(str::to_owned).collect()
}

/// Says its children's numbers: one of its own group, one of its own session, and one that lost its parent.
const FAMILY: &str = "sleep 60 & echo $!; setsid sleep 60 & echo $!; sh -c 'sleep 60 & echo $!'; echo $$ end4; wait";

#[tokio::test]
async fn exit_codes_of_signals() {
    let rig = Rig::new();
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        rig.start(signal, sh(&format!("kill -{signal} $$"))).await;
        assert_eq!(rig.story().await.code, Some(code));
    }
    rig.start("255", sh("exit 255")).await;
    assert_eq!(rig.story().await.code, Some(255));
}

#[tokio::test]
async fn terminate_reaches_grandchildren() {
    let rig = Rig::new();
    rig.start("p", sh(FAMILY)).await;
    let pids = pids(&rig, 4).await;
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    assert!(rig.table.terminate(&id("p")));
    let story = rig.story().await;
    assert_eq!(story.code, Some(137));
    eventually("all are gone", || !pids.iter().any(|pid| is_alive(pid))).await;
    assert!(!rig.table.terminate(&id("p")));
}

#[tokio::test]
async fn terminate_loses_no_output() {
    let rig = Rig::new();
    for i in 0..20 {
        let name = i.to_string();
        rig.start(&name, sh("printf 'all of it'; echo ready > ready; exec sleep 60")).await;
        let ready = rig.path().join("ready");
        eventually("it has written", || ready.exists()).await;
        std::fs::remove_file(ready).unwrap();
        assert!(rig.table.terminate(&id(&name)));
        let story = rig.story().await;
        story.assert_in_order();
        assert_eq!(story.stdout(), "all of it");
    }
}

#[tokio::test]
async fn terminate_after_the_exit_touches_nothing() {
    let rig = Rig::new();
    rig.start("p", sh("sleep 60 >/dev/null 2>&1 & echo $!")).await;
    let child = String::from_utf8(rig.story().await.stdout).unwrap().trim().to_owned();
    assert!(!rig.table.terminate(&id("p")));
    assert!(is_alive(&child), "what it left behind lives on");
    rig.table.shutdown(Duration::from_secs(5)).await;
    eventually("until all ends", || !is_alive(&child)).await;
}

#[tokio::test]
async fn shutdown_gives_grace_and_then_kills() {
    let rig = Rig::new();
    rig.start("good", sh("trap 'echo bye > good; exit 0' TERM; echo end0; while :; do sleep 0.05; done")).await;
    pids(&rig, 0).await;
    rig.start("bad", sh("trap '' TERM; sleep 60 & echo $! $$ end2; wait; while :; do sleep 1; done")).await;
    let stubborn = pids(&rig, 2).await;
    let began = Instant::now();
    rig.table.shutdown(Duration::from_millis(700)).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(700), "the grace is waited for: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(std::fs::read_to_string(rig.path().join("good")).unwrap(), "bye\n");
    eventually("the stubborn are killed", || !stubborn.iter().any(|pid| is_alive(pid))).await;
    let refused = rig.table.start(rig.params("late", json!({}))).await;
    assert_eq!(refused, Err(StartError::ShuttingDown));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_those_who_go() {
    let rig = Rig::new();
    rig.start("p", sh(FAMILY)).await;
    let pids = pids(&rig, 4).await;
    let began = Instant::now();
    rig.table.shutdown(Duration::from_secs(25)).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // One that left its session and lost its parent is told, but can no longer be waited for.
    eventually("all are gone", || !pids.iter().any(|pid| is_alive(pid))).await;
}

#[tokio::test]
async fn shutdown_of_a_command_that_nobody_reads() {
    let rig = Rig::new();
    rig.start("p", json!({"argv": ["yes"]})).await;
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, rig.table.shutdown(Duration::from_secs(20))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn dropping_the_table_kills_and_reaps() {
    let rig = Rig::new();
    rig.start("p", sh(FAMILY)).await;
    let pids = pids(&rig, 4).await;
    let Rig { table, dir, host } = rig;
    drop(table);
    eventually("all are gone", || !pids.iter().any(|pid| is_alive(pid))).await;
    let zombie = format!("/proc/{}", pids[3]);
    eventually("the child is reaped", || !std::path::Path::new(&zombie).exists()).await;
    drop((dir, host));
}

#[tokio::test]
async fn an_empty_table_ends_at_once() {
    let rig = Rig::new();
    rig.table.shutdown(Duration::from_secs(60)).await;
    drop(Table::new(rig.host.clone(), exedra_host::process::Limits::default()));
}

/// Started by the test below, in a process of its own that it kills.
#[tokio::test]
#[ignore = "half of another test"]
async fn a_victim_with_a_child() {
    let Ok(directory) = std::env::var(VICTIM) else { return };
    let rig = Rig::new();
    rig.start(
        "p",
        json!({"argv": ["sh", "-c", "echo $$ > child.new; mv child.new child; exec sleep 60"], "cwd": directory}),
    )
    .await;
    std::future::pending().await
}

const VICTIM: &str = "VICTIM_DIRECTORY";

#[tokio::test]
async fn a_child_dies_with_the_executor() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap());
    victim.args(["ending::a_victim_with_a_child", "--exact", "--ignored"]).env(VICTIM, directory.path());
    let mut victim = victim.stdout(std::process::Stdio::null()).spawn().unwrap();
    let child = directory.path().join("child");
    eventually("the child runs", || child.exists()).await;
    let pid = std::fs::read_to_string(child).unwrap();
    assert!(is_alive(&pid));
    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("the child is gone", || !is_alive(&pid)).await;
}

/// Leaves its session and loses its parent before the shell goes on: nothing but a mark or a group tells whose it is.
const RUNAWAY: &str = "setsid sh -c 'sleep 60 >/dev/null 2>&1 & echo $! > runaway.new; mv runaway.new runaway'; \
    while [ ! -e runaway ]; do sleep 0.01; done; ";

async fn runaway(rig: &Rig) -> String {
    let file = rig.path().join("runaway");
    eventually("it ran away", || file.exists()).await;
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

fn parent(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned)
}

#[tokio::test]
async fn terminate_reaches_the_runaway_and_nobody_elses() {
    let (rig, other) = (Rig::new(), Rig::new());
    rig.start("p", sh(&format!("{RUNAWAY} echo end1; sleep 60"))).await;
    other.start("p", sh(&format!("{RUNAWAY} echo end1; sleep 60"))).await;
    let (ours, theirs) = (runaway(&rig).await, runaway(&other).await);
    let own = std::process::id().to_string();
    eventually("orphans come to us", || parent(&ours).as_ref() == Some(&own)).await;
    assert!(rig.table.terminate(&id("p")));
    assert_eq!(rig.story().await.code, Some(137));
    eventually("it is gone, and reaped", || parent(&ours).is_none()).await;
    assert!(is_alive(&theirs));
    other.table.shutdown(Duration::ZERO).await;
    eventually("the other too", || parent(&theirs).is_none()).await;
}

#[tokio::test]
async fn the_end_of_a_session_reaches_what_runaways_of_the_exited_left() {
    let rig = Rig::new();
    rig.start("p", sh(RUNAWAY)).await;
    assert_eq!(rig.story().await.code, Some(0));
    let runaway = runaway(&rig).await;
    assert!(!rig.table.terminate(&id("p")));
    assert!(is_alive(&runaway), "what it left behind lives on");
    let began = Instant::now();
    rig.table.shutdown(Duration::from_secs(25)).await;
    assert!(!is_alive(&runaway), "it was waited for");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    eventually("it is reaped", || parent(&runaway).is_none()).await;
}

/// The number 2 means more than any other only where nobody made a PID namespace.
#[test]
fn as_the_second_process_of_a_container() {
    let namespaces = if rustix::process::geteuid().is_root() { "-pf" } else { "-rpf" };
    let within = |args: &[&std::ffi::OsStr]| {
        let second = "\"$@\"; exit $?";
        let mut command = std::process::Command::new("unshare");
        command.args([namespaces, "--mount-proc", "sh", "-c", second, "sh"]).args(args).output()
    };
    // Where that is not to be arranged there is nothing to try.
    if !within(&["true".as_ref()]).is_ok_and(|output| output.status.success()) {
        return;
    }
    let name = "ending::runaways_while_another_runs";
    let test = std::env::current_exe().unwrap();
    let args = ["--ignored", "--exact", "--nocapture", name].map(std::ffi::OsStr::new);
    let output = within(&[&[test.as_os_str()], &args[..]].concat()).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
#[ignore = "run by another one, in a PID namespace"]
async fn runaways_while_another_runs() {
    assert_eq!(std::process::id(), 2);
    let other = Rig::new();
    other.start("p", sh("sleep 60")).await;
    let rig = Rig::new();
    rig.start("p", sh(RUNAWAY)).await;
    assert_eq!(rig.story().await.code, Some(0));
    let runaway = runaway(&rig).await;
    rig.table.shutdown(Duration::from_secs(25)).await;
    assert!(!is_alive(&runaway), "it bears a mark");
    other.table.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_orphan_that_ends_by_itself_leaves_no_zombie() {
    let rig = Rig::new();
    let orphan = "while [ ! -e go ]; do sleep 0.01; done";
    rig.start("p", sh(&format!("setsid sh -c '({orphan}) >/dev/null 2>&1 & echo $! > who'"))).await;
    rig.story().await;
    let who = std::fs::read_to_string(rig.path().join("who")).unwrap().trim().to_owned();
    assert!(is_alive(&who));
    std::fs::write(rig.path().join("go"), "").unwrap();
    eventually("it is reaped", || parent(&who).is_none()).await;
}
