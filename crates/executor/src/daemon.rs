//! The remote daemon: registers with a registry, dials the rendezvous it is told, serves, and does it again.
//!
//! In flow a configuration and an [`Executor`], out flow events for people and, in the end, the reason why it stopped.
//! One set of sessions serves all connections. When to try again is decided in [`verdict`], and whether to register again
//! in `standing`; nothing but its own shutdown ends a daemon that has registered once.

mod about;
mod attempt;
pub mod event;
pub mod join;
mod pair;
mod renewal;
pub mod standing;
mod streams;
pub mod token;
pub mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exedra_link::dial::registry::{HttpOptions, Registration, RegistrationConfig};
use exedra_link::ws::DialOptions;
use exedra_proto::registry::Transport;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::attempt::{Attempt, Ended};
pub use self::event::Event;
use self::event::Watch;
pub use self::join::Join;
use self::renewal::Renewal;
use self::standing::Standing;
pub use self::token::TokenSource;
use self::verdict::{Decision, Judge, Outcome, Pauses, Reason};
use crate::error::ExecutorError;
use crate::executor::Executor;

/// What a daemon is made of.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// The registry.
    pub base_url: String,
    /// The id to register as.
    pub executor_id: String,
    /// A name for people; stock's if there is none.
    pub name: Option<String>,
    /// Labels for people.
    pub labels: BTreeMap<String, String>,
    /// What is offered to the registry, best first.
    pub transports: Vec<Transport>,
    /// Where the token comes from.
    pub token: TokenSource,
    /// Time between two looks for another token, where it comes from a file.
    pub token_look: Duration,
    /// What is traded for the token before the first registration, if anything is.
    pub join: Option<Join>,
    /// How to talk to the registry.
    pub http: HttpOptions,
    /// How to dial the rendezvous.
    pub dial: DialOptions,
    /// The pauses between attempts.
    pub pauses: Pauses,
}

impl DaemonConfig {
    /// With the token from stock's environment variable, and the values of every day.
    pub fn new(base_url: impl Into<String>, executor_id: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            executor_id: executor_id.into(),
            name: None,
            labels: BTreeMap::new(),
            transports: about::TRANSPORTS.to_vec(),
            token: TokenSource::stock(),
            token_look: renewal::LOOK,
            join: None,
            http: HttpOptions::default(),
            dial: DialOptions::default(),
            pauses: Pauses::default(),
        }
    }
}

/// A daemon whose configuration is in order.
#[derive(Debug)]
pub struct Daemon {
    executor: Arc<Executor>,
    registration: Registration,
    renewal: Renewal,
    join: Option<Join>,
    dial: DialOptions,
    judge: Judge,
    standing: Standing,
}

/// Why a daemon stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Cancelled,
    /// It gave up before it ever registered.
    GaveUp {
        /// What kind of refusal it was.
        reason: Reason,
        /// The last refusal, in the words of stock.
        text: String,
        /// What can be done about it.
        hint: Option<&'static str>,
    },
}

impl Daemon {
    /// Checks token, executor id and base URL, in this order; nothing is sent.
    ///
    /// # Errors
    /// [`ExecutorError::Registration`], in the words of stock.
    pub fn new(config: DaemonConfig, executor: Arc<Executor>) -> Result<Self, ExecutorError> {
        let registration = Registration::new(&RegistrationConfig {
            bearer: Some(config.token.read()?),
            base_url: config.base_url,
            executor_id: config.executor_id,
            name: config.name,
            instance: Uuid::new_v4(),
            about: about::describe(config.labels, config.transports),
            http: config.http,
        })?;
        let judge = Judge::new(config.pauses);
        let renewal = Renewal::new(config.token, config.token_look);
        let (join, dial, standing) = (config.join, config.dial, Standing::default());
        Ok(Self { executor, registration, renewal, join, dial, judge, standing })
    }

    /// Runs until `cancel`, or until it gives up; then ends all sessions. `watch` is called between awaits and must not
    /// block.
    pub async fn run(mut self, cancel: CancellationToken, mut watch: impl FnMut(Event) + Send) -> Exit {
        let executor = Arc::clone(&self.executor);
        let exit = executor.shut_down_beside(&cancel, self.attempts(&cancel, &mut watch)).await;
        executor.shutdown().await;
        match &exit {
            Exit::Cancelled => tracing::info!("daemon stopped: cancelled"),
            Exit::GaveUp { reason, .. } => tracing::info!(?reason, "daemon stopped: gave up"),
        }
        exit
    }

    async fn attempts(&mut self, cancel: &CancellationToken, watch: &mut Watch<'_>) -> Exit {
        if let Some(exit) = self.join(cancel, watch).await {
            return exit;
        }
        loop {
            let Some(ended) = self.attempt(cancel, watch).await else { return Exit::Cancelled };
            match self.judge.decide(ended.outcome, fastrand::f64()) {
                Decision::GiveUp(reason) => {
                    return Exit::GaveUp { reason, text: ended.text, hint: ended.hint };
                }
                Decision::Retry(pause) => {
                    report(&ended, pause);
                    watch(Event::Waiting { pause, reason: ended.text });
                    if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return Exit::Cancelled;
                    }
                }
            }
        }
    }

    async fn attempt(&mut self, cancel: &CancellationToken, watch: &mut Watch<'_>) -> Option<Ended> {
        let attempt = Attempt { executor: &self.executor, dial: &self.dial, cancel };
        attempt.run(&mut self.registration, &mut self.standing, &mut self.renewal, watch).await
    }
}

/// One plain line about an attempt.
fn report(ended: &Ended, pause: Duration) {
    let text = &ended.text;
    let hint = ended.hint.unwrap_or_default();
    let again = pause.as_secs_f64();
    match ended.outcome {
        Outcome::Unregistered { .. } => tracing::warn!(hint, "not registered, next attempt in {again:.1} s: {text}"),
        Outcome::Undialled { .. } => tracing::warn!(hint, "no rendezvous, next attempt in {again:.1} s: {text}"),
        Outcome::Served { .. } if pause.is_zero() => tracing::info!("client done, next attempt at once: {text}"),
        Outcome::Served { .. } => tracing::warn!(hint, "connection ended, next attempt in {again:.1} s: {text}"),
    }
}
