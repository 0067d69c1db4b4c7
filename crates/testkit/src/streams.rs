//! A registry and a rendezvous for streams, as an executor of dialect B meets them: relay frames, many clients at once.
//!
//! In flow one executor and any number of harnesses, out flow each one's frames to the other, by stream id. A stream
//! belongs to the harness that used it first. Tests can cut connections, make tickets worthless, and count.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, Frame, StreamId};
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_util::sync::CancellationToken;

/// Messages that may wait for one socket: 64; then whoever sends to it waits.
const QUEUE: usize = 64;

/// Both of them, on ports of their own; they end when dropped.
#[derive(Debug)]
pub struct StreamPlane {
    /// Where executors register: `http://127.0.0.1:PORT`.
    pub registry: String,
    /// Where harnesses connect; the query makes a stock one speak relay frames.
    pub harness: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    rendezvous: SocketAddr,
    /// What a registration is answered beyond dialect B's members.
    extra: Value,
    registrations: AtomicU64,
    dialled: AtomicU64,
    /// Tickets of registrations up to this one are refused.
    worthless: AtomicU64,
    router: Mutex<Routes>,
}

#[derive(Debug, Default)]
struct Routes {
    last: u64,
    executor: Option<Peer>,
    harnesses: HashMap<u64, Peer>,
    owners: HashMap<StreamId, u64>,
}

#[derive(Clone, Debug)]
struct Peer {
    number: u64,
    queue: mpsc::Sender<Message>,
    cut: CancellationToken,
}

impl StreamPlane {
    /// Starts them; the registry answers exactly what dialect B's does.
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> std::io::Result<Self> {
        Self::answering(json!({})).await
    }

    /// The same, with further members in the registry's answer.
    ///
    /// # Errors
    /// No port.
    pub async fn answering(extra: Value) -> std::io::Result<Self> {
        let (http, websockets) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let (registry, rendezvous) = (format!("http://{}", http.local_addr()?), websockets.local_addr()?);
        let shared = Arc::new(Shared {
            rendezvous,
            extra,
            registrations: AtomicU64::new(0),
            dialled: AtomicU64::new(0),
            worthless: AtomicU64::new(0),
            router: Mutex::default(),
        });
        let router = Router::new()
            .route("/cloud/executor/{id}/register", post(register))
            .route("/cloud/environment/{id}/register", post(register))
            .with_state(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(http, router).await;
        });
        let state = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((socket, _)) = websockets.accept().await {
                peers.spawn(serve(socket, Arc::clone(&state)));
            }
        });
        let harness = format!("ws://{rendezvous}/meet?role=harness");
        Ok(Self { registry, harness, shared, _tasks: tasks })
    }

    /// How often an executor has registered.
    pub fn registrations(&self) -> u64 {
        self.shared.registrations.load(Ordering::SeqCst)
    }

    /// How often an executor's websocket was opened.
    pub fn dialled(&self) -> u64 {
        self.shared.dialled.load(Ordering::SeqCst)
    }

    /// Whether an executor is there.
    pub fn is_online(&self) -> bool {
        self.shared.routes().executor.is_some()
    }

    /// Cuts the executor's websocket without a word.
    pub fn cut_executor(&self) {
        if let Some(executor) = &self.shared.routes().executor {
            executor.cut.cancel();
        }
    }

    /// Makes the tickets of all registrations so far worthless: a websocket with one is answered 401.
    pub fn expire(&self) {
        self.shared.worthless.store(self.registrations(), Ordering::SeqCst);
    }
}

async fn register(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> axum::Json<Value> {
    let number = shared.registrations.fetch_add(1, Ordering::SeqCst) + 1;
    let url = format!("ws://{}/meet?role=executor&ticket={number}", shared.rendezvous);
    let mut reply = json!({ "executor_id": id, "environment_id": id, "url": url });
    if let (Some(reply), Some(extra)) = (reply.as_object_mut(), shared.extra.as_object()) {
        reply.extend(extra.clone());
    }
    axum::Json(reply)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Executor,
    Harness,
}

#[expect(clippy::result_large_err, reason = "the type of the handshake callback is not ours")]
async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let mut role = None;
    let check = |request: &Request, response: Response| {
        role = shared.admit(request.uri().query().unwrap_or_default());
        if role.is_some() { Ok(response) } else { Err(refusal()) }
    };
    let Ok(websocket) = tokio_tungstenite::accept_hdr_async(socket, check).await else { return };
    let Some(role) = role else { return };
    let (peer, mut outgoing) = shared.join(role);
    let (mut sink, mut source) = websocket.split();
    let write = async {
        while let Some(message) = outgoing.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    let read = async {
        while let Some(Ok(message)) = source.next().await {
            if let Message::Binary(bytes) = message {
                shared.forward(role, peer.number, bytes).await;
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
        () = peer.cut.cancelled() => {}
    }
    shared.leave(role, &peer).await;
}

fn refusal() -> ErrorResponse {
    let mut refusal = ErrorResponse::new(None);
    *refusal.status_mut() = StatusCode::UNAUTHORIZED;
    refusal
}

impl Shared {
    fn routes(&self) -> std::sync::MutexGuard<'_, Routes> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, query: &str) -> Option<Role> {
        let value = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        match value("role")? {
            "executor" => {
                let ticket: u64 = value("ticket")?.parse().ok()?;
                (ticket > self.worthless.load(Ordering::SeqCst)).then_some(Role::Executor)
            }
            "harness" => Some(Role::Harness),
            _ => None,
        }
    }

    fn join(&self, role: Role) -> (Peer, mpsc::Receiver<Message>) {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let mut routes = self.routes();
        routes.last += 1;
        let peer = Peer { number: routes.last, queue, cut: CancellationToken::new() };
        match role {
            Role::Executor => {
                self.dialled.fetch_add(1, Ordering::SeqCst);
                if let Some(older) = routes.executor.replace(peer.clone()) {
                    older.cut.cancel();
                }
            }
            Role::Harness => drop(routes.harnesses.insert(peer.number, peer.clone())),
        }
        (peer, outgoing)
    }

    async fn forward(&self, role: Role, from: u64, bytes: bytes::Bytes) {
        let Ok(frame) = Frame::decode(bytes.clone()) else { return };
        let to = match role {
            Role::Executor => {
                let routes = self.routes();
                routes.owners.get(&frame.stream).and_then(|owner| routes.harnesses.get(owner)).cloned()
            }
            Role::Harness => {
                let mut routes = self.routes();
                let owner = *routes.owners.entry(frame.stream).or_insert(from);
                routes.executor.clone().filter(|_| owner == from)
            }
        };
        if let Some(to) = to {
            let _ = to.queue.send(Message::Binary(bytes)).await;
        }
    }

    async fn leave(&self, role: Role, peer: &Peer) {
        let (streams, executor) = {
            let mut routes = self.routes();
            match role {
                Role::Executor if routes.executor.as_ref().is_some_and(|there| there.number == peer.number) => {
                    routes.executor = None;
                    routes.owners.clear();
                    routes.harnesses.drain().for_each(|(_, harness)| harness.cut.cancel());
                    (Vec::new(), None)
                }
                Role::Executor => (Vec::new(), None),
                Role::Harness => {
                    routes.harnesses.remove(&peer.number);
                    let of_peer = |(stream, owner): (&StreamId, &u64)| (*owner == peer.number).then(|| stream.clone());
                    let streams: Vec<StreamId> = routes.owners.iter().filter_map(of_peer).collect();
                    routes.owners.retain(|_, owner| *owner != peer.number);
                    (streams, routes.executor.clone())
                }
            }
        };
        let Some(executor) = executor else { return };
        for stream in streams {
            let reset = Frame { stream, body: Body::Reset { reason: CloseReason::PeerDone.text().to_owned() } };
            let _ = executor.queue.send(Message::Binary(reset.encode())).await;
        }
    }
}
