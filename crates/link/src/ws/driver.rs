//! One websocket connection: starts reader and writer, watches the peer, and settles how it all ends.
//!
//! The three run side by side until one of them ends; what is left to do then (a goodbye, its answer, throwing away what
//! still arrives) has a deadline. Out comes the one reason why the connection ended.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exedra_proto::close::CloseReason;
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::frames::Goodbye;
use super::inlet::Inlet;
use super::limits::{Times, WsOptions};
use super::marks::Marks;
use super::reader::{self, ReadEnd, Source};
use super::replies::Replies;
use super::socket::TcpView;
use super::watch::{Pulse, answer, watch};
use super::writer::{Inputs, Writer};
use crate::connection::{CLOSE_DEADLINE, Closing, Connection, Ends};
use crate::error::Disconnect;
use crate::probe::Probes;

/// How long a goodbye to a peer that seems gone may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A connection over a websocket whose handshake is over, in the course of which `ahead` was read.
///
/// Its tasks wait nearly all of the time, so what they need only at the beginning or at the end is not kept in them.
pub(super) fn start<R, W>(
    (read, write): (R, W),
    ahead: Bytes,
    role: Role,
    tcp: Option<TcpView>,
    options: WsOptions,
) -> Connection
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    Connection::spawn_marking(move |ends, answered| {
        let Ends { outgoing, incoming, close, probes, .. } = ends;
        let (pulse, marks) = (Arc::new(Pulse::new()), Arc::new(Marks::new(answered)));
        let replies = Arc::new(Replies::new());
        let (finish_tx, finish) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let limit = options.limits.message;
        let source = Source::new(read, ahead, Inlet::new(role, limit), Arc::clone(&replies));
        let reading = reader::read(source, incoming, Arc::clone(&pulse), Arc::clone(&marks), limit);
        tasks.spawn(reading.map(|(end, socket)| Part::Reader(end, socket)));
        let writer = Writer::new(write, role, options.limits.fragment, Arc::clone(&pulse), Arc::clone(&marks));
        let inputs = Inputs { outgoing, is_open: true, replies: Arc::clone(&replies), close: close.clone(), finish };
        tasks.spawn(writer.run(inputs).map(Part::Writer));
        let watched = Box::pin(silence(pulse, replies, marks, probes, tcp, options.times));
        run(tasks, finish_tx, close, watched)
    })
}

/// Ends when the peer is gone.
type Watched = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn silence(
    pulse: Arc<Pulse>,
    replies: Arc<Replies>,
    marks: Arc<Marks>,
    probes: Probes,
    tcp: Option<TcpView>,
    times: Times,
) {
    tokio::select! {
        () = watch(Arc::clone(&pulse), Arc::clone(&replies), tcp, times) => {}
        () = answer(probes, Arc::clone(&pulse), Arc::clone(&replies), tcp) => {}
        () = marks.watch(Arc::clone(&pulse), Arc::clone(&replies), tcp, times.silence) => {}
    }
}

/// Until it has ended, and why it did.
async fn run<R: AsyncRead + Send + Unpin + 'static>(
    mut tasks: JoinSet<Part<R>>,
    finish: oneshot::Sender<Goodbye>,
    close: Closing,
    watched: Watched,
) -> Disconnect {
    let first = tokio::select! {
        biased;
        part = tasks.join_next() => First::Part(part.and_then(Result::ok)),
        reason = close.overdue() => return Disconnect::LocalClose(reason),
        () = watched => First::Silence,
    };
    let reason = Box::pin(Ending { tasks, finish }.settle(first)).await;
    match close.asked() {
        Some(ours) => Disconnect::LocalClose(ours),
        None => reason,
    }
}

/// What one of the two tasks ends with.
enum Part<R> {
    Reader(ReadEnd, R),
    Writer(io::Result<()>),
}

/// What ended first.
enum First<R> {
    Part(Option<Part<R>>),
    Silence,
}

/// The end of a connection, while one task may still run.
struct Ending<R> {
    tasks: JoinSet<Part<R>>,
    finish: oneshot::Sender<Goodbye>,
}

impl<R: AsyncRead + Send + Unpin + 'static> Ending<R> {
    async fn settle(mut self, first: First<R>) -> Disconnect {
        match first {
            First::Part(Some(Part::Reader(ReadEnd::Goodbye(code, reason), _socket))) => {
                let _ = self.finish.send(Goodbye::Echo(code));
                let _ = timeout(CLOSE_DEADLINE, self.tasks.join_next()).await;
                reason
            }
            First::Part(Some(Part::Reader(ReadEnd::Violation(code, reason), socket))) => {
                let _ = self.finish.send(Goodbye::Ours(code));
                let both = async { tokio::join!(self.tasks.join_next(), reader::drain(socket)) };
                let _ = timeout(CLOSE_DEADLINE, both).await;
                reason
            }
            First::Part(Some(Part::Reader(ReadEnd::Broken(reason), _socket))) => reason,
            First::Part(Some(Part::Writer(written))) => self.unwritable(written).await,
            First::Part(None) => Disconnect::Dropped,
            First::Silence => {
                let _ = self.finish.send(Goodbye::Ours(CloseReason::Silent));
                let _ = timeout(LAST_WORD, self.tasks.join_next()).await;
                Disconnect::Silent
            }
        }
    }

    /// The socket takes no more bytes; what the peer sent before that, its goodbye above all, still counts.
    async fn unwritable(mut self, written: io::Result<()>) -> Disconnect {
        let rest = timeout(CLOSE_DEADLINE, self.tasks.join_next()).await;
        match (rest, written) {
            (Ok(Some(Ok(Part::Reader(ReadEnd::Goodbye(_, reason), _)))), _) => reason,
            (_, Err(error)) => error.into(),
            (_, Ok(())) => Disconnect::Lost,
        }
    }
}
