//! A bare end of a websocket: frames made once, and no more looked at than is needed to count them.
//!
//! So that it is not the ends that are measured.

use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};
use exedra_proto::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::plane::Plane;

/// Room for what is read at once, in bytes.
const READ: usize = 256 * 1024;
/// Longest head of a request or an answer, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// The first byte of a whole binary message.
const BINARY: u8 = 0x82;
/// The first byte of a whole message of text.
const TEXT: u8 = 0x81;
/// The first byte of a ping, and of its answer.
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// What a dialling end masks with.
const MASK: [u8; 4] = [0x35, 0x9a, 0x5c, 0xe1];

/// An open websocket.
pub(super) struct End {
    stream: TcpStream,
    /// It dialled.
    masks: bool,
    room: Vec<u8>,
    /// What of `room` was read and belongs to no message that was given out.
    unread: Range<usize>,
}

impl End {
    /// Dials `target`, path and query, at `address`.
    pub(super) async fn dial(address: &str, target: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let head = head(&mut stream).await?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 101 "), "an upgrade is answered {status:?}");
        Ok(Self { stream, masks: true, room: Vec::new(), unread: 0..0 })
    }

    /// Dials the ticket of a reply.
    pub(super) async fn follow(plane: &Plane, ticket: &Secret) -> Result<Self> {
        let address = plane.address()?;
        let target = ticket.expose().strip_prefix("ws://").and_then(|url| url.strip_prefix(address));
        Self::dial(address, target.context("a ticket for another place")?).await
    }

    /// Waits for one that dials.
    pub(super) async fn accept(listener: &TcpListener) -> Result<Self> {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let head = head(&mut stream).await?;
        let key = head.lines().filter_map(|line| line.split_once(": "));
        let key = key.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).map(|(_, key)| key).next();
        let accept = derive_accept_key(key.context("no websocket is asked for")?.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await?;
        Ok(Self { stream, masks: false, room: Vec::new(), unread: 0..0 })
    }

    /// A message of this end.
    pub(super) fn frame(&self, payload: &[u8]) -> Vec<u8> {
        self.encode(BINARY, payload)
    }

    /// A message of text.
    pub(super) fn text(&self, payload: &str) -> Vec<u8> {
        self.encode(TEXT, payload.as_bytes())
    }

    fn encode(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let mask = if self.masks { 0x80 } else { 0 };
        let mut frame = match u16::try_from(payload.len()) {
            Ok(len @ 0..126) => vec![kind, mask | len as u8],
            Ok(len) => [&[kind, mask | 126][..], &len.to_be_bytes()].concat(),
            Err(_) => [&[kind, mask | 127][..], &(payload.len() as u64).to_be_bytes()].concat(),
        };
        if self.masks {
            frame.extend(MASK);
            frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            frame.extend(payload);
        }
        frame
    }

    /// Sends messages of [`End::frame`].
    pub(super) async fn send(&mut self, frames: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(frames).await?)
    }

    /// Receives one message of `len` bytes, less than 126.
    pub(super) async fn expect(&mut self, len: usize) -> Result<()> {
        let whole = 2 + len + if self.masks { 0 } else { MASK.len() };
        self.room.resize(whole.max(self.room.len()), 0);
        let room = self.room.get_mut(..whole).context("no room")?;
        self.stream.read_exact(room).await?;
        ensure!(room.first() == Some(&BINARY), "not the message that was sent");
        Ok(())
    }

    /// Receives one whole message, at an end that dialled. Pings are answered on the way.
    pub(super) async fn message(&mut self) -> Result<&[u8]> {
        loop {
            let (first, payload) = self.receive().await?;
            match first {
                BINARY | TEXT => return self.room.get(payload).context("no room"),
                PING => {
                    let pong = self.encode(PONG, self.room.get(payload).unwrap_or_default());
                    self.send(&pong).await?;
                }
                PONG => {}
                other => bail!("a frame that begins with {other:#x}"),
            }
        }
    }

    /// Receives one frame: its first byte, and where in the room its payload is.
    async fn receive(&mut self) -> Result<(u8, Range<usize>)> {
        loop {
            let unread = self.room.get(self.unread.clone()).unwrap_or_default();
            let (header, len) = lengths(unread);
            if let Some(first) = unread.first().filter(|_| unread.len() >= header + len) {
                let (first, start) = (*first, self.unread.start);
                self.unread.start += header + len;
                return Ok((first, start + header..start + header + len));
            }
            self.read(header + len).await?;
        }
    }

    /// Reads more, where there is room for `whole` bytes.
    async fn read(&mut self, whole: usize) -> Result<()> {
        if self.unread.start > 0 {
            self.room.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        self.room.resize(self.room.len().max(whole + READ), 0);
        let free = self.room.get_mut(self.unread.end..).context("no room")?;
        let read = self.stream.read(free).await?;
        ensure!(read > 0, "the connection ended");
        self.unread.end += read;
        Ok(())
    }

    /// Receives at least `bytes` of messages, whatever is in them.
    pub(super) async fn discard(&mut self, bytes: usize) -> Result<()> {
        self.room.resize(READ, 0);
        let mut left = bytes;
        while left > 0 {
            let read = self.stream.read(&mut self.room).await?;
            ensure!(read > 0, "the connection ended, {left} bytes early");
            left = left.saturating_sub(read);
        }
        Ok(())
    }
}

/// Of an unmasked frame: how long its header is, as far as that can be told, and its payload.
fn lengths(frame: &[u8]) -> (usize, usize) {
    match *frame {
        [_, len @ 0..126, ..] => (2, len.into()),
        [_, 126, a, b, ..] => (4, u16::from_be_bytes([a, b]).into()),
        [_, 127, a, b, c, d, e, f, g, h, ..] => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize),
        [_, 126, ..] => (4, 0),
        [_, _, ..] => (10, 0),
        _ => (2, 0),
    }
}

/// Reads up to the empty line, and nothing behind it.
async fn head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < MAX_HEAD, "a head that does not end");
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}
