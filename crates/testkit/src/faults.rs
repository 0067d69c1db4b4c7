//! A link that misbehaves by a seed: a websocket relay that delays messages, lets one overtake another, and cuts.
//!
//! In flow connections on a port of its own, out flow connections to the real server with the same path and query. What
//! happens to each message is decided by [`Script`], which is pure: the same seed gives the same fates. Reordering is done
//! on the way to the client alone, where the protocol allows it (an event may overtake an answer).

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

/// A message that is held back goes on after this time even if nothing overtakes it.
const HOLD_LIMIT: Duration = Duration::from_millis(20);

/// What a socket of a link holds in each direction, in bytes.
const SOCKET_BYTES: u32 = 64 * 1024;

/// What may happen on a link.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Decides everything below.
    pub seed: u64,
    /// Each message waits this long, in milliseconds.
    pub delay_ms: Range<u64>,
    /// One message in so many towards the client is overtaken by its successor; 0 is never.
    pub overtake_one_in: u64,
    /// After how many messages of a connection it is cut without a close frame; empty is never.
    pub cut_after: Range<u64>,
}

impl Faults {
    /// Nothing happens.
    pub fn none() -> Self {
        Self { seed: 0, delay_ms: 0..0, overtake_one_in: 0, cut_after: 0..0 }
    }
}

/// The fate of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on after this time.
    Pass(Duration),
    /// Its successor overtakes it.
    Overtaken,
    /// The connection is cut instead.
    Cut,
}

/// The fates of the messages of one direction of one connection.
#[derive(Clone, Debug)]
pub struct Script {
    random: fastrand::Rng,
    faults: Faults,
    left: Option<u64>,
}

impl Script {
    /// The script of direction `direction` of the connection `number` of a link.
    pub fn new(faults: &Faults, number: u64, direction: u64) -> Self {
        let mut random =
            fastrand::Rng::with_seed(faults.seed ^ (number << 1 | direction).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let left = (!faults.cut_after.is_empty()).then(|| random.u64(faults.cut_after.clone()));
        Self { random, faults: faults.clone(), left }
    }

    /// The fate of the next message.
    pub fn next_fate(&mut self) -> Fate {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return Fate::Cut;
            }
            *left -= 1;
        }
        if self.faults.overtake_one_in > 0 && self.random.u64(0..self.faults.overtake_one_in) == 0 {
            return Fate::Overtaken;
        }
        let range = self.faults.delay_ms.clone();
        let delay = if range.is_empty() { 0 } else { self.random.u64(range) };
        Fate::Pass(Duration::from_millis(delay))
    }
}

/// A running link; it ends when dropped.
#[derive(Debug)]
pub struct FaultyLink {
    /// Where it listens.
    pub address: SocketAddr,
    live: Arc<Mutex<CancellationToken>>,
    _tasks: JoinSet<()>,
}

impl FaultyLink {
    /// Starts a link in front of `upstream`.
    ///
    /// # Errors
    /// No port.
    pub async fn start(upstream: SocketAddr, faults: Faults) -> io::Result<Self> {
        let socket = small_socket()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        let live = Arc::new(Mutex::new(CancellationToken::new()));
        let mut tasks = JoinSet::new();
        let tokens = Arc::clone(&live);
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            let mut number = 0;
            while let Ok((socket, _)) = listener.accept().await {
                let cut = tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let faults = faults.clone();
                relays.spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = relay(socket, upstream, &faults, number) => {}
                    }
                });
                number += 1;
            }
        });
        Ok(Self { address, live, _tasks: tasks })
    }

    /// Cuts every open connection now, without a close frame.
    pub fn cut(&self) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *live, CancellationToken::new()).cancel();
    }
}

type Socket = WebSocketStream<TcpStream>;

/// A socket that holds little, whatever is written into it: what is on its way when the link is cut is lost, and a stock
/// executor can give only the latest megabyte of a process again.
fn small_socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    Ok(socket)
}

async fn relay(socket: TcpStream, upstream: SocketAddr, faults: &Faults, number: u64) {
    let Some((client, server, target)) = join(socket, upstream).await else { return };
    let (to_client, from_client) = client.split();
    let (to_server, from_server) = server.split();
    let in_order = Faults { overtake_one_in: 0, ..faults.clone() };
    // What comes down to an executor is what a client sent.
    let to_executor = target.contains("role=executor");
    let (up, down) = if to_executor { (faults, &in_order) } else { (&in_order, faults) };
    let (up, down) = (Script::new(up, number, 0), Script::new(down, number, 1));
    tokio::select! {
        () = forward(from_client, to_server, up) => {}
        () = forward(from_server, to_client, down) => {}
    }
}

/// Accepts the client and dials the server with the client's path and query.
#[expect(clippy::result_large_err, reason = "the type of the handshake callback is not ours")]
async fn join(socket: TcpStream, upstream: SocketAddr) -> Option<(Socket, Socket, String)> {
    let _ = socket.set_nodelay(true);
    let mut target = String::new();
    let read_target = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        target = request.uri().to_string();
        Ok(response)
    };
    let client = tokio_tungstenite::accept_hdr_async(socket, read_target).await.ok()?;
    let stream = small_socket().ok()?.connect(upstream).await.ok()?;
    let _ = stream.set_nodelay(true);
    let (server, _) = tokio_tungstenite::client_async(format!("ws://{upstream}{target}"), stream).await.ok()?;
    Some((client, server, target))
}

async fn forward(mut from: SplitStream<Socket>, mut to: SplitSink<Socket, Message>, script: Script) {
    // Either end's loss is the end of both: that is what a cut is.
    let _ = run_script(&mut from, &mut to, script).await;
}

async fn run_script<I, O>(from: &mut I, to: &mut O, mut script: Script) -> Result<(), tungstenite::Error>
where
    I: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
    O: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    let mut held: Option<Message> = None;
    loop {
        let next = if held.is_some() {
            match tokio::time::timeout(HOLD_LIMIT, from.next()).await {
                Ok(next) => next,
                Err(_) => {
                    if let Some(message) = held.take() {
                        to.send(message).await?;
                    }
                    continue;
                }
            }
        } else {
            from.next().await
        };
        let Some(message) = next.transpose()? else { return Ok(()) };
        let close = message.is_close();
        match script.next_fate() {
            Fate::Cut => return Ok(()),
            Fate::Overtaken if held.is_none() && !close => {
                held = Some(message);
                continue;
            }
            Fate::Overtaken => {}
            Fate::Pass(delay) => tokio::time::sleep(delay).await,
        }
        if close && let Some(message) = held.take() {
            to.send(message).await?;
        }
        to.send(message).await?;
        if let Some(message) = held.take() {
            to.send(message).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn faults() -> Faults {
        Faults { seed: 7, delay_ms: 0..5, overtake_one_in: 4, cut_after: 10..40 }
    }

    #[test]
    fn a_seed_is_a_story() {
        let fates = |number| {
            let mut script = Script::new(&faults(), number, 1);
            (0..50).map(|_| script.next_fate()).collect::<Vec<_>>()
        };
        assert_eq!(fates(3), fates(3));
        assert_ne!(fates(3), fates(4));
        let story = fates(3);
        assert!(story.contains(&Fate::Cut) && story.contains(&Fate::Overtaken));
        assert!(story[..10].iter().all(|fate| *fate != Fate::Cut));
    }

    #[tokio::test]
    async fn messages_arrive_all_and_some_are_overtaken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
            for n in 0..200_u32 {
                socket.send(Message::text(n.to_string())).await.unwrap();
            }
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        });
        let faults = Faults { cut_after: 0..0, delay_ms: 0..1, ..faults() };
        let link = FaultyLink::start(upstream, faults).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/", link.address)).await.unwrap();
        let mut got = Vec::new();
        while got.len() < 200 {
            let message = socket.next().await.unwrap().unwrap();
            got.push(message.to_text().unwrap().parse::<u32>().unwrap());
        }
        assert!(!got.is_sorted());
        got.sort_unstable();
        assert_eq!(got, (0..200).collect::<Vec<_>>());
        link.cut();
        assert!(!matches!(socket.next().await, Some(Ok(Message::Close(_) | Message::Text(_)))));
    }
}
