//! One end of a pipe into a hall: a websocket's client whose every byte is written and read when it is told to.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use exedra_proto::frame::{Frame as Relay, Invalid};
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};

use super::super::inbox::Frame;
use crate::frames::header::{self, Opcode};

/// The peer.
pub struct Peer {
    pipe: Option<DuplexStream>,
    /// Where is read to.
    room: Vec<u8>,
    /// Frames that are not written yet, and how much of the first one is.
    unsent: VecDeque<Vec<u8>>,
    at: usize,
    /// What was read and is no whole frame yet, and the message that is no whole one.
    unread: Vec<u8>,
    message: Option<(Opcode, Vec<u8>)>,
    /// Whole messages.
    pub came: VecDeque<Result<Relay, Invalid>>,
    /// The code it was closed with.
    pub closed: Option<u16>,
    pub said_close: bool,
}

impl Peer {
    /// `capacity`: what the pipe holds in each direction.
    pub fn new(pipe: DuplexStream, capacity: usize) -> Self {
        Self {
            pipe: Some(pipe),
            room: vec![0; capacity],
            unsent: VecDeque::new(),
            at: 0,
            unread: Vec::new(),
            message: None,
            came: VecDeque::new(),
            closed: None,
            said_close: false,
        }
    }

    /// Has `message` to send, in frames of at most `size` bytes.
    pub fn send(&mut self, message: &[u8], size: usize) {
        let count = message.len().div_ceil(size);
        for (at, piece) in message.chunks(size).enumerate() {
            let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
            self.unsent.push_back(masked(at + 1 == count, opcode, piece));
        }
    }

    /// Says close behind all that it has to send.
    pub fn say_close(&mut self) {
        self.said_close = true;
        self.unsent.push_back(masked(true, Opcode::Close, &1000u16.to_be_bytes()));
    }

    /// Is gone without a word.
    pub fn vanish(&mut self) {
        self.pipe = None;
        self.unsent.clear();
    }

    pub fn is_there(&self) -> bool {
        self.pipe.is_some()
    }

    /// Bytes that it has not written yet.
    pub fn unsent(&self) -> usize {
        self.unsent.iter().map(Vec::len).sum::<usize>() - self.at
    }

    /// Writes at most `most` bytes, as far as the pipe takes them; how many it took.
    pub fn write(&mut self, most: usize) -> usize {
        let mut written = 0;
        while written < most
            && let (Some(pipe), Some(frame)) = (&mut self.pipe, self.unsent.front())
        {
            let rest = &frame[self.at..];
            let piece = &rest[..rest.len().min(most - written)];
            match Pin::new(pipe).poll_write(&mut Context::from_waker(Waker::noop()), piece) {
                Poll::Ready(Ok(taken)) => {
                    (self.at, written) = (self.at + taken, written + taken);
                    if self.at == frame.len() {
                        self.unsent.pop_front();
                        self.at = 0;
                    }
                }
                Poll::Ready(Err(_)) => self.vanish(),
                Poll::Pending => break,
            }
        }
        written
    }

    /// Reads at most `most` bytes; how many there were.
    pub fn read(&mut self, most: usize) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        let most = most.min(self.room.len());
        let mut buffer = ReadBuf::new(&mut self.room[..most]);
        let read = Pin::new(pipe).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        let read = match read {
            Poll::Ready(Ok(())) => buffer.filled().len(),
            _ => return 0,
        };
        if read == 0 {
            self.vanish();
            return 0;
        }
        self.unread.extend(&self.room[..read]);
        let mut unread = std::mem::take(&mut self.unread);
        let mut at = 0;
        while let Some(frame) = Frame::first(&unread[at..]) {
            at += frame.bytes.len();
            self.frame(&frame);
        }
        unread.drain(..at);
        self.unread = unread;
        read
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        match frame.opcode {
            Opcode::Ping => {
                let pong = masked(true, Opcode::Pong, frame.payload);
                let behind = usize::from(self.at > 0);
                self.unsent.insert(behind, pong);
            }
            Opcode::Pong => {}
            Opcode::Close => {
                self.closed = Some(u16::from_be_bytes(frame.payload[..2].try_into().unwrap()));
                if !self.said_close {
                    self.unsent.clear();
                    self.at = 0;
                    self.say_close();
                }
            }
            opcode => {
                assert_eq!(
                    opcode == Opcode::Continuation,
                    self.message.is_some(),
                    "a frame in the middle of a message"
                );
                let (_, message) = self.message.get_or_insert_with(|| (opcode, Vec::new()));
                message.extend(frame.payload);
                if frame.fin
                    && let Some((Opcode::Binary, message)) = self.message.take()
                {
                    self.came.push_back(Relay::decode(message.into()));
                }
            }
        }
    }
}

/// A frame as a websocket's client sends it.
fn masked(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [1, 20, 128, 255];
    let (head, len) = header::encode(fin, opcode, payload.len());
    let mut frame = head[..len].to_vec();
    frame[1] |= 0x80;
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
