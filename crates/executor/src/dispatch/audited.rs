//! A job with a witness: what it is about to do is written down before, and its refusal afterwards; what the owner's policy
//! or the client's token does not allow is in the log, too.
//!
//! In flow a job and a [`Witness`], out flows a job. It knows no method: what one does is for `audit::intent`.

use exedra_proto::envelope::{self, RequestId, RpcError};
use exedra_proto::ids::SessionId;
use exedra_proto::method::{Initialize, Method as _, Request};

use super::errors;
use super::reply::refusal;
use super::rights::RIGHTS;
use super::route::{Job, Served};
use crate::audit::{Audit, By, Record};
use crate::peer::Peer;
use crate::session::Session;
use crate::session::table::ConnectionId;

/// Of the text of a refusal, so many bytes are written down.
const MAX_MESSAGE: usize = 4096;
/// What the texts of refusals by the owner's policy begin with.
const POLICY: &str = "policy:";

/// Who asked for what.
#[derive(Clone, Debug)]
pub struct Witness {
    audit: Option<Audit>,
    peer: Peer,
    by: By,
    method: &'static str,
    intent: Option<Record>,
}

impl Witness {
    /// Of request `id` of `peer` on `connection`, which holds `session`.
    pub fn new(
        audit: Option<&Audit>,
        session: &Session,
        (peer, connection): (Peer, ConnectionId),
        id: &RequestId,
        request: &Request,
    ) -> Self {
        let by = By::request(session.id.clone(), connection.0, id);
        let intent = audit.and_then(|audit| audit.intent(request, by.clone()));
        Self { audit: audit.cloned(), peer, by, method: request.row().name, intent }
    }

    /// Of an `initialize` that comes to no session.
    pub fn at_the_door(audit: Option<&Audit>, (peer, connection): (Peer, ConnectionId), id: &RequestId) -> Self {
        let by = By::request(SessionId::new(""), connection.0, id);
        Self { audit: audit.cloned(), peer, by, method: Initialize::NAME, intent: None }
    }

    /// Tells of a refusal: the log if it is the owner's policy's, and the audit.
    pub fn refused(self, error: RpcError) {
        let Self { audit, peer, by, method, .. } = self;
        if error.message.starts_with(RIGHTS) {
            tracing::warn!(%peer, session = %by.session, method, refusal = ?error.message, "refused for want of a right");
        } else if error.message.starts_with(POLICY) {
            tracing::warn!(%peer, session = %by.session, method, refusal = ?error.message, "refused by the owner's policy");
        } else if method == Initialize::NAME {
            tracing::warn!(%peer, code = error.code, refusal = ?cut(error.message.clone()), "no session");
        }
        if let Some(audit) = audit {
            audit.tell(Record::Refused { by, method, code: error.code, message: cut(error.message) });
        }
    }
}

/// `text` as far as it is kept: it may repeat what the client sent.
fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        text.push('…');
    }
    text
}

/// `job`, seen by `witness`.
pub fn audited(job: Job, id: RequestId, mut witness: Witness) -> Job {
    let Job { class, starts, work } = job;
    let work = async move {
        let intent = witness.intent.take();
        let acts = intent.is_some();
        match (intent, &witness.audit) {
            // Whatever runs can be ended, written down or not.
            (Some(intent @ Record::Signal { .. }), Some(audit)) => audit.ending(intent).await,
            (Some(intent), Some(audit)) => {
                if let Err(error) = audit.before(intent).await {
                    return Served::small(refusal(&id, &errors::unwritable(&error)));
                }
            }
            _ => {}
        }
        let served = work.await;
        // Whatever looks and is not allowed is told too; other failures of looks are everyday.
        let is_forbidden = |text: &str| text.starts_with(POLICY) || text.starts_with(RIGHTS);
        if let Some(error) =
            failure(served.answer.as_text().unwrap_or_default()).filter(|error| acts || is_forbidden(&error.message))
        {
            witness.refused(error);
        }
        served
    };
    Job { class, starts, work: Box::pin(work) }
}

fn failure(text: &str) -> Option<RpcError> {
    // Errors are written with this member first; anything else need not be parsed.
    if !text.starts_with(r#"{"error""#) {
        return None;
    }
    match envelope::parse(text) {
        Ok(envelope::Message::Error { error, .. }) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_result() {
        let error = RpcError::new(-32600, "no");
        assert_eq!(failure(&refusal(&RequestId::Integer(1), &error)), Some(error));
        assert_eq!(failure(&envelope::response(&RequestId::Integer(1), &1).unwrap()), None);
    }
}
