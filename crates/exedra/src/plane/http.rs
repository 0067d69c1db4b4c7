//! The HTTP server under registry and rendezvous: accepts, limits, hands over, and stops in good order.
//!
//! In flow a listener, perhaps a certificate, and a router, out flow answers and upgraded connections, which then belong
//! to the router's owner. Knows no path and no body.

mod crowd;
pub(super) mod descriptors;
mod door;
mod host;
mod paced;
mod problem;
pub mod proxies;
mod secure;
mod slots;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use exedra_executor::listen::tls::Tls;
use exedra_rendezvous::Io;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crowd::Crowd;
use descriptors::Acceptance;
use door::{Caller, Door};
use paced::pace;
use proxies::Proxies;
use slots::{Slot, Slots};

/// Connections that speak HTTP at a time: 4,096, or fewer if the system gives us few file descriptors. For one more the one
/// is cut that has been silent longest, and for [`GRACE`]; once all have sent the head of a request, more wait in the kernel's queue until
/// one ends. Websockets do not count once they are upgraded, the rendezvous has a limit of its own.
const MAX_CONNECTIONS: usize = 4_096;
/// The part of these that addresses may have which have as many connections as they may. For one more, one of these is cut
/// that is silent; if none is, it waits for [`GUEST_TIMEOUT`] for one to end, and so do as many more. Else it is told 429.
const GUESTS_SHARE: usize = 4;
/// How long one waits that its address has no place for. Stock executors wait for an answer without an end.
const GUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a client that has only just connected is not cut for another.
const GRACE: Duration = Duration::from_secs(3);
/// How long a client may take for the head of a request, and be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take from one answer to the whole head of its next request. That is the time to take the
/// answer, and [`HEAD_TIMEOUT`]: it begins only when the answer is sent, for a client that does not read never.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest head of a request, in bytes; a larger one is answered with 431, unless it is less than twice that and arrives
/// in one piece.
const MAX_HEAD: usize = 32 * 1024;
/// Most headers of a request; more are answered with 431.
const MAX_HEADERS: usize = 64;
/// How long a client that has only just connected has for its first request after the order to stop.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long requests under way have after the order to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many clients there may be, and how long they may take; tests make it short.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// [`MAX_CONNECTIONS`], or fewer.
    connections: usize,
    /// [`GRACE`].
    grace: Duration,
    /// [`HEAD_TIMEOUT`].
    head: Duration,
    /// [`TURN_TIMEOUT`].
    turn: Duration,
}

/// How the server is to be reached.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// The certificate; without one, HTTP is spoken in the clear.
    pub tls: Option<Arc<Tls>>,
    /// The proxies that are trusted.
    pub proxies: Proxies,
    /// Connections of one address; none: half of all that there may be.
    pub connections_each: Option<usize>,
    /// What is counted of them.
    pub tally: Arc<Tally>,
}

/// What is counted of connections, since the start.
#[derive(Debug, Default)]
pub struct Tally {
    /// All that were accepted.
    pub accepted: AtomicU64,
    /// Those that were cut because others needed their slots.
    pub cut: AtomicU64,
}

/// Who has to do something for a connection to go on.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The client: it sends its first request. Since when.
    First(Instant),
    /// The client: it takes the answer, and sends the next request. Since when.
    Client(Instant),
    /// We: a request is being answered.
    Server,
}

/// A running server. Dropping it cuts all requests.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    #[cfg(test)]
    crowd: Crowd,
    #[cfg(test)]
    slots: Slots,
}

impl HttpServer {
    /// Serves `router` on `listener`, beside which `websockets` connections may be upgraded.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(listener: TcpListener, front: Front, websockets: usize, router: Router) -> io::Result<Self> {
        let descriptors = descriptors::limit();
        let connections = descriptors::connections(descriptors, MAX_CONNECTIONS);
        tracing::debug!(descriptors, connections, "connections that may speak HTTP at a time");
        let limits = Limits { connections, grace: GRACE, head: HEAD_TIMEOUT, turn: TURN_TIMEOUT };
        let crowd = Crowd::new(front.connections_each.unwrap_or((connections + websockets).div_ceil(2)));
        let door = Door { tls: front.tls, proxies: Arc::new(front.proxies), crowd, router };
        Self::start_with(limits, listener, door, front.tally)
    }

    fn start_with(limits: Limits, listener: TcpListener, door: Door, tally: Arc<Tally>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        #[cfg(test)]
        let crowd = door.crowd.clone();
        let guests = (limits.connections / GUESTS_SHARE).max(1);
        let slots = Slots::new(limits.connections, guests, limits.grace, tally);
        tasks.spawn(accept(listener, door, slots.clone(), limits, stop.clone()));
        Ok(Self {
            address,
            stop,
            tasks,
            #[cfg(test)]
            crowd,
            #[cfg(test)]
            slots,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, and asks for no more requests on the connections that there are.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Accepts no more, lets requests under way end for a while, and waits for it.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, door: Door, slots: Slots, limits: Limits, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut acceptance = Acceptance::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                slots.free().await;
                listener.accept().await
            } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if acceptance.is_new(true) {
                    tracing::info!("accepting again");
                }
                let caller = door.caller(peer.ip());
                let is_guest = matches!(caller, Caller::Guest(_));
                let slot = loop {
                    match slots.enter(is_guest) {
                        // Whoever was silent a moment ago has spoken.
                        None if !is_guest => tokio::select! {
                            () = stop.cancelled() => break None,
                            () = slots.free() => {}
                        },
                        slot => break slot,
                    }
                };
                let Some(slot) = slot else {
                    connections.spawn(wait(stream, caller, slots.clone(), door.clone(), limits, stop.clone()));
                    continue;
                };
                connections.spawn(receive(stream, caller, slot, door.clone(), limits, stop.clone()));
            }
            Err(error) => {
                if acceptance.is_new(false) {
                    tracing::warn!(%error, "cannot accept; clients wait until that is over");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // What does not end in time is cut with the set.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

/// A guest for whom there is no slot yet.
async fn wait(stream: TcpStream, caller: Caller, slots: Slots, door: Door, limits: Limits, stop: CancellationToken) {
    let slot = match slots.queue() {
        Some(_place) => tokio::select! {
            biased;
            () = stop.cancelled() => None,
            slot = slots.wait_as_guest(GUEST_TIMEOUT) => slot,
        },
        None => None,
    };
    let Some(slot) = slot else {
        tracing::debug!(peer = ?stream.peer_addr(), "a client that has too many connections");
        return door.refuse(stream).await;
    };
    receive(stream, caller, slot, door, limits, stop).await;
}

async fn receive(stream: TcpStream, caller: Caller, slot: Slot, door: Door, limits: Limits, stop: CancellationToken) {
    let io = tokio::select! {
        biased;
        io = secure::open(stream, door.tls.as_deref(), limits.head) => io,
        () = slot.is_needed() => None,
    };
    if let Some(io) = io {
        serve(io, caller, slot, door, limits, stop).await;
    }
}

async fn serve(io: Io, caller: Caller, slot: Slot, door: Door, limits: Limits, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let turn = watch::Sender::new(Turn::First(Instant::now()));
    let slot = Arc::new(slot);
    let service = {
        let slot = Arc::clone(&slot);
        let (turn, router) = (turn.clone(), TowerToHyperService::new(door.router.clone()));
        service_fn(move |mut request: Request<Incoming>| {
            slot.spoke();
            turn.send_replace(Turn::Server);
            let (turn, door, caller, router) = (turn.clone(), door.clone(), caller.clone(), router.clone());
            async move {
                let answer = match host::is_said(&request) {
                    false => Ok(host::answer(request.uri().path())),
                    true => match door.admit(&caller, &mut request).await {
                        Ok(_origin) => router.call(request).await,
                        Err(full) => Ok(full.answer(request.uri().path())),
                    },
                };
                turn.send_replace(Turn::Client(Instant::now()));
                answer.map(|answer| pace(answer, &turn))
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = overdue(turn.subscribe(), limits.turn) => {
            tracing::debug!("a client that takes no answer is cut");
            return;
        }
        () = needed(&slot, &turn) => {
            tracing::debug!("the connection that was silent longest is cut, for another needs its slot");
            return;
        }
        () = async {
            stop.cancelled().await;
            first_request(turn.subscribe()).await;
        } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Returns when the client has sent its first request, or takes longer than [`FIRST_TIMEOUT`]: whoever was accepted a
/// moment before the end is served.
async fn first_request(mut turn: watch::Receiver<Turn>) {
    let begun = turn.wait_for(|turn| !matches!(turn, Turn::First(_)));
    let _ = tokio::time::timeout(FIRST_TIMEOUT, begun).await;
}

/// Returns when another needs the slot, if by then there was no request.
async fn needed(slot: &Slot, turn: &watch::Sender<Turn>) {
    slot.is_needed().await;
    if !matches!(*turn.borrow(), Turn::First(_)) {
        std::future::pending::<()>().await;
    }
}

/// Returns when it was the client's turn for longer than `limit`.
async fn overdue(mut turn: watch::Receiver<Turn>, limit: Duration) {
    loop {
        let current = *turn.borrow_and_update();
        let changed = match current {
            Turn::First(since) | Turn::Client(since) => timeout_at(since + limit, turn.changed()).await,
            Turn::Server => Ok(turn.changed().await),
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::{Response, StatusCode};
    use axum::routing::get;
    use exedra_proto::plane::Origin;
    use exedra_proto::problem::ProblemBody;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const LIMITS: Limits =
        Limits { connections: 16, grace: GRACE, head: Duration::from_millis(200), turn: Duration::from_millis(600) };
    const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

    fn door(proxies: Proxies, each: usize, router: Router) -> Door {
        Door { tls: None, proxies: Arc::new(proxies), crowd: Crowd::new(each), router }
    }

    /// No time is ever up.
    const PATIENT: Limits = Limits { connections: 8, grace: LONG, head: LONG, turn: LONG };
    const LONG: Duration = Duration::from_secs(600);

    async fn patient(grace: Duration, crowd: Crowd, router: Router) -> HttpServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Door { tls: None, proxies: Arc::default(), crowd, router };
        HttpServer::start_with(Limits { grace, ..PATIENT }, listener, door, Arc::default()).unwrap()
    }

    /// A handler that says when it is called, and answers when it is told.
    fn holding() -> (axum::routing::MethodRouter, mpsc::Receiver<()>, watch::Sender<bool>) {
        let (arrived, arrivals) = mpsc::channel(64);
        let (finish, finished) = watch::channel(false);
        let hold = move || {
            let (arrived, mut finished) = (arrived.clone(), finished.clone());
            async move {
                arrived.send(()).await.unwrap();
                finished.wait_for(|done| *done).await.unwrap();
                "held"
            }
        };
        (get(hold), arrivals, finish)
    }

    fn ask(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    }

    #[tokio::test]
    async fn a_proper_client_is_served_while_the_silent_have_all_slots_and_who_spoke_keeps_its_own() {
        let (hold, mut arrivals, finish) = holding();
        let router = Router::new().route("/", get(async || "fine")).route("/hold", hold);
        let server = patient(Duration::from_millis(10), Crowd::new(8), router).await;
        let mut holder = TcpStream::connect(server.address()).await.unwrap();
        holder.write_all(ask("/hold").as_bytes()).await.unwrap();
        arrivals.recv().await.unwrap();
        let mut silent = Vec::new();
        for number in 0..5 * PATIENT.connections {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
            }
            silent.push(stream);
            if number % PATIENT.connections == 0 {
                assert!(exchange(&server, &ask("/")).await.ends_with("fine"));
            }
        }
        assert!(exchange(&server, &ask("/")).await.ends_with("fine"));
        // The first was cut, the last was not.
        let mut byte = [0];
        let first = silent.first_mut().unwrap().read(&mut byte).await;
        assert!(matches!(first, Ok(0) | Err(_)), "{first:?}");
        silent.last_mut().unwrap().write_all(b" x\r\nConnection: close\r\n\r\n").await.unwrap();
        finish.send_replace(true);
        let mut answer = String::new();
        holder.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("held"), "{answer}");
    }

    #[tokio::test]
    async fn who_does_not_say_for_whom_a_request_is_is_told_so() {
        let server = patient(LONG, Crowd::new(8), Router::new().route("/", get(async || "fine"))).await;
        for head in ["", "Host: x\r\nHost: x\r\n", "Host: a b\r\n"] {
            let refused = exchange(&server, &format!("GET / HTTP/1.1\r\n{head}\r\n")).await;
            assert_problem(&refused, 400, "host_invalid", "application/json");
        }
        for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] {
            let served = exchange(&server, request).await;
            assert!(served.ends_with("fine"), "{served}");
        }
    }

    #[tokio::test]
    async fn where_all_have_spoken_a_newcomer_waits_and_nobody_is_cut() {
        let (hold, mut arrivals, finish) = holding();
        let server = patient(LONG, Crowd::new(8), Router::new().route("/hold", hold)).await;
        let mut holders = JoinSet::new();
        let address = server.address();
        for _ in 0..2 * PATIENT.connections {
            holders.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(ask("/hold").as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.map(|_| answer)
            });
        }
        for _ in 0..PATIENT.connections {
            arrivals.recv().await.unwrap();
        }
        assert!(arrivals.try_recv().is_err(), "as many as there are slots");
        finish.send_replace(true);
        while let Some(answer) = holders.join_next().await {
            let answer = answer.unwrap().unwrap();
            assert!(answer.ends_with("held"), "{answer}");
        }
    }

    /// The answer is a problem, in the shape that all have.
    fn assert_problem(answer: &str, status: u16, code: &str, form: &str) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(head.to_lowercase().lines().any(|line| line == format!("content-type: {form}")), "{answer}");
        let body: ProblemBody = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!((body.status, body.kind), (status, format!("urn:exedra:problem:{code}")));
        assert_eq!((body.error.code.as_deref(), body.error.message), (Some(code), Some(body.detail)));
    }

    #[tokio::test]
    async fn one_connection_too_many_is_told_so_and_an_executor_is_not_refused() {
        let (hold, mut arrivals, finish) = holding();
        let register = axum::routing::post(async || "registered");
        let router = Router::new()
            .route("/hold", hold)
            .route("/cloud/executor/{id}/register", register)
            .route("/rendezvous/{id}", get(async || "met"));
        let server = patient(LONG, Crowd::strict(1), router).await;
        let mut holder = TcpStream::connect(server.address()).await.unwrap();
        holder.write_all(ask("/hold").as_bytes()).await.unwrap();
        arrivals.recv().await.unwrap();
        for (path, form) in [
            ("/hold", "application/json"),
            ("/rendezvous/x?role=harness", "application/json"),
            ("/v1/executors", "application/problem+json"),
        ] {
            let full = exchange(&server, &ask(path)).await;
            assert!(full.to_lowercase().contains("retry-after: 5"), "{full}");
            assert_problem(&full, 429, "too_many_connections", form);
        }
        let register = "POST /cloud/executor/x/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = exchange(&server, register).await;
        assert!(answer.ends_with("registered"), "{answer}");
        // Its websocket waits for a place, and gets the one that is given up.
        let mut dial = TcpStream::connect(server.address()).await.unwrap();
        dial.write_all(ask("/rendezvous/x?role=executor").as_bytes()).await.unwrap();
        while server.crowd.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        finish.send_replace(true);
        let mut answer = String::new();
        dial.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("met"), "{answer}");
    }

    #[tokio::test]
    async fn silent_guests_keep_no_executor_from_registering() {
        let register = axum::routing::post(async || "registered");
        let router = Router::new().route("/cloud/executor/{id}/register", register);
        let server = patient(LONG, Crowd::strict(1), router).await;
        let mut silent = Vec::new();
        for _ in 0..5 * PATIENT.connections {
            silent.push(TcpStream::connect(server.address()).await.unwrap());
        }
        let register = "POST /cloud/executor/x/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(exchange(&server, register).await.ends_with("registered"));
    }

    #[tokio::test]
    async fn a_registration_waits_for_one_that_is_under_way() {
        let (arrived, mut arrivals) = mpsc::channel(1);
        let go = Arc::new(Semaphore::new(0));
        let register = {
            let go = Arc::clone(&go);
            axum::routing::post(async move || {
                arrived.send(()).await.unwrap();
                go.acquire().await.unwrap().forget();
                "registered"
            })
        };
        let router = Router::new().route("/cloud/executor/{id}/register", register);
        let server = patient(LONG, Crowd::strict(1), router).await;
        let first = TcpStream::connect(server.address()).await.unwrap();
        let ask = "POST /cloud/executor/x/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let guests = PATIENT.connections / GUESTS_SHARE;
        let ask_all = |count| futures_util::future::join_all((0..count).map(|_| exchange(&server, ask)));
        let later = async {
            // All slots for guests are in use by those that have spoken.
            for _ in 0..guests {
                arrivals.recv().await.unwrap();
            }
            let release = async {
                while server.slots.waiting() < guests {
                    tokio::task::yield_now().await;
                }
                go.add_permits(guests);
                for _ in 0..guests {
                    arrivals.recv().await.unwrap();
                    go.add_permits(1);
                }
            };
            tokio::join!(ask_all(guests), release).0
        };
        let (first_ones, later) = tokio::join!(ask_all(guests), later);
        for answer in first_ones.iter().chain(&later) {
            assert!(answer.ends_with("registered"), "{answer}");
        }
        drop(first);
    }

    async fn server(router: Router) -> HttpServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        HttpServer::start_with(LIMITS, listener, door(Proxies::default(), 8, router), Arc::default()).unwrap()
    }

    /// What comes back for `request` until the server closes.
    async fn exchange(server: &HttpServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("an end");
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn accepted_sockets_do_not_wait_for_more_to_send() {
        let (told, mut nodelay) = mpsc::channel(1);
        let upgrade = async |told: mpsc::Sender<bool>, request: Request| {
            let upgraded = hyper::upgrade::on(request);
            // The handle is dropped with the router; the test waits for the word.
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let io = upgraded.await.unwrap().downcast::<TokioIo<Io>>().unwrap().io.into_inner();
                let Io::Tcp(stream) = io else { panic!("{io:?}") };
                told.send(stream.nodelay().unwrap()).await.unwrap();
            });
            tasks.detach_all();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
        };
        let server = server(Router::new().route("/up", get(move |request| upgrade(told.clone(), request)))).await;
        let answer = exchange(&server, UPGRADE).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert_eq!(nodelay.recv().await, Some(true));
    }

    #[tokio::test]
    async fn heads_have_a_size_and_a_deadline() {
        let server = server(Router::new().route("/", get(async || "fine"))).await;
        let large = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(2 * MAX_HEAD));
        assert!(exchange(&server, &large).await.starts_with("HTTP/1.1 431 "));
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert!(exchange(&server, &many).await.starts_with("HTTP/1.1 431 "));
        assert_eq!(exchange(&server, "GET / HTTP/1.1\r\nHost:").await, "", "a slow head is cut");
        let fine = exchange(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            fine.starts_with("HTTP/1.1 200 OK") && fine.ends_with("fine"),
            "and then an idle connection is: {fine}"
        );
    }

    #[tokio::test]
    async fn the_client_behind_a_trusted_proxy_is_who_counts() {
        let who = async |request: Request| request.extensions().get::<Origin>().unwrap().address.to_string();
        let (arrived, mut arrivals) = mpsc::channel(1);
        let hold = move || {
            let arrived = arrived.clone();
            async move {
                arrived.send(()).await.unwrap();
                std::future::pending::<&str>().await
            }
        };
        let router = Router::new().route("/who", get(who)).route("/hold", get(hold));
        let networks = vec!["127.0.0.1/32".parse().unwrap()];
        let proxies = Proxies { networks, header: proxies::ProxyHeader::XForwardedFor };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = HttpServer::start_with(LIMITS, listener, door(proxies, 1, router), Arc::default()).unwrap();
        let ask = |path: &str, client: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {client}\r\n\r\n")
        };
        let answer = exchange(&server, &ask("/who", "9.9.9.9, 192.0.2.1")).await;
        assert!(answer.ends_with("192.0.2.1"), "{answer}");
        let mut holder = TcpStream::connect(server.address()).await.unwrap();
        holder.write_all(ask("/hold", "192.0.2.1").as_bytes()).await.unwrap();
        arrivals.recv().await.unwrap();
        let full = exchange(&server, &ask("/who", "192.0.2.1")).await.to_lowercase();
        assert!(full.starts_with("http/1.1 429 ") && full.contains("retry-after: 5"), "{full}");
        assert!(full.contains("too_many_connections"), "{full}");
        assert!(exchange(&server, &ask("/who", "192.0.2.2")).await.ends_with("192.0.2.2"), "others are served");
        drop(holder);
        while !exchange(&server, &ask("/who", "192.0.2.1")).await.ends_with("192.0.2.1") {}
    }

    #[tokio::test]
    async fn who_names_another_address_without_being_trusted_changes_nothing() {
        let who = async |request: Request| request.extensions().get::<Origin>().unwrap().address.to_string();
        let server = server(Router::new().route("/", get(who))).await;
        let spoofed = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.1\r\n\
                       Forwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n\r\n";
        let answer = exchange(&server, spoofed).await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn another_version_of_http_is_refused_since_no_limit_here_is_for_it() {
        let server = server(Router::new().route("/", get(async || "fine"))).await;
        let answer = exchange(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert_eq!(answer, "", "it is closed without a word");
    }

    #[tokio::test]
    async fn a_client_that_takes_no_answer_is_cut_and_an_upgraded_one_is_not() {
        let echo = async |request: Request| {
            let upgraded = hyper::upgrade::on(request);
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let io = upgraded.await.unwrap().downcast::<TokioIo<Io>>().unwrap().io.into_inner();
                let (mut reader, mut writer) = tokio::io::split(io);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            tasks.detach_all();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
        };
        let server = server(Router::new().route("/up", get(echo))).await;
        let mut upgraded = TcpStream::connect(server.address()).await.unwrap();
        upgraded.write_all(UPGRADE.as_bytes()).await.unwrap();
        let mut byte = [0];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            upgraded.read_exact(&mut byte).await.unwrap();
            head.push(byte[0]);
        }
        let requests = "GET /nope HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
        let deaf = async {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            while stream.write_all(requests.as_bytes()).await.is_ok() {}
        };
        tokio::time::timeout(Duration::from_secs(30), deaf).await.expect("it is cut");
        upgraded.write_all(b"!").await.unwrap();
        upgraded.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"!");
    }

    /// An answer of `number` pieces of `size` bytes, each a while after the one before.
    fn pieces(number: usize, size: usize, pause: Duration) -> Response<Body> {
        let pieces = futures_util::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(pause).await;
            (sent < number).then(|| (Ok::<_, io::Error>(vec![b'.'; size]), sent + 1))
        });
        Response::new(Body::from_stream(pieces))
    }

    #[tokio::test]
    async fn an_answer_that_goes_on_is_cut_only_if_nobody_takes_it() {
        let slow = get(async || pieces(6, 1, LIMITS.turn / 2));
        let held = Arc::new(());
        let sent = Arc::downgrade(&held);
        let held = Arc::new(std::sync::Mutex::new(Some(held)));
        let endless = get(async move || {
            let held = held.lock().unwrap().take();
            let pieces = futures_util::stream::repeat_with(move || {
                let _held = &held;
                Ok::<_, io::Error>(vec![b'.'; 1 << 20])
            });
            Response::new(Body::from_stream(pieces))
        });
        let server = server(Router::new().route("/slow", slow).route("/endless", endless)).await;
        let answer = exchange(&server, &ask("/slow")).await;
        assert_eq!(answer.matches("\r\n.\r\n").count(), 6, "{answer}");
        let mut deaf = TcpStream::connect(server.address()).await.unwrap();
        deaf.write_all(ask("/endless").as_bytes()).await.unwrap();
        let cut = async {
            while sent.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), cut).await.expect("it is cut");
    }

    #[tokio::test]
    async fn who_was_accepted_before_a_stop_is_served() {
        let server = server(Router::new().route("/", get(async || "fine"))).await;
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        // Accepted, and answered; the second one is still silent.
        exchange(&server, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        server.stop();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("fine"), "{answer:?}");
        server.shutdown().await;
    }

    #[tokio::test]
    async fn a_stop_lets_a_request_end_and_accepts_no_more() {
        let (began, mut begun) = mpsc::channel(1);
        let (finish, finished) = tokio::sync::watch::channel(false);
        let slow = move || {
            let (began, mut finished) = (began.clone(), finished.clone());
            async move {
                began.send(()).await.unwrap();
                finished.wait_for(|done| *done).await.unwrap();
                "done"
            }
        };
        let server = server(Router::new().route("/", get(slow))).await;
        let address = server.address();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        begun.recv().await.unwrap();
        let client = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            finish.send_replace(true);
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(server.shutdown(), client);
        assert!(answer.ends_with("done"), "{answer}");
    }
}
