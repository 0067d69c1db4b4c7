//! A job with a witness: what it is about to do is written down before, and its refusal afterwards.
//!
//! In flow a job and a [`Witness`], out flows a job. It knows no method: what one does is for `audit::intent`.

use exedra_proto::envelope::{self, RequestId, RpcError};
use exedra_proto::method::Request;

use super::errors;
use super::reply::refusal;
use super::route::{Job, Served};
use crate::audit::{Audit, By, Record};
use crate::session::Session;
use crate::session::table::ConnectionId;

/// What the texts of refusals by the owner's policy begin with.
const POLICY: &str = "policy:";

/// Who asked for what.
#[derive(Clone, Debug)]
pub struct Witness {
    audit: Audit,
    by: By,
    method: &'static str,
    intent: Option<Record>,
}

impl Witness {
    /// Of request `id` on `connection`, which holds `session`.
    pub fn new(audit: &Audit, session: &Session, connection: ConnectionId, id: &RequestId, request: &Request) -> Self {
        let by = By::request(session.id.clone(), connection.0, id);
        let intent = audit.intent(request, by.clone());
        Self { audit: audit.clone(), by, method: request.row().name, intent }
    }

    fn refused(self, error: RpcError) {
        let Self { audit, by, method, .. } = self;
        audit.tell(Record::Refused { by, method, code: error.code, message: error.message });
    }
}

/// `job`, seen by `witness`.
pub fn audited(job: Job, id: RequestId, mut witness: Witness) -> Job {
    let Job { class, starts, work } = job;
    let work = async move {
        let intent = witness.intent.take();
        let acts = intent.is_some();
        if let Some(intent) = intent
            && let Err(error) = witness.audit.before(intent).await
        {
            return Served::small(refusal(&id, &errors::unwritable(&error)));
        }
        let served = work.await;
        // Whatever looks and is refused by the owner's policy is told too; other failures of looks are everyday.
        if let Some(error) = failure(&served.text).filter(|error| acts || error.message.starts_with(POLICY)) {
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
