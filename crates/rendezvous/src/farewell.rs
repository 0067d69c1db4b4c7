//! The end of one websocket: what is still owed to the peer, the close handshake, the deadline.
//!
//! In go a [`Link`] that nothing comes from any more, the frames left for its peer, and the [`Parting`]. A peer whose
//! counterpart ended in good order first gets all that came for it, however slowly it reads, unless it is ordered to go
//! meanwhile or is gone by TCP's own view; every other wait is within the close deadline. It decides no reason.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use exedra_proto::close::CloseReason;

use crate::frames::reframe::ControlPayload;
use crate::hub::{Command, Link, Mailbox};
use crate::socket::Socket;

/// How to part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nobody listens any more.
    Lost,
    /// The peer said close, with this code; it gets its answer.
    Answer(Option<u16>),
    /// The peer is told why.
    Tell(CloseReason),
}

/// Parts from the peer of `link`; `tail` is what was left to be written to it.
pub async fn farewell(mut link: Box<Link>, tail: Vec<u8>, parting: Parting, deadline: Duration) {
    let mut tail = Tail { bytes: tail, at: 0 };
    let mut payload = match parting {
        Parting::Lost => return,
        Parting::Answer(code) => answer(code),
        Parting::Tell(reason) => telling(reason),
    };
    if let Parting::Tell(reason) = parting
        && reason.is_good_order()
    {
        tokio::select! {
            biased;
            ordered = order(&mut link.mailbox) => payload = telling(ordered),
            delivered = poll_fn(|cx| tail.poll_patiently(cx, &mut link.socket)) => if delivered.is_err() {
                tracing::info!(connection = %link.seat.id, "gone before it got all that came for it");
                return;
            }
        }
    }
    // One who said close wants nothing more, but no frame may be left half written.
    let said_close = matches!(parting, Parting::Answer(_));
    let socket = &mut link.socket;
    let handshake = async {
        if socket.is_mid_batch() || !said_close {
            poll_fn(|cx| tail.poll_write(cx, socket)).await?;
        }
        socket.say_close(&payload);
        poll_fn(|cx| socket.poll_flush(cx)).await?;
        if !said_close {
            poll_fn(|cx| socket.poll_drained(cx)).await;
        }
        poll_fn(|cx| socket.poll_shutdown(cx)).await
    };
    match tokio::time::timeout(deadline, handshake).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(connection = %link.seat.id, %error, "close handshake failed"),
        Err(_) => tracing::debug!(connection = %link.seat.id, "close handshake not finished in time"),
    }
}

/// Waits for an order to go. A client that comes now is told that it came too late, by the drop of its link.
async fn order(mailbox: &mut Mailbox) -> CloseReason {
    loop {
        if let Command::Close(reason) = mailbox.next().await {
            return reason;
        }
    }
}

/// Frames left for the peer.
struct Tail {
    bytes: Vec<u8>,
    at: usize,
}

impl Tail {
    fn poll_write(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<std::io::Result<()>> {
        while self.at < self.bytes.len() {
            self.at += std::task::ready!(socket.poll_write_frames(cx, &self.bytes[self.at..]))?;
        }
        socket.poll_flush(cx)
    }

    /// Writes as slowly as the peer reads; an error if the peer is gone.
    fn poll_patiently(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<Result<(), ()>> {
        socket.pause();
        if socket.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(()));
        }
        self.poll_write(cx, socket).map_err(|_| ())
    }
}

fn telling(reason: CloseReason) -> ControlPayload {
    ControlPayload::new(&[&reason.code().to_be_bytes(), reason.text().as_bytes()].concat())
}

/// The peer's code comes back to it, if it may be sent at all.
fn answer(code: Option<u16>) -> ControlPayload {
    match code {
        None => ControlPayload::new(&[]),
        Some(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => ControlPayload::new(&code.to_be_bytes()),
        Some(_) => ControlPayload::new(&CloseReason::ProtocolError.code().to_be_bytes()),
    }
}
