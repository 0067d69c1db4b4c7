//! Output on disk: kept whole while nobody is there, brought back in order, and nothing left behind.

use exedra_host::process::{Delivery, EventKind, Limits};
use exedra_host::{HostConfig, HostError};
use exedra_proto::dialect::NextSeq;

use crate::rig::{Rig, Story, eventually, id, read_params, sh};

/// More than memory holds, and less than one process may have waiting.
const MUCH: usize = 24_000_000;

fn rig(spool_bytes: u64) -> (Rig, tempfile::TempDir) {
    let mut config = HostConfig::default();
    // Whatever is in memory at a time has to fit in this.
    config.backlog = 6 * 1024 * 1024;
    config.spool_bytes = spool_bytes;
    let dir = tempfile::tempdir().unwrap();
    config.spool = Some(dir.path().join("spool"));
    (Rig::with(config, Limits::default()), dir)
}

fn numbers() -> Vec<u8> {
    (0..).flat_map(|n| format!("{n}\n").into_bytes()).take(MUCH).collect()
}

fn script() -> serde_json::Value {
    sh(&format!("seq 0 9999999 | head -c {MUCH}; touch done; exit 3"))
}

/// Reads on from `after` until `enough` bytes are there, or all is.
async fn read(rig: &Rig, after: &mut u64, enough: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        let mut params = read_params("p");
        (params.after_seq, params.wait_ms, params.max_bytes) = (Some(*after), Some(20_000), Some(1 << 20));
        let result = rig.table.read(params, NextSeq::AfterLastPiece).await.unwrap();
        assert_eq!(result.dropped_bytes, 0);
        let last = result.chunks.is_empty() && result.closed;
        *after = result.chunks.last().map_or(*after, |chunk| chunk.seq);
        bytes.extend(result.chunks.iter().flat_map(|chunk| chunk.chunk.decode().unwrap()));
        if last || bytes.len() >= enough {
            return (bytes, last);
        }
    }
}

#[tokio::test]
async fn a_command_ends_while_nobody_is_there_and_all_it_said_is_read_later() {
    let (rig, spool) = rig(1 << 40);
    rig.table.detach();
    rig.start("p", script()).await;
    let done = rig.path().join("done");
    eventually("it is done, with nobody reading", || done.exists()).await;
    let (bytes, _) = read(&rig, &mut 0, usize::MAX).await;
    assert!(bytes == numbers(), "{} bytes", bytes.len());
    assert_eq!(std::fs::read_dir(spool.path().join("spool")).unwrap().count(), 0, "nothing has a name");
}

#[tokio::test]
async fn who_acknowledges_is_given_it_from_where_it_was_lost() {
    let (rig, _spool) = rig(1 << 40);
    rig.table.detach();
    rig.start("p", script()).await;
    let done = rig.path().join("done");
    eventually("it is done, with nobody reading", || done.exists()).await;
    rig.table.attach(Delivery::Acknowledged);
    let mut events = Vec::new();
    while !events.iter().any(|event: &exedra_host::process::Event| event.kind == EventKind::Closed) {
        let taken = rig.table.next_events(1 << 20).await;
        rig.table.acknowledge(&id("p"), taken.last().unwrap().seq);
        events.extend(taken);
    }
    let story = Story::of(events);
    story.assert_in_order();
    assert_eq!(story.code, Some(3));
    assert!(story.stdout == numbers(), "{} bytes", story.stdout.len());
}

#[tokio::test]
async fn with_a_full_disk_the_command_waits_and_loses_nothing() {
    let (rig, _spool) = rig(5_000_000);
    rig.table.detach();
    rig.start("p", script()).await;
    let done = rig.path().join("done");
    let mut after = 0;
    let (mut bytes, _) = read(&rig, &mut after, 1 << 20).await;
    assert!(!done.exists(), "there is no room for all of it");
    let (rest, last) = read(&rig, &mut after, usize::MAX).await;
    bytes.extend(rest);
    assert!(last && bytes == numbers(), "{} bytes", bytes.len());
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = HostConfig::default();
    config.spool = Some(dir.path().join("file"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = exedra_host::Host::start(config).unwrap_err();
    assert!(matches!(error, HostError::Spool(_)) && error.hint().is_some(), "{error}");
}
