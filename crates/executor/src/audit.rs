//! The audit: who did what on this machine, as lines that are chained by hashes and signed by the executor's own key.
//!
//! In flow what connections, sessions, requests and processes do, out flows a log in a directory (docs/audit.md). What
//! changes anything is written down before it happens. If nothing can be written, no session and no such request is
//! taken: an executor that is to be audited does nothing unseen. The parts from the bottom: `record`, `head`, `chain`,
//! `check`, `mask`, `intent` are pure; `segments` are the files, `recover` what was there before, `journal` the writer,
//! `watch` the processes, [`log`] the reader.

mod chain;
mod check;
mod error;
mod head;
mod intent;
mod journal;
pub mod log;
mod mask;
mod record;
mod recover;
mod room;
mod segments;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use exedra_host::process::Observer;
use exedra_proto::envelope::RequestId;
use exedra_proto::ids::SessionId;
use exedra_proto::method::Request;
use tokio::sync::{Semaphore, oneshot, watch as channel};

use self::chain::Chain;
pub use self::check::Findings;
pub use self::error::AuditError;
pub use self::head::Head;
use self::journal::{Journal, Order, State};
use self::mask::Patterns;
pub use self::record::{By, Record, Written};
use self::room::Room;
use self::segments::{Hold, Segments};
use crate::identity::Identity;

/// A segment is full at so many bytes.
const SEGMENT: u64 = 64 * 1024 * 1024;
/// Records of requests that wait for the writer; above it the requests wait, and nothing is dropped.
const QUEUED: usize = 4096;
/// Of the id of a request, so many bytes are written down.
const MAX_ID: usize = 1024;
/// How long what ends something waits for a place in the queue; then it goes on without one.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an audit is made of.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Where the log is, for this executor alone.
    pub dir: PathBuf,
    /// The executor's key; made if there is none.
    pub identity: PathBuf,
    /// Bytes after which a new file is begun.
    pub segment: u64,
    /// Whether output is kept too, and what is masked in it beside the usual.
    pub output: Option<Vec<String>>,
}

/// A log that is being written. Clones write to the same one; it ends when [`Audit::stop`] is called or the last clone
/// is dropped.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    orders: Sender<Order>,
    state: channel::Receiver<State>,
    queue: Arc<Semaphore>,
    room: Arc<Room>,
    identity: Arc<Identity>,
    patterns: Option<Patterns>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Nothing can be written, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit cannot be written: {0}")]
pub struct Unwritable(pub String);

impl AuditConfig {
    /// A log in `dir`, signed with the key in the file `identity`.
    pub fn new(dir: PathBuf, identity: PathBuf) -> Self {
        Self { dir, identity, segment: SEGMENT, output: None }
    }
}

impl Audit {
    /// Opens or makes the log, and starts its writer.
    ///
    /// # Errors
    /// The log or the key cannot be used.
    pub fn open(config: &AuditConfig) -> Result<Self, AuditError> {
        let identity = Arc::new(Identity::load_or_create(&config.identity)?);
        let patterns = config.output.as_ref().map(|more| Patterns::with(more)).transpose()?;
        let hold = Hold::take(&config.dir)?;
        let position = recover::recover(&config.dir)?;
        if let Some(key) = position.key.filter(|key| *key != identity.public_key()) {
            return Err(AuditError::Foreign { dir: config.dir.clone(), key });
        }
        let segments = Segments::open(hold, position.segment, config.segment)?;
        let chain = Chain::after(position.next, position.previous);
        let room = Arc::new(Room::default());
        let Journal { orders, state, thread } =
            journal::start(segments, chain, Arc::clone(&identity), Arc::clone(&room))?;
        let key = identity.public_key();
        let inner = Inner {
            orders,
            state,
            queue: Arc::new(Semaphore::new(QUEUED)),
            room,
            identity,
            patterns,
            thread: Mutex::new(Some(thread)),
        };
        let audit = Self(Arc::new(inner));
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        audit.tell(Record::Opened { format: record::FORMAT, version, key, pid, torn: position.torn });
        Ok(audit)
    }

    /// Whether anything new may be taken.
    ///
    /// # Errors
    /// The log cannot be written at present.
    pub fn check(&self) -> Result<(), Unwritable> {
        self.0.state.borrow().clone().map_or(Ok(()), |trouble| Err(Unwritable(trouble)))
    }

    /// Writes `record` down before what it tells of happens: waits for a place in the queue, not for the disk.
    ///
    /// # Errors
    /// The log cannot be written at present.
    pub async fn before(&self, record: Record) -> Result<(), Unwritable> {
        self.check()?;
        let permit = Arc::clone(&self.0.queue).acquire_owned().await.ok();
        self.check()?;
        let order = Order::Write { record: Box::new(record), done: None, permit, bytes: 0 };
        self.0.orders.send(order).map_err(|_| ended())
    }

    /// Writes `record` down and waits until it is on the disk.
    ///
    /// # Errors
    /// It cannot be; it may get there later all the same.
    pub async fn commit(&self, record: Record) -> Result<(), Unwritable> {
        self.check()?;
        let (done, answer) = oneshot::channel();
        let order = Order::Write { record: Box::new(record), done: Some(done), permit: None, bytes: 0 };
        self.0.orders.send(order).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err("its writer has ended".to_owned())).map_err(Unwritable)
    }

    /// Writes `record` down before what it tells of happens, which happens in any case: something is ended, and nothing new
    /// is done. Where nothing can be written it is kept for later, or counted.
    pub async fn ending(&self, record: Record) {
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.0.queue).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok);
        let _ = self.0.orders.send(Order::Write { record: Box::new(record), done: None, permit, bytes: 0 });
    }

    /// Writes down what has happened already.
    pub fn tell(&self, record: Record) {
        self.keep(record, 0);
    }

    /// What `request` is about to do; none if it only looks.
    pub(crate) fn intent(&self, request: &Request, by: By) -> Option<Record> {
        intent::record(request, by, &self.0.identity)
    }

    /// Who watches the processes of `session`.
    pub(crate) fn watch(&self, session: SessionId) -> Arc<dyn Observer> {
        Arc::new(watch::Watch::new(self.clone(), session))
    }

    /// Signs, waits for the disk, and ends the log. Later records go nowhere.
    pub fn stop(&self) {
        let _ = self.0.orders.send(Order::Stop);
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn keep(&self, record: Record, bytes: usize) {
        self.0.room.take(bytes);
        let _ = self.0.orders.send(Order::Write { record: Box::new(record), done: None, permit: None, bytes });
    }

    fn patterns(&self) -> Option<&Patterns> {
        self.0.patterns.as_ref()
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.room.poll(context)
    }
}

impl By {
    /// Request `id` on `connection`, in `session`.
    pub fn request(session: SessionId, connection: u64, id: &RequestId) -> Self {
        let request = match id {
            RequestId::Text(text) if text.len() > MAX_ID => {
                serde_json::Value::from(format!("{}…", &text[..text.floor_char_boundary(MAX_ID)]))
            }
            id => serde_json::to_value(id).unwrap_or_default(),
        };
        Self { session, connection, request }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("identity", &self.0.identity).finish_non_exhaustive()
    }
}

fn ended() -> Unwritable {
    Unwritable("its writer has ended".to_owned())
}

#[cfg(test)]
mod tests;
