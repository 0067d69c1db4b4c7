//! The signing keys, for those who govern the server: listed, replaced, revoked.
//!
//! A caller and a wish flow in, the keys as they are then flow out, without any secret. A key that is revoked is off the disk
//! before anybody is told; then what was opened with its tickets is cut.

use std::sync::Arc;

use serde_json::json;

use super::events::EventKind;
use super::{Refusal, Service};
use crate::auth::Caller;
use crate::error::RegistryError;
use crate::keys::{KeyInfo, SigningKeys};

impl Service {
    /// The keys in force, oldest first.
    pub fn list_keys(&self, caller: &Caller) -> Result<Vec<KeyInfo>, Refusal> {
        caller.governs()?;
        Ok(self.keys.list())
    }

    /// Has another key sign from now on; open tickets stay good.
    pub async fn rotate_keys(&self, caller: &Caller) -> Result<Vec<KeyInfo>, Refusal> {
        caller.governs()?;
        let now = self.clock.now();
        self.on_disk(move |keys| keys.rotate(now)).await?;
        self.record(EventKind::KeyRotated, None, json!({"by": caller.token.as_str()})).await;
        Ok(self.keys.list())
    }

    /// Has nothing that a key signed count any more, and cuts what was opened with it.
    pub async fn revoke_key(&self, caller: &Caller, key_id: &str) -> Result<Vec<KeyInfo>, Refusal> {
        caller.governs()?;
        let (wanted, now) = (key_id.to_owned(), self.clock.now());
        if !self.on_disk(move |keys| keys.revoke(&wanted, now)).await? {
            return Err(Refusal::UnknownKey);
        }
        self.presence.cut_key(key_id);
        self.record(EventKind::KeyRevoked, None, json!({"by": caller.token.as_str(), "key_id": key_id})).await;
        Ok(self.keys.list())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SigningKeys) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let keys = Arc::clone(&self.keys);
        let done = tokio::task::spawn_blocking(move || work(&keys)).await;
        Ok(done.unwrap_or(Err(RegistryError::Randomness))?)
    }
}
