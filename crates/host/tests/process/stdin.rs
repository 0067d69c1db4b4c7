//! Standard input: order, the bound, the end, repeated writes, and that nobody else waits.

use std::time::Duration;

use exedra_proto::dialect::NextSeq;
use exedra_proto::process::WriteStatus;
use serde_json::json;

use crate::rig::{PATIENCE, Rig, id, sh};

#[tokio::test]
async fn cat_echoes_and_ends_when_stdin_is_closed() {
    let rig = Rig::new();
    rig.start("p", json!({"argv": ["cat"], "pipeStdin": true})).await;
    for piece in ["hello ", "", "world"] {
        assert_eq!(rig.table.write(&id("p"), piece.into(), None).await, Ok(WriteStatus::Accepted));
    }
    assert_eq!(rig.table.close_stdin(&id("p")).await, WriteStatus::Accepted);
    assert_eq!(rig.table.close_stdin(&id("p")).await, WriteStatus::StdinClosed);
    assert_eq!(rig.table.write(&id("p"), b"late".to_vec().into(), None).await, Ok(WriteStatus::StdinClosed));
    let story = rig.story().await;
    assert_eq!((story.stdout(), story.code), ("hello world", Some(0)));
    assert_eq!(rig.table.close_stdin(&id("p")).await, WriteStatus::StdinClosed);
}

#[tokio::test]
async fn closing_comes_after_what_is_queued() {
    let rig = Rig::new();
    rig.start("p", sh("sleep 0.2; wc -c").with_stdin()).await;
    for _ in 0..20 {
        rig.table.write(&id("p"), vec![b'x'; 50_000].into(), None).await.unwrap();
    }
    rig.table.close_stdin(&id("p")).await;
    assert_eq!(rig.story().await.stdout().trim(), "1000000");
}

#[tokio::test]
async fn statuses() {
    let rig = Rig::new();
    assert_eq!(rig.table.write(&id("none"), vec![].into(), None).await, Ok(WriteStatus::UnknownProcess));
    assert_eq!(rig.table.close_stdin(&id("none")).await, WriteStatus::UnknownProcess);
    rig.start("closed", json!({"argv": ["sleep", "60"]})).await;
    assert_eq!(rig.table.write(&id("closed"), b"x".to_vec().into(), None).await, Ok(WriteStatus::StdinClosed));
    assert_eq!(rig.table.close_stdin(&id("closed")).await, WriteStatus::StdinClosed);
}

#[tokio::test]
async fn without_a_pipe_stdin_is_empty() {
    let story = Rig::new().run(sh("cat; printf eof")).await;
    assert_eq!(story.stdout(), "eof");
}

#[tokio::test]
async fn a_repeated_write_is_delivered_once() {
    let rig = Rig::new();
    rig.start("p", json!({"argv": ["cat"], "pipeStdin": true})).await;
    for (text, write_id) in [("a", "1"), ("a", "1"), ("b", "2"), ("a", "1")] {
        let answer = rig.table.write(&id("p"), text.into(), Some(write_id.into())).await;
        assert_eq!(answer, Ok(WriteStatus::Accepted));
    }
    rig.table.write(&id("p"), b"c".to_vec().into(), None).await.unwrap();
    rig.table.close_stdin(&id("p")).await;
    assert_eq!(rig.story().await.stdout(), "abc");
}

#[tokio::test]
async fn after_the_child_is_gone_writes_fail() {
    let rig = Rig::new();
    rig.start("p", json!({"argv": ["cat"], "pipeStdin": true})).await;
    assert!(rig.table.terminate(&id("p")));
    rig.story().await;
    let error = rig.table.write(&id("p"), b"x".to_vec().into(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to write to process stdin");
}

#[tokio::test]
async fn a_child_that_closes_its_stdin_makes_writes_fail() {
    let rig = Rig::new();
    rig.start("p", sh("exec <&-; printf x; sleep 60").with_stdin()).await;
    rig.until_output("x").await;
    let fails = async { while rig.table.write(&id("p"), b"y".to_vec().into(), None).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, fails).await.unwrap();
}

/// A full queue holds back that process's writer alone, in order, and a terminated process lets it go.
#[tokio::test]
async fn a_blocked_write_blocks_nobody_else() {
    let rig = Rig::new();
    rig.start("blocked", json!({"argv": ["sleep", "60"], "pipeStdin": true})).await;
    rig.start("free", json!({"argv": ["cat"], "pipeStdin": true})).await;
    let accepted = fill(&rig, "blocked", 65536).await;
    assert!((120..=132).contains(&accepted), "{accepted} x 64 KiB are 8 MiB and what the pipe holds");

    let table = &rig.table;
    let (blocked, free_id) = (id("blocked"), id("free"));
    let waits = table.write(&blocked, b"x".to_vec().into(), None);
    let others = async {
        table.write(&free_id, b"hello\n".to_vec().into(), None).await.unwrap();
        rig.until_output("hello").await;
        let mut params = crate::rig::read_params("blocked");
        params.wait_ms = Some(50);
        table.read(params, NextSeq::AfterLastPiece).await.unwrap();
        assert!(table.terminate(&blocked));
    };
    let (waited, ()) = tokio::join!(waits, others);
    assert!(waited.is_err(), "a terminated process fails its blocked writes");
}

#[tokio::test]
async fn many_small_writes_are_bounded_too() {
    let rig = Rig::new();
    rig.start("p", json!({"argv": ["sleep", "60"], "pipeStdin": true})).await;
    let accepted = fill(&rig, "p", 4096).await;
    assert!((128..=150).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn a_write_that_was_given_up_is_not_delivered() {
    let rig = Rig::new();
    let go = rig.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, 0o600.into()).unwrap();
    rig.start("p", sh("read go < go; cat").with_stdin()).await;
    fill(&rig, "p", 65536).await;
    let p = id("p");
    let late = rig.table.write(&p, b"END".to_vec().into(), Some("end".into()));
    assert!(tokio::time::timeout(Duration::from_millis(50), late).await.is_err());
    let again = async {
        tokio::task::spawn_blocking(move || std::fs::write(go, "\n")).await.unwrap().unwrap();
        let answer = rig.table.write(&id("p"), b"END".to_vec().into(), Some("end".into())).await;
        assert_eq!(answer, Ok(WriteStatus::Accepted));
        rig.table.close_stdin(&id("p")).await;
    };
    let (story, ()) = tokio::join!(rig.story(), again);
    let end = story.stdout.iter().position(|byte| *byte != b'x').unwrap();
    assert_eq!((&story.stdout[end..], end % 65536), (b"END".as_slice(), 0));
}

/// Writes until a write waits, which is given up; how many were accepted.
async fn fill(rig: &Rig, name: &str, len: usize) -> usize {
    let name = id(name);
    for i in 0.. {
        let write = rig.table.write(&name, vec![b'x'; len].into(), Some(format!("fill {i}")));
        match tokio::time::timeout(Duration::from_millis(500), write).await {
            Ok(answer) => assert_eq!(answer, Ok(WriteStatus::Accepted)),
            Err(_waits) => return i,
        }
    }
    unreachable!("the queue has a bound")
}

trait WithStdin {
    fn with_stdin(self) -> Self;
}

impl WithStdin for serde_json::Value {
    fn with_stdin(mut self) -> Self {
        self["pipeStdin"] = true.into();
        self
    }
}
