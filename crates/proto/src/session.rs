//! `initialize` and what it settles: the session, and the extensions both ends offer.

use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentInfo;
use crate::ids::SessionId;

/// Params of `initialize`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams {
    /// Who calls; informational.
    pub client_name: String,
    /// A detached session to attach again.
    #[serde(default)]
    pub resume_session_id: Option<SessionId>,
    /// What the client can do beyond stock; a stock server ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Extensions>,
}

/// Result of `initialize`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// The session; equal to the requested one on resume.
    pub session_id: SessionId,
    /// What kind of machine this is (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_info: Option<EnvironmentInfo>,
    /// What both ends can do beyond stock; only in answer to an offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Extensions>,
}

/// Extensions by name. Unknown ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extensions {
    /// Ours.
    #[serde(rename = "exedra/1", default, skip_serializing_if = "Option::is_none")]
    pub exedra_1: Option<ExedraOne>,
}

/// The parts of `exedra/1`. A part is used only if both ends announced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExedraOne {
    /// The method `process/closeStdin`.
    #[serde(default)]
    pub close_stdin: bool,
    /// The member `limits` of `process/start`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limits: bool,
    /// The method `process/resize`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resize: bool,
    /// The method `process/list`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub list: bool,
    /// Output that counts as delivered once the notification `process/ack` says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ack: bool,
    /// Binary messages ([`crate::binary`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binary: bool,
    /// The methods `fs/uploadOpen` and what follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uploads: bool,
}

impl ExedraOne {
    /// All that this build can do.
    pub const SUPPORTED: Self =
        Self { close_stdin: true, limits: true, resize: true, list: true, ack: true, binary: true, uploads: true };

    /// What both ends can do.
    pub fn and(self, other: Self) -> Self {
        Self {
            close_stdin: self.close_stdin && other.close_stdin,
            limits: self.limits && other.limits,
            resize: self.resize && other.resize,
            list: self.list && other.list,
            ack: self.ack && other.ack,
            binary: self.binary && other.binary,
            uploads: self.uploads && other.uploads,
        }
    }
}
