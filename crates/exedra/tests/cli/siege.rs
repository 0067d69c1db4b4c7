//! Guests that mean no good at a server that runs, many of each kind: they hold what they are given, and come back when they
//! are sent away.
//!
//! Sockets are raw, so that a guest can stop in the middle of anything. Each kind is looked after by one thread.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::program::LIMIT;

/// How long a guest's write has to make no progress to count as stuck.
const STUCK: Duration = Duration::from_millis(300);
/// Between two looks at all guests of a kind.
const LOOK: Duration = Duration::from_millis(200);
/// No sender is taken more from than this while nobody reads, kernel buffers included.
const TAKEN: usize = 128 * 1024 * 1024;
/// Room for what a reader that does not read has not read, in bytes.
const READER: usize = 4 * 1024;

/// Guests of one kind; gone when dropped.
pub struct Guests {
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Guests {
    /// Has `count` of them there all the time: `come` is a guest's beginning, `go_on` what it does at each look.
    pub fn keep(
        count: usize,
        come: impl Fn(usize) -> Option<TcpStream> + Send + 'static,
        go_on: impl Fn(&mut TcpStream) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let keeper = thread::spawn(move || {
            let mut guests: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
            while !is_over.load(Ordering::Relaxed) {
                for (number, place) in guests.iter_mut().enumerate() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    match place {
                        Some(guest) if is_there(guest) => go_on(guest),
                        _ => *place = come(number),
                    }
                }
                thread::sleep(LOOK);
            }
        });
        Self { stop, keeper: Some(keeper) }
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            keeper.join().expect("guests do not panic");
        }
    }
}

/// A guest that connects, and has said `words`.
pub fn says(address: SocketAddr, words: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, STUCK).ok()?;
    stream.set_write_timeout(Some(STUCK)).ok()?;
    stream.write_all(words).ok()?;
    Some(stream)
}

/// Whether the server has not closed it. What it has sent is not read.
fn is_there(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let _ = stream.set_nonblocking(false);
    match peeked {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// Writes piece after piece, until nobody takes any more or there is none.
pub fn until_stuck(stream: &mut TcpStream, mut piece: impl FnMut() -> Option<Vec<u8>>) {
    stream.set_write_timeout(Some(STUCK)).unwrap();
    let mut taken = 0;
    while let Some(piece) = piece() {
        if stream.write_all(&piece).is_err() {
            return;
        }
        taken += piece.len();
        assert!(taken < TAKEN, "{taken} bytes were taken, and nobody reads them");
    }
}

/// One call of the server's HTTP interface: status and body.
pub fn call(address: SocketAddr, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).expect("the server is reached");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    // One that is cut for others is asked again by its caller.
    let asked = stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer);
    let (Ok(_), Some((head, body))) = (asked, answer.split_once("\r\n\r\n")) else { return (0, Value::Null) };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The websocket that the ticket in `url` opens.
pub fn websocket(url: &str) -> TcpStream {
    let (address, path) = url.trim_start_matches("ws://").split_once('/').expect("a URL with a path");
    let mut stream = TcpStream::connect(address).expect("the server is reached");
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, READER).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&upgrade(&format!("/{path}"))).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&head)));
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// The request for a websocket.
pub fn upgrade(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    .into_bytes()
}

/// A binary message as a client sends it, of which `payload` is the beginning; the whole has `length` bytes. The mask is all
/// zeroes, and changes nothing.
pub fn message(payload: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![0x82, 0xff];
    bytes.extend((length as u64).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
