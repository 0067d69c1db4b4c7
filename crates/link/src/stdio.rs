//! Newline-delimited JSON over a pair of byte streams: one line is one message.
//!
//! CRLF and blank lines are tolerated, a line has at most 64 MiB, invalid UTF-8 ends the connection. There are no pings:
//! the end of a pipe is seen at once. The end of the input is told to the receiver, and answers can still be sent until
//! the connection is closed or dropped. The same queues as everywhere, so a receiver that waits makes the peer wait.

use std::io;

use bytes::{Bytes, BytesMut};
use exedra_proto::close::CloseReason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::connection::{Closing, Connection, Ends, Outgoing};
use crate::error::Disconnect;
use crate::message::{Message, Text};
use crate::queue;

/// Longest line, in bytes, without its end.
pub const MAX_LINE: usize = 64 * 1024 * 1024;

/// Bytes asked of the input at a time.
const READ: usize = 16 * 1024;
/// The writer hands bytes to the output when it has gathered this many, or when the queue is empty.
const BATCH: usize = 64 * 1024;

/// A connection over `reader` and `writer`.
pub fn connect<R, W>(reader: R, writer: W) -> Connection
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    connect_limited(reader, writer, MAX_LINE)
}

/// The same with another limit for a line.
pub fn connect_limited<R, W>(reader: R, writer: W, max_line: usize) -> Connection
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    Connection::spawn(move |ends| async move {
        let Ends { outgoing, incoming, close, told, probes, .. } = ends;
        // Whoever asks learns at once that this peer cannot be asked.
        drop(probes);
        let overdue = close.clone();
        let read = async {
            told.tell(read(Lines::new(reader, max_line), incoming).await);
            std::future::pending().await
        };
        tokio::select! {
            biased;
            reason = read => reason,
            reason = write(writer, outgoing, close) => reason,
            reason = overdue.overdue() => Disconnect::LocalClose(reason),
        }
    })
}

async fn read<R: AsyncRead + Unpin>(mut lines: Lines<R>, incoming: queue::Tx<Message>) -> Disconnect {
    loop {
        let text = match lines.next().await {
            Ok(Some(text)) => text,
            Ok(None) => return Disconnect::PeerClosed { code: None, reason: None, text: String::new() },
            Err(reason) => return reason,
        };
        let bytes = text.len();
        if incoming.send(Message::Text(text), bytes).await.is_err() {
            return Disconnect::Dropped;
        }
    }
}

/// Ends when the connection is closed, when nobody can send any more, or when the output fails.
async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut outgoing: queue::Rx<Outgoing>, close: Closing) -> Disconnect {
    let mut buffer = Vec::new();
    loop {
        let message = tokio::select! {
            biased;
            message = outgoing.recv() => message,
            reason = close.wanted() => {
                let _ = writer.shutdown().await;
                return Disconnect::LocalClose(reason);
            }
        };
        let Some(message) = message else {
            let _ = writer.shutdown().await;
            return Disconnect::LocalClose(CloseReason::GoingAway);
        };
        put_line(&mut buffer, message);
        while buffer.len() < BATCH {
            match outgoing.try_recv() {
                Some(message) => put_line(&mut buffer, message),
                None => break,
            }
        }
        if let Err(error) = put(&mut writer, &buffer).await {
            return error.into();
        }
        buffer.clear();
        buffer.shrink_to(2 * BATCH);
    }
}

async fn put<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// A line break inside JSON is white space, and would end the message here.
fn put_line(buffer: &mut Vec<u8>, outgoing: Outgoing) {
    let Some(message) = outgoing.message() else { return };
    let start = buffer.len();
    buffer.extend_from_slice(message.as_bytes());
    for byte in buffer.iter_mut().skip(start) {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    buffer.push(b'\n');
}

/// Cuts a byte stream into lines.
struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// So many bytes of the buffer hold no line end.
    searched: usize,
    max_line: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R, max_line: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, max_line, ended: false }
    }

    /// The next line that is not blank; none at the end.
    async fn next(&mut self) -> Result<Option<Text>, Disconnect> {
        loop {
            let Some(line) = self.line().await? else { return Ok(None) };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Text::try_from(line).map(Some).map_err(|_| Disconnect::InvalidUtf8);
        }
    }

    async fn line(&mut self) -> Result<Option<Bytes>, Disconnect> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                self.searched = 0;
                return if line.len() > self.max_line { Err(self.too_big()) } else { Ok(Some(line.freeze())) };
            }
            self.searched = self.buffer.len();
            // One byte more for the CR of a line end.
            if self.searched > self.max_line + 1 {
                return Err(self.too_big());
            }
            if self.ended {
                let rest = self.buffer.split().freeze();
                self.searched = 0;
                return Ok((!rest.is_empty()).then_some(rest));
            }
            self.buffer.reserve(READ);
            self.ended = self.reader.read_buf(&mut self.buffer).await? == 0;
        }
    }

    fn too_big(&self) -> Disconnect {
        Disconnect::TooBig { limit: self.max_line }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn wired(max_line: usize) -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(64);
        let (reader, writer) = tokio::io::split(ours);
        (connect_limited(reader, writer, max_line), theirs)
    }

    async fn received(input: &[u8], max_line: usize) -> (Vec<String>, Disconnect) {
        let (mut connection, mut theirs) = wired(max_line);
        let feed = async {
            // It may stop listening before all is written.
            let _ = theirs.write_all(input).await;
            let _ = theirs.shutdown().await;
        };
        let collect = async {
            let mut lines = Vec::new();
            loop {
                match connection.receiver.recv().await {
                    Ok(message) => lines.push(message.as_text().unwrap().to_owned()),
                    Err(reason) => {
                        drop(connection);
                        return (lines, reason);
                    }
                }
            }
        };
        tokio::join!(collect, feed).0
    }

    fn end() -> Disconnect {
        Disconnect::PeerClosed { code: None, reason: None, text: String::new() }
    }

    #[tokio::test]
    async fn lines_are_messages_and_blank_ones_are_none() {
        let long = "y".repeat(500);
        let input = format!("{{\"a\":1}}\r\n\n  \r\n\r\nä\n{long}\nlast");
        assert_eq!(
            received(input.as_bytes(), MAX_LINE).await,
            (vec!["{\"a\":1}".into(), "ä".into(), long, "last".into()], end())
        );
        assert_eq!(received(b"", MAX_LINE).await, (vec![], end()));
    }

    #[tokio::test]
    async fn a_line_has_a_limit() {
        let too_big = Disconnect::TooBig { limit: 10 };
        assert_eq!(received(b"0123456789\r\n0123456789\n", 10).await, (vec!["0123456789".into(); 2], end()));
        assert_eq!(received(b"ok\n01234567890\nnever\n", 10).await, (vec!["ok".into()], too_big.clone()));
        assert_eq!(received(&[b'x'; 5000], 10).await, (vec![], too_big));
    }

    #[tokio::test]
    async fn what_is_no_utf8_ends_it() {
        assert_eq!(received(b"ok\n\xff\nnever\n", 100).await, (vec!["ok".into()], Disconnect::InvalidUtf8));
    }

    #[tokio::test]
    async fn answers_can_be_sent_after_the_input_ended() {
        let (mut connection, mut theirs) = wired(100);
        theirs.write_all(b"question").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(connection.receiver.recv().await, Ok("question".into()));
        assert_eq!(connection.receiver.recv().await, Err(end()));
        connection.sender.send("answer\nin two lines").await.unwrap();
        let mut written = String::new();
        let (reason, read) =
            tokio::join!(connection.shutdown(CloseReason::GoingAway), theirs.read_to_string(&mut written));
        read.unwrap();
        assert_eq!((reason, written.as_str()), (end(), "answer in two lines\n"));
    }

    #[tokio::test]
    async fn an_output_that_is_closed_ends_it() {
        let (mut connection, theirs) = wired(100);
        drop(theirs);
        assert_eq!(connection.receiver.recv().await, Err(end()));
        while connection.sender.send("x").await.is_ok() {}
    }

    #[tokio::test]
    async fn a_close_sends_what_is_queued() {
        let (connection, mut theirs) = wired(100);
        for n in 0..100 {
            connection.sender.send(n.to_string()).await.unwrap();
        }
        let mut written = String::new();
        let (reason, read) =
            tokio::join!(connection.shutdown(CloseReason::PeerDone), theirs.read_to_string(&mut written));
        read.unwrap();
        assert_eq!(reason, Disconnect::LocalClose(CloseReason::PeerDone));
        assert_eq!(written.lines().count(), 100);
    }
}
