//! One attempt of the daemon: register, unless a registration stands, dial, serve.
//!
//! In flow a checked registration and the executor; the registry's reply says what the websocket carries. Out flow how it ended, for the judge, and why, for the log. It neither
//! waits nor repeats. No text here holds a token or a ticket.

use std::sync::Arc;
use std::time::Duration;

use exedra_link::Connection;
use exedra_link::carrier::Carrier;
use exedra_link::dial::registry::Registration;
use exedra_link::dial::rendezvous;
use exedra_link::error::Class;
use exedra_link::ws::DialOptions;
use exedra_proto::close::CloseReason;
use exedra_proto::registry::{RegisterReply, Transport};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::event::{Event, Watch};
use super::pair;
use super::renewal::Renewal;
use super::standing::Standing;
use super::streams;
use super::verdict::{Ending, Outcome};
use crate::executor::Executor;
use crate::serve::{End, Served};

/// What an attempt works with.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Whom to serve with.
    pub executor: &'a Arc<Executor>,
    /// How to dial the rendezvous.
    pub dial: &'a DialOptions,
    /// Ends it: a connection is closed in good order.
    pub cancel: &'a CancellationToken,
}

/// A websocket that was opened.
#[derive(Debug)]
struct Opened {
    carrier: Carrier,
    websocket: Connection,
    /// Its server says who clients are.
    told: bool,
}

/// How an attempt ended, in words too.
#[derive(Debug)]
pub struct Ended {
    /// For the judge.
    pub outcome: Outcome,
    /// For people.
    pub text: String,
    /// What can be done about it.
    pub hint: Option<&'static str>,
}

impl Attempt<'_> {
    /// Runs it; none if it was cancelled.
    pub async fn run(
        &self,
        registration: &mut Registration,
        standing: &mut Standing,
        renewal: &mut Renewal,
        watch: &mut Watch<'_>,
    ) -> Option<Ended> {
        let opened = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return None,
            opened = self.open(registration, standing, renewal, watch) => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(ended) => return Some(ended),
        };
        watch(Event::Connected);
        self.serve(opened, registration, standing, renewal).await
    }

    /// Opens the rendezvous's websocket.
    async fn open(
        &self,
        registration: &mut Registration,
        standing: &mut Standing,
        renewal: &mut Renewal,
        watch: &mut Watch<'_>,
    ) -> Result<Opened, Ended> {
        let reply = match standing.current() {
            Some(reply) => reply.clone(),
            None => {
                let reply = register(registration, renewal).await?;
                tracing::info!(id = %reply.id, executor = %reply.executor_id, transport = reply.transport.name(), "registered");
                watch(Event::registered(&reply.id, &reply.executor_id));
                reply
            }
        };
        let carrier = Carrier::of(reply.transport).ok_or_else(|| unspoken(reply.transport))?;
        standing.registered(&reply);
        let joined = rendezvous::join_asking(&reply.url, &carrier.dial_options(self.dial.clone())).await;
        let (websocket, told) = joined.map_err(|error| {
            standing.undialled(error.is_stale_ticket());
            let outcome = Outcome::Undialled { retry_after: error.retry_after() };
            Ended { outcome, text: error.to_string(), hint: error.hint() }
        })?;
        tracing::debug!(told, "connected; told says whether the server tells who clients are");
        Ok(Opened { carrier, websocket, told })
    }

    /// In a task of its own: a mistake of ours must not end the daemon.
    async fn serve(
        &self,
        opened: Opened,
        registration: &mut Registration,
        standing: &mut Standing,
        renewal: &mut Renewal,
    ) -> Option<Ended> {
        let Opened { carrier, websocket, told } = opened;
        let (executor, cancel) = (Arc::clone(self.executor), self.cancel.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            match carrier {
                Carrier::Plain => pair::serve(&executor, websocket, told, &cancel).await,
                Carrier::Relay => streams::serve(executor, websocket, told, &cancel).await,
            }
        });
        let ended_task = loop {
            tokio::select! {
                biased;
                ended = task.join_next() => break ended,
                // One that is not kept is made anew with each connection.
                reply = renew(registration, renewal), if standing.current().is_some() => standing.registered(&reply),
            }
        };
        match ended_task {
            Some(Ok(served)) => {
                if let End::Disconnected(disconnect) = &served.end {
                    standing.served(served.opened, served.lasted, disconnect.reason());
                }
                ended(&served)
            }
            _ => Some(Ended {
                outcome: Outcome::Served { opened: false, lasted: Duration::ZERO, ending: Ending::Other },
                text: "internal error while serving the connection".to_owned(),
                hint: None,
            }),
        }
    }
}

async fn register(registration: &mut Registration, renewal: &mut Renewal) -> Result<RegisterReply, Ended> {
    let result = async {
        // The source may hold a newer token than at the last attempt.
        registration.set_bearer(&renewal.show()?)?;
        registration.register().await
    };
    result.await.map_err(|error| Ended {
        outcome: Outcome::Unregistered { class: error.class(), retry_after: error.retry_after() },
        text: chain(&error),
        hint: error.hint(),
    })
}

/// Registers with the next token once there is one; the same instance has the same registration. One that the registry does not
/// take is shown again when the connection ends, with all that follows from it.
async fn renew(registration: &mut Registration, renewal: &mut Renewal) -> RegisterReply {
    loop {
        let token = renewal.due().await;
        let result = async {
            registration.set_bearer(&token)?;
            registration.register().await
        };
        match result.await {
            Ok(reply) => {
                tracing::info!(id = %reply.id, "registered with the next token");
                renewal.seen(token);
                return reply;
            }
            Err(error) if error.class() == Class::Retry => {
                tracing::debug!(%error, "not registered with the next token; it is tried again");
            }
            Err(error) => {
                tracing::warn!(%error, hint = error.hint(), "the next token is not taken");
                renewal.seen(token);
            }
        }
    }
}

/// The registry chose what we do not speak.
fn unspoken(transport: Transport) -> Ended {
    Ended {
        outcome: Outcome::Unregistered { class: Class::Retry, retry_after: None },
        text: format!("the registry chose the transport `{}`, which this version does not speak", transport.name()),
        hint: Some("the registry has to offer `relay` or `direct`, or a newer version of Exedra is needed here"),
    }
}

/// An error and what is behind it, down to the first cause; what a text has said already is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn ended(served: &Served) -> Option<Ended> {
    let (ending, hint) = match &served.end {
        End::Shutdown => return None,
        End::Superseded => (Ending::Other, None),
        End::Disconnected(disconnect) => {
            let ending = match disconnect.reason() {
                Some(reason) if reason.is_good_order() => Ending::GoodOrder,
                Some(CloseReason::Replaced) => Ending::Replaced,
                _ => Ending::Other,
            };
            (ending, disconnect.hint())
        }
    };
    let Served { opened, lasted, .. } = *served;
    let outcome = Outcome::Served { opened, lasted, ending };
    Some(Ended { outcome, text: served.end.to_string(), hint })
}
