//! Connecting: a client asks for an executor, waits for its turn, and gets the ticket with which it comes.
//!
//! A permit and a request flow in, a ticket for one websocket flows out. Whether the executor is there, and whose turn
//! it is, presence knows; who exists, the store does.

use std::time::Duration;

use exedra_proto::registry::{ConnectReply, ConnectRequest, MAX_WAIT_MS, Transport};
use exedra_proto::ticket::{HARNESS_TICKET_SECS, Role as TicketRole};

use tokio::time::Instant;

use super::near::near;
use super::{Refusal, Service};
use crate::auth::Permit;
use crate::presence::Grant;
use crate::store::ExecutorRecord;

/// Executors that are compared with an id that nobody has.
const COMPARED: u32 = 10_000;

impl Service {
    /// Connects a client with an executor; waits for one that is away or held, if the request says so.
    pub async fn connect(&self, permit: &Permit, request: &ConnectRequest) -> Result<ConnectReply, Refusal> {
        let changes = self.changes();
        let Some(known) = self.store.executor(&permit.executor).await? else {
            return Err(self.unknown(permit).await?);
        };
        permit.reaches(&known.trusted())?;
        if let Some(told) = self.presence.is_told(&permit.executor) {
            permit.is_held(told)?;
        }
        if let Some(since) = known.draining_since {
            return Err(Refusal::Drained { since });
        }
        let offers = |transport: Transport| {
            request.transports.is_empty() || request.transports.iter().any(|offered| offered == transport.name())
        };
        // Not worth a wait, also if it is away.
        if !offers(known.current.transport)
            && self.presence.present(&permit.executor).is_none_or(|registration| registration == known.current.id)
        {
            return Err(Refusal::Transport);
        }
        let patience = Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS));
        let grant = self.grant(permit, patience).await.map_err(|refusal| with_saved(refusal, &known))?;
        let transport = grant.slot().transport;
        if !offers(transport) {
            return Err(Refusal::Transport);
        }
        permit.is_held(grant.slot().told)?;
        let client = match (transport, &request.public_key) {
            (Transport::Noise, Some(client)) => Some(client),
            (Transport::Noise, None) => return Err(Refusal::Incomplete("public_key")),
            _ => None,
        };
        self.auth.confirm(permit).await?;
        if self.changes() != changes {
            // While it waited, an administrator may have changed who may.
            let known = self.store.executor(&permit.executor).await?;
            permit.reaches(&known.as_ref().map(ExecutorRecord::trusted).unwrap_or_default())?;
            if let Some(since) = known.and_then(|known| known.draining_since) {
                return Err(Refusal::Drained { since });
            }
        }
        let (executor_public_key, harness_key_authorization) = match client {
            Some(client) => self
                .introduce(permit, &grant.slot().registration, client)
                .await
                .map(|(key, auth)| (Some(key), Some(auth)))?,
            None => (None, None),
        };
        let ticket = self.ticket(grant.slot(), TicketRole::Harness, permit, HARNESS_TICKET_SECS)?;
        let registration_id = grant.slot().registration.clone();
        grant.keep();
        tracing::info!(executor = %permit.executor, registration = %registration_id, token = %permit.token, "granted");
        Ok(ConnectReply {
            executor_id: permit.executor.clone(),
            registration_id,
            transport,
            url: ticket.url,
            expires_at: ticket.expires_at,
            executor_public_key,
            harness_key_authorization,
        })
    }

    /// The executor, unless it is there with a token that ended.
    async fn grant(&self, permit: &Permit, patience: Duration) -> Result<Grant<'_>, Refusal> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let acquire = async { Ok(self.presence.acquire(&permit.executor, left).await?) };
            let grant = self.while_good(permit, acquire).await?;
            if !self.cut_ended().await? || grant.stands() {
                return Ok(grant);
            }
        }
    }

    async fn unknown(&self, permit: &Permit) -> Result<Refusal, Refusal> {
        let mut known = self.store.executor_ids(COMPARED).await?;
        // Whether one has the labels is not looked up: a token with labels is offered no names.
        known.retain(|executor| permit.labels.is_empty() && permit.pattern.covers(executor));
        Ok(Refusal::Unknown { near: near(&permit.executor, known) })
    }
}

/// What presence does not know since it was away before the start, the store may.
fn with_saved(refusal: Refusal, known: &ExecutorRecord) -> Refusal {
    match refusal {
        Refusal::Offline { last_seen } => Refusal::Offline { last_seen: last_seen.max(known.last_seen) },
        other => other,
    }
}
