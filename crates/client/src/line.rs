//! The connection of an executor handle, which after a break may be another: calls go to whichever there is.
//!
//! In flow calls, and from `recover` word of breaks and of new connections; out flow results. A call that was not sent goes
//! to the next connection, one that was sent only if it may be repeated. Knows no process and no file.

use std::fmt;
use std::sync::Arc;

use exedra_link::error::Disconnect;
use exedra_link::peer::{CallError, Client, Reply};
use exedra_proto::base64::Base64Text;
use exedra_proto::fs::{WriteBlockHead, WriteBlockParams};
use exedra_proto::method::{FsWriteBlock, Method};
use exedra_proto::session::ExedraOne;
use serde::Serialize;
use tokio::sync::watch;

use crate::error::{Error, Loss};
use crate::paths::Paths;

/// A connection with the session on it.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    /// Calls on it.
    pub(crate) client: Client,
    /// What both ends can do on it.
    pub(crate) extension: ExedraOne,
    /// How many connections the session had before.
    pub(crate) number: u64,
}

/// How it stands with the connection.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// There is one.
    Up(Up),
    /// It was lost, and another is sought.
    Down(Disconnect),
    /// There will be none any more.
    Ended(Loss),
}

/// A handle on whichever connection there is; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    state: watch::Receiver<State>,
    mends: bool,
    paths: Arc<Paths>,
}

/// What became of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was lost; another is sought.
    Lost(Disconnect),
    /// There is another, with the same session.
    Resumed,
}

/// Word of breaks, for people.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<State>);

impl Line {
    /// A line that begins with `up`; with `mends` somebody seeks another connection after a break. Also where to say so.
    pub(crate) fn new(up: Up, mends: bool, paths: Paths) -> (Self, watch::Sender<State>) {
        let (tell, state) = watch::channel(State::Up(up));
        (Self { state, mends, paths: Arc::new(paths) }, tell)
    }

    /// Whether a break is mended.
    pub(crate) fn mends(&self) -> bool {
        self.mends
    }

    /// How the executor reads paths.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The connection, if there is one at this moment.
    pub(crate) fn now(&self) -> Option<Up> {
        match &*self.state.borrow() {
            State::Up(up) => Some(up.clone()),
            State::Down(_) | State::Ended(_) => None,
        }
    }

    /// The connection, once there is one.
    pub(crate) async fn up(&self) -> Result<Up, Loss> {
        self.wait(|_| true).await
    }

    /// The connection that follows the one of that number.
    pub(crate) async fn after(&self, number: u64) -> Result<Up, Loss> {
        self.wait(|up| up.number > number).await
    }

    async fn wait(&self, wanted: impl Fn(&Up) -> bool) -> Result<Up, Loss> {
        let mut state = self.state.clone();
        let decided = state.wait_for(|state| match state {
            State::Up(up) => wanted(up),
            State::Down(_) => false,
            State::Ended(_) => true,
        });
        match decided.await.as_deref() {
            Ok(State::Up(up)) => Ok(up.clone()),
            Ok(State::Down(lost)) => Err(Loss::of(lost.clone())),
            Ok(State::Ended(loss)) => Err(loss.clone()),
            // Who would have said so is gone with the executor's handle.
            Err(_) => Err(Loss::of(Disconnect::Dropped)),
        }
    }

    /// Calls a method that must not be done twice.
    pub(crate) async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, Error> {
        self.perform::<M>(params, false).await
    }

    /// Calls a method that may be done twice: it is repeated after a break.
    pub(crate) async fn repeat<M: Method>(&self, params: &M::Params) -> Result<M::Result, Error> {
        self.perform::<M>(params, true).await
    }

    /// Calls a method on the connection of that number, and on no other.
    pub(crate) async fn call_on<M: Method>(&self, number: u64, params: &M::Params) -> Result<M::Result, Error> {
        let up = self.up_on(number, M::NAME).await?;
        up.client.call::<M>(params).await.map_err(|error| Error::of_call(M::NAME, error))
    }

    /// As [`Self::call_on`], for calls or answers that may be binary messages.
    pub(crate) async fn begin_on<P: Serialize>(
        &self,
        number: u64,
        method: &'static str,
        params: &P,
        payload: Option<&[u8]>,
    ) -> Result<Reply, Error> {
        let up = self.up_on(number, method).await?;
        let of_call = |error| Error::of_call(method, error);
        up.client.begin(method, params, payload).await.map_err(of_call)?.reply().await.map_err(of_call)
    }

    /// `fs/writeBlock` on the connection of that number.
    pub(crate) async fn write_block(
        &self,
        number: u64,
        handle_id: String,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let method = FsWriteBlock::NAME;
        if self.up_on(number, method).await?.extension.binary {
            self.begin_on(number, method, &WriteBlockHead { handle_id, offset }, Some(bytes)).await?;
        } else {
            let chunk = Base64Text::encode(bytes).into();
            self.begin_on(number, method, &WriteBlockParams { handle_id, offset, chunk }, None).await?;
        }
        Ok(())
    }

    async fn up_on(&self, number: u64, method: &'static str) -> Result<Up, Error> {
        let up = self.up().await.map_err(|loss| loss.not_sent(method))?;
        if up.number != number {
            return Err(Loss::of(Disconnect::Lost).not_sent(method));
        }
        Ok(up)
    }

    async fn perform<M: Method>(&self, params: &M::Params, repeatable: bool) -> Result<M::Result, Error> {
        let mut up = self.up().await.map_err(|loss| loss.not_sent(M::NAME))?;
        loop {
            let error = match up.client.call::<M>(params).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let again = matches!(error, CallError::Disconnected { was_sent, .. } if repeatable || !was_sent);
            if !again || !self.mends {
                return Err(Error::of_call(M::NAME, error));
            }
            match self.after(up.number).await {
                Ok(next) => up = next,
                Err(_) => return Err(Error::of_call(M::NAME, error)),
            }
        }
    }

    /// Waits until there will be no connection any more.
    pub(crate) async fn ended(&self) -> Disconnect {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, State::Ended(_))).await.as_deref() {
            Ok(State::Ended(loss)) => loss.lost().clone(),
            _ => Disconnect::Dropped,
        }
    }

    /// Word of what becomes of it from now on.
    pub(crate) fn changes(&self) -> Changes {
        let mut state = self.state.clone();
        state.mark_unchanged();
        Changes(state)
    }
}

impl Changes {
    /// The next change; none after the end.
    pub async fn next(&mut self) -> Option<Change> {
        self.0.changed().await.ok()?;
        match &*self.0.borrow_and_update() {
            State::Up(_) => Some(Change::Resumed),
            State::Down(lost) => Some(Change::Lost(lost.clone())),
            State::Ended(_) => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lost) => write!(f, "{lost}; connecting again"),
            Self::Resumed => f.write_str("connected again"),
        }
    }
}
