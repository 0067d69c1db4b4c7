//! Params and results of access by blocks: `fs/open`, `fs/readBlock`, `fs/writeBlock`, `fs/close`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base64::Chunk;
use crate::binary;
use crate::envelope::RequestId;
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

/// The answer to `fs/readBlock` while it is written, so that nobody looks through a large text twice.
#[derive(Debug)]
pub struct BlockAnswer;

/// What follows the block in the answer; the last one is for what was the whole length asked for.
const ENDS: [&str; 2] = [r#"","eof":true}}"#, r#"","eof":false}}"#];
/// What the header of a binary answer ends with, and how that is changed in place.
const HEAD_ENDS: [&str; 2] = ["true }}", "false}}"];

impl BlockAnswer {
    /// The text of the answer to request `id` up to the block, whose base64 is to be appended.
    pub fn begin(id: &RequestId) -> String {
        format!(r#"{{"id":{},"result":{{"chunk":""#, id.json())
    }

    /// What follows the block.
    pub fn end(text: &mut String, eof: bool) {
        text.push_str(ENDS[usize::from(!eof)]);
    }

    /// The same for a binary message: up to the block, whose bytes are to be appended; and where the header ends.
    pub fn begin_binary(id: &RequestId) -> (Vec<u8>, usize) {
        let header = format!(r#"{{"id":{},"result":{{"eof":{}"#, id.json(), HEAD_ENDS[0]);
        let message = Vec::from(binary::join(&header, &[]));
        let end = message.len();
        (message, end)
    }

    /// Tells in the header, which ends at `end`, whether there were fewer bytes than were asked for.
    pub fn end_binary(message: &mut [u8], end: usize, eof: bool) {
        let word = HEAD_ENDS[usize::from(!eof)].as_bytes();
        if let Some(place) = end.checked_sub(word.len()).and_then(|start| message.get_mut(start..end)) {
            place.copy_from_slice(word);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;

    #[test]
    fn the_answer_in_parts_is_the_plain_one() {
        for (id, eof) in [(RequestId::Integer(-7), false), (RequestId::Text("a\"\n".to_owned()), true)] {
            let plain =
                envelope::response(&id, &ReadBlockResult { chunk: Chunk::Raw(Bytes::from_static(b"hello")), eof });
            let mut text = BlockAnswer::begin(&id);
            crate::base64::append(&mut text, b"hello");
            BlockAnswer::end(&mut text, eof);
            assert_eq!(text, plain.unwrap());

            let (mut message, end) = BlockAnswer::begin_binary(&id);
            message.extend(b"hello");
            BlockAnswer::end_binary(&mut message, end, eof);
            let parts = binary::split(message.into()).unwrap();
            assert_eq!(parts.payload, "hello");
            let envelope::Message::Response { id: echoed, result } = envelope::parse(parts.header()).unwrap() else {
                panic!("a response")
            };
            assert_eq!((echoed, serde_json::from_str(result.get()).unwrap()), (id, ReadBlockHead { eof }));
        }
    }
}
