//! Registration: an executor's instance says that it exists, and gets the ticket with which it connects.
//!
//! The same instance gets the same registration, without a write; another one gets the next epoch, on the disk before
//! the reply. The token is part of what makes an instance the same: what else it says of itself, others may have read. An instance
//! that a newer one superseded keeps its own, which the rendezvous refuses, until the newer one is gone, or its token is. A store that is busy or full is waited for, since stock executors end on any refusal: all of one registration
//! has one deadline, which is shorter than the patience of whoever asks.

use std::collections::BTreeMap;
use std::time::Duration;

use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::noise::PROFILE;
use exedra_proto::registry::{EnvironmentRegisterRequest, RegisterReply, RegisterRequest, Transport};
use exedra_proto::secret::Secret;
use exedra_proto::ticket::{EXECUTOR_TICKET_SECS, Role as TicketRole};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::events::EventKind;
use super::{Refusal, Service};
use crate::auth::{Denied, Permit};
use crate::presence::Slot;
use crate::store::{ExecutorRecord, NewRegistration, Registration, StoreError};
use crate::token::Role;

/// The newest instance counts as gone when it was away for this long, in seconds: more than any stock executor's pause
/// between two attempts.
const GONE_AFTER: u64 = 60;
/// Longest idempotency id and longest name, in bytes.
const MAX_TEXT: usize = 256;
/// Longest labels and metadata together, in bytes of JSON.
const MAX_DESCRIPTION: usize = 8 * 1024;
/// What the rendezvous carries.
const SERVED: [Transport; 3] = [Transport::Direct, Transport::Relay, Transport::Noise];
/// How long an attempt may take that is under way at the deadline.
const LAST_ATTEMPT: Duration = Duration::from_secs(5);
/// Pause between two attempts at a store that cannot answer.
const STORE_PAUSE: Duration = Duration::from_millis(200);

impl Service {
    /// Permits the bearer to register as `executor`. Waits for a store that cannot answer, and for an issuer's keys.
    pub async fn permit_executor(&self, bearer: Option<&Secret>, executor: &str) -> Result<Permit, Refusal> {
        let deadline = Instant::now() + self.write_patience;
        let permit = || self.auth.permit(bearer, Role::Executor, executor, Some(deadline));
        Ok(patiently(deadline, Denied::is_passing, permit).await?.until(deadline))
    }

    /// Permits the holder of a token that has shown to be its holder to register as `executor`.
    pub async fn permit_token(&self, token: &TokenId, executor: &str) -> Result<Permit, Refusal> {
        let deadline = Instant::now() + self.write_patience;
        let permit = || self.auth.permit_id(token, Role::Executor, executor);
        Ok(patiently(deadline, Denied::is_passing, permit).await?.until(deadline))
    }

    /// Registers.
    pub async fn register(&self, permit: &Permit, mut request: RegisterRequest) -> Result<RegisterReply, Refusal> {
        if request.executor_id != permit.executor.as_str() {
            return Err(Refusal::OtherExecutor);
        }
        check(&request)?;
        let transport = choose(&request)?;
        if let Some(key) = &request.executor_public_key {
            // Another key is another instance, whatever it calls itself.
            request.idempotency_id.push('+');
            request.idempotency_id.push_str(&key.fingerprint());
        }
        let registering = self.registration(permit, request, transport);
        let (registration, is_superseded) = self.while_good(permit, registering).await?;
        let slot = Slot::of(&registration);
        self.presence.learn(&permit.executor, slot.clone());
        let ticket = self.ticket(&slot, TicketRole::Executor, permit, EXECUTOR_TICKET_SECS)?;
        self.note_contention(&registration, &permit.token, is_superseded).await;
        Ok(RegisterReply {
            id: slot.registration.as_str().to_owned(),
            executor_id: permit.executor.as_str().to_owned(),
            url: ticket.url,
            transport: slot.transport,
        })
    }

    /// Registers an executor of dialect B or C, which says nothing of itself: each time it is a new instance, the newest
    /// wins, and it speaks relay frames.
    pub async fn register_plain(&self, permit: &Permit) -> Result<RegisterReply, Refusal> {
        let request = RegisterRequest {
            idempotency_id: format!("plain-{}", Uuid::new_v4()),
            executor_id: permit.executor.as_str().to_owned(),
            name: None,
            labels: BTreeMap::new(),
            metadata: Value::Null,
            transports: vec![Transport::Relay.name().to_owned()],
            security_profile: None,
            executor_public_key: None,
        };
        self.register(permit, request).await
    }

    /// Registers an executor of dialect D: its key, made once for each start, is what tells instances apart.
    pub async fn register_environment(
        &self,
        permit: &Permit,
        request: EnvironmentRegisterRequest,
    ) -> Result<RegisterReply, Refusal> {
        let request = RegisterRequest {
            idempotency_id: "key".to_owned(),
            executor_id: permit.executor.as_str().to_owned(),
            name: None,
            labels: BTreeMap::new(),
            metadata: Value::Null,
            transports: vec![Transport::Noise.name().to_owned()],
            security_profile: Some(request.security_profile),
            executor_public_key: Some(request.executor_public_key),
        };
        self.register(permit, request).await
    }

    /// The instance's registration, the one it has or a new one; and whether that of a newer instance stands above it.
    async fn registration(
        &self,
        permit: &Permit,
        request: RegisterRequest,
        transport: Transport,
    ) -> Result<(Registration, bool), Refusal> {
        let passes = StoreError::is_retryable;
        let deadline = permit.patience.unwrap_or_else(|| Instant::now() + self.write_patience);
        let known = patiently(deadline, passes, || self.store.executor(&permit.executor)).await?;
        if let Some(known) = &known
            && !known.trusted().have(&permit.labels)
        {
            return Err(Denied::Labels.into());
        }
        let registration = Registration {
            id: RegistrationId::new(format!("reg-{}", Uuid::new_v4())),
            executor: permit.executor.clone(),
            epoch: 0,
            idempotency_id: request.idempotency_id,
            created_at: self.clock.now(),
            transport,
            public_key: request.executor_public_key,
        };
        let (key, bound_key) = (registration.proven_key(), known.as_ref().and_then(|known| known.bound_key.clone()));
        let (take_over, newest) = match known {
            // Where names are bound to keys, the store decides of any other key.
            Some(known)
                if known.current.idempotency_id == registration.idempotency_id
                    && known.token == permit.token
                    && (!self.bind_keys || key == bound_key) =>
            {
                return Ok((known.current, false));
            }
            Some(known) => (self.is_gone(&known) || self.is_ended(&known.token).await?, known.current.epoch),
            None => (false, 0),
        };
        let new = NewRegistration {
            registration,
            name: request.name,
            labels: request.labels,
            metadata: if request.metadata.is_null() { Value::Object(Map::new()) } else { request.metadata },
            token: permit.token.clone(),
            take_over,
            bind_key: self.bind_keys,
        };
        let outcome = patiently(deadline, passes, || self.store.register(&new)).await;
        if outcome == Err(StoreError::OtherKey) {
            self.note_other_key(&new, bound_key.as_deref()).await;
            return Err(Refusal::OtherKey);
        }
        let registration = outcome?;
        if let Some(key) = key.filter(|_| self.bind_keys && bound_key.is_none()) {
            let detail = json!({"token_id": permit.token.as_str(), "key": key});
            self.record(EventKind::ExecutorKeyBound, Some(&permit.executor), detail).await;
        }
        if registration.id == new.registration.id {
            let Registration { id, executor, epoch, .. } = &registration;
            tracing::info!(%executor, registration = %id, epoch, token = %permit.token, "an executor registered");
        }
        let is_superseded = registration.epoch < newest;
        Ok((registration, is_superseded))
    }

    /// Whether the executor's newest instance was away for so long that an older one may have the name back.
    fn is_gone(&self, known: &ExecutorRecord) -> bool {
        let seen = self.presence.last_seen(&known.current.executor);
        let last = [Some(known.current.created_at), known.last_seen, seen, Some(self.started_at)];
        let now = self.clock.now();
        // What is yet to come was seen while the clock was ahead.
        let last = last.into_iter().flatten().filter(|at| *at <= now).max().unwrap_or_default();
        now - last >= GONE_AFTER
    }

    /// Whether a token is good no more: whoever came with it does not come back.
    async fn is_ended(&self, token: &TokenId) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let known = self.store.token_of_id(token).await?;
        Ok(known.is_none_or(|(token, _)| token.ended(now).is_some()))
    }
}

/// The first of what the executor can serve that is served here too; dialect A says nothing and means direct. Noise needs
/// a key, for the profile that is known.
fn choose(request: &RegisterRequest) -> Result<Transport, Refusal> {
    if request.transports.is_empty() {
        return Ok(Transport::Direct);
    }
    let is_profile = request.security_profile.as_deref() == Some(PROFILE);
    let has_noise = is_profile && request.executor_public_key.is_some();
    let mut known = request.transports.iter().filter_map(|name| Transport::from_name(name));
    known
        .find(|transport| SERVED.contains(transport) && (*transport != Transport::Noise || has_noise))
        .ok_or(Refusal::Transport)
}

/// Refuses what is empty or too long to be kept.
fn check(request: &RegisterRequest) -> Result<(), Refusal> {
    if request.idempotency_id.trim().is_empty() {
        return Err(Refusal::Incomplete("idempotency_id"));
    }
    let name = request.name.as_deref().unwrap_or_default();
    for (what, text) in [("the member idempotency_id", request.idempotency_id.as_str()), ("the member name", name)] {
        if text.len() > MAX_TEXT {
            return Err(Refusal::TooLong { what, limit: MAX_TEXT });
        }
    }
    let labels: Value = request.labels.clone().into_iter().collect();
    if labels.to_string().len() + request.metadata.to_string().len() > MAX_DESCRIPTION {
        return Err(Refusal::TooLong { what: "the JSON of the members labels and metadata", limit: MAX_DESCRIPTION });
    }
    Ok(())
}

/// Attempts until it works, fails for good, or the deadline has come; then with the error of the last, which may take
/// [`LAST_ATTEMPT`] longer.
pub(super) async fn patiently<T, E: From<StoreError>, F: Future<Output = Result<T, E>>>(
    deadline: Instant,
    passes: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    loop {
        match timeout_at(deadline + LAST_ATTEMPT, attempt()).await.unwrap_or_else(|_| Err(StoreError::Busy.into())) {
            Err(error) if passes(&error) && Instant::now() < deadline => {
                tokio::time::sleep_until(deadline.min(Instant::now() + STORE_PAUSE)).await;
            }
            outcome => return outcome,
        }
    }
}
