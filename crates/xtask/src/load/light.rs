//! A light executor: a real registration and a real websocket, and nothing behind them.
//!
//! In flow a server's address and a token, out flow registrations and a connection that is held, pinged and, when it is
//! lost, opened again by the rules of the real one: its judge decides when, its memory of the registration decides how.
//! It serves no call; buffers are as small as can be, so that thousands fit into one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use exedra_executor::daemon::standing::Standing;
use exedra_executor::daemon::verdict::{Decision, Ending, Judge, Outcome, Pauses};
use exedra_link::error::{Class, RegisterError};
use exedra_proto::close::CloseReason;
use exedra_proto::liveness::PING_INTERVAL;
use exedra_proto::registry::{RegisterReply, RegisterRequest, Transport, idempotency_id};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use uuid::Uuid;

use super::board::{Board, Event};
use super::post::{Answer, post};

/// Limit for a registration, as the real one's.
const REGISTER: Duration = Duration::from_secs(30);
/// Limit for a websocket, as the real one's.
const DIAL: Duration = Duration::from_secs(10);
/// Room for what is read at once, in bytes.
const READ_BUFFER: usize = 512;

/// By whose rules an executor comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Ours: relay frames, one registration kept, nothing ends it.
    Ours,
    /// Those of a stock 0.130: direct, registered for each connection, and a registration that fails is the end.
    Stock,
}

/// A light executor before it runs.
#[derive(Debug)]
pub struct Light {
    /// Where the server listens, `IP:PORT`.
    pub address: Arc<str>,
    /// An executor's token.
    pub token: Arc<str>,
    /// Its number, which names it.
    pub number: usize,
    /// How it behaves.
    pub manners: Manners,
    /// Whom it tells.
    pub board: Arc<Board>,
}

impl Light {
    /// Runs until it is dropped, or until a refusal ends it.
    pub async fn run(self) {
        let (mut judge, mut standing) = (Judge::new(Pauses::default()), Standing::default());
        let instance = Uuid::new_v4();
        loop {
            let outcome = self.attempt(instance, &mut standing).await;
            let unregistered = matches!(outcome, Outcome::Unregistered { .. });
            let decision = judge.decide(outcome, fastrand::f64());
            match decision {
                Decision::Retry(pause) if self.manners == Manners::Ours || !unregistered => sleep(pause).await,
                _ => return self.board.note(Event::GaveUp),
            }
        }
    }

    async fn attempt(&self, instance: Uuid, standing: &mut Standing) -> Outcome {
        let reply = match standing.current() {
            Some(reply) => reply.clone(),
            None => match self.register(instance).await {
                Ok(reply) => reply,
                Err(error) => {
                    self.board.note(Event::Unregistered);
                    let class = if self.manners == Manners::Stock { Class::Refused } else { error.class() };
                    return Outcome::Unregistered { class, retry_after: error.retry_after() };
                }
            },
        };
        standing.registered(&reply);
        let websocket = match timeout(DIAL, self.dial(&reply)).await {
            Ok(Ok(websocket)) => websocket,
            failed => {
                standing
                    .undialled(matches!(&failed, Ok(Err(Error::Http(answer))) if answer.status().is_client_error()));
                self.board.note(Event::Undialled);
                return Outcome::Undialled { retry_after: None };
            }
        };
        let begin = Instant::now();
        self.board.note(Event::Online);
        let reason = hold(websocket).await;
        self.board.note(Event::Lost);
        let lasted = begin.elapsed();
        standing.served(false, lasted, reason);
        let ending = match reason {
            Some(reason) if reason.is_good_order() => Ending::GoodOrder,
            Some(CloseReason::Replaced) => Ending::Replaced,
            _ => Ending::Other,
        };
        Outcome::Served { opened: false, lasted, ending }
    }

    async fn register(&self, instance: Uuid) -> Result<RegisterReply, RegisterError> {
        let id = format!("light-{}", self.number);
        let offered = match self.manners {
            Manners::Ours => vec![Transport::Relay.name().to_owned()],
            Manners::Stock => Vec::new(),
        };
        let request = RegisterRequest {
            idempotency_id: idempotency_id(&id, "light", instance),
            executor_id: id.clone(),
            name: Some("light".to_owned()),
            labels: [("kind".to_owned(), "light".to_owned())].into(),
            metadata: serde_json::json!({}),
            transports: offered,
            security_profile: None,
            executor_public_key: None,
        };
        let body = serde_json::to_vec(&request).map_err(|error| RegisterError::Config(error.to_string()))?;
        let path = format!("/cloud/executor/{id}/register");
        let answer = timeout(REGISTER, post(&self.address, &path, &self.token, &body)).await;
        let answer = answer
            .map_err(|_| RegisterError::Transport("no answer in time".to_owned()))?
            .map_err(|error| RegisterError::Transport(error.to_string()))?;
        let reply = registered(answer)?;
        self.board.note(Event::Registered);
        Ok(reply)
    }

    async fn dial(&self, reply: &RegisterReply) -> Result<WebSocketStream<TcpStream>, Error> {
        let stream = TcpStream::connect(&*self.address).await.map_err(Error::Io)?;
        stream.set_nodelay(true).map_err(Error::Io)?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(0);
        let dialled = tokio_tungstenite::client_async_with_config(reply.url.expose(), stream, Some(config)).await;
        dialled.map(|(websocket, _)| websocket)
    }
}

fn registered(answer: Answer) -> Result<RegisterReply, RegisterError> {
    let Answer { status, retry_after, body } = answer;
    match status {
        200..300 => serde_json::from_slice(&body)
            .map_err(|_| RegisterError::Transport("a reply that cannot be read".to_owned())),
        401 | 403 => Err(RegisterError::Auth { status, code: None, message: String::new() }),
        _ => Err(RegisterError::Status { status, code: None, message: String::new(), retry_after }),
    }
}

/// Holds the connection until it ends; the reason, if the server gave one.
async fn hold(mut websocket: WebSocketStream<TcpStream>) -> Option<CloseReason> {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    pings.reset();
    loop {
        tokio::select! {
            message = websocket.next() => match message {
                Some(Ok(Message::Close(frame))) => {
                    let _ = websocket.close(None).await;
                    return frame.and_then(|frame| CloseReason::from_code(frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            },
            _ = pings.tick() => {
                if websocket.send(Message::Ping(Bytes::new())).await.is_err() {
                    return None;
                }
            }
        }
    }
}
