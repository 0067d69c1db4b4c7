//! What waits to be written to one peer: whole websocket frames, in order.
//!
//! Frames go in at the back, bytes leave at the front through the socket. Small frames share a chunk, so that many of
//! them cost one write. How much may wait is decided elsewhere.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Result;
use std::task::{Context, Poll, ready};

use crate::frames::header::{self, Opcode};
use crate::socket::Socket;

/// Frames are put together up to this many bytes; between two chunks control frames have their place.
const CHUNK: usize = 64 * 1024;
/// The bit of a frame's first byte that says that the message ends with it.
const FIN: u8 = 0x80;

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first one is written.
    at: usize,
    len: usize,
    /// The last frame goes on with another one.
    open: bool,
    /// Messages of our own that wait for its end.
    later: Vec<Vec<u8>>,
}

impl Outbox {
    /// Bytes that can be written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The same, and the messages of our own that wait for another's end.
    pub fn waiting(&self) -> usize {
        self.len + self.later.iter().map(Vec::len).sum::<usize>()
    }

    /// Appends a frame that is complete with its head; without a copy if it is large and nobody else's. How many bytes
    /// more wait now.
    pub fn push(&mut self, frame: Cow<'_, [u8]>) -> usize {
        let before = self.len;
        self.open = frame.first().is_some_and(|first| first & FIN == 0);
        self.append(frame);
        if !self.open {
            for message in std::mem::take(&mut self.later) {
                self.append(message.into());
            }
        }
        self.len - before
    }

    /// Appends a message of our own, behind the one that is being passed on; it waits only from that one's end on. How
    /// many bytes more wait now.
    pub fn say(&mut self, opcode: Opcode, payload: &[u8]) -> usize {
        let message = header::frame(true, opcode, payload);
        let before = self.len;
        if self.open {
            self.later.push(message);
        } else {
            self.append(message.into());
        }
        self.len - before
    }

    fn append(&mut self, frame: Cow<'_, [u8]>) {
        self.len += frame.len();
        match (frame, self.chunks.back_mut()) {
            (Cow::Owned(frame), _) if frame.len() >= CHUNK / 4 => self.chunks.push_back(frame),
            (frame, Some(last)) if last.len() + frame.len() <= CHUNK => last.extend(frame.iter()),
            (frame, _) => self.chunks.push_back(frame.into_owned()),
        }
    }

    /// Writes what the socket takes: how much that was.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<Result<usize>> {
        let Some(chunk) = self.chunks.front() else { return Poll::Ready(Ok(0)) };
        let written = ready!(socket.poll_write_frames(cx, &chunk[self.at..]))?;
        self.at += written;
        self.len -= written;
        if self.at == chunk.len() {
            self.chunks.pop_front();
            self.at = 0;
        }
        Poll::Ready(Ok(written))
    }

    /// All that waits, but for what waits for a message that is not complete.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        for chunk in self.chunks.drain(..) {
            bytes.extend(&chunk[std::mem::take(&mut self.at)..]);
        }
        bytes
    }
}
