//! The hold of one connection on one session: taken by opening or resuming, given back exactly once, by being dropped.
//!
//! In flow a session id or none, out flows an [`Attachment`]. A session that another connection holds is had only if that
//! one ends, or gives no sign of life when it is asked. It knows nothing of messages.

use std::sync::Arc;
use std::time::Duration;

use exedra_host::process::Delivery;
use exedra_proto::ids::SessionId;
use tokio::time::{Instant, timeout_at};

use super::holder::Holder;
use super::store::{Session, Sessions};
use super::table::{ConnectionId, Refusal};

/// How long a resumption waits for a connection that may have ended already: a client that has just lost one can be
/// back before the news of it.
const HANDOVER: Duration = Duration::from_millis(100);
/// How long it waits for a connection that was told that it has lost the session: no longer than a task takes to run.
const RELEASE: Duration = Duration::from_secs(2);

/// The hold of a connection on a session.
#[derive(Debug)]
pub struct Attachment {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    connection: ConnectionId,
}

impl Attachment {
    /// On a new session, whose events count as delivered as `how` says.
    ///
    /// # Errors
    /// There are too many, or the executor is shutting down.
    pub fn create(sessions: &Arc<Sessions>, holder: &Holder, how: Delivery) -> Result<Self, Refusal> {
        let session = sessions.create(holder, how)?;
        tracing::info!(session = %session.id, "session created");
        Ok(Self { sessions: Arc::clone(sessions), session, connection: holder.number() })
    }

    /// On a detached session, or on one whose connection turns out to be dead.
    ///
    /// # Errors
    /// There is none of that id, or another connection holds it and keeps it.
    pub async fn resume(
        sessions: &Arc<Sessions>,
        id: &SessionId,
        holder: &Holder,
        how: Delivery,
    ) -> Result<Self, Refusal> {
        match Self::resume_within(HANDOVER, sessions, id, holder, how).await {
            Err(Refusal::Attached(other)) if Self::take_over(sessions, id, other).await => {
                Self::resume_within(RELEASE, sessions, id, holder, how).await
            }
            outcome => outcome,
        }
    }

    async fn resume_within(
        patience: Duration,
        sessions: &Arc<Sessions>,
        id: &SessionId,
        holder: &Holder,
        how: Delivery,
    ) -> Result<Self, Refusal> {
        let deadline = Instant::now() + patience;
        loop {
            let mut detached = std::pin::pin!(sessions.detachments().notified());
            detached.as_mut().enable();
            match sessions.resume(id, holder, how) {
                Ok(session) => {
                    tracing::info!(session = %session.id, "session resumed");
                    return Ok(Self { sessions: Arc::clone(sessions), session, connection: holder.number() });
                }
                Err(Refusal::Attached(_)) if timeout_at(deadline, detached).await.is_ok() => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Whether the connection that holds the session is gone, or is made to go since its client gives no sign of life.
    async fn take_over(sessions: &Sessions, id: &SessionId, connection: ConnectionId) -> bool {
        let Some(holder) = sessions.holder(connection) else { return true };
        if !holder.is_silent(sessions.takeover()).await {
            return false;
        }
        tracing::warn!(session = %id, "the connection that holds the session is silent and loses it to another");
        holder.take_over();
        true
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
