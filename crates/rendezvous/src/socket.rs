//! One websocket after its upgrade: a reading half that yields frames for the counterpart, a writing half that takes
//! them, and its own control frames in between.
//!
//! Bytes of the peer come in through [`Socket::poll_fill`], frames for the peer leave through
//! [`Socket::poll_write_frames`]. Pings are answered from a slot (the latest wins) by whoever writes next, between two
//! batches of frames and never inside one; so nothing queues. It knows no counterpart and no payload.
//!
//! **Marks** (`proto::mark`) are pings that ask how far the counterpart has read: whoever joins two sockets takes them
//! out, and has them answered when the counterpart's pongs say so. Where nobody does, they are answered like any ping.
//!
//! **Liveness.** A peer that is silent for the limit is gone, if its silence says something: we read it, no write of ours
//! waits, and it has answered a ping that was sent behind the last data for it (pings carry the count of bytes sent, so
//! that a pong tells how far the peer has read). Otherwise it may be slow, stopped or paused, and TCP's own view decides
//! ([`crate::tcp`]), once in each ping interval. Pings go on meanwhile, so that TCP has something to be answered.

pub mod io;
mod marks;

use std::io::{Error, Result};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use exedra_proto::liveness::{Liveness, Verdict};
use exedra_proto::mark;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Times;
use crate::frames::Violation;
use crate::frames::header::{self, Opcode};
use crate::frames::reframe::{self, ControlPayload, Reframer};
use crate::limits::FIRST_BUFFER;
use io::Io;
use marks::Marks;

/// Why no more comes from the peer.
#[derive(Debug, thiserror::Error)]
pub enum SocketEnd {
    /// It sent a close frame, perhaps with a code.
    #[error("closed by the peer with code {}", .0.unwrap_or(1005))]
    Closed(Option<u16>),
    /// Its connection ended without one.
    #[error("lost: {}", .0.as_ref().map_or_else(|| "end of stream".to_owned(), Error::to_string))]
    Lost(Option<Error>),
    /// It broke the rules.
    #[error("broke the rules: {0}")]
    Broke(Violation),
    /// It gave no sign of life.
    #[error("silent for too long")]
    Silent,
}

/// One websocket.
pub struct Socket {
    io: Io,
    /// What came together with the request, to be read first.
    prefix: Bytes,
    reframer: Reframer,
    end: Option<reframe::End>,
    /// Control frames being written, and how far.
    control: (Vec<u8>, usize),
    pong: Option<ControlPayload>,
    ping: bool,
    /// Marks are for the counterpart: one that has come, those that wait, and one to answer.
    joined: bool,
    mark: Option<u64>,
    marks: Marks,
    reached: Option<u64>,
    said_close: bool,
    /// A batch of the counterpart's frames is written in part.
    mid_batch: bool,
    reading: bool,
    write_waits: bool,
    unflushed: bool,
    /// Bytes of frames written, and up to where the peer is known to have read them.
    sent: u64,
    confirmed: u64,
    received: Arc<AtomicU64>,
    /// The same for all who share a meeting, if that is counted apart.
    shared: Option<Arc<AtomicU64>>,
    liveness: Liveness,
    /// The peer has given a sign of life since the time was looked at.
    heard: bool,
    times: Times,
    excused: bool,
    /// The peer has sent messages since the last ping was due.
    busy: bool,
    /// It was asked for a sign of life, and has this long to give one.
    challenge: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Socket {
    /// Starts on `io`; `prefix` was read from it before.
    pub fn new(io: Io, prefix: Bytes, times: Times) -> Self {
        let now = Instant::now();
        Self {
            io,
            prefix,
            reframer: Reframer::default(),
            end: None,
            control: (Vec::new(), 0),
            pong: None,
            ping: false,
            joined: false,
            mark: None,
            marks: Marks::default(),
            reached: None,
            said_close: false,
            mid_batch: false,
            reading: true,
            write_waits: false,
            unflushed: false,
            sent: 0,
            confirmed: 0,
            received: Arc::default(),
            shared: None,
            liveness: Liveness::with_times(now.into_std(), times.ping_interval, times.silence_limit),
            heard: false,
            times,
            excused: false,
            busy: false,
            challenge: None,
            timer: Box::pin(sleep_until(now + times.ping_interval)),
        }
    }

    /// Bytes of frames written to the peer.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What can be asked whether there is something to read.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.io.as_fd()
    }

    /// Counts the payload of the peer's messages into `counter` from now on, and into that of all who share its meeting, if
    /// that is another.
    pub fn count_into(&mut self, counter: Arc<AtomicU64>, shared: Option<Arc<AtomicU64>>) {
        (self.received, self.shared) = (counter, shared);
    }

    /// From now on there is a counterpart that marks are for.
    pub fn join(&mut self) {
        self.joined = true;
    }

    /// The counterpart has taken all that came before a mark of the peer, if there is one: it is asked how far it reads.
    pub fn pass_mark(&mut self, counterpart: &mut Self) {
        if let Some(number) = self.mark.take() {
            counterpart.ping = true;
            self.marks.wait(number, counterpart.sent);
        }
    }

    /// Answers the marks up to which the counterpart is known to have read.
    pub fn answer_marks(&mut self, counterpart: &Self) {
        self.reached = self.marks.reached(counterpart.confirmed).or(self.reached);
    }

    /// Frames for the counterpart.
    pub fn ready(&self) -> &[u8] {
        self.reframer.ready()
    }

    /// The counterpart has taken `written` bytes of what is ready.
    pub fn taken(&mut self, written: usize) {
        self.reframer.written(written);
    }

    /// Takes away what is ready.
    pub fn take_ready(&mut self) -> Vec<u8> {
        self.reframer.take_ready()
    }

    /// The counterpart is slow: this socket is not read until it has taken what is ready.
    pub fn pause(&mut self) {
        self.reading = false;
    }

    /// Reads once and works through it. What is ready must have been taken, and the end not been reached.
    ///
    /// # Errors
    /// Nothing more comes. What is ready came before that.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), SocketEnd>> {
        self.reading = true;
        if let Some(end) = self.end {
            return Poll::Ready(Err(socket_end(end)));
        }
        let read = match ready!(self.poll_read(cx)) {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Err(SocketEnd::Lost(error))),
        };
        self.heard = true;
        self.challenge = None;
        self.work_through(read);
        Poll::Ready(self.end.map_or(Ok(()), |end| Err(socket_end(end))))
    }

    fn work_through(&mut self, read: usize) {
        let turn = self.reframer.filled(read);
        for counter in self.shared.iter().chain([&self.received]) {
            counter.fetch_add(turn.payload, Ordering::Relaxed);
        }
        self.busy |= turn.payload > 0;
        let (mark, ping) = match turn.mark {
            Some(number) if !self.joined => (None, Some(ControlPayload::new(&mark::encode(number)))),
            mark => (mark, turn.ping),
        };
        self.mark = mark.or(self.mark);
        if ping.is_some() && !self.said_close {
            self.pong = ping;
        }
        if let Some(count) = turn.pong.and_then(|pong| pong.as_slice().try_into().ok().map(u64::from_be_bytes)) {
            self.confirmed = self.confirmed.max(count.min(self.sent));
        }
        self.end = turn.end;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<usize, Option<Error>>> {
        let read = if !self.prefix.is_empty() {
            let room = self.reframer.room();
            let prefix = self.prefix.split_to(room.len().min(self.prefix.len()));
            room[..prefix.len()].copy_from_slice(&prefix);
            return Poll::Ready(Ok(prefix.len()));
        } else if self.reframer.is_bare() {
            // An idle connection has no buffer. What ends its idleness comes by way of the stack.
            let mut first = [0; FIRST_BUFFER];
            let read = ready!(self.io.poll_read(cx, &mut first));
            if let Ok(read @ 1..) = read {
                self.reframer.room()[..read].copy_from_slice(&first[..read]);
            }
            Poll::Ready(read)
        } else {
            self.io.poll_read(cx, self.reframer.room())
        };
        match read {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(None)),
            Poll::Ready(Ok(read)) => Poll::Ready(Ok(read)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Some(error))),
            Poll::Pending => {
                // Pings and pongs alone are no reason to keep one.
                if !self.busy {
                    self.reframer.release();
                }
                Poll::Pending
            }
        }
    }

    /// Writes once from a batch of whole frames, after the control frames that wait.
    pub fn poll_write_frames(&mut self, cx: &mut Context<'_>, batch: &[u8]) -> Poll<Result<usize>> {
        if !self.mid_batch {
            ready!(self.poll_control(cx))?;
        }
        let written = self.io.poll_write(cx, batch);
        self.write_waits = written.is_pending();
        let written = ready!(written)?;
        self.unflushed = true;
        self.mid_batch = written < batch.len();
        self.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    /// Whether the last batch was written in part only, so that no other frame may follow.
    pub fn is_mid_batch(&self) -> bool {
        self.mid_batch
    }

    /// Writes the control frames that wait, if it may now, and flushes.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.mid_batch {
            ready!(self.poll_control(cx))?;
        }
        if self.unflushed {
            ready!(self.io.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Appends a close frame to the control frames that wait; none comes after it.
    pub fn say_close(&mut self, payload: &ControlPayload) {
        self.said_close = true;
        self.pong = None;
        self.ping = false;
        self.append(Opcode::Close, payload.as_slice());
    }

    fn append(&mut self, opcode: Opcode, payload: &[u8]) {
        let (head, len) = header::encode(true, opcode, payload.len());
        self.control.0.extend(&head[..len]);
        self.control.0.extend(payload);
    }

    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.control.1 == self.control.0.len() {
                self.control = (Vec::new(), 0);
                if let Some(payload) = self.pong.take() {
                    self.append(Opcode::Pong, payload.as_slice());
                }
                if let Some(number) = self.reached.take().filter(|_| !self.said_close) {
                    self.append(Opcode::Pong, &mark::encode(number));
                }
                if std::mem::take(&mut self.ping) {
                    self.append(Opcode::Ping, &self.sent.to_be_bytes());
                }
                if self.control.0.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            let written = self.io.poll_write(cx, &self.control.0[self.control.1..]);
            self.write_waits = written.is_pending();
            self.control.1 += ready!(written)?;
            self.unflushed = true;
        }
    }

    /// Somebody new may be this very peer, come back another way: it has to give a sign of life soon.
    pub fn challenge(&mut self) {
        let due = Instant::now() + self.times.challenge;
        if self.challenge.is_none() && !self.said_close {
            self.challenge = Some(due);
            self.ping = true;
            let due = due.min(self.timer.deadline());
            self.timer.as_mut().reset(due);
        }
    }

    /// Pings when it is time. Ready when the peer is gone. To be called after each turn of reading and writing: until then
    /// nobody has looked at the time.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let excused = !self.reading || self.write_waits || self.confirmed < self.sent;
        if std::mem::take(&mut self.heard) {
            self.liveness.heard(Instant::now().into_std());
        }
        if self.excused && !excused {
            self.liveness.excuse(Instant::now().into_std());
        }
        self.excused = excused;
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now().into_std();
            if self.challenge.take_if(|due| *due <= now.into()).is_some() {
                // A slow peer cannot answer yet; its system still acknowledges what we send.
                let is_gone = |view: crate::tcp::View| view.is_gone(self.times.challenge);
                if !excused || self.io.view().is_some_and(is_gone) {
                    return Poll::Ready(());
                }
            }
            if excused {
                if self.io.view().is_some_and(|view| view.is_gone(self.times.silence_limit)) {
                    return Poll::Ready(());
                }
                self.liveness.excuse(now);
            }
            match self.liveness.poll(now) {
                Verdict::WaitUntil(time) => {
                    let time = Instant::from_std(time);
                    self.timer.as_mut().reset(self.challenge.map_or(time, |due| due.min(time)));
                }
                Verdict::Ping => {
                    self.ping = true;
                    if !std::mem::take(&mut self.busy) {
                        self.reframer.release();
                    }
                }
                Verdict::Gone => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Reads on only to find the peer's close frame, whatever comes before it. Ready when there is nothing to wait for.
    pub fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reframer.lift_limit();
        if self.end == Some(reframe::End::Violation(Violation::TooBig)) {
            self.work_through(0);
        }
        loop {
            self.reframer.written(self.reframer.ready().len());
            match self.end {
                None => {
                    if ready!(self.poll_fill(cx)).is_err() && self.end.is_none() {
                        return Poll::Ready(());
                    }
                }
                Some(reframe::End::Close(_)) => return Poll::Ready(()),
                Some(reframe::End::Violation(_)) => {
                    // Where frames begin is not known any more: only the end of the bytes is left to wait for.
                    let mut waste = [0; 4096];
                    if !matches!(ready!(self.io.poll_read(cx, &mut waste)), Ok(1..)) {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Says that nothing more will be written.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.io.poll_shutdown(cx)
    }
}

fn socket_end(end: reframe::End) -> SocketEnd {
    match end {
        reframe::End::Close(payload) => {
            SocketEnd::Closed(payload.as_slice().first_chunk().map(|code| u16::from_be_bytes(*code)))
        }
        reframe::End::Violation(violation) => SocketEnd::Broke(violation),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn nothing_is_written_into_a_batch_that_is_half_written() {
        let (ours, mut theirs) = tokio::io::duplex(10);
        let mut socket = Socket::new(Io::Other(Box::new(ours)), Bytes::new(), Times::default());
        theirs.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'?']).await.unwrap();
        poll_fn(|cx| socket.poll_fill(cx)).await.unwrap();
        let batch = [[0x82, 3, 1, 2, 3]; 3].concat();
        poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
        let mut pong = [0; 3];
        theirs.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"\x8a\x01?");
        assert_eq!(poll_fn(|cx| socket.poll_write_frames(cx, &batch)).await.unwrap(), 10);
        theirs.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'!']).await.unwrap();
        poll_fn(|cx| socket.poll_fill(cx)).await.unwrap();
        let mut got = [0; 10];
        theirs.read_exact(&mut got).await.unwrap();
        poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
        assert_eq!(poll_fn(|cx| socket.poll_write_frames(cx, &batch[10..])).await.unwrap(), 5);
        poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
        let mut got = [0; 8];
        theirs.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"\x82\x03\x01\x02\x03\x8a\x01!");
    }

    #[tokio::test]
    async fn a_buffer_is_there_as_long_as_messages_come() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 17);
        let times = Times { ping_interval: Duration::from_millis(20), ..Times::default() };
        let mut socket = Socket::new(Io::Other(Box::new(ours)), Bytes::new(), times);
        let fill = async |socket: &mut Socket| poll_fn(|cx| Poll::Ready(socket.poll_fill(cx).is_ready())).await;
        theirs.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
        assert!(fill(&mut socket).await);
        assert!(!fill(&mut socket).await && socket.reframer.is_bare(), "after a ping");
        theirs.write_all(&[0x82, 0x81, 0, 0, 0, 0, b'!']).await.unwrap();
        assert!(fill(&mut socket).await);
        socket.taken(3);
        assert!(!fill(&mut socket).await && !socket.reframer.is_bare(), "after a message");
        // Until it is time for the second ping.
        poll_fn(|cx| {
            assert!(socket.poll_gone(cx).is_pending());
            if socket.reframer.is_bare() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
