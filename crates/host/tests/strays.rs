//! What takes off the mark of a process, and leaves its session and its parent: it ends with the process all the same, is
//! reaped, and nobody else's is touched. In a program of its own, one test at a time: whatever else runs may have left
//! such an orphan, and then it is spared.

#![expect(clippy::unwrap_used, reason = "the lints know tests by #[test], not what those call")]

#[expect(dead_code, reason = "shared with the tests of processes")]
#[path = "process/rig.rs"]
mod rig;

use std::process::Command;
use std::time::Duration;

use exedra_host::HostConfig;
use exedra_host::process::Limits;
use exedra_proto::limits::Limit;
use rig::{Rig, eventually, id, is_alive, sh};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

static ALONE: Mutex<()> = Mutex::const_new(());

/// As on a machine where no control group can be made, which would hold whatever a process left.
fn rig() -> Rig {
    let mut config = HostConfig::default();
    config.control_groups = false;
    Rig::with(config, Limits::default())
}

async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// Leaves its session, takes the mark off, and loses its parent before the shell goes on.
const STRAY: &str = "setsid prlimit --rttime=1000000:1000000 \
    sh -c 'sleep 60 >/dev/null 2>&1 & echo $! > stray.new; mv stray.new stray'; \
    while [ ! -e stray ]; do sleep 0.01; done; ";

async fn stray(rig: &Rig) -> String {
    let file = rig.path().join("stray");
    eventually("it went astray", || file.exists()).await;
    let stray = std::fs::read_to_string(file).unwrap().trim().to_owned();
    let own = std::process::id().to_string();
    eventually("it comes to us", || parent(&stray).as_ref() == Some(&own)).await;
    let limits = std::fs::read_to_string(format!("/proc/{stray}/limits")).unwrap();
    assert!(
        limits.lines().any(|line| line.starts_with("Max realtime timeout") && line.contains("1000000")),
        "{limits}"
    );
    stray
}

fn parent(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned)
}

async fn gone(pid: &str) {
    eventually("it is gone, and reaped", || parent(pid).is_none()).await;
}

#[tokio::test]
async fn terminate_reaches_it() {
    let _alone = alone().await;
    let rig = self::rig();
    // What ran before and left nothing has no claim on it.
    rig.start("before", sh("true")).await;
    rig.story().await;
    rig.start("p", sh(&format!("{STRAY} sleep 60"))).await;
    let stray = stray(&rig).await;
    assert!(rig.table.terminate(&id("p")));
    assert_eq!(rig.story().await.code, Some(137));
    gone(&stray).await;
}

#[tokio::test]
async fn the_end_of_the_session_reaches_it_and_nobody_elses_end_does() {
    let _alone = alone().await;
    let (rig, other) = (self::rig(), self::rig());
    rig.start("p", sh(STRAY)).await;
    assert_eq!(rig.story().await.code, Some(0));
    let stray = stray(&rig).await;
    other.start("q", sh("sleep 60")).await;
    assert!(other.table.terminate(&id("q")));
    other.story().await;
    other.table.shutdown(Duration::ZERO).await;
    assert!(is_alive(&stray), "what an exited process left lives as long as its session");
    rig.table.shutdown(Duration::ZERO).await;
    assert_eq!(parent(&stray), None, "it was waited for, and reaped");
}

#[tokio::test]
async fn a_limit_reaches_it() {
    let _alone = alone().await;
    let rig = self::rig();
    let mut over = sh(&format!("{STRAY} sleep 60"));
    over["limits"] = json!({"wallMs": 2_000});
    rig.start("p", over).await;
    let stray = stray(&rig).await;
    assert_eq!(rig.story().await.limit, Some(Limit::WallTime));
    gone(&stray).await;
}

#[tokio::test]
async fn where_two_may_have_left_it_it_goes_with_the_second() {
    let _alone = alone().await;
    let (rig, other) = (self::rig(), self::rig());
    other.start("old", sh("sleep 60")).await;
    rig.start("p", sh(&format!("{STRAY} sleep 60"))).await;
    let stray = stray(&rig).await;
    // Who began in the same tick of the clock may have left it, as far as one can see.
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.start("young", sh("sleep 60")).await;
    rig.table.shutdown(Duration::ZERO).await;
    assert!(is_alive(&stray), "`old` was there before it");
    assert!(other.table.terminate(&id("old")));
    gone(&stray).await;
    other.table.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn dropping_the_table_reaches_it() {
    let _alone = alone().await;
    let rig = self::rig();
    rig.start("p", sh(&format!("{STRAY} sleep 60"))).await;
    let stray = stray(&rig).await;
    drop(rig.table);
    gone(&stray).await;
}

#[tokio::test]
async fn those_that_end_by_themselves_leave_no_zombies() {
    let _alone = alone().await;
    let rig = self::rig();
    let fifty = "for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5; do setsid prlimit --rttime=1000000:1000000 \
        sh -c 'sleep 0.2 >/dev/null 2>&1 & echo $! >> all'; done; done";
    rig.start("p", sh(fifty)).await;
    assert_eq!(rig.story().await.code, Some(0));
    let all = std::fs::read_to_string(rig.path().join("all")).unwrap();
    assert_eq!(all.lines().count(), 50);
    eventually("all are reaped", || all.lines().all(|pid| parent(pid).is_none())).await;
}

#[tokio::test]
async fn children_that_others_in_this_program_started_are_left_alone() {
    let _alone = alone().await;
    let rig = self::rig();
    let start = |args: &[&str]| Command::new(args[0]).args(&args[1..]).spawn().unwrap();
    let mut children = [start(&["sleep", "60"]), start(&["setsid", "sleep", "60"])];
    rig.start("p", sh("sleep 60")).await;
    assert!(rig.table.terminate(&id("p")));
    rig.story().await;
    rig.table.shutdown(Duration::ZERO).await;
    for child in &mut children {
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
