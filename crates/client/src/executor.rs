//! The handle to an executor: a session on a connection, from which processes, files and requests are had.
//!
//! In flows a connection, out flow typed handles. It owns the task that distributes events; when it is dropped the
//! connection is gone, and what runs there belongs to a detached session until that expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exedra_link::connection::Connection;
use exedra_link::error::Disconnect;
use exedra_link::peer::{CallError, Client};
use exedra_proto::capability::{DiscoverParams, Findings, Root};
use exedra_proto::close::CloseReason;
use exedra_proto::environment::{ConfigReadParams, ConfigReadResult, EnvironmentInfo, NoParams, Status};
use exedra_proto::ids::{ProcessId, SessionId};
use exedra_proto::method::{self, INITIALIZED, Initialize, Method, ProcessList};
use exedra_proto::process::{ListParams, ListedProcess};
use exedra_proto::session::{ExedraOne, Extensions, InitializeParams};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::fetch::{self, Request, Response, Streaming};
use crate::files::Files;
use crate::process::{Command, Process};
use crate::routes::Routes;

/// How long an executor may take to open a session.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// An executor with a session of ours.
#[derive(Debug)]
pub struct Executor {
    client: Client,
    session: SessionId,
    extension: ExedraOne,
    routes: Arc<Routes>,
    last_id: AtomicU64,
    #[expect(dead_code, reason = "held for its drop, which aborts the task that distributes events")]
    tasks: JoinSet<()>,
}

impl Executor {
    /// Opens a session on `connection`; `name` tells the executor who calls.
    ///
    /// # Errors
    /// There is no session, and nothing was done.
    pub async fn open(connection: Connection, name: &str) -> Result<Self, Error> {
        Self::open_within(SESSION_TIMEOUT, connection, name).await
    }

    async fn open_within(limit: Duration, connection: Connection, name: &str) -> Result<Self, Error> {
        let (client, events) = Client::start(connection);
        let params = InitializeParams {
            client_name: name.to_owned(),
            resume_session_id: None,
            extensions: Some(Extensions { exedra_1: Some(ExedraOne::SUPPORTED) }),
        };
        let answer = tokio::time::timeout(limit, client.call::<Initialize>(&params)).await;
        let result = answer.map_err(|_| Error::NoSession(limit))?.map_err(no_session)?;
        client.notify(INITIALIZED).await.map_err(Error::LostBeforeSession)?;
        let offered = result.extensions.and_then(|extensions| extensions.exedra_1).unwrap_or_default();
        let routes = Arc::new(Routes::default());
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (routes, client) = (Arc::clone(&routes), client.clone());
            async move { routes.run(events, client).await }
        });
        let extension = ExedraOne::SUPPORTED.and(offered);
        Ok(Self { client, session: result.session_id, extension, routes, last_id: AtomicU64::new(0), tasks })
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// What both ends can do beyond stock.
    pub fn extension(&self) -> ExedraOne {
        self.extension
    }

    /// Starts a process.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::NotSent`] if it does not run, [`Error::Unanswered`] if that is not known.
    pub async fn start(&self, command: &Command) -> Result<Process, Error> {
        let id = ProcessId::new(self.next_id());
        Process::start(&self.client, &self.routes, id, self.extension, command).await
    }

    /// The processes of the session that are running or still known, in order of their start.
    ///
    /// # Errors
    /// [`Error::Lacking`] if the executor cannot, or the connection was lost.
    pub async fn list(&self) -> Result<Vec<ListedProcess>, Error> {
        if !self.extension.list {
            return Err(Error::Lacking(ProcessList::NAME));
        }
        match self.client.call::<ProcessList>(&ListParams {}).await {
            Ok(result) => Ok(result.processes),
            Err(error) => Err(Error::of_call(ProcessList::NAME, error)),
        }
    }

    /// What kind of machine it is; stock executors tell since 0.142.
    ///
    /// # Errors
    /// See [`Error`]; this holds for all that follow.
    pub async fn info(&self) -> Result<EnvironmentInfo, Error> {
        self.call::<method::EnvironmentInfo>(&NoParams).await
    }

    /// How it is; since 0.145.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status, Error> {
        Ok(self.call::<method::EnvironmentStatus>(&NoParams).await?.status)
    }

    /// Settings that it keeps for its clients; since 0.155.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn settings(&self, wanted: &ConfigReadParams) -> Result<ConfigReadResult, Error> {
        self.call::<method::EnvironmentConfigRead>(wanted).await
    }

    /// Plugins and skills below directories of it; since 0.145.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn discover(&self, roots: Vec<Root>) -> Result<Vec<Findings>, Error> {
        Ok(self.call::<method::CapabilityRootsDiscover>(&DiscoverParams { roots }).await?.roots)
    }

    async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, Error> {
        self.client.call::<M>(params).await.map_err(|error| Error::of_call(M::NAME, error))
    }

    /// Its files.
    pub fn files(&self) -> Files {
        Files::new(self.client.clone(), Arc::clone(&self.routes))
    }

    /// Performs an HTTP request from there and waits for the whole response.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch(&self, request: &Request) -> Result<Response, Error> {
        fetch::whole(&self.client, self.next_id(), request).await
    }

    /// Performs an HTTP request from there; the body comes piece by piece.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_streaming(&self, request: &Request) -> Result<Streaming, Error> {
        fetch::streaming(&self.client, &self.routes, self.next_id(), request).await
    }

    /// Waits until the connection has ended by itself.
    pub async fn finished(&self) -> Disconnect {
        self.client.finished().await
    }

    /// Ends the connection in good order, so that the executor is free at once for the next client.
    pub async fn close(self) -> Disconnect {
        self.client.close(CloseReason::PeerDone);
        self.client.finished().await
    }

    fn next_id(&self) -> String {
        (self.last_id.fetch_add(1, Ordering::Relaxed) + 1).to_string()
    }
}

fn no_session(error: CallError) -> Error {
    match error {
        CallError::Rpc(error) => Error::SessionRefused(error),
        CallError::Disconnected { reason, .. } => Error::LostBeforeSession(reason),
        other => Error::Protocol(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_never_answers_is_given_up() {
        let (ours, _theirs) = exedra_link::memory::pair();
        let opened = Executor::open_within(Duration::from_millis(20), ours, "test").await;
        assert!(matches!(opened, Err(Error::NoSession(_))));
    }
}
