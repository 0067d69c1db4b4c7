//! A rendezvous's websocket with one client in it, of whom the server says first who it is, where it was asked to.
//!
//! In flows the websocket, out flows how it went. The first message is the server's, and what comes after it the client's;
//! without a first message that says who comes nobody is served.

use std::time::Instant;

use exedra_link::{Connection, Disconnect};
use exedra_proto::close::CloseReason;
use exedra_proto::introduction::Introduction;
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::peer::{Client, Peer};
use crate::serve::{End, Served};

/// Serves the one client until the websocket ends, or until `cancel`. `told`: the server introduces it.
pub async fn serve(executor: &Executor, mut websocket: Connection, told: bool, cancel: &CancellationToken) -> Served {
    if !told {
        return executor.serve(websocket, Peer::Rendezvous, cancel).await;
    }
    let started = Instant::now();
    let first = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(End::Shutdown),
        first = websocket.receiver.recv() => first.map_err(End::Disconnected),
    };
    let introduced = first.map(|message| message.as_text().ok().and_then(|text| Introduction::decode(text).ok()));
    let end = match introduced {
        Ok(Some(introduction)) => {
            let client = Client::from(introduction);
            let served = executor.serve_client(websocket, Peer::Rendezvous, client, cancel).await;
            return Served { lasted: started.elapsed(), ..served };
        }
        Ok(None) => {
            tracing::error!("the server did not say who the client is, as it had promised; nobody is served");
            websocket.shutdown(CloseReason::ProtocolError).await;
            End::Disconnected(Disconnect::Protocol("the server did not say who the client is".to_owned()))
        }
        Err(end) => {
            if end == End::Shutdown {
                websocket.shutdown(CloseReason::GoingAway).await;
            }
            end
        }
    };
    Served { end, spoke: false, opened: false, lasted: started.elapsed() }
}
