//! The hold of one connection on one session: taken by opening or resuming, given back exactly once, by being dropped.
//!
//! In flow a session id or none, out flows an [`Attachment`]. It knows nothing of messages.

use std::sync::Arc;
use std::time::Duration;

use exedra_proto::ids::SessionId;
use tokio::time::{Instant, timeout_at};

use super::store::{Session, Sessions};
use super::table::{ConnectionId, Refusal};

/// How long a resumption waits for a connection that may have ended already: a client that has just lost one can be
/// back before the news of it.
const HANDOVER: Duration = Duration::from_millis(100);

/// The hold of a connection on a session.
#[derive(Debug)]
pub struct Attachment {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    connection: ConnectionId,
}

impl Attachment {
    /// On a new session.
    ///
    /// # Errors
    /// There are too many, or the executor is shutting down.
    pub fn create(sessions: &Arc<Sessions>, connection: ConnectionId) -> Result<Self, Refusal> {
        let session = sessions.create(connection)?;
        tracing::info!(session = %session.id, "session created");
        Ok(Self { sessions: Arc::clone(sessions), session, connection })
    }

    /// On a detached session.
    ///
    /// # Errors
    /// There is none of that id, or another connection holds it and keeps it.
    pub async fn resume(sessions: &Arc<Sessions>, id: &SessionId, connection: ConnectionId) -> Result<Self, Refusal> {
        let deadline = Instant::now() + HANDOVER;
        loop {
            let mut detached = std::pin::pin!(sessions.detachments().notified());
            detached.as_mut().enable();
            match sessions.resume(id, connection) {
                Ok(session) => {
                    tracing::info!(session = %session.id, "session resumed");
                    return Ok(Self { sessions: Arc::clone(sessions), session, connection });
                }
                Err(Refusal::Attached(_)) if timeout_at(deadline, detached).await.is_ok() => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether the connection still holds it.
    pub fn is_current(&self) -> bool {
        self.sessions.holds(&self.session, self.connection)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.sessions.detach(&self.session, self.connection);
    }
}
