//! What the audit says, one record a line, as plain data.
//!
//! Values of environment variables are never in it, only digests. Members and their names are part of the file format
//! (docs/audit.md): new ones may come, none may change.

use std::collections::BTreeMap;

use exedra_proto::ids::{ProcessId, SessionId, TokenId};
use exedra_proto::limits::Limit;
use exedra_proto::rights::Rights;
use serde::Serialize;

/// Version of the file format.
pub const FORMAT: u32 = 1;

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Record {
    /// An executor began to write here. The first line of every log, and one for each start after it.
    Opened {
        /// [`FORMAT`]
        format: u32,
        /// Of the program.
        version: &'static str,
        /// The public key that signs the heads, as hex.
        key: String,
        /// Of the executor.
        pid: u32,
        /// Bytes of a line that was not written whole before, now in a file of its own; absent where there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        torn: Option<u64>,
    },
    /// A policy of the owner is in force from here on.
    Policy {
        /// The file that says so.
        file: String,
        /// The SHA-256 of its text, as hex.
        sha256: String,
    },
    /// The executor stopped in good order.
    Stopped,
    /// Signs the line before this one, and with it all lines so far.
    Head {
        /// The signing key, as hex.
        key: String,
        /// See [`super::head::Head`].
        sig: String,
    },
    /// A connection began.
    Connected {
        /// Numbers the connections of one executor process.
        connection: u64,
        /// Who is at the other end.
        peer: String,
        /// The id of the token that it showed to the server between, where that says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<TokenId>,
        /// Whom its token names, where it showed one that does.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Labels of that token.
        #[serde(skip_serializing_if = "Option::is_none")]
        labels: Option<Vec<String>>,
        /// What that token allows, where a server says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        rights: Option<Rights>,
    },
    /// A connection ended.
    Disconnected {
        /// Its number.
        connection: u64,
        /// Why.
        reason: String,
        /// How long it lasted, in milliseconds.
        ms: u64,
        /// Bytes of messages that came.
        received: u64,
        /// Bytes of messages that were sent.
        sent: u64,
    },
    /// A session was opened or resumed.
    Session {
        /// Its id.
        session: SessionId,
        /// Which connection holds it.
        connection: u64,
        /// What the client calls itself.
        client: String,
        /// Whether it had been there before.
        resumed: bool,
    },
    /// A session ended, and its processes with it.
    SessionEnded {
        /// Its id.
        session: SessionId,
    },
    /// A process is about to be started.
    Start {
        /// Whose it is.
        #[serde(flatten)]
        by: By,
        /// Its id.
        process: ProcessId,
        /// Program and arguments.
        argv: Vec<String>,
        /// Working directory.
        cwd: String,
        /// Digests of the values given by the client, by name.
        env: BTreeMap<String, String>,
        /// Whether it runs on a terminal.
        tty: bool,
        /// Whether the client asked for a sandbox.
        sandbox: bool,
    },
    /// A process is about to be told something: a signal, or to end.
    Signal {
        /// Whose it is.
        #[serde(flatten)]
        by: By,
        /// Its id.
        process: ProcessId,
        /// The method that was called.
        method: &'static str,
    },
    /// A file is about to be changed.
    File {
        /// Who changes it.
        #[serde(flatten)]
        by: By,
        /// The method that was called.
        method: &'static str,
        /// Which file.
        path: String,
        /// Where it is copied to.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// How many bytes are written.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// An HTTP request is about to be made from here.
    Http {
        /// Who wants it.
        #[serde(flatten)]
        by: By,
        /// The HTTP method.
        method: String,
        /// Scheme, host, port and path; never the query, which may hold secrets.
        url: String,
        /// Bytes of the body.
        bytes: u64,
    },
    /// A client was not let in, or got no session, again: so many times since the line about the first one.
    NotLetIn {
        /// Its address, without the port.
        peer: String,
        /// Why.
        why: String,
        /// How often.
        times: u64,
    },
    /// Nothing could be written for a while, and for some lines there was no room in memory: so many are missing here.
    Gap {
        /// From when on, in milliseconds since 1970.
        since: u64,
        /// How many, by their kinds.
        lines: BTreeMap<&'static str, u64>,
    },
    /// A request was refused or failed. For what has a line of its own, it names the same request.
    Refused {
        /// Who asked.
        #[serde(flatten)]
        by: By,
        /// The method that was called.
        method: &'static str,
        /// JSON-RPC code of the answer.
        code: i64,
        /// Text of the answer.
        message: String,
    },
    /// A child was reaped.
    Exit {
        /// Its session.
        session: SessionId,
        /// Its id.
        process: ProcessId,
        /// 0 to 255, or 128 + n after signal n.
        code: i32,
        /// The limit that it was ended for, if it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<Limit>,
        /// Whether its outputs have ended too; else a `closed` line follows.
        closed: bool,
        /// What it wrote so far, by stream.
        output: BTreeMap<&'static str, Written>,
    },
    /// The outputs of a process ended after its exit.
    Closed {
        /// Its session.
        session: SessionId,
        /// Its id.
        process: ProcessId,
        /// All that it wrote, by stream.
        output: BTreeMap<&'static str, Written>,
    },
    /// A piece of output, where output is kept.
    Output {
        /// Its session.
        session: SessionId,
        /// Its process.
        process: ProcessId,
        /// `stdout`, `stderr` or `pty`.
        stream: &'static str,
        /// The bytes, masked, where they are UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The bytes, masked, where they are not.
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
        /// How many secrets were masked in it.
        masked: u64,
    },
}

impl Record {
    /// What its line says it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Policy { .. } => "policy",
            Self::Stopped => "stopped",
            Self::Head { .. } => "head",
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::Session { .. } => "session",
            Self::SessionEnded { .. } => "session-ended",
            Self::Start { .. } => "start",
            Self::Signal { .. } => "signal",
            Self::File { .. } => "file",
            Self::Http { .. } => "http",
            Self::NotLetIn { .. } => "not-let-in",
            Self::Gap { .. } => "gap",
            Self::Refused { .. } => "refused",
            Self::Exit { .. } => "exit",
            Self::Closed { .. } => "closed",
            Self::Output { .. } => "output",
        }
    }

    /// Whether it is kept however long nothing can be written: there is a bound to how many of its kind there can be.
    pub fn is_kept(&self) -> bool {
        !matches!(
            self,
            Self::Connected { .. }
                | Self::Disconnected { .. }
                | Self::Session { .. }
                | Self::Start { .. }
                | Self::Signal { .. }
                | Self::File { .. }
                | Self::Http { .. }
                | Self::NotLetIn { .. }
                | Self::Refused { .. }
        )
    }
}

/// Whose request a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct By {
    /// The session.
    pub session: SessionId,
    /// The connection that it came on.
    pub connection: u64,
    /// The id of the JSON-RPC request.
    pub request: serde_json::Value,
}

/// What a process wrote to one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// How much.
    pub bytes: u64,
    /// SHA-256 of it, as hex.
    pub sha256: String,
}
