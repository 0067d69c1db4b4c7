//! A rendezvous's websocket with many clients in it: each stream is served as a connection of its own.
//!
//! In flows the websocket, out flows how it went, all clients together. Their sessions are shared with all other
//! connections of the executor; when the websocket ends, all of them are detached.

use std::sync::Arc;
use std::time::Instant;

use exedra_link::Connection;
use exedra_link::carrier::{Accepted, Streams};
use exedra_proto::close::CloseReason;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::peer::{Client, Peer};
use crate::serve::{End, Served};

/// Serves every client until the websocket ends, or until `cancel`. `told`: the server introduces each.
pub async fn serve(executor: Arc<Executor>, websocket: Connection, told: bool, cancel: &CancellationToken) -> Served {
    let started = Instant::now();
    let mut streams = Streams::accept(websocket, told);
    let mut clients = JoinSet::new();
    let mut tally = Tally::default();
    let end = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break End::Shutdown,
            Some(client) = clients.join_next() => tally.add(client.ok()),
            accepted = streams.next() => match accepted {
                Ok(Accepted { id, connection, introduction }) => {
                    tally.clients += 1;
                    let peer = Peer::Stream(tally.clients);
                    tracing::debug!(%peer, stream = %id, "a client came");
                    let (executor, cancel) = (Arc::clone(&executor), cancel.clone());
                    let client = introduction.map(Client::from).unwrap_or_default();
                    clients.spawn(async move { executor.serve_client(connection, peer, client, &cancel).await });
                }
                Err(disconnect) => break End::Disconnected(disconnect),
            },
        }
    };
    // Their connections have ended with the websocket, or end now.
    while let Some(client) = clients.join_next().await {
        tally.add(client.ok());
    }
    if end == End::Shutdown {
        streams.shutdown(CloseReason::GoingAway).await;
    }
    Served { end, spoke: tally.clients > 0, opened: tally.opened, lasted: started.elapsed() }
}

/// What all clients of a websocket come to.
#[derive(Debug, Default)]
struct Tally {
    clients: u64,
    opened: bool,
}

impl Tally {
    fn add(&mut self, client: Option<Served>) {
        match client {
            Some(served) => self.opened |= served.opened,
            None => tracing::error!("internal error while serving a client; the others are not concerned"),
        }
    }
}
