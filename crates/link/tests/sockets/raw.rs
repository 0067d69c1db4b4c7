//! A websocket peer made of bytes, so that tests see and send exactly what is on the wire.

use std::net::SocketAddr;

use exedra_link::Connection;
use exedra_link::ws::{self, DialOptions, TcpView, WsOptions};
use exedra_proto::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// One frame as it was on the wire, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub is_final: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

pub struct Raw {
    pub io: TcpStream,
    masks: bool,
}

impl Raw {
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        self.io.read_exact(&mut head).await.ok()?;
        let len = match head[1] & 0x7f {
            126 => u64::from(self.io.read_u16().await.unwrap()),
            127 => self.io.read_u64().await.unwrap(),
            len => u64::from(len),
        };
        let mut mask = [0; 4];
        if head[1] & 0x80 != 0 {
            self.io.read_exact(&mut mask).await.unwrap();
        }
        assert_eq!(head[1] & 0x80 != 0, !self.masks, "clients mask, servers do not");
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.io.read_exact(&mut payload).await.ok()?;
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        Some(Frame { is_final: head[0] & 0x80 != 0, opcode: head[0] & 0x0f, payload })
    }

    /// The next frame that is not a ping.
    pub async fn data(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.opcode != PING {
                return Some(frame);
            }
        }
    }

    pub async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_head(true, opcode, payload.len() as u64).await;
        self.io.write_all(payload).await.unwrap();
    }

    /// A header; if it masks, with the key 0, so that the payload follows as it is.
    pub async fn send_head(&mut self, is_final: bool, opcode: u8, len: u64) {
        let mut head = vec![if is_final { 0x80 | opcode } else { opcode }];
        let bit = if self.masks { 0x80 } else { 0 };
        match len {
            0..126 => head.push(bit | u8::try_from(len).unwrap()),
            126..65536 => {
                head.push(bit | 126);
                head.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            _ => {
                head.push(bit | 127);
                head.extend(len.to_be_bytes());
            }
        }
        if self.masks {
            head.extend([0; 4]);
        }
        self.io.write_all(&head).await.unwrap();
    }

    /// Code and text of the close frame that comes next.
    pub async fn closed(&mut self) -> (u16, String) {
        let frame = self.data().await.expect("a close frame");
        assert_eq!(frame.opcode, CLOSE, "{frame:?}");
        let (code, text) = frame.payload.split_at(2);
        (u16::from_be_bytes([code[0], code[1]]), String::from_utf8(text.to_vec()).unwrap())
    }
}

/// Reads the head of an HTTP message.
pub async fn http_head(io: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Answers the upgrade that is asked for on `io`; `extra` follows the answer in the same write.
pub async fn answer_upgrade(io: &mut TcpStream, extra: &[u8]) -> String {
    let head = http_head(io).await;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes();
    answer.extend(extra);
    io.write_all(&answer).await.unwrap();
    head
}

/// Our client's connection, and the raw server at its other end.
pub async fn dialled(options: WsOptions) -> (Connection, Raw) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(format!("ws://{}/", listener.local_addr().unwrap()));
    let options = DialOptions { ws: options, ..DialOptions::default() };
    let serve = async {
        let (mut io, _) = listener.accept().await.unwrap();
        answer_upgrade(&mut io, b"").await;
        Raw { io, masks: false }
    };
    let (connection, raw) = tokio::join!(ws::dial(&url, &options), serve);
    (connection.unwrap(), raw)
}

/// Our server's connection, and the raw client at its other end.
pub async fn accepted(options: WsOptions) -> (Connection, Raw) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    ws::prepare_tcp(&server).unwrap();
    let view = TcpView::of(&server);
    (ws::accept(server, view, options), Raw { io: client, masks: true })
}

/// Both ends ours: the client's and the server's.
pub async fn both(options: WsOptions) -> (Connection, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    both_at(listener.local_addr().unwrap(), listener, options).await
}

async fn both_at(address: SocketAddr, listener: TcpListener, options: WsOptions) -> (Connection, Connection) {
    let url = Secret::new(format!("ws://{address}/"));
    let dial_options = DialOptions { ws: options, ..DialOptions::default() };
    let serve = async {
        let (mut io, _) = listener.accept().await.unwrap();
        ws::prepare_tcp(&io).unwrap();
        answer_upgrade(&mut io, b"").await;
        let view = TcpView::of(&io);
        ws::accept(io, view, options)
    };
    let (client, server) = tokio::join!(ws::dial(&url, &dial_options), serve);
    (client.unwrap(), server)
}
