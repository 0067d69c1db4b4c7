//! What the owner of the machine allows, whoever asks.
//!
//! In flow the owner's words, out flow decisions about paths, commands and addresses, each with the rule that made it.
//! Requests, the registry and the working directory narrow it and never widen it. Knows no process, no file operation and no
//! connection: who does something asks here first.

pub mod egress;

use std::sync::{Arc, PoisonError, RwLock};

pub use egress::Egress;

/// What is allowed. By default everything but metadata services.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Policy {
    /// Where `http/request` may go.
    pub egress: Egress,
    /// Whether `http/request` goes through the proxies of the environment where there is a list for egress. They resolve names
    /// themselves, so that what a name leads to is theirs to judge.
    pub proxied: bool,
}

/// The policy in force. Clones share it: whoever asks next asks the new one.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<RwLock<Arc<Policy>>>);

impl Current {
    /// With `policy` in force.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// What is in force now.
    pub fn get(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one in force.
    pub fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}
