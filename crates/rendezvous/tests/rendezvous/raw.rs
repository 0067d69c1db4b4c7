//! A peer that writes and reads single frames, well-formed or not.

use exedra_proto::ticket::Claims;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{Stage, within};

pub struct RawPeer {
    pub stream: TcpStream,
}

/// An unmasked frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

impl RawPeer {
    pub async fn dial(stage: &Stage, claims: &Claims) -> Self {
        Self::dial_with(stage, claims, &[]).await
    }

    /// Dials, and sends `early` with the request.
    pub async fn dial_with(stage: &Stage, claims: &Claims, early: &[u8]) -> Self {
        let url = stage.sign(claims);
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let path = url.split_once(&stage.address.to_string()).unwrap().1;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(&[request.as_bytes(), early].concat()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        let first = within(self.stream.read_u8()).await.ok()?;
        let len = match within(self.stream.read_u8()).await.unwrap() {
            126 => u64::from(within(self.stream.read_u16()).await.unwrap()),
            127 => within(self.stream.read_u64()).await.unwrap(),
            len => u64::from(len),
        };
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        within(self.stream.read_exact(&mut payload)).await.unwrap();
        Some(Frame { first, payload })
    }

    /// The code of the close frame that comes next, pings aside.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame().await.expect("a close frame");
            match frame.first {
                0x88 => return u16::from_be_bytes([frame.payload[0], frame.payload[1]]),
                0x89 => {}
                _ => panic!("{frame:?}"),
            }
        }
    }
}

/// A masked frame of up to 65,535 bytes.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a masked frame.
pub fn head(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        ..126 => bytes.push(0x80 | len as u8),
        126..65_536 => {
            bytes.push(0xfe);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend([1, 2, 3, 4]);
    bytes
}
