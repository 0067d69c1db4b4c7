//! A rendezvous on port 0, a registry that only listens, and peers that dial in.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::serve::ListenerExt as _;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::introduction::Client;
use exedra_proto::plane::Presence;
use exedra_proto::ticket::{Claims, KeyRing, Role, Shape, SigningKey};
use exedra_rendezvous::{Rendezvous, RendezvousConfig};
use futures_util::StreamExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};

pub type Peer = WebSocketStream<TcpStream>;

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(30);

/// Writes down what it is told.
pub struct Recorder {
    told: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl Recorder {
    fn note(&self, line: String) {
        let mut told = self.told.lock().unwrap();
        told.push(line);
        self.count.send_replace(told.len());
    }

    /// Waits for `count` reports, and gives all.
    pub async fn told(&self, count: usize) -> Vec<String> {
        within(self.count.subscribe().wait_for(|told| *told >= count)).await.unwrap();
        self.told.lock().unwrap().clone()
    }
}

impl Presence for Recorder {
    fn online(&self, registration: &RegistrationId, epoch: u64) {
        self.note(format!("online {registration} {epoch}"));
    }

    fn online_told(&self, registration: &RegistrationId, epoch: u64) {
        self.note(format!("online {registration} {epoch}, told"));
    }

    fn held(&self, registration: &RegistrationId) {
        self.note(format!("held {registration}"));
    }

    fn offline(&self, registration: &RegistrationId, bytes: u64) {
        self.note(format!("offline {registration} {bytes}"));
    }
}

pub struct Stage {
    pub ring: KeyRing,
    pub rendezvous: Arc<Rendezvous>,
    pub presence: Arc<Recorder>,
    pub address: SocketAddr,
    server: JoinSet<()>,
}

impl Stage {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut RendezvousConfig)) -> Self {
        let ring = KeyRing::new(vec![SigningKey::generate(0).unwrap()]);
        let presence = Arc::new(Recorder { told: Mutex::default(), count: watch::channel(0).0 });
        let mut config = RendezvousConfig::new(Arc::new(RwLock::new(ring.clone())), presence.clone());
        change(&mut config);
        let rendezvous = Arc::new(Rendezvous::new(config).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let app = rendezvous.router();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { ring, rendezvous, presence, address, server }
    }

    /// Stops serving, and drops the rendezvous.
    pub async fn drop_rendezvous(mut self) -> Arc<Recorder> {
        self.server.shutdown().await;
        Arc::into_inner(self.rendezvous).expect("the last one");
        self.presence
    }

    pub fn sign(&self, claims: &Claims) -> String {
        self.ring.sign(&format!("ws://{}", self.address), claims).unwrap().expose().to_owned()
    }

    pub async fn executor(&self) -> Peer {
        self.dial(&self.sign(&claims(Role::Executor))).await.unwrap()
    }

    pub async fn client(&self) -> Peer {
        self.dial(&self.sign(&claims(Role::Harness))).await.unwrap()
    }

    /// An executor and its client, joined.
    pub async fn pair(&self) -> (Peer, Peer) {
        let told = self.presence.told.lock().unwrap().len();
        let executor = self.executor().await;
        self.presence.told(told + 1).await;
        let client = self.client().await;
        self.presence.told(told + 2).await;
        (executor, client)
    }

    pub async fn dial(&self, url: &str) -> Result<Peer, Error> {
        self.dial_with(url.into_client_request().unwrap()).await.map(|(peer, _)| peer)
    }

    pub async fn dial_with(&self, request: Request<()>) -> Result<(Peer, Response<Option<Vec<u8>>>), Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        within(tokio_tungstenite::client_async(request, stream)).await
    }

    /// Status, rejection header and body of a refusal.
    pub async fn refused(&self, url: &str) -> (u16, String, String) {
        match self.dial(url).await {
            Err(Error::Http(response)) => {
                let header = response.headers().get("x-codex-rendezvous-rejection-reason");
                let reason = header.map_or("", |value| value.to_str().unwrap()).to_owned();
                let body = String::from_utf8(response.body().clone().unwrap_or_default()).unwrap();
                (response.status().as_u16(), reason, body)
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A good ticket for registration `r` of epoch 1.
pub fn claims(role: Role) -> Claims {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (token, life) = match role {
        Role::Executor => ("tok-e", 86_400),
        Role::Harness => ("tok-c", 60),
    };
    let issued_at = now();
    Claims {
        registration: RegistrationId::new("r"),
        role,
        shape: Shape::Pair,
        epoch: 1,
        token: TokenId::new(token),
        issued_at,
        expires_at: issued_at + life,
        ticket_id: format!("j{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        client: Client::default(),
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("takes too long")
}

/// The next message that is not a pong.
pub async fn message(peer: &mut Peer) -> Message {
    // All of it, since pings go on for ever.
    within(async {
        loop {
            match peer.next().await.expect("an end").expect("a message") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    })
    .await
}

/// Reads to the close frame and answers it: its code, and the data before it.
pub async fn closed(peer: &mut Peer) -> (u16, Vec<u8>) {
    let mut data = Vec::new();
    loop {
        match within(peer.next()).await {
            Some(Ok(Message::Close(frame))) => {
                while within(peer.next()).await.is_some_and(|message| message.is_ok()) {}
                return (frame.map_or(1005, |frame| frame.code.into()), data);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(message)) => data.extend(message.into_data()),
            other => panic!("an end without a close frame: {other:?}"),
        }
    }
}
