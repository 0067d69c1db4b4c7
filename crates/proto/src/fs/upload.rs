//! Params and results of uploads (`exedra/1`): `fs/uploadOpen`, `fs/uploadFinish`, `fs/uploadDiscard`. Blocks are written
//! by `fs/writeBlock`.

use serde::{Deserialize, Serialize};

use crate::path::AbsolutePath;
use crate::sandbox::SandboxContext;

/// Params of `fs/uploadOpen`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadOpenParams {
    /// Chosen by the client, at most 32 bytes, as for `fs/open`.
    pub handle_id: String,
    /// The file that is to be there in the end; links are followed.
    pub path: AbsolutePath,
    /// Names the upload, 1 to 256 bytes: whoever names it again goes on with it.
    pub upload_id: String,
    /// How large it will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/uploadOpen`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadOpenResult {
    /// So many bytes are there: go on from here.
    pub offset: u64,
}

/// Params of `fs/uploadFinish`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadFinishParams {
    /// Which upload.
    pub handle_id: String,
    /// How large it is.
    pub size: u64,
    /// The SHA-256 of all of it, in hexadecimal digits.
    pub sha256: String,
}

/// Params of `fs/uploadDiscard`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadDiscardParams {
    /// Which upload.
    pub handle_id: String,
}
