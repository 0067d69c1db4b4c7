//! Local stdin, stdout and stderr as streams of bytes, on threads of their own.
//!
//! In flow pieces of remote output, out flow local writes, in the order in which they came; and the other way round
//! for stdin. The runtime never waits for a slow terminal or a paused reader, so that signals and pings stay alive.
//! Knows nothing of processes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::thread;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{mpsc, oneshot};

/// Pieces of output between the connection and the local writer: 16. The connection waits (and with it the remote
/// command) while the reader of our stdout is slower.
const OUTPUT_QUEUE: usize = 16;
/// Pieces of stdin between the local reader and the connection: 4 of at most [`STDIN_PIECE`]. The reader waits while
/// the remote command is slower.
const STDIN_QUEUE: usize = 4;
/// Largest piece of stdin, in bytes.
const STDIN_PIECE: usize = 64 * 1024;

/// Where a piece of output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why output ended before it was told to.
#[derive(Debug)]
pub enum OutputEnd {
    /// The reader has gone away: it has seen enough.
    Closed,
    /// Writing failed otherwise.
    Failed(io::Error),
}

/// The local writer.
#[derive(Debug)]
pub struct Output {
    queue: Option<mpsc::Sender<(Target, Bytes)>>,
    end: oneshot::Receiver<Result<(), OutputEnd>>,
}

impl Output {
    /// Starts the writer on this process's stdout and stderr.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start() -> io::Result<Self> {
        let (queue, pieces) = mpsc::channel(OUTPUT_QUEUE);
        let (ended, end) = oneshot::channel();
        let (mut stdout, mut stderr) = (Descriptor::of(io::stdout())?, Descriptor::of(io::stderr())?);
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            // Nobody may be left to hear it.
            let _ = ended.send(write_all(pieces, &mut stdout, &mut stderr));
        })?;
        Ok(Self { queue: Some(queue), end })
    }

    /// Hands over a piece, waiting while the queue is full. False if the writer has ended: see [`Self::finish`].
    pub async fn write(&self, target: Target, bytes: Bytes) -> bool {
        match &self.queue {
            Some(queue) => queue.send((target, bytes)).await.is_ok(),
            None => false,
        }
    }

    /// Waits until all is written, and tells how it went.
    ///
    /// # Errors
    /// Why not all could be written.
    pub async fn finish(&mut self) -> Result<(), OutputEnd> {
        self.queue = None;
        match (&mut self.end).await {
            Ok(end) => end,
            Err(_) => Ok(()),
        }
    }
}

/// Starts a reader of stdin. The stream ends with stdin; one that cannot be read ends too.
///
/// # Errors
/// The system refuses a thread.
pub fn input() -> io::Result<mpsc::Receiver<Bytes>> {
    let (queue, pieces) = mpsc::channel(STDIN_QUEUE);
    let mut stdin = Descriptor::of(io::stdin())?;
    thread::Builder::new().name("stdin".to_owned()).spawn(move || read_all(&mut stdin, &queue))?;
    Ok(pieces)
}

/// One of the three, without the buffer of the standard library, and waiting also where whoever started us left it in
/// non-blocking mode.
#[derive(Debug)]
struct Descriptor(File);

impl Descriptor {
    fn of(stream: impl AsFd) -> io::Result<Self> {
        Ok(Self(File::from(stream.as_fd().try_clone_to_owned()?)))
    }

    fn wait(&self, until: PollFlags) -> io::Result<()> {
        poll(&mut [PollFd::new(&self.0, until)], None)?;
        Ok(())
    }
}

impl Read for Descriptor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::IN)?,
                other => return other,
            }
        }
    }
}

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_all(from: &mut impl Read, queue: &mpsc::Sender<Bytes>) {
    let mut piece = vec![0; STDIN_PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(n) if queue.blocking_send(Bytes::copy_from_slice(&piece[..n])).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn write_all(
    mut pieces: mpsc::Receiver<(Target, Bytes)>,
    stdout: &mut impl Write,
    stderr: &mut impl Write,
) -> Result<(), OutputEnd> {
    while let Some((target, bytes)) = pieces.blocking_recv() {
        let written = match target {
            Target::Stdout => stdout.write_all(&bytes),
            Target::Stderr => stderr.write_all(&bytes),
        };
        match (target, written) {
            (_, Ok(())) => {}
            // Without a stderr there is still a result.
            (Target::Stderr, Err(_)) => {}
            (Target::Stdout, Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Err(OutputEnd::Closed),
            (Target::Stdout, Err(error)) => return Err(OutputEnd::Failed(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue(pieces: &[(Target, &'static str)]) -> mpsc::Receiver<(Target, Bytes)> {
        let (queue, receiver) = mpsc::channel(OUTPUT_QUEUE);
        for (target, text) in pieces {
            queue.try_send((*target, Bytes::from_static(text.as_bytes()))).unwrap();
        }
        receiver
    }

    #[test]
    fn pieces_go_where_they_belong() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let pieces = queue(&[(Target::Stdout, "a"), (Target::Stderr, "x"), (Target::Stdout, "b")]);
        write_all(pieces, &mut out, &mut err).unwrap();
        assert_eq!((out.as_slice(), err.as_slice()), (b"ab".as_slice(), b"x".as_slice()));
    }

    #[test]
    fn a_reader_that_left_is_told_apart_and_a_lost_stderr_is_borne() {
        let closed = write_all(queue(&[(Target::Stdout, "a")]), &mut Closed, &mut Vec::new());
        assert!(matches!(closed, Err(OutputEnd::Closed)));
        let mut out = Vec::new();
        let pieces = queue(&[(Target::Stderr, "x"), (Target::Stdout, "a")]);
        assert!(write_all(pieces, &mut out, &mut Closed).is_ok());
        assert_eq!(out, b"a");
    }

    #[tokio::test]
    async fn input_ends_with_its_source() {
        let (queue, mut pieces) = mpsc::channel(STDIN_QUEUE);
        let reader = thread::spawn(move || read_all(&mut [7u8; STDIN_PIECE + 1].as_slice(), &queue));
        let mut sizes = Vec::new();
        while let Some(piece) = pieces.recv().await {
            sizes.push(piece.len());
        }
        reader.join().unwrap();
        assert_eq!(sizes, [STDIN_PIECE, 1]);
    }
}
