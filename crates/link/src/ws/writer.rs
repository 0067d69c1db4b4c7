//! The writing half of a websocket: takes messages from the queue, sends what is there in one go, and then waits.
//!
//! In flow messages, the reader's replies, wishes for a ping or a close; out flow bytes. A single small message goes out
//! at once; while the socket is slow, messages gather in the queue and go out together. It reads nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Buf;
use exedra_proto::close::CloseReason;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::frames::{self, Goodbye, Pieces};
use super::marks::Marks;
use super::replies::Replies;
use super::watch::Pulse;
use crate::connection::{Closing, Outgoing};
use crate::message::Message;
use crate::queue;

/// The writer hands bytes to the socket when it has gathered this many, or when the queue is empty.
const BATCH: usize = 64 * 1024;
/// A buffer up to this size, in bytes, is freed as soon as it is written: it is had again for less than a write costs. A
/// larger one is kept until there is a ping, which goes to those who are silent.
const CHEAP: usize = 8 * 1024;
/// Payloads from this size on go out from where they are, if they need no mask.
const PLAIN: usize = 16 * 1024;

/// The writing half.
#[derive(Debug)]
pub(super) struct Writer<W> {
    socket: W,
    role: Role,
    fragment: usize,
    buffer: Vec<u8>,
    pulse: Arc<Pulse>,
    marks: Arc<Marks>,
}

/// What comes to the writer from elsewhere.
#[derive(Debug)]
pub(super) struct Inputs {
    /// Messages to send.
    pub(super) outgoing: queue::Rx<Outgoing>,
    /// Whether messages may still come.
    pub(super) is_open: bool,
    /// The reader's answers to pings.
    pub(super) replies: Arc<Replies>,
    /// A wish to close after what is queued.
    pub(super) close: Closing,
    /// An order to say goodbye (unless it was said) and to end, now.
    pub(super) finish: oneshot::Receiver<Goodbye>,
}

enum Next {
    Finish(Option<Goodbye>),
    Reply(bytes::Bytes),
    Ping,
    Outgoing(Option<Outgoing>),
    Close(CloseReason),
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(socket: W, role: Role, fragment: usize, pulse: Arc<Pulse>, marks: Arc<Marks>) -> Self {
        Self { socket, role, fragment, buffer: Vec::new(), pulse, marks }
    }

    /// Writes until it is told to finish, or until the socket fails.
    pub(super) async fn run(mut self, mut inputs: Inputs) -> io::Result<()> {
        loop {
            let next = next(&self.pulse, &mut inputs).await;
            let is_quiet = matches!(next, Next::Ping | Next::Reply(_)) && inputs.outgoing.is_empty();
            match next {
                Next::Reply(payload) => {
                    let mask = self.mask()?;
                    frames::pong(&mut self.buffer, &payload, mask);
                }
                Next::Ping => {
                    let mask = self.mask()?;
                    frames::ping(&mut self.buffer, &[], mask);
                    if let Some(mark) = self.marks.open() {
                        frames::ping(&mut self.buffer, &mark, mask);
                    }
                }
                Next::Outgoing(Some(first)) => self.batch(first, &mut inputs.outgoing).await?,
                Next::Outgoing(None) => inputs.is_open = false,
                Next::Close(reason) => {
                    inputs.outgoing.close();
                    while let Some(outgoing) = inputs.outgoing.try_recv() {
                        self.outgoing(outgoing).await?;
                    }
                    self.goodbye(&Goodbye::Ours(reason)).await?;
                    break;
                }
                Next::Finish(goodbye) => {
                    if let Some(goodbye) = goodbye {
                        self.goodbye(&goodbye).await?;
                    }
                    return self.socket.shutdown().await;
                }
            }
            self.flush().await?;
            if is_quiet || self.buffer.capacity() <= CHEAP {
                self.buffer = Vec::new();
            }
        }
        // Nothing may follow a goodbye; the socket stays open for the peer's answer.
        let _ = inputs.finish.await;
        self.socket.shutdown().await
    }

    async fn batch(&mut self, first: Outgoing, outgoing: &mut queue::Rx<Outgoing>) -> io::Result<()> {
        self.outgoing(first).await?;
        while self.buffer.len() < BATCH {
            match outgoing.try_recv() {
                Some(outgoing) => self.outgoing(outgoing).await?,
                None => break,
            }
        }
        Ok(())
    }

    async fn outgoing(&mut self, outgoing: Outgoing) -> io::Result<()> {
        match outgoing {
            Outgoing::Message(message) => self.message(message).await,
            Outgoing::Mark(number) => {
                if let Some(mark) = self.marks.send(number) {
                    let mask = self.mask()?;
                    frames::ping(&mut self.buffer, &mark, mask);
                }
                Ok(())
            }
        }
    }

    /// Gathers a message in the buffer, and writes whenever that is full.
    async fn message(&mut self, message: Message) -> io::Result<()> {
        let mut pieces = Pieces::of(message, self.fragment);
        loop {
            let mask = self.mask()?;
            let Some(mut payload) = pieces.next(&mut self.buffer, mask) else { return Ok(()) };
            match payload.plain().filter(|_| payload.len() >= PLAIN) {
                Some(plain) => self.write(Some(plain)).await?,
                None => {
                    while payload.fill(&mut self.buffer, BATCH) {
                        self.write(None).await?;
                    }
                    if self.buffer.len() >= BATCH {
                        self.write(None).await?;
                    }
                }
            }
        }
    }

    async fn goodbye(&mut self, goodbye: &Goodbye) -> io::Result<()> {
        let mask = self.mask()?;
        frames::close(&mut self.buffer, goodbye, mask);
        self.flush().await
    }

    /// Writes the buffer, and `plain` behind it.
    async fn write(&mut self, plain: Option<bytes::Bytes>) -> io::Result<()> {
        self.pulse.writing.store(true, Ordering::Relaxed);
        let written = match plain {
            Some(plain) => self.socket.write_all_buf(&mut self.buffer.as_slice().chain(plain)).await,
            None => self.socket.write_all(&self.buffer).await,
        };
        self.pulse.writing.store(false, Ordering::Relaxed);
        self.buffer.clear();
        written
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.write(None).await?;
        }
        self.buffer.shrink_to(2 * BATCH);
        self.pulse.writing.store(true, Ordering::Relaxed);
        let flushed = self.socket.flush().await;
        self.pulse.writing.store(false, Ordering::Relaxed);
        flushed
    }

    /// Clients mask what they send, with a key that nobody can guess.
    fn mask(&self) -> io::Result<Option<[u8; 4]>> {
        match self.role {
            Role::Server => Ok(None),
            Role::Client => getrandom::u32().map(|key| Some(key.to_ne_bytes())).map_err(io::Error::other),
        }
    }
}

async fn next(pulse: &Pulse, inputs: &mut Inputs) -> Next {
    tokio::select! {
        biased;
        goodbye = &mut inputs.finish => Next::Finish(goodbye.ok()),
        payload = inputs.replies.next() => Next::Reply(payload),
        () = pulse.ping.notified() => Next::Ping,
        outgoing = inputs.outgoing.recv(), if inputs.is_open => Next::Outgoing(outgoing),
        reason = inputs.close.wanted() => Next::Close(reason),
    }
}
