//! A table with a directory of its own, and what a client would do with it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exedra_host::process::{Delivery, Event, EventKind, Limits, StartError, Table};
use exedra_host::{Host, HostConfig};
use exedra_proto::ids::ProcessId;
use exedra_proto::limits::Limit;
use exedra_proto::process::{OutputStream, ReadParams, StartParams};
use serde_json::{Value, json};

/// Far beyond what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Rig {
    pub table: Table,
    pub dir: tempfile::TempDir,
    pub host: Arc<Host>,
}

/// All that a process said until it closed.
#[derive(Debug, Default)]
pub struct Story {
    pub events: Vec<Event>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub pty: Vec<u8>,
    pub code: Option<i32>,
    pub limit: Option<Limit>,
}

pub fn id(name: &str) -> ProcessId {
    ProcessId::new(name)
}

pub fn sh(script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script]})
}

pub fn read_params(name: &str) -> ReadParams {
    ReadParams { process_id: id(name), after_seq: None, max_bytes: None, wait_ms: None }
}

impl Rig {
    /// With somebody attached.
    pub fn new() -> Self {
        Self::with(HostConfig::default(), Limits::default())
    }

    pub fn with(config: HostConfig, limits: Limits) -> Self {
        let host = Host::start(config).unwrap();
        let table = Table::new(host.clone(), limits);
        table.attach(Delivery::Sent);
        Self { table, dir: tempfile::tempdir().unwrap(), host }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Params of `process/start` with the members of `over` on top of plain ones.
    pub fn params(&self, name: &str, over: Value) -> StartParams {
        let mut params = json!({
            "processId": name, "argv": ["/bin/true"], "cwd": self.path(), "env": {"PATH": "/usr/bin:/bin"}, "tty": false,
        });
        let members = params.as_object_mut().unwrap();
        members.extend(over.as_object().unwrap().clone());
        serde_json::from_value(params).unwrap()
    }

    pub async fn start(&self, name: &str, over: Value) {
        self.table.start(self.params(name, over)).await.unwrap();
    }

    pub async fn refusal(&self, over: Value) -> StartError {
        self.table.start(self.params("refused", over)).await.unwrap_err()
    }

    /// Takes events until `done` says so, delivering them.
    pub async fn take_until(&self, mut done: impl FnMut(&Event) -> bool) -> Vec<Event> {
        let mut taken = Vec::new();
        let work = async {
            loop {
                let events = self.table.next_events(1 << 20).await;
                self.table.delivered(&events.iter().map(Event::run).collect::<Vec<_>>());
                let end = events.iter().any(&mut done);
                taken.extend(events);
                if end {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, work).await.is_ok();
        assert!(in_time, "nothing more came after {} events", taken.len());
        taken
    }

    /// Everything of one process until it closed; only this one may run.
    pub async fn story(&self) -> Story {
        Story::of(self.take_until(|event| event.kind == EventKind::Closed).await)
    }

    pub async fn run(&self, over: Value) -> Story {
        self.start("run", over).await;
        let story = self.story().await;
        story.assert_in_order();
        story
    }

    /// Output until it holds `wanted`.
    pub async fn until_output(&self, wanted: &str) -> String {
        let mut seen = Vec::new();
        self.take_until(|event| {
            if let EventKind::Output { bytes, .. } = &event.kind {
                seen.extend_from_slice(bytes);
            }
            String::from_utf8_lossy(&seen).contains(wanted)
        })
        .await;
        String::from_utf8_lossy(&seen).into_owned()
    }
}

impl Story {
    pub fn of(events: Vec<Event>) -> Self {
        let mut story = Self::default();
        for event in &events {
            match &event.kind {
                EventKind::Output { stream: OutputStream::Stdout, bytes } => story.stdout.extend_from_slice(bytes),
                EventKind::Output { stream: OutputStream::Stderr, bytes } => story.stderr.extend_from_slice(bytes),
                EventKind::Output { stream: OutputStream::Pty, bytes } => story.pty.extend_from_slice(bytes),
                EventKind::Exited { code, limit, .. } => {
                    story.code = Some(*code);
                    story.limit = *limit;
                }
                EventKind::Closed => {}
            }
        }
        story.events = events;
        story
    }

    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn pty(&self) -> &str {
        std::str::from_utf8(&self.pty).unwrap()
    }

    /// Numbers without gaps from 1, the exit after all output, the close last.
    pub fn assert_in_order(&self) {
        let seqs: Vec<u64> = self.events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=self.events.len() as u64).collect::<Vec<_>>());
        let last_two: Vec<_> = self.events.iter().rev().take(2).map(|event| &event.kind).collect();
        assert!(matches!(last_two[..], [EventKind::Closed, EventKind::Exited { .. }]), "{last_two:?}");
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process of that number runs (a zombie does not).
pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}
