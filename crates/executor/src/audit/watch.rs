//! Watches the processes of one session for the audit: counts and hashes what they write, keeps it where asked to.
//!
//! In flow pieces of output and ends, out flow records. It holds nothing of a process after its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use exedra_host::process::Observer;
use exedra_proto::base64::Base64Text;
use exedra_proto::ids::{ProcessId, SessionId};
use exedra_proto::limits::Limit;
use exedra_proto::process::OutputStream;
use sha2::{Digest as _, Sha256};

use super::Audit;
use super::mask::{Masked, Masker};
use super::record::{Record, Written};
use crate::identity::hex;

/// All outputs that there are.
const STREAMS: [OutputStream; 3] = [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Pty];

/// See the module.
#[derive(Debug)]
pub struct Watch {
    audit: Audit,
    session: SessionId,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    streams: BTreeMap<(ProcessId, OutputStream), Stream>,
    /// Exited with outputs that were still open: a line is owed at their end.
    open: BTreeSet<ProcessId>,
}

#[derive(Debug)]
struct Stream {
    bytes: u64,
    hash: Sha256,
    masker: Option<Masker>,
}

impl Watch {
    /// Of `session`.
    pub fn new(audit: Audit, session: SessionId) -> Self {
        Self { audit, session, seen: Mutex::default() }
    }

    fn keep(&self, process: &ProcessId, stream: OutputStream, masked: Masked) {
        if masked.bytes.is_empty() {
            return;
        }
        let bytes = masked.bytes.len();
        let (text, base64) = match String::from_utf8(masked.bytes) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(Base64Text::encode(error.as_bytes()).0)),
        };
        let (session, process, stream) = (self.session.clone(), process.clone(), stream.as_str());
        self.audit.keep(Record::Output { session, process, stream, text, base64, masked: masked.count }, bytes);
    }

    /// The end of all streams of `process`: what was held back is kept, and the sums are taken out.
    fn end(&self, seen: &mut Seen, process: &ProcessId) -> BTreeMap<&'static str, Written> {
        let mut written = BTreeMap::new();
        for stream in STREAMS {
            let Some(mut ended) = seen.streams.remove(&(process.clone(), stream)) else { continue };
            if let Some(masked) = ended.masker.as_mut().map(Masker::finish) {
                self.keep(process, stream, masked);
            }
            written.insert(stream.as_str(), ended.written());
        }
        written
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn written(&self) -> Written {
        Written { bytes: self.bytes, sha256: hex(&self.hash.clone().finalize()) }
    }
}

impl Observer for Watch {
    fn output(&self, process: &ProcessId, stream: OutputStream, bytes: &Bytes) {
        let mut seen = self.seen();
        let entry = seen.streams.entry((process.clone(), stream)).or_insert_with(|| Stream {
            bytes: 0,
            hash: Sha256::new(),
            masker: self.audit.patterns().map(|patterns| Masker::new(patterns.clone())),
        });
        entry.bytes += bytes.len() as u64;
        entry.hash.update(bytes);
        // Under the lock: what is kept of one stream keeps its order.
        if let Some(masked) = entry.masker.as_mut().map(|masker| masker.push(bytes)) {
            self.keep(process, stream, masked);
        }
    }

    fn exited(&self, process: &ProcessId, code: i32, limit: Option<Limit>, last: bool) {
        let mut seen = self.seen();
        let output = if last {
            self.end(&mut seen, process)
        } else {
            seen.open.insert(process.clone());
            let of =
                |stream: OutputStream| Some((stream.as_str(), seen.streams.get(&(process.clone(), stream))?.written()));
            STREAMS.into_iter().filter_map(of).collect()
        };
        self.audit.tell(Record::Exit {
            session: self.session.clone(),
            process: process.clone(),
            code,
            limit,
            closed: last,
            output,
        });
    }

    fn closed(&self, process: &ProcessId) {
        let mut seen = self.seen();
        if seen.open.remove(process) {
            let output = self.end(&mut seen, process);
            self.audit.tell(Record::Closed { session: self.session.clone(), process: process.clone(), output });
        }
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.audit.poll_room(context)
    }
}
