//! One connection from its first message to its end, and what can be said about it afterwards.
//!
//! In flow a connection and what all connections share, out flows a [`Served`]. The loop itself is in `service`; what a
//! message or a method means is not known here.

mod service;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exedra_host::fetch::Fetcher;
use exedra_link::{Connection, Disconnect};
use exedra_proto::close::CloseReason;

use self::service::Service;
use crate::audit::Record;
use crate::dispatch::budget::Pool;
use crate::peer::{Client, Peer};
use crate::session::Sessions;

/// How a connection went.
#[derive(Clone, Debug)]
pub struct Served {
    /// Why it ended.
    pub end: End,
    /// Whether anything came from the client.
    pub spoke: bool,
    /// Whether the client opened or resumed a session.
    pub opened: bool,
    /// How long it lasted.
    pub lasted: Duration,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The link says why.
    Disconnected(Disconnect),
    /// The executor is shutting down.
    Shutdown,
    /// The client gave no sign of life while another connection wanted its session.
    Superseded,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(disconnect) => disconnect.fmt(f),
            Self::Shutdown => f.write_str("the executor is shutting down"),
            Self::Superseded => f.write_str("the client was silent, and another connection took its session"),
        }
    }
}

/// Serves one connection to its end, or until `stop`.
pub(crate) async fn run(
    connection: Connection,
    peer: Peer,
    client: Client,
    sessions: Arc<Sessions>,
    fetcher: Arc<Fetcher>,
    pool: Pool,
    stop: impl Future<Output = ()>,
) -> Served {
    let started = Instant::now();
    let audit = sessions.audit().cloned();
    let mut service = Service::new(connection, (peer, &client), sessions, fetcher, pool);
    let Client { token, name, labels, rights } = client;
    tracing::info!(%peer, token = token.as_ref().map(display), ?name, ?labels, %rights, "connected");
    if let Some(audit) = &audit {
        let connection = service.holder().number().0;
        let rights = token.is_some().then_some(rights);
        audit.tell(Record::Connected { connection, peer: peer.to_string(), token, name, labels, rights });
    }
    let lost = service.holder().lost().clone();
    let end = tokio::select! {
        biased;
        () = stop => End::Shutdown,
        () = lost.cancelled() => End::Superseded,
        disconnect = service.run() => End::Disconnected(disconnect),
    };
    let served = Served { end, spoke: service.has_spoken(), opened: service.has_opened(), lasted: started.elapsed() };
    tracing::info!(%peer, reason = ?served.end.to_string(), "disconnected");
    if let Some(audit) = &audit {
        let (received, sent) = service.traffic();
        let ms = u64::try_from(served.lasted.as_millis()).unwrap_or(u64::MAX);
        let (connection, reason) = (service.holder().number().0, served.end.to_string());
        audit.tell(Record::Disconnected { connection, reason, ms, received, sent });
    }
    // The session is free from here on, whatever the goodbye takes.
    let (sender, mut receiver) = service.detach();
    let goodbye = match served.end {
        End::Shutdown => Some(CloseReason::GoingAway),
        End::Superseded => Some(CloseReason::Silent),
        End::Disconnected(_) => None,
    };
    if let Some(reason) = goodbye {
        sender.close(reason);
        receiver.finished().await;
    }
    served
}
