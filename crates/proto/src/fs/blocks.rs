//! Params and results of access by blocks: `fs/open`, `fs/readBlock`, `fs/writeBlock`, `fs/close`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base64::Chunk;
use crate::path::AbsolutePath;
use crate::sandbox::SandboxContext;

/// What a handle is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OpenMode {
    /// Reading.
    #[default]
    Read,
    /// Writing; what was there is cut off at once (0.169).
    Replace,
}

/// Params of `fs/open`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenParams {
    /// Chosen by the client, at most 32 bytes.
    pub handle_id: String,
    /// Which file.
    pub path: AbsolutePath,
    /// What for.
    #[serde(default)]
    pub mode: OpenMode,
    /// Follow links; absent means true (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenResult {
    /// The same.
    pub handle_id: String,
}

/// Params of `fs/readBlock`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadBlockParams {
    /// Which handle.
    pub handle_id: String,
    /// From where, in bytes.
    pub offset: u64,
    /// How many bytes, 1 to 1,048,576.
    pub len: u64,
}

/// Result of `fs/readBlock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBlockResult {
    /// The bytes.
    pub chunk: Chunk,
    /// There were fewer than were asked for.
    pub eof: bool,
}

/// [`ReadBlockResult`] in the header of a binary message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBlockHead {
    /// There were fewer than were asked for.
    pub eof: bool,
}

/// [`WriteBlockParams`] in the header of a binary message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteBlockHead {
    /// Which handle.
    pub handle_id: String,
    /// To where, in bytes.
    pub offset: u64,
}

impl WriteBlockHead {
    /// With the bytes behind it.
    pub fn with(self, payload: Bytes) -> WriteBlockParams {
        WriteBlockParams { handle_id: self.handle_id, offset: self.offset, chunk: Chunk::Raw(payload) }
    }
}

/// Params of `fs/writeBlock`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteBlockParams {
    /// Which handle.
    pub handle_id: String,
    /// To where, in bytes.
    pub offset: u64,
    /// 1 to 1,048,576 bytes.
    pub chunk: Chunk,
}

/// Params of `fs/close`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseParams {
    /// Which handle; an unknown one is a success.
    pub handle_id: String,
}
