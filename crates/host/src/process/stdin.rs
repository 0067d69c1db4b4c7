//! The standard input of one process: a bounded queue, and the task that empties it into a pipe or a PTY.
//!
//! In flow writes in order and at last the end, out flow bytes to the child. A write waits only while the queue is full;
//! when the child is gone, all that wait and all that come are refused. Knows no process id.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use bytes::Bytes;
use exedra_proto::process::WriteStatus;
use rustix::io::Errno;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::launch::Watched;
use super::pty::end_of_file;
use crate::error::WriteFailed;

/// Writes that may be queued for one process, as in stock. When full, the next write waits, alone.
pub const QUEUE_WRITES: usize = 128;
/// Bytes that may be queued for one process. When full, the next write waits, alone; a bigger one has the queue to itself.
pub const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Accepted write ids that are remembered; the oldest is forgotten first.
pub const REMEMBERED: usize = 4096;

/// Where the bytes go.
#[derive(Debug)]
pub struct Sink {
    /// The pipe, or our end of the PTY.
    pub fd: Arc<Watched>,
    /// Whether it is a PTY.
    pub terminal: bool,
}

/// The writing side.
#[derive(Debug)]
pub struct Stdin {
    /// Held by the one whose turn it is; fair, so it keeps the order of the writes.
    turn: Mutex<Turn>,
    room: Arc<Semaphore>,
    gone: Arc<Notify>,
}

/// The task's side.
#[derive(Debug)]
pub struct Queue {
    items: mpsc::Receiver<Item>,
    room: Arc<Semaphore>,
    gone: Arc<Notify>,
    sink: Sink,
}

#[derive(Debug)]
struct Turn {
    /// None once the end has been queued.
    items: Option<mpsc::Sender<Item>>,
    accepted: Remembered,
}

#[derive(Debug)]
struct Item {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The last accepted write ids, as hashes: ids have any length.
#[derive(Debug, Default)]
struct Remembered {
    keys: (RandomState, RandomState),
    order: VecDeque<(u64, u64)>,
    known: HashSet<(u64, u64)>,
}

impl Stdin {
    /// Both sides; somebody has to run [`Queue::run`].
    pub fn new(sink: Sink) -> (Self, Queue) {
        let (send, items) = mpsc::channel(QUEUE_WRITES);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let gone = Arc::new(Notify::new());
        let turn = Mutex::new(Turn { items: Some(send), accepted: Remembered::default() });
        (Self { turn, room: room.clone(), gone: gone.clone() }, Queue { items, room, gone, sink })
    }

    /// Queues `bytes`, unless a write of that id was accepted before.
    ///
    /// # Errors
    /// The child is gone, or has closed its end.
    pub async fn write(&self, bytes: Bytes, write_id: Option<&str>) -> Result<WriteStatus, WriteFailed> {
        let mut turn = self.turn.lock().await;
        // Whatever became of the child since: this one was taken.
        if write_id.is_some_and(|id| turn.accepted.contains(id)) {
            return Ok(WriteStatus::Accepted);
        }
        let Some(items) = &turn.items else { return Ok(WriteStatus::StdinClosed) };
        if self.room.is_closed() {
            return Err(WriteFailed);
        }
        let share = u32::try_from(bytes.len().min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(share).await.map_err(|_| WriteFailed)?;
        items.send(Item { bytes, _room: room }).await.map_err(|_| WriteFailed)?;
        if let Some(id) = write_id {
            turn.accepted.insert(id);
        }
        Ok(WriteStatus::Accepted)
    }

    /// Queues the end.
    pub async fn close(&self) -> WriteStatus {
        let mut turn = self.turn.lock().await;
        match turn.items.take() {
            Some(_) if !self.room.is_closed() => WriteStatus::Accepted,
            Some(_) | None => WriteStatus::StdinClosed,
        }
    }

    /// The child is gone: whoever waits is refused, and the task ends.
    pub fn child_is_gone(&self) {
        self.room.close();
        self.gone.notify_one();
    }
}

impl Queue {
    /// Writes what is queued until the end of it, of the child or of the pipe.
    pub async fn run(mut self) {
        let gone = self.gone.clone();
        tokio::select! {
            biased;
            () = gone.notified() => {}
            () = self.drain() => {}
        }
        self.room.close();
    }

    async fn drain(&mut self) {
        let mut last = None;
        while let Some(item) = self.items.recv().await {
            if self.write_all(&item.bytes).await.is_err() {
                return;
            }
            last = item.bytes.last().copied().or(last);
        }
        if self.sink.terminal {
            let end = end_of_file(self.sink.fd.get_ref().as_fd(), last);
            let _ = self.write_all(&end).await;
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.sink.fd.writable().await?;
            match ready.try_io(|fd| retry(|| rustix::io::write(fd, bytes))) {
                Ok(written) => bytes = &bytes[written?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

impl Remembered {
    fn contains(&self, id: &str) -> bool {
        self.known.contains(&self.hash(id))
    }

    fn insert(&mut self, id: &str) {
        let hash = self.hash(id);
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn hash(&self, id: &str) -> (u64, u64) {
        (self.keys.0.hash_one(id), self.keys.1.hash_one(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_ids_are_remembered() {
        let mut remembered = Remembered::default();
        for i in 0..=REMEMBERED {
            remembered.insert(&i.to_string());
            remembered.insert(&i.to_string());
        }
        assert!(!remembered.contains("0"));
        assert!(remembered.contains("1") && remembered.contains(&REMEMBERED.to_string()));
        assert_eq!(remembered.known.len(), REMEMBERED);
    }
}
