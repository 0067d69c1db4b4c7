//! The outputs of one process: pieces read from its pipes or PTY, in turns, without waiting for any one of them.
//!
//! In flow descriptors that do not block, out flow pieces of at most 64 KiB, and an empty one at each end of file. Knows
//! no process, and not whether the output is wanted.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use exedra_proto::process::OutputStream;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::launch::Watched;

/// Read at most at once: what a pipe holds.
const PIECE: usize = 64 * 1024;
/// Full pieces in a row after which a pipe is made larger: its writer and we would wait for each other all the time.
const FLOOD: u8 = 8;
/// How large, in bytes; a user without privileges may have some hundred such pipes, and goes on without.
const LARGE: usize = 256 * 1024;
/// Drained at most from one stream at once, so that a child with a huge pipe delays nothing.
const DRAIN: usize = 4 * 1024 * 1024;

/// Where output comes from.
#[derive(Debug)]
pub struct Source {
    stream: OutputStream,
    /// None after the end of file.
    fd: Option<Arc<Watched>>,
    buffer: Vec<u8>,
    /// Full pieces in a row, up to [`FLOOD`].
    full: u8,
    /// Whether the child has exited. Before, a PTY that everybody has closed may be opened again, and closing our end
    /// would hang it up on the child.
    child_is_gone: bool,
    /// A PTY that everybody has closed, to be looked at again.
    deserted: bool,
}

/// The outputs of a process, read in turns.
#[derive(Debug)]
pub struct Sources {
    sources: Vec<Source>,
    turn: usize,
}

impl Sources {
    /// Reads from all of these.
    pub fn new(sources: Vec<Source>) -> Self {
        Self { sources, turn: 0 }
    }

    /// Whether more may come of any.
    pub fn any_open(&self) -> bool {
        self.sources.iter().any(|source| source.fd.is_some())
    }

    /// The next piece of any; an empty one where there is nothing more. Pending for ever after the last.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<(OutputStream, Bytes)> {
        let count = self.sources.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            let source = &mut self.sources[index];
            if let Poll::Ready(bytes) = source.poll_read(cx) {
                self.turn = index + 1;
                return Poll::Ready((source.stream, bytes));
            }
        }
        Poll::Pending
    }

    /// Whether [`Self::look_again`] may find something.
    pub fn any_deserted(&self) -> bool {
        self.sources.iter().any(|source| source.deserted)
    }

    /// Reads again from a PTY that everybody had closed.
    pub fn look_again(&mut self) {
        self.sources.iter_mut().for_each(|source| source.deserted = false);
    }

    /// The child has exited: reads what all hold now, without waiting, and no more than that.
    pub fn drain(&mut self, mut push: impl FnMut(OutputStream, Bytes)) {
        self.look_again();
        for source in &mut self.sources {
            source.child_is_gone = true;
            let stream = source.stream;
            source.drain(|bytes| push(stream, bytes));
        }
    }
}

impl Source {
    /// Reads from a pipe or PTY that does not block.
    pub fn new(stream: OutputStream, fd: Arc<Watched>) -> Self {
        Self { stream, fd: Some(fd), buffer: Vec::new(), full: 0, child_is_gone: false, deserted: false }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Some(fd) = self.fd.clone().filter(|_| !self.deserted) else { return Poll::Pending };
        loop {
            let Ok(mut ready) = ready!(fd.poll_read_ready(cx)) else { return Poll::Ready(self.end()) };
            match ready.try_io(|fd| self.read(fd.get_ref())) {
                Ok(Ok(0) | Err(_)) if self.stream == OutputStream::Pty && !self.child_is_gone => {
                    self.deserted = true;
                    return Poll::Ready(Bytes::new());
                }
                Ok(Ok(0) | Err(_)) => return Poll::Ready(self.end()),
                Ok(Ok(_)) => return Poll::Ready(self.piece()),
                Err(_would_block) => {}
            }
        }
    }

    fn drain(&mut self, mut push: impl FnMut(Bytes)) {
        let Some(fd) = self.fd.clone() else { return };
        let mut left = self.readable_now(&fd);
        while left > 0 {
            match self.read(fd.get_ref()) {
                Ok(0) => {
                    self.end();
                    return;
                }
                Ok(read) => {
                    left = left.saturating_sub(read);
                    push(self.piece());
                    if self.stream == OutputStream::Pty {
                        left = left.min(self.readable_now(&fd));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.end();
                    return;
                }
            }
        }
    }

    /// An upper bound of what a reader should take now. A PTY cannot say how much it holds behind its line discipline,
    /// only, when polled, that there is something; it never holds more than a few pages.
    fn readable_now(&self, fd: &Watched) -> usize {
        if self.stream != OutputStream::Pty {
            let held = rustix::io::ioctl_fionread(fd.get_ref()).unwrap_or(0);
            return usize::try_from(held).unwrap_or(DRAIN).min(DRAIN);
        }
        let mut polled = [PollFd::from_borrowed_fd(fd.get_ref().as_fd(), PollFlags::IN)];
        match poll(&mut polled, Some(&Timespec::default())) {
            Ok(1) if polled[0].revents().contains(PollFlags::IN) => PIECE,
            _ => 0,
        }
    }

    fn read(&mut self, fd: &OwnedFd) -> io::Result<usize> {
        self.buffer.clear();
        self.buffer.reserve_exact(PIECE);
        loop {
            match rustix::io::read(fd, spare_capacity(&mut self.buffer)) {
                Err(Errno::INTR) => {}
                Ok(read) => {
                    self.note(fd, read);
                    return Ok(read);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes room for a flood, once.
    fn note(&mut self, fd: &OwnedFd, read: usize) {
        if self.full == FLOOD {
            return;
        }
        self.full = if read < PIECE { 0 } else { self.full + 1 };
        if self.full == FLOOD && self.stream != OutputStream::Pty {
            // Where it is refused, it stays as it is.
            let _ = rustix::pipe::fcntl_setpipe_size(fd, LARGE);
        }
    }

    /// What was read: the buffer itself if it is well filled, else a copy of its own size.
    fn piece(&mut self) -> Bytes {
        if self.buffer.len() >= PIECE / 2 {
            Bytes::from(std::mem::take(&mut self.buffer))
        } else {
            Bytes::copy_from_slice(&self.buffer)
        }
    }

    fn end(&mut self) -> Bytes {
        self.fd = None;
        self.buffer = Vec::new();
        Bytes::new()
    }
}
