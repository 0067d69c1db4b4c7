//! The handle to an executor: a session on a connection, from which processes, files and requests are had.
//!
//! In flows a connection, out flow typed handles. It owns the task that distributes events; when it is dropped the
//! connection is gone, and what runs there belongs to a detached session until that expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exedra_link::connection::Connection;
use exedra_link::error::Disconnect;
use exedra_proto::capability::{DiscoverParams, Findings, Root};
use exedra_proto::close::CloseReason;
use exedra_proto::environment::{ConfigReadParams, ConfigReadResult, EnvironmentInfo, NoParams, Status};
use exedra_proto::ids::{ProcessId, SessionId};
use exedra_proto::method::{self, Method, ProcessList};
use exedra_proto::process::{ListParams, ListedProcess};
use exedra_proto::session::ExedraOne;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::fetch::{self, Request, Response, Streaming};
use crate::files::Files;
use crate::line::{Changes, Line, Up};
use crate::opening::{Introduction, Opened, SESSION_TIMEOUT};
use crate::process::{Command, Process};
use crate::recover::{Keeper, Recovery};
use crate::routes::Routes;

/// An executor with a session of ours.
#[derive(Debug)]
pub struct Executor {
    line: Line,
    session: SessionId,
    extension: ExedraOne,
    routes: Arc<Routes>,
    last_id: AtomicU64,
    #[expect(dead_code, reason = "held for its drop, which aborts the task that distributes events")]
    tasks: JoinSet<()>,
}

impl Executor {
    /// Opens a session on `connection`; `name` tells the executor who calls. If the connection is lost, it is the only one.
    ///
    /// # Errors
    /// There is no session, and nothing was done.
    pub async fn open(connection: Connection, name: &str) -> Result<Self, Error> {
        Self::open_with(connection, name, Some(ExedraOne::SUPPORTED), None).await
    }

    /// Opens a session on `connection` and offers `offer`, or nothing, as stock does. If the connection is lost, another is
    /// had by `recovery` and the session goes on there.
    ///
    /// # Errors
    /// There is no session, and nothing was done.
    pub async fn open_with(
        connection: Connection,
        name: &str,
        offer: Option<ExedraOne>,
        recovery: Option<Recovery>,
    ) -> Result<Self, Error> {
        let introduction = Introduction { name: name.to_owned(), offer };
        let opened = introduction.open(connection, None, SESSION_TIMEOUT).await?;
        Ok(Self::with_session(opened, introduction, recovery))
    }

    fn with_session(opened: Opened, introduction: Introduction, recovery: Option<Recovery>) -> Self {
        let Opened { session, extension, paths, client, events } = opened;
        let up = Up { client, extension, number: 0 };
        let (line, state) = Line::new(up.clone(), recovery.is_some(), paths);
        let routes = Arc::new(Routes::default());
        let keeper = Keeper { state, routes: Arc::clone(&routes), session: session.clone(), introduction, recovery };
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run(up, events));
        Self { line, session, extension, routes, last_id: AtomicU64::new(0), tasks }
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// What both ends could do beyond stock on the first connection.
    pub fn extension(&self) -> ExedraOne {
        self.extension
    }

    /// Starts a process.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::NotSent`] if it does not run, [`Error::Unanswered`] if that is not known.
    pub async fn start(&self, command: &Command) -> Result<Process, Error> {
        let id = ProcessId::new(self.next_id());
        Process::start(&self.line, &self.routes, id, command).await
    }

    /// The processes of the session that are running or still known, in order of their start.
    ///
    /// # Errors
    /// [`Error::Lacking`] if the executor cannot, or the connection was lost.
    pub async fn list(&self) -> Result<Vec<ListedProcess>, Error> {
        if !self.extension.list {
            return Err(Error::Lacking(ProcessList::NAME));
        }
        Ok(self.line.repeat::<ProcessList>(&ListParams {}).await?.processes)
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
        self.line.repeat::<M>(params).await
    }

    /// Its files.
    pub fn files(&self) -> Files {
        Files::new(self.line.clone(), Arc::clone(&self.routes))
    }

    /// Performs an HTTP request from there and waits for the whole response.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch(&self, request: &Request) -> Result<Response, Error> {
        fetch::whole(&self.line, self.next_id(), request).await
    }

    /// Performs an HTTP request from there; the body comes piece by piece.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_streaming(&self, request: &Request) -> Result<Streaming, Error> {
        fetch::streaming(&self.line, &self.routes, self.next_id(), request).await
    }

    /// Waits until there is no connection any more, and none is sought.
    pub async fn finished(&self) -> Disconnect {
        self.line.ended().await
    }

    /// Word of what becomes of the connection from now on, for people.
    pub fn changes(&self) -> Changes {
        self.line.changes()
    }

    /// Ends the connection in good order, so that the executor is free at once for the next client.
    pub async fn close(self) -> Disconnect {
        let Some(up) = self.line.now() else { return Disconnect::Dropped };
        up.client.close(CloseReason::PeerDone);
        up.client.finished().await
    }

    fn next_id(&self) -> String {
        (self.last_id.fetch_add(1, Ordering::Relaxed) + 1).to_string()
    }
}
