//! What a request would change, method by method: one match over all of them, so that a new one cannot be forgotten.
//!
//! In flows a request, out flows whether it may be served where nothing is to be changed. Pure.

use exedra_proto::fs::OpenMode;
use exedra_proto::method::Request;

/// Methods of HTTP that only ask.
const ASKING: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// Whether `request` changes something on this machine or, for all that is known, elsewhere. What ends something is no change.
pub fn changes(request: &Request) -> bool {
    match request {
        Request::ProcessStart(_)
        | Request::ProcessWrite(_)
        | Request::FsWriteFile(_)
        | Request::FsCreateDirectory(_)
        | Request::FsRemove(_)
        | Request::FsCopy(_)
        | Request::FsWriteBlock(_)
        | Request::FsUploadOpen(_)
        | Request::FsUploadFinish(_)
        | Request::FsUploadDiscard(_) => true,
        Request::FsOpen(params) => params.mode != OpenMode::Read,
        Request::HttpRequest(params) => !ASKING.contains(&params.method.as_str()),
        Request::Initialize(_)
        | Request::ProcessRead(_)
        | Request::ProcessCloseStdin(_)
        | Request::ProcessResize(_)
        | Request::ProcessList(_)
        | Request::ProcessSignal(_)
        | Request::ProcessTerminate(_)
        | Request::FsReadFile(_)
        | Request::FsGetMetadata(_)
        | Request::FsReadDirectory(_)
        | Request::FsCanonicalize(_)
        | Request::FsReadBlock(_)
        | Request::FsClose(_)
        | Request::FsWalk(_)
        | Request::FsWatchMissing(_)
        | Request::EnvironmentInfo(_)
        | Request::EnvironmentStatus(_)
        | Request::EnvironmentConfigRead(_)
        | Request::CapabilityRootsDiscover(_) => false,
    }
}
