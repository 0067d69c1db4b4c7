//! The dialect with Noise inside: clients get the executor's key and a short-lived authorization, which the executor has
//! validated here before it answers the client's handshake.
//!
//! Permits and keys flow in, an authorization or a verdict flows out. Nothing is stored: the authorization is signed, and
//! its binding to executor, registration and client's key is checked in constant time. What passes inside the channel is
//! nobody's business here.

use std::time::Duration;

use exedra_proto::ids::RegistrationId;
use exedra_proto::noise::{AUTHORIZATION_SECS, Binding, PROFILE, PublicKey};
use exedra_proto::registry::{
    ConnectRequest, EnvironmentConnectReply, EnvironmentConnectRequest, Transport, ValidateRequest,
};
use exedra_proto::secret::Secret;

use super::{Refusal, Service};
use crate::auth::{Denied, Permit};
use crate::store::{End, Ended};

/// How long a stock client's call waits for an executor that is away: less than its time-out, 10 s.
const STOCK_WAIT: Duration = Duration::from_secs(8);

impl Service {
    /// Connects a client of dialect D with an executor; waits a while for one that is away.
    pub async fn connect_environment(
        &self,
        permit: &Permit,
        request: EnvironmentConnectRequest,
    ) -> Result<EnvironmentConnectReply, Refusal> {
        let request = ConnectRequest {
            public_key: Some(request.harness_public_key),
            transports: vec![Transport::Noise.name().to_owned()],
            wait_ms: u64::try_from(STOCK_WAIT.as_millis()).unwrap_or(u64::MAX),
        };
        let reply = self.connect(permit, &request).await?;
        let (Some(executor_public_key), Some(harness_key_authorization)) =
            (reply.executor_public_key, reply.harness_key_authorization)
        else {
            return Err(Refusal::Transport);
        };
        Ok(EnvironmentConnectReply {
            environment_id: reply.executor_id.as_str().to_owned(),
            url: reply.url,
            security_profile: PROFILE.to_owned(),
            executor_registration_id: reply.registration_id.as_str().to_owned(),
            executor_public_key,
            harness_key_authorization,
        })
    }

    /// Whether this registry authorized that client's key for that registration of the executor, a short time ago, with
    /// a token that is still good.
    pub async fn validate(&self, permit: &Permit, request: &ValidateRequest) -> Result<bool, Refusal> {
        let known = self.store.executor(&permit.executor).await?;
        if known.is_some_and(|known| !known.trusted().have(&permit.labels)) {
            return Err(Denied::Labels.into());
        }
        let registration = RegistrationId::new(request.executor_registration_id.as_str());
        let binding =
            Binding { executor: &permit.executor, registration: &registration, client: &request.harness_public_key };
        let now = self.clock.now();
        let ring = self.keys.ring();
        let found = {
            let ring = ring.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            binding.check_end(&ring, request.harness_key_authorization.expose(), now)
        };
        let Some((token, expires_at)) = found else {
            tracing::info!(executor = %permit.executor, "a client's authorization is not good");
            return Ok(false);
        };
        // The token was good when it was issued, so it can have ended only since.
        let ended = self.store.ended_tokens(now.saturating_sub(2 * AUTHORIZATION_SECS), now).await?;
        let issued_at = expires_at.saturating_sub(AUTHORIZATION_SECS);
        let speaks_against = |ended: &Ended| match ended.how {
            End::Revoked | End::Expired => true,
            End::Renewed(until) => issued_at <= until,
        };
        Ok(!ended.iter().any(|ended| ended.token == token && speaks_against(ended)))
    }

    /// The executor's key, and an authorization of the client's.
    pub(super) async fn introduce(
        &self,
        permit: &Permit,
        registration: &RegistrationId,
        client: &PublicKey,
    ) -> Result<(PublicKey, Secret), Refusal> {
        let kept = self.store.registration(registration).await?;
        let key = kept.and_then(|kept| kept.public_key).ok_or(Refusal::Offline { last_seen: None })?;
        let binding = Binding { executor: &permit.executor, registration, client };
        let expires_at = self.clock.now() + AUTHORIZATION_SECS;
        let ring = self.keys.ring();
        let ring = ring.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let authorization = binding.authorize(&ring, &permit.token, expires_at).map_err(|error| {
            tracing::error!(%error, "no authorization can be given out");
            Refusal::Unavailable
        })?;
        Ok((key, authorization))
    }
}
