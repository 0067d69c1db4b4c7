//! Opens a session on a connection, or resumes one.
//!
//! In flows a connection, out flow the calls and events on it and what both ends can do.

use std::time::Duration;

use exedra_link::connection::Connection;
use exedra_link::peer::{CallError, Client, Events};
use exedra_proto::environment::{EnvironmentInfo, NoParams};
use exedra_proto::ids::SessionId;
use exedra_proto::method::{self, INITIALIZED, Initialize};
use exedra_proto::session::{ExedraOne, Extensions, InitializeParams};

use crate::error::Error;
use crate::paths::Paths;

/// How long an executor may take to open a session.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Who we say we are, and what we can.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    /// Who calls.
    pub(crate) name: String,
    /// What is offered; nothing is offered as stock does it.
    pub(crate) offer: Option<ExedraOne>,
}

/// An open session.
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    pub(crate) extension: ExedraOne,
    /// How it reads paths. Not looked for where a session is resumed.
    pub(crate) paths: Paths,
    pub(crate) client: Client,
    pub(crate) events: Events,
}

impl Introduction {
    /// Opens a session on `connection`, or resumes the one of that id.
    pub(crate) async fn open(
        &self,
        connection: Connection,
        resume: Option<&SessionId>,
        limit: Duration,
    ) -> Result<Opened, Error> {
        let (client, events) = Client::start(connection);
        let params = InitializeParams {
            client_name: self.name.clone(),
            resume_session_id: resume.cloned(),
            extensions: self.offer.map(|offer| Extensions { exedra_1: Some(offer) }),
        };
        let answer = tokio::time::timeout(limit, client.call::<Initialize>(&params)).await;
        let result = answer.map_err(|_| Error::NoSession(limit))?.map_err(no_session)?;
        client.notify(INITIALIZED).await.map_err(Error::LostBeforeSession)?;
        let agreed = result.extensions.and_then(|extensions| extensions.exedra_1).unwrap_or_default();
        let extension = self.offer.unwrap_or_default().and(agreed);
        let paths = match result.environment_info {
            _ if resume.is_some() || extension != ExedraOne::default() => Paths::Any,
            Some(info) => Paths::Uris { base: info.cwd },
            None => tokio::time::timeout(limit, paths(&client)).await.map_err(|_| Error::NoSession(limit))??,
        };
        Ok(Opened { session: result.session_id, extension, paths, client, events })
    }
}

/// Asks a stock executor that did not say: the method came with URIs.
async fn paths(client: &Client) -> Result<Paths, Error> {
    match client.call::<method::EnvironmentInfo>(&NoParams).await {
        Ok(EnvironmentInfo { cwd, .. }) => Ok(Paths::Uris { base: cwd }),
        Err(CallError::Rpc(_)) => Ok(Paths::Native),
        Err(error) => Err(no_session(error)),
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
        let introduction = Introduction { name: "test".to_owned(), offer: None };
        let opened = introduction.open(ours, None, Duration::from_millis(20)).await;
        assert!(matches!(opened, Err(Error::NoSession(_))));
    }
}
