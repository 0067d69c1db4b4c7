//! Registration of dialect E: the request is signed with a token's AWS pair, and the executor speaks JSON-RPC directly.
//!
//! A signed request flows in, a registration or the fault flows out. A signature is used once. A stock executor's are the
//! same for a whole second, so the reply waits until that is over: what comes again with the same one is a copy.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use exedra_proto::registry::{
    DIRECT_TRANSPORT, DirectRegisterReply, DirectRegisterRequest, RegisterRequest, Transport,
};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Refusal, Service};
use crate::auth::Permit;
use crate::serverkey::{self, ServerKey};
use crate::sigv4::{Claim, Fault, MAX_SKEW_SECS, Request};

/// Signatures remembered at once. Only good ones are, so a stranger cannot fill it; with more, a request is refused as if
/// the store were busy.
const REMEMBERED: usize = 65_536;
/// For how long a signature stays the same.
const SAME_SIGNATURE: Duration = Duration::from_secs(1);

/// What checking signatures needs.
pub struct Direct {
    key: ServerKey,
    region: String,
    seen: Mutex<HashMap<[u8; 32], u64>>,
}

impl Direct {
    /// Signatures with pairs made from `key`, for `region`.
    pub fn new(key: ServerKey, region: String) -> Self {
        Self { key, region, seen: Mutex::default() }
    }

    /// Notes a good signature.
    fn note(&self, claim: &Claim, now: u64) -> Result<(), Refusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, until| *until >= now);
        }
        if seen.contains_key(&claim.signature) {
            return Err(Fault::Replayed.into());
        }
        if seen.len() >= REMEMBERED {
            return Err(Refusal::Unavailable);
        }
        seen.insert(claim.signature, claim.at + MAX_SKEW_SECS);
        Ok(())
    }
}

impl Service {
    /// Permits whoever signed `request` to register as `executor`. Behind a proxy the request may have been signed for the
    /// public URL.
    pub async fn permit_signed(&self, request: &Request<'_>, executor: &str) -> Result<Permit, Refusal> {
        let now = self.clock.now();
        let claim = Claim::read(request.headers)?;
        claim.check(request.headers, &self.direct.region, now)?;
        let token = serverkey::token_of(&claim.access_key).ok_or(Fault::Mismatch)?;
        let secret = self.direct.key.secret(&token);
        claim.verify(secret.expose(), request).or_else(|fault| match fault {
            Fault::Mismatch => self.verify_as_public(&claim, secret.expose(), request),
            fault => Err(fault),
        })?;
        self.direct.note(&claim, now)?;
        self.permit_token(&token, executor).await
    }

    fn verify_as_public(&self, claim: &Claim, secret: &str, request: &Request<'_>) -> Result<(), Fault> {
        let public = self.public_url();
        let public = public.as_ref().and_then(|url| url.http_base().split_once("://"));
        let Some((_, address)) = public else { return Err(Fault::Mismatch) };
        let (host, prefix) = address.find('/').map_or((address, ""), |at| address.split_at(at));
        let mut headers = request.headers.clone();
        headers.insert("host".to_owned(), host.to_owned());
        let path = format!("{prefix}{}", request.path);
        claim.verify(secret, &Request { path: &path, headers: &headers, ..request.clone() })
    }

    /// Registers an executor of dialect E, each time as a new instance.
    pub async fn register_direct(
        &self,
        permit: &Permit,
        request: &DirectRegisterRequest,
    ) -> Result<DirectRegisterReply, Refusal> {
        let over = Instant::now() + SAME_SIGNATURE;
        if request.transport != DIRECT_TRANSPORT {
            return Err(Refusal::Transport);
        }
        let request = RegisterRequest {
            idempotency_id: format!("direct-{}", Uuid::new_v4()),
            executor_id: permit.executor.as_str().to_owned(),
            name: None,
            labels: std::collections::BTreeMap::new(),
            metadata: Value::Null,
            transports: vec![Transport::Direct.name().to_owned()],
            security_profile: None,
            executor_public_key: None,
        };
        let reply = self.register(permit, request).await?;
        tokio::time::sleep_until(over).await;
        Ok(DirectRegisterReply {
            environment_id: reply.executor_id,
            transport: DIRECT_TRANSPORT.to_owned(),
            registration_id: reply.id,
            url: reply.url,
        })
    }
}
