//! Output: order, back-pressure, retention, reading.

use std::time::{Duration, Instant};

use exedra_host::HostConfig;
use exedra_host::process::{Delivery, Event, EventKind, Limits, Table, WhenFull};
use exedra_proto::dialect::NextSeq;
use exedra_proto::process::ReadResult;
use serde_json::json;

use crate::rig::{Rig, Story, eventually, id, read_params, sh};

fn bytes(result: &ReadResult) -> Vec<u8> {
    result.chunks.iter().flat_map(|chunk| chunk.chunk.decode().unwrap()).collect()
}

async fn read(rig: &Rig, after: u64, wait_ms: u64) -> ReadResult {
    let mut params = read_params("p");
    (params.after_seq, params.wait_ms) = (Some(after), Some(wait_ms));
    rig.table.read(params, NextSeq::AfterLastPiece).await.unwrap()
}

#[tokio::test]
async fn a_hundred_thousand_lines_in_order() {
    let story = Rig::new().run(json!({"argv": ["seq", "100000"]})).await;
    let want: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
    assert_eq!(story.stdout(), want);
}

#[tokio::test]
async fn output_before_the_exit_comes_before_it() {
    let rig = Rig::new();
    for i in 0..100 {
        rig.start(&i.to_string(), sh("printf a; printf b >&2; exec printf c")).await;
        let story = rig.story().await;
        story.assert_in_order();
        assert_eq!((story.stdout(), story.stderr.as_slice()), ("ac", b"b".as_slice()));
    }
}

/// `yes` would delay the exit for ever if it were waited for, and its output has no end.
#[tokio::test]
async fn a_grandchild_that_writes_on_does_not_delay_the_exit() {
    let rig = Rig::new();
    rig.start("p", sh("yes & printf first; exit 4")).await;
    let events = rig.take_until(|event| matches!(event.kind, EventKind::Exited { .. })).await;
    assert_eq!(Story::of(events).code, Some(4));
    assert!(!rig.table.terminate(&id("p")), "it has exited");
    let after = rig.take_until(|event| event.seq > 60).await;
    assert!(after.iter().all(|event| event.kind.output_len() > 0), "it runs on and is read");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_stops_the_command_and_loses_nothing() {
    let rig = Rig::new();
    let progress = rig.path().join("progress");
    let script = "i=0; while [ $i -lt 80 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i > progress; done";
    rig.start("p", sh(script)).await;
    let written =
        || std::fs::read_to_string(&progress).ok().and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0);
    eventually("the window is full", || written() >= 16).await;
    let mut before = written();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(300) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if written() != before {
            (before, since) = (written(), Instant::now());
        }
    }
    assert!(before < 25, "1 MiB in flight, a pipe and a piece, but {before} x 64 KiB were written");
    let story = rig.story().await;
    story.assert_in_order();
    assert_eq!(story.stdout.len(), 80 * 65536);
}

#[tokio::test]
async fn taken_is_not_delivered() {
    let rig = Rig::new();
    rig.start("p", json!({"argv": ["head", "-c", "4000000", "/dev/zero"]})).await;
    let mut taken = Vec::new();
    let mut total = 0;
    while total < 1024 * 1024 - 64 * 1024 {
        let events = rig.table.next_events(1).await;
        total += events.iter().map(|event| event.kind.output_len()).sum::<usize>();
        taken.extend(events);
    }
    let more = async {
        loop {
            taken.extend(rig.table.next_events(1).await);
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(200), more).await.is_err());
    let total: usize = taken.iter().map(|event| event.kind.output_len()).sum();
    assert!(total < 1024 * 1024 + 128 * 1024, "{total}");
    rig.table.delivered(&taken.iter().map(Event::run).collect::<Vec<_>>());
    taken.extend(rig.take_until(|event| event.kind == EventKind::Closed).await);
    let story = Story::of(taken);
    story.assert_in_order();
    assert_eq!(story.stdout.len(), 4_000_000);
}

#[tokio::test]
async fn detached_output_is_kept_for_reading_and_not_notified() {
    let rig = Rig::new();
    rig.start("p", sh("printf one; read x; printf two; read x; printf three; exit 5").merge("pipeStdin")).await;
    rig.until_output("one").await;
    rig.table.detach();
    rig.table.write(&id("p"), b"\n".to_vec().into(), None).await.unwrap();
    let result = read(&rig, 1, 20_000).await;
    assert_eq!((bytes(&result), result.next_seq), (b"two".to_vec(), 3));
    rig.table.attach(Delivery::Sent);
    rig.table.write(&id("p"), b"\n".to_vec().into(), None).await.unwrap();
    let story = rig.story().await;
    let seqs: Vec<u64> = story.events.iter().map(|event| event.seq).collect();
    assert_eq!((seqs, story.stdout(), story.code), (vec![3, 4, 5], "three", Some(5)));
    let all = read(&rig, 0, 0).await;
    assert_eq!((bytes(&all), all.next_seq, all.exit_code, all.closed), (b"onetwothree".to_vec(), 4, Some(5), true));
}

#[tokio::test]
async fn what_was_not_acknowledged_survives_every_break() {
    const TOTAL: usize = 3_000_000;
    let rig = Rig::new();
    rig.table.attach(Delivery::Acknowledged);
    rig.start("p", sh(&format!("yes 0123456789abcde | head -c {TOTAL}; exit 3"))).await;
    let (mut got, mut events, mut breaks) = (Vec::new(), 0, 0);
    let mut last = None;
    while last != Some(EventKind::Closed) {
        // Everything taken here is lost with the connection, but for what is acknowledged.
        let taken = rig.table.next_events(300_000).await;
        rig.table.delivered(&taken.iter().map(Event::run).collect::<Vec<_>>());
        for event in taken.into_iter().take(2) {
            events += 1;
            assert_eq!(event.seq, events);
            if let EventKind::Output { bytes, .. } = &event.kind {
                got.extend_from_slice(bytes);
            }
            last = Some(event.kind);
        }
        rig.table.detach();
        rig.table.acknowledge(&id("p"), events);
        rig.table.attach(Delivery::Acknowledged);
        breaks += 1;
    }
    assert!(breaks > 10);
    assert_eq!(got.len(), TOTAL);
    assert!(got.chunks(16).all(|line| line == b"0123456789abcde\n"));
    let result = read(&rig, events, 0).await;
    assert_eq!((result.exit_code, result.closed, result.next_seq), (Some(3), true, events + 1));
}

/// More than the backlog takes: the command waits, and goes on as it is read.
#[tokio::test]
async fn a_detached_backlog_is_never_dropped() {
    const TOTAL: usize = 40 * 1024 * 1024;
    let rig = Rig::new();
    rig.table.detach();
    rig.start("p", sh(&format!("yes 0123456789abcde | head -c {TOTAL}"))).await;
    let mut got = Vec::new();
    let mut after = 0;
    let mut waited_for_us = false;
    loop {
        let pause = if after == 0 { 500 } else { 0 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let result = read(&rig, after, 20_000).await;
        waited_for_us |= !result.exited;
        got.extend(bytes(&result));
        after = result.next_seq - 1;
        if result.closed && result.chunks.is_empty() {
            break;
        }
    }
    assert!(waited_for_us);
    assert_eq!(got.len(), TOTAL);
    assert!(got.chunks(16).all(|line| line == b"0123456789abcde\n"));
}

#[tokio::test]
async fn long_polls_wake_for_output_exit_and_close_and_else_time_out() {
    let rig = Rig::new();
    rig.start("p", sh("read x; printf x; read x; exit 3").merge("pipeStdin")).await;
    let began = Instant::now();
    let empty = read(&rig, 0, 100).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!((empty.chunks.len(), empty.next_seq, empty.exited, empty.closed), (0, 1, false, false));
    let (table, p) = (&rig.table, id("p"));
    let write = |text: &'static str| table.write(&p, text.into(), None);
    let (woken, _) = tokio::join!(read(&rig, 0, 20_000), write("\n"));
    assert_eq!((bytes(&woken), woken.next_seq), (b"x".to_vec(), 2));
    let (exit, _) = tokio::join!(read(&rig, 1, 20_000), write("\n"));
    assert_eq!((exit.chunks.len(), exit.exit_code), (0, Some(3)));
    let closed = read(&rig, 2, 20_000).await;
    assert_eq!((closed.exited, closed.closed, closed.next_seq), (true, true, 4));
    assert!(began.elapsed() < Duration::from_secs(15));
}

/// Thousands of rounds of "ask, then it happens" from another thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_missed() {
    let rig = std::sync::Arc::new(Rig::new());
    rig.start("p", json!({"argv": ["cat"], "pipeStdin": true})).await;
    let mut after = 0;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..5000 {
        let writer = rig.clone();
        tasks.spawn(async move { writer.table.write(&id("p"), b"x".to_vec().into(), None).await });
        let began = Instant::now();
        let result = read(&rig, after, 20_000).await;
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(!result.chunks.is_empty());
        after = result.next_seq - 1;
        let events = rig.table.next_events(1 << 20).await;
        rig.table.delivered(&events.iter().map(Event::run).collect::<Vec<_>>());
        tasks.join_next().await;
    }
}

#[tokio::test]
async fn a_closed_process_is_forgotten_after_its_time() {
    let mut limits = Limits::default();
    limits.retention = Duration::from_millis(300);
    let rig = Rig::with(HostConfig::default(), limits);
    let began = Instant::now();
    rig.start("p", json!({})).await;
    rig.story().await;
    assert!(read(&rig, 0, 0).await.closed);
    assert!(rig.table.start(rig.params("p", json!({}))).await.is_err(), "the id stays taken");
    while rig.table.read(read_params("p"), NextSeq::AfterLastPiece).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(began.elapsed() < crate::rig::PATIENCE);
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    let error = rig.table.read(read_params("p"), NextSeq::AfterLastPiece).await.unwrap_err();
    assert_eq!(error.to_string(), "unknown process id p");
    rig.start("p", json!({})).await;
}

#[tokio::test]
async fn what_ended_while_nobody_was_there_stays_until_it_was_read() {
    let mut limits = Limits::default();
    limits.retention = Duration::from_millis(50);
    let rig = Rig::with(HostConfig::default(), limits);
    rig.start("p", sh("read x; printf late; exit 5").merge("pipeStdin")).await;
    rig.table.detach();
    rig.table.write(&id("p"), b"\n".to_vec().into(), None).await.unwrap();
    eventually("p has ended", || !rig.table.has_live()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    rig.table.attach(Delivery::Sent);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut after = 0;
    let mut got = Vec::new();
    let last = loop {
        let result = read(&rig, after, 20_000).await;
        got.extend(bytes(&result));
        after = result.next_seq - 1;
        if result.closed {
            break result;
        }
    };
    assert_eq!((got, last.exit_code), (b"late".to_vec(), Some(5)));
    let began = Instant::now();
    while rig.table.read(read_params("p"), NextSeq::AfterLastPiece).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(began.elapsed() < crate::rig::PATIENCE);
    }
}

/// Two tables, and room for little: both commands wait, and go on as what they wrote is read.
#[tokio::test]
async fn what_all_keep_together_is_bounded() {
    const TOTAL: usize = 2 * 1024 * 1024;
    let mut config = HostConfig::default();
    config.backlog = 512 * 1024;
    let rig = Rig::with(config, Limits::default());
    let other = Table::new(rig.host.clone(), Limits::default());
    rig.table.detach();
    let params = |name: &str| rig.params(name, json!({"argv": ["head", "-c", TOTAL.to_string(), "/dev/zero"]}));
    rig.table.start(params("p")).await.unwrap();
    other.start(params("p")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for table in [&other, &rig.table] {
        let mut ask = read_params("p");
        let first = table.read(ask.clone(), NextSeq::AfterLastPiece).await.unwrap();
        assert!(bytes(&first).len() < 512 * 1024 + 64 * 1024 && !first.exited);
        let (mut got, mut closed) = (0, false);
        while !closed {
            ask.wait_ms = Some(20_000);
            let result = table.read(ask.clone(), NextSeq::AfterLastPiece).await.unwrap();
            got += bytes(&result).len();
            ask.after_seq = Some(result.next_seq - 1);
            closed = result.closed;
        }
        assert_eq!(got, TOTAL);
    }
}

#[tokio::test]
async fn unknown_processes() {
    let rig = Rig::new();
    let mut params = read_params("none");
    params.wait_ms = Some(60_000);
    let answer =
        tokio::time::timeout(Duration::from_secs(5), rig.table.read(params, NextSeq::AfterLastPiece)).await.unwrap();
    assert_eq!(answer.unwrap_err().to_string(), "unknown process id none");
    assert!(!rig.table.terminate(&id("none")));
}

trait Merge {
    /// With a member set to true.
    fn merge(self, flag: &str) -> Self;
}

impl Merge for serde_json::Value {
    fn merge(mut self, flag: &str) -> Self {
        self[flag] = true.into();
        self
    }
}

#[tokio::test]
async fn where_it_is_wanted_a_command_never_waits_and_what_is_lost_is_counted() {
    const TOTAL: u64 = 60_000_000;
    let mut config = HostConfig::default();
    config.when_full = WhenFull::DropOldest;
    let rig = Rig::with(config, Limits::default());
    rig.table.detach();
    rig.start("p", sh(&format!("yes 0123456789abcde | head -c {TOTAL}; exit 4"))).await;
    // Reading from the start again and again confirms nothing.
    while !read(&rig, 0, 0).await.closed {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let whole = read(&rig, 0, 0).await;
    assert_eq!((whole.exit_code, whole.closed), (Some(4), true));
    let kept = bytes(&whole).len() as u64;
    assert!(whole.dropped_bytes > 0);
    assert_eq!(whole.dropped_bytes + kept, TOTAL);
}
