//! Limits: what goes beyond one is ended, with all that descends from it, and the exit says which limit it was.

#![expect(clippy::print_stderr, reason = "a test that is skipped says why")]

use exedra_host::HostConfig;
use exedra_host::policy::{Current, Policy};
use exedra_host::process::{Limits, StartError};
use exedra_proto::dialect::NextSeq;
use exedra_proto::limits::{Limit, ResourceLimits};
use serde_json::{Value, json};

use crate::rig::{Rig, Story, eventually, id, is_alive, read_params, sh};

fn limited(script: &str, limits: Value) -> Value {
    let mut over = sh(script);
    over.as_object_mut().unwrap().insert("limits".into(), limits);
    over
}

/// Runs it; none, with a word, where such a limit cannot be held.
async fn run(rig: &Rig, over: Value) -> Option<Story> {
    match rig.table.start(rig.params("p", over)).await {
        Err(StartError::LimitUnavailable(why)) => {
            eprintln!("skipped: {why}");
            return None;
        }
        started => drop(started.unwrap()),
    }
    let story = rig.story().await;
    story.assert_in_order();
    Some(story)
}

/// Whether processes get control groups here.
async fn grouped() -> bool {
    let rig = Rig::new();
    let grouped = rig.run(sh("cat /proc/self/cgroup")).await.stdout().contains("/exedra-");
    if !grouped {
        eprintln!("skipped: processes get no control groups here");
    }
    grouped
}

/// How many processes work in this directory.
fn crowd(rig: &Rig) -> usize {
    let here = rig.path().display().to_string();
    let cwd = |entry: std::fs::DirEntry| std::fs::read_link(entry.path().join("cwd")).ok();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| cwd(entry.ok()?));
    all.filter(|cwd| cwd.to_string_lossy().starts_with(&here)).count()
}

/// What doubles all the time, each in a session of its own. It ends by itself when its directory goes, whatever became of
/// the test.
fn bomb(rig: &Rig, limits: Value) -> Value {
    std::fs::create_dir(rig.path().join("live")).unwrap();
    let breed = "[ -d live ] || exit; n=$(ls live | wc -l); [ $n -gt 60 ] && exec sleep 0.2; : > live/$$; trap '' TERM; \
        setsid sh -c \"$B\" & setsid sh -c \"$B\" & sleep 0.1; rm live/$$";
    let env = json!({"PATH": "/usr/bin:/bin", "B": breed});
    json!({"argv": ["sh", "-c", "echo end1; setsid sh -c \"$B\" & sleep 60"], "env": env, "limits": limits})
}

#[tokio::test]
async fn within_all_limits_nothing_is_different() {
    let rig = Rig::new();
    let limits = json!({"wallMs": 60_000, "cpuSeconds": 60, "memoryBytes": 256 << 20, "processes": 50, "openFiles": 100,
        "outputBytes": 3});
    let Some(story) = run(&rig, limited("(echo hi); exit 3", limits)).await else { return };
    assert_eq!((story.stdout(), story.code, story.limit), ("hi\n", Some(3), None));
}

#[tokio::test]
async fn wall_time() {
    let rig = Rig::new();
    let script = "setsid sh -c 'sleep 60 & echo $!'; echo $$; sleep 60";
    let story = run(&rig, limited(script, json!({"wallMs": 300}))).await.unwrap();
    assert_eq!((story.code, story.limit), (Some(137), Some(Limit::WallTime)));
    let pids: Vec<&str> = story.stdout().split_whitespace().collect();
    assert_eq!(pids.len(), 2);
    assert!(!pids.iter().any(|pid| is_alive(pid)), "the tree is gone with it: {pids:?}");
    let read = rig.table.read(read_params("p"), NextSeq::AfterLastPiece).await.unwrap();
    assert_eq!((read.exit_code, read.limit), (Some(137), Some(Limit::WallTime)));
}

#[tokio::test]
async fn cpu_time() {
    let rig = Rig::new();
    let story = run(&rig, limited("while :; do :; done", json!({"cpuSeconds": 1}))).await.unwrap();
    assert_eq!(story.limit, Some(Limit::CpuTime));
    assert!(matches!(story.code, Some(137 | 152)), "{:?}", story.code);
}

#[tokio::test]
async fn cpu_time_of_many_together() {
    if !grouped().await {
        return;
    }
    let rig = Rig::new();
    // Each is too short for a limit of its own.
    let script = "while :; do setsid sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done'; done";
    let story = run(&rig, limited(script, json!({"cpuSeconds": 1}))).await.unwrap();
    assert_eq!((story.code, story.limit), (Some(137), Some(Limit::CpuTime)));
}

#[tokio::test]
async fn memory() {
    let rig = Rig::new();
    let script = "setsid sleep 60 & echo $!; x=$(head -c 300000000 /dev/zero | tr '\\0' a); echo not reached";
    let Some(story) = run(&rig, limited(script, json!({"memoryBytes": 32 << 20}))).await else { return };
    assert_eq!(story.limit, Some(Limit::Memory));
    assert!(!story.stdout().contains("not reached"));
    assert!(!is_alive(story.stdout()), "the tree is gone with it");
}

#[tokio::test]
async fn a_fork_bomb_under_a_limit_on_processes() {
    let rig = Rig::new();
    let Some(story) = run(&rig, bomb(&rig, json!({"processes": 20}))).await else { return };
    assert_eq!((story.code, story.limit), (Some(137), Some(Limit::Processes)));
    eventually("nobody is left", || crowd(&rig) == 0).await;
}

#[tokio::test]
async fn terminate_outruns_those_who_fork_and_leave() {
    if !grouped().await {
        return;
    }
    let rig = Rig::new();
    rig.start("p", bomb(&rig, json!({}))).await;
    rig.until_output("end1").await;
    eventually("they are many", || crowd(&rig) > 20).await;
    assert!(rig.table.terminate(&id("p")));
    eventually("nobody is left", || crowd(&rig) == 0).await;
    assert_eq!(rig.story().await.code, Some(137));
}

#[tokio::test]
async fn open_files() {
    let rig = Rig::new();
    let script = "exec 3</dev/null && echo few; (exec 4</dev/null) || echo many";
    let story = run(&rig, limited(script, json!({"openFiles": 4}))).await.unwrap();
    assert_eq!((story.stdout(), story.code, story.limit), ("few\nmany\n", Some(0), None));
}

#[tokio::test]
async fn output() {
    let rig = Rig::new();
    for tty in [false, true] {
        let over = json!({"argv": ["yes"], "tty": tty, "limits": {"outputBytes": 100_001}});
        rig.start(&tty.to_string(), over).await;
        let story = rig.story().await;
        story.assert_in_order();
        assert_eq!(story.stdout.len() + story.pty.len(), 100_001, "to the byte");
        assert_eq!((story.code, story.limit), (Some(137), Some(Limit::OutputBytes)));
    }
    let story = run(&rig, limited("printf 12345; printf 6 >&2", json!({"outputBytes": 5}))).await.unwrap();
    assert_eq!((story.stdout.len() + story.stderr.len(), story.limit), (5, Some(Limit::OutputBytes)));
}

#[tokio::test]
async fn the_owners_limit_binds_whatever_is_asked() {
    let mut config = HostConfig::default();
    let mut policy = Policy::default();
    policy.limits = ResourceLimits { output_bytes: Some(10), ..ResourceLimits::default() };
    config.policy = Current::new(policy);
    let rig = Rig::with(config, Limits::default());
    for (name, asked, len) in
        [("none", json!({}), 10), ("wider", json!({"outputBytes": 99}), 10), ("tighter", json!({"outputBytes": 4}), 4)]
    {
        rig.start(name, limited("head -c 50 /dev/zero; sleep 60", asked)).await;
        let story = rig.story().await;
        assert_eq!((story.stdout.len(), story.limit), (len, Some(Limit::OutputBytes)), "{name}");
    }
}

#[tokio::test]
async fn nothing_of_a_group_is_left() {
    if !grouped().await {
        return;
    }
    let rig = Rig::new();
    let groups = "grep -o '/exedra-.*' /proc/self/cgroup | head -n 1";
    let story = run(&rig, limited(groups, json!({"cpuSeconds": 9}))).await.unwrap();
    let name = story.stdout().trim().to_owned();
    let name = name.trim_start_matches('/').to_owned();
    let find = || {
        let found = std::process::Command::new("find").args(["/sys/fs/cgroup", "-path", &format!("*{name}")]).output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    assert!(name.starts_with("exedra-"), "{name}");
    assert_eq!(find(), "", "it went with its process");
}
