//! Params, results and notifications of `process/*`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base64::{Base64Text, Chunk};
use crate::ids::ProcessId;
use crate::limits::{Limit, ResourceLimits};
use crate::path::CwdPath;
use crate::sandbox::SandboxContext;

/// Params of `process/start`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartParams {
    /// Unique in the session among live and retained processes.
    pub process_id: ProcessId,
    /// Program and arguments, at least one.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: CwdPath,
    /// Overlay of the environment, or all of it where there is no `env_policy`.
    pub env: BTreeMap<String, String>,
    /// How to make the environment below the overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_policy: Option<EnvPolicy>,
    /// One pseudo terminal for all three streams.
    pub tty: bool,
    /// Keep stdin writable when `tty` is false.
    #[serde(default)]
    pub pipe_stdin: bool,
    /// The program name that the child sees.
    #[serde(default)]
    pub arg0: Option<String>,
    /// What must be enforced on the child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
    /// Whether the network must go through a managed proxy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enforce_managed_network: bool,
    /// Settings of that proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_network: Option<Value>,
    /// A filtering proxy that the executor would have to start (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_proxy: Option<Value>,
    /// What it may use (`exedra/1`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceLimits>,
}

/// How the environment of a child is made: inherit, default excludes, `exclude`, `set`, `include_only`, overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvPolicy {
    /// What to start from.
    pub inherit: EnvInherit,
    /// If false, names matching `*KEY*`, `*SECRET*` and `*TOKEN*` are dropped.
    pub ignore_default_excludes: bool,
    /// Patterns of names to drop (`*` and `?`, whole name, any case).
    pub exclude: Vec<String>,
    /// Values to add or replace.
    pub set: BTreeMap<String, String>,
    /// If not empty, only matching names stay.
    pub include_only: Vec<String>,
}

/// Where an environment starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvInherit {
    /// A few names such as `PATH` and `HOME`.
    Core,
    /// All of the executor's.
    All,
    /// Nothing.
    None,
}

/// Result of `process/start`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartResult {
    /// As requested.
    pub process_id: ProcessId,
    /// What confines it (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_type: Option<SandboxType>,
}

/// What confines a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SandboxType {
    /// Nothing.
    None,
    /// Seatbelt.
    MacosSeatbelt,
    /// Namespaces, Landlock and a filter of system calls, or the last two.
    LinuxSeccomp,
    /// A restricted token.
    WindowsRestrictedToken,
}

/// Which output a chunk came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The pseudo terminal.
    Pty,
}

impl OutputStream {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Pty => "pty",
        }
    }
}

/// Params of `process/read`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadParams {
    /// Which process.
    pub process_id: ProcessId,
    /// Only events after this seq; absent equals 0, i.e. everything retained.
    #[serde(default)]
    pub after_seq: Option<u64>,
    /// Limit in decoded bytes; the first chunk is always taken.
    #[serde(default)]
    pub max_bytes: Option<usize>,
    /// How long to wait for something new, in milliseconds.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Result of `process/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadResult {
    /// Retained output after `after_seq`, ascending; holes are exits and evicted output.
    pub chunks: Vec<ReadChunk>,
    /// See protocol 7.4; `next_seq - 1` continues the reading.
    pub next_seq: u64,
    /// The child was reaped.
    pub exited: bool,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// No more events will come.
    pub closed: bool,
    /// Always null from a server.
    pub failure: Option<String>,
    /// The limit that it was ended for, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// It failed, and that looks like the doing of its sandbox (0.142 and later).
    #[serde(default)]
    pub sandbox_denied: bool,
    /// Bytes of output that were dropped before anybody was given them, if any were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_bytes: u64,
}

/// Whether there is nothing to say.
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// One piece of retained output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadChunk {
    /// Its event number.
    pub seq: u64,
    /// Where it came from.
    pub stream: OutputStream,
    /// The bytes.
    pub chunk: Base64Text,
}

/// Params of `process/write`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// Which process.
    pub process_id: ProcessId,
    /// Bytes for its stdin, possibly none.
    pub chunk: Chunk,
    /// Makes a repeated write harmless (0.142 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_id: Option<String>,
}

/// [`WriteParams`] in the header of a binary message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteHead {
    /// Which process.
    pub process_id: ProcessId,
    /// As there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_id: Option<String>,
}

impl WriteHead {
    /// With the bytes behind it.
    pub fn with(self, payload: Bytes) -> WriteParams {
        WriteParams { process_id: self.process_id, chunk: Chunk::Raw(payload), write_id: self.write_id }
    }
}

/// Result of `process/write` and `process/closeStdin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteResult {
    /// What became of it.
    pub status: WriteStatus,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WriteStatus {
    /// Queued.
    Accepted,
    /// No such process in this session.
    UnknownProcess,
    /// The process has no writable stdin.
    StdinClosed,
    /// The process is still being started.
    Starting,
}

/// Params of `process/terminate`, and of `process/closeStdin` of `exedra/1`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessParams {
    /// Which process.
    pub process_id: ProcessId,
}

/// Params of `process/signal` (0.142 and later).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalParams {
    /// Which process.
    pub process_id: ProcessId,
    /// Which signal.
    pub signal: Signal,
}

/// What can be sent to a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// SIGINT.
    Interrupt,
}

/// Result of `process/signal`: nothing, whether there was such a process or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalResult {}

/// Result of `process/terminate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateResult {
    /// Whether it was running and has been killed.
    pub running: bool,
}

/// Params of `process/resize` (`exedra/1`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeParams {
    /// Which process.
    pub process_id: ProcessId,
    /// The size that its terminal is to have.
    pub size: TerminalSize,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub cols: u16,
}

/// Result of `process/resize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeResult {
    /// What became of it.
    pub status: ResizeStatus,
}

/// What became of a new size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ResizeStatus {
    /// The terminal has it.
    Resized,
    /// No such process in this session.
    UnknownProcess,
    /// The process has no terminal, or none any more.
    NoTerminal,
    /// The process is still being started.
    Starting,
}

/// Params of the notification `process/ack`, which a client sends (`exedra/1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AckParams {
    /// Which process.
    pub process_id: ProcessId,
    /// The client has every event up to this one.
    pub seq: u64,
}

/// Params of `process/list` (`exedra/1`).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ListParams {}

/// Result of `process/list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListResult {
    /// The processes of the session that are running or still known, in order of their start.
    pub processes: Vec<ListedProcess>,
}

/// A process as `process/list` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedProcess {
    /// Its id.
    pub process_id: ProcessId,
    /// Its number on the executor's machine.
    pub pid: u32,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// How long ago it was started, in milliseconds.
    pub age_ms: u64,
    /// The number of its latest event; 0 before the first.
    pub last_seq: u64,
    /// Its exit code, once it has exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether its last event has happened.
    pub closed: bool,
}

/// Params of the notification `process/output`, as received.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputParams {
    /// Which process.
    pub process_id: ProcessId,
    /// Its event number.
    pub seq: u64,
    /// Where it came from.
    pub stream: OutputStream,
    /// The bytes.
    pub chunk: Chunk,
}

/// [`OutputParams`] in the header of a binary message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputHead {
    /// Which process.
    pub process_id: ProcessId,
    /// Its event number.
    pub seq: u64,
    /// Where it came from.
    pub stream: OutputStream,
}

impl OutputHead {
    /// With the bytes behind it.
    pub fn with(self, payload: Bytes) -> OutputParams {
        let Self { process_id, seq, stream } = self;
        OutputParams { process_id, seq, stream, chunk: Chunk::Raw(payload) }
    }
}

/// Params of the notification `process/exited`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitedParams {
    /// Which process.
    pub process_id: ProcessId,
    /// Its event number.
    pub seq: u64,
    /// 0 to 255, or 128 + n after signal n.
    pub exit_code: i32,
    /// It failed, and that looks like the doing of its sandbox (0.145 and later).
    #[serde(default)]
    pub sandbox_denied: bool,
    /// The limit that it was ended for, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// Params of the notification `process/closed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedParams {
    /// Which process.
    pub process_id: ProcessId,
    /// The highest event number of the process.
    pub seq: u64,
}

/// The notification `process/output` as text, written in one pass: it is the hot path of every transfer.
pub fn output_notification(process: &ProcessId, seq: u64, stream: OutputStream, bytes: &[u8]) -> String {
    let id = serde_json::Value::from(process.as_str()).to_string();
    let mut out = String::with_capacity(128 + id.len() + bytes.len().div_ceil(3) * 4);
    out.push_str(r#"{"method":"process/output","params":{"processId":"#);
    out.push_str(&id);
    out.push_str(r#","seq":"#);
    out.push_str(&seq.to_string());
    out.push_str(r#","stream":""#);
    out.push_str(stream.as_str());
    out.push_str(r#"","chunk":""#);
    crate::base64::append(&mut out, bytes);
    out.push_str(r#""}}"#);
    out
}

/// The notification `process/output` as a binary message.
pub fn binary_output(process: &ProcessId, seq: u64, stream: OutputStream, bytes: &[u8]) -> Bytes {
    let id = serde_json::Value::from(process.as_str()).to_string();
    let stream = stream.as_str();
    let head =
        format!(r#"{{"method":"process/output","params":{{"processId":{id},"seq":{seq},"stream":"{stream}"}}}}"#);
    crate::binary::join(&head, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_output_text_equals_the_plain_one() {
        let process_id = ProcessId::new("a\"\n\u{1}é");
        let fast = output_notification(&process_id, 7, OutputStream::Stderr, b"hello");
        let chunk = Base64Text::encode(b"hello").into();
        let params = OutputParams { process_id, seq: 7, stream: OutputStream::Stderr, chunk };
        let plain = crate::envelope::notification("process/output", &params).unwrap();
        assert_eq!(fast, plain);
    }
}
