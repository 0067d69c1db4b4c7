//! Joining, before the first registration: a join token is traded for the executor's own credential.
//!
//! In flow the join token and the credential, which was made and kept before; out flows that the server knows it, which is kept
//! too, or why it will not. The same credential is asked for until there is an answer, and the server takes that for one trade.

use exedra_link::error::{Class, RegisterError};
use exedra_proto::secret::Secret;
use tokio_util::sync::CancellationToken;

use super::attempt::chain;
use super::event::{Event, Watch};
use super::verdict::Decision;
use super::{Daemon, Exit};
use crate::credential::Credential;

/// A trade to be made.
#[derive(Clone, Debug)]
pub struct Join {
    /// The join token.
    pub token: Secret,
    /// What is to become the executor's token.
    pub credential: Credential,
}

impl Daemon {
    /// Trades until it is done, if there is something to be traded; then none, else why the daemon ends.
    pub(super) async fn join(&mut self, cancel: &CancellationToken, watch: &mut Watch<'_>) -> Option<Exit> {
        let Join { token, mut credential } = self.join.take()?;
        let hash = credential.sha256();
        loop {
            let Some(answer) = cancel.run_until_cancelled(self.registration.join(&token, &hash)).await else {
                return Some(Exit::Cancelled);
            };
            let error = match answer {
                Ok(reply) => {
                    self.judge.joined();
                    keep(&mut credential, &reply.token_id);
                    return None;
                }
                Err(error) => error,
            };
            let text = format!("not joined: {}", chain(&error));
            let hint = hint(&error);
            match self.judge.unjoined(class(&error), error.retry_after(), fastrand::f64()) {
                Decision::GiveUp(reason) => return Some(Exit::GaveUp { reason, text, hint }),
                Decision::Retry(pause) => {
                    let again = pause.as_secs_f64();
                    tracing::warn!(hint = hint.unwrap_or_default(), "{text}; next attempt in {again:.1} s");
                    watch(Event::Waiting { pause, reason: text });
                    if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return Some(Exit::Cancelled);
                    }
                }
            }
        }
    }
}

/// Remembers that it is done. If that cannot be written, the next start asks once more, which costs nothing.
fn keep(credential: &mut Credential, token_id: &str) {
    let token: String = token_id.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    tracing::info!(token, file = %credential.path().display(), "joined: this executor has a credential of its own");
    if let Err(error) = credential.joined() {
        tracing::warn!(%error, "it could not be kept that this executor has joined");
    }
}

/// A conflict is about the name, and does not pass.
fn class(error: &RegisterError) -> Class {
    match error {
        RegisterError::Status { status: 409, .. } => Class::Refused,
        error => error.class(),
    }
}

fn hint(error: &RegisterError) -> Option<&'static str> {
    match error {
        RegisterError::Auth { status: 401, .. } => Some(
            "the join token is wrong, revoked, expired or used up; make another with `exedra token create --role join`",
        ),
        RegisterError::Auth { .. } => {
            Some("the join token is for other names, or is none; see `exedra token list` on the server")
        }
        RegisterError::Status { status: 409, .. } => Some(
            "take another --executor-id; or have an administrator revoke the token that has the name and forget the executor",
        ),
        RegisterError::Status { status: 404, .. } => Some("does the base URL name a server that knows join tokens?"),
        error => error.hint(),
    }
}
