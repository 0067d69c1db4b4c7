//! Why one connection leaves a meeting: what the router is told of it, how its peer is parted from, what the log says.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

use exedra_proto::close::CloseReason;

use crate::farewell::Parting;
use crate::hub::{Command, Link, Mailbox};
use crate::router::End;
use crate::socket::SocketEnd;

/// Why one side of a meeting is over.
#[derive(Debug, thiserror::Error)]
pub enum Leave {
    /// Its peer ended it.
    #[error("{0}")]
    Ended(SocketEnd),
    /// It was told to go.
    #[error("told to go: {}", .0.text())]
    Ordered(CloseReason),
}

impl Leave {
    /// What the router has told one whose meeting just ended.
    pub async fn told(mailbox: &mut Mailbox) -> Self {
        Self::Ordered(match poll_fn(|cx| Poll::Ready(mailbox.poll(cx))).await {
            Poll::Ready(Command::Close(reason)) => reason,
            _ => CloseReason::InternalError,
        })
    }

    /// What the router is told.
    pub fn end(&self) -> End {
        match self {
            Self::Ended(SocketEnd::Closed(code)) => match code.map(CloseReason::from_code) {
                None | Some(Some(CloseReason::PeerDone)) => End::Done,
                Some(reason) => End::Left(reason.unwrap_or(CloseReason::PeerLost)),
            },
            Self::Ended(SocketEnd::Lost(_)) => End::Lost,
            Self::Ended(SocketEnd::Silent) => End::Silent,
            Self::Ended(SocketEnd::Broke(violation)) => End::Broke(violation.reason()),
            Self::Ordered(reason) => End::Ordered(*reason),
        }
    }

    /// What the peer gets.
    pub fn parting(&self) -> Parting {
        match self {
            Self::Ended(SocketEnd::Closed(code)) => Parting::Answer(*code),
            Self::Ended(SocketEnd::Lost(_)) => Parting::Lost,
            Self::Ended(SocketEnd::Silent) => Parting::Tell(CloseReason::Silent),
            Self::Ended(SocketEnd::Broke(violation)) => Parting::Tell(violation.reason()),
            Self::Ordered(reason) => Parting::Tell(*reason),
        }
    }

    /// Writes down that `link` leaves.
    pub fn log(&self, link: &Link) {
        let seat = &link.seat;
        tracing::info!(
            connection = %seat.id,
            registration = ?seat.registration,
            role = ?seat.role,
            why = %self,
            bytes = seat.bytes.load(Ordering::Relaxed),
            seconds = seat.since.elapsed().as_secs(),
            "left"
        );
    }
}
