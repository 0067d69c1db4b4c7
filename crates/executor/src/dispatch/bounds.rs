//! How long the texts may be that a client chooses and that are kept here: ids of processes and of body streams, and the
//! client's own name. Other ids have bounds of stock, or are kept as hashes.
//!
//! In flows a request, out flows a refusal, or nothing. Pure. Stock has no bound; nothing that a stock client makes comes
//! near this one.

use exedra_proto::envelope::RpcError;
use exedra_proto::method::Request;

use super::errors;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// `request`, if what it names is not too long.
///
/// # Errors
/// It is.
pub fn checked(request: Request) -> Result<Request, RpcError> {
    let (name, text) = match &request {
        Request::Initialize(params) => ("clientName", params.client_name.as_str()),
        Request::ProcessStart(params) => ("processId", params.process_id.as_str()),
        Request::ProcessRead(params) => ("processId", params.process_id.as_str()),
        Request::ProcessWrite(params) => ("processId", params.process_id.as_str()),
        Request::ProcessCloseStdin(params) => ("processId", params.process_id.as_str()),
        Request::ProcessResize(params) => ("processId", params.process_id.as_str()),
        Request::ProcessSignal(params) => ("processId", params.process_id.as_str()),
        Request::ProcessTerminate(params) => ("processId", params.process_id.as_str()),
        Request::HttpRequest(params) => ("requestId", params.request_id.as_str()),
        _ => return Ok(request),
    };
    match text.len() {
        bytes if bytes > MAX_TEXT => Err(errors::too_long(name, bytes, MAX_TEXT)),
        _ => Ok(request),
    }
}
