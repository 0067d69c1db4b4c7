//! What the owner of the machine allows, whoever asks.
//!
//! In flow the owner's words, out flow decisions about requests, paths, commands, variables and addresses, each with the rule
//! that made it. Requests, the registry and the working directory narrow it and never widen it. Knows no process, no file
//! operation and no connection: who does something asks here first. Texts of refusals begin with `policy:`.

pub mod commands;
pub mod egress;
pub mod environment;
mod file;
mod methods;
pub mod pattern;
pub mod program;
mod words;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use exedra_proto::limits::ResourceLimits;
use exedra_proto::method::Request;
use exedra_proto::sandbox::{Access, SandboxContext};

pub use commands::Commands;
pub use egress::Egress;
pub use environment::Variables;
pub use file::PolicyError;

/// What is allowed. By default everything but metadata services.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Policy {
    /// Nothing is to be changed.
    pub read_only: bool,
    /// What becomes of output that nobody reads, where the owner says.
    pub when_full: Option<WhenFull>,
    /// What may be done where, by real paths; none: everything everywhere.
    pub roots: Option<Vec<(PathBuf, Access)>>,
    /// What every command is confined by; none: by what its request asks for alone.
    pub sandbox: Option<SandboxContext>,
    /// What may be started; none: anything.
    pub commands: Option<Commands>,
    /// Which variables pass.
    pub variables: Variables,
    /// What every process may use.
    pub limits: ResourceLimits,
    /// Where `http/request` may go.
    pub egress: Egress,
    /// Whether `http/request` goes through the proxies of the environment where there is a list for egress. They resolve names
    /// themselves, so that what a name leads to is theirs to judge.
    pub proxied: bool,
    /// A client comes if its token has one of these labels; none: every client.
    pub labels: Option<Vec<String>>,
    /// The file that says so, where one does.
    pub file: Option<PathBuf>,
    /// Links on the way to it: whoever puts others in their place puts another file in its place.
    pub links: Vec<PathBuf>,
    /// The SHA-256 of its text, in hexadecimal digits.
    pub digest: Option<String>,
}

/// What happens when output of a time when nobody is attached fills what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The pipes are not read and the command waits. Nothing is lost.
    #[default]
    Wait,
    /// The oldest output goes, and how much is counted.
    DropOldest,
}

/// The policy in force. Clones share it: whoever asks next asks the new one.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<RwLock<Arc<Policy>>>);

impl Policy {
    /// Whether an owner said anything at all.
    pub fn is_given(&self) -> bool {
        let held = self.roots.is_some() || self.sandbox.is_some() || self.commands.is_some();
        self.file.is_some() || held || self.read_only || self.labels.is_some() || self.egress.is_limited()
    }

    /// Refuses `request` for what it is; what it acts on is judged where it acts. The `labels` are those of the client's token.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(&self, request: &Request, labels: Option<&[String]>) -> Result<(), String> {
        self.admit(labels)?;
        if self.read_only && methods::changes(request) {
            return Err(format!("policy: read_only: {} could change something", request.row().name));
        }
        Ok(())
    }

    /// Refuses a client whose token does not have one of the labels.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit(&self, labels: Option<&[String]>) -> Result<(), String> {
        let Some(wanted) = &self.labels else { return Ok(()) };
        match labels {
            None => Err(
                "policy: clients: only clients whose token has a label of `labels` may come, and of this one's token \
                     nothing is told here"
                    .to_owned(),
            ),
            Some(labels) if labels.iter().any(|label| wanted.contains(label)) => Ok(()),
            Some(_) => Err("policy: clients: the client's token has no label of `labels`".to_owned()),
        }
    }
}

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

#[cfg(test)]
mod tests;
