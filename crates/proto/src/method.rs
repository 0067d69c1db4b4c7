//! The table of methods: one row declares name, group, params and result together.
//!
//! A new method is four edits: a row here, a match arm in the executor (the compiler asks for it), a function in the
//! host, a method in the client.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::envelope::{INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, RpcError, decode_params};
use crate::{capability, environment, fs, http, process, session};

/// What a method belongs to; named in the refusals before the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `initialize` itself.
    Lifecycle,
    /// `process/*`
    Exec,
    /// `fs/*`
    Filesystem,
    /// `http/*`
    Http,
    /// `environment/info`
    Info,
    /// `environment/status`
    Status,
    /// `environmentConfig/*`
    Config,
    /// `capabilityRoots/*`
    Discovery,
}

impl Group {
    /// The word in `client must call initialize before using {group} methods`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Exec => "exec",
            Self::Filesystem => "filesystem",
            Self::Http => "http",
            Self::Info => "environment info",
            Self::Status => "environment status",
            Self::Config => "environment config",
            Self::Discovery => "capability discovery",
        }
    }
}

/// A method that a client calls: its name and both its types.
pub trait Method {
    /// The name on the wire.
    const NAME: &'static str;
    /// What it belongs to.
    const GROUP: Group;
    /// What the client sends.
    type Params: Serialize + DeserializeOwned + Send;
    /// What it gets.
    type Result: Serialize + DeserializeOwned + Send;
}

/// A notification that a server sends.
pub trait Notification {
    /// The name on the wire.
    const NAME: &'static str;
    /// What it carries.
    type Params: Serialize + DeserializeOwned + Send;
}

/// One row of the table, for those who walk it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name on the wire.
    pub name: &'static str,
    /// What it belongs to.
    pub group: Group,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $group:ident, $params:ty => $result:ty;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $variant;

            impl Method for $variant {
                const NAME: &'static str = $name;
                const GROUP: Group = Group::$group;
                type Params = $params;
                type Result = $result;
            }
        )+

        /// A request with its params decoded, one variant per row.
        #[derive(Clone, Debug)]
        #[expect(clippy::large_enum_variant, reason = "decoded once, moved once; a box per request would cost more")]
        pub enum Request {
            $($(#[$doc])* $variant($params),)+
        }

        /// All rows.
        pub const TABLE: &[Row] = &[$(Row { name: $name, group: Group::$group },)+];

        impl Request {
            /// Decodes the params of `method`.
            ///
            /// # Errors
            /// Unknown method, or params that do not fit; the answer as stock gives it.
            pub fn decode(method: &str, params: Option<&RawValue>) -> Result<Self, RpcError> {
                match method {
                    $($name => decode_params(params).map(Self::$variant).map_err(invalid_params),)+
                    unknown => Err(unknown_method(unknown)),
                }
            }

            /// Its row.
            pub fn row(&self) -> Row {
                match self {
                    $(Self::$variant(_) => Row { name: $name, group: Group::$group },)+
                }
            }
        }
    };
}

methods! {
    /// Opens or resumes a session.
    Initialize = "initialize", Lifecycle, session::InitializeParams => session::InitializeResult;
    /// Starts a process.
    ProcessStart = "process/start", Exec, process::StartParams => process::StartResult;
    /// Reads retained output, possibly waiting for it.
    ProcessRead = "process/read", Exec, process::ReadParams => process::ReadResult;
    /// Writes to stdin.
    ProcessWrite = "process/write", Exec, process::WriteParams => process::WriteResult;
    /// Ends stdin (`exedra/1`).
    ProcessCloseStdin = "process/closeStdin", Exec, process::ProcessParams => process::WriteResult;
    /// Gives a terminal another size (`exedra/1`).
    ProcessResize = "process/resize", Exec, process::ResizeParams => process::ResizeResult;
    /// Lists the processes of the session (`exedra/1`).
    ProcessList = "process/list", Exec, process::ListParams => process::ListResult;
    /// Signals the process group of a process (0.142 and later).
    ProcessSignal = "process/signal", Exec, process::SignalParams => process::SignalResult;
    /// Kills a process.
    ProcessTerminate = "process/terminate", Exec, process::ProcessParams => process::TerminateResult;
    /// Reads a whole file.
    FsReadFile = "fs/readFile", Filesystem, fs::PathParams => fs::ReadFileResult;
    /// Replaces a whole file.
    FsWriteFile = "fs/writeFile", Filesystem, fs::WriteFileParams => fs::Done;
    /// Makes a directory.
    FsCreateDirectory = "fs/createDirectory", Filesystem, fs::CreateDirectoryParams => fs::Done;
    /// Tells what a path is.
    FsGetMetadata = "fs/getMetadata", Filesystem, fs::PathParams => fs::Metadata;
    /// Lists a directory.
    FsReadDirectory = "fs/readDirectory", Filesystem, fs::PathParams => fs::ReadDirectoryResult;
    /// Removes a file or directory.
    FsRemove = "fs/remove", Filesystem, fs::RemoveParams => fs::Done;
    /// Copies a file, link or directory.
    FsCopy = "fs/copy", Filesystem, fs::CopyParams => fs::Done;
    /// Tells where a path leads (0.142 and later, as what follows).
    FsCanonicalize = "fs/canonicalize", Filesystem, fs::PathParams => fs::CanonicalizeResult;
    /// Opens a file for access by blocks.
    FsOpen = "fs/open", Filesystem, fs::OpenParams => fs::OpenResult;
    /// Reads a block.
    FsReadBlock = "fs/readBlock", Filesystem, fs::ReadBlockParams => fs::ReadBlockResult;
    /// Writes a block (0.169).
    FsWriteBlock = "fs/writeBlock", Filesystem, fs::WriteBlockParams => fs::Done;
    /// Closes what was opened.
    FsClose = "fs/close", Filesystem, fs::CloseParams => fs::Done;
    /// Begins an upload, or goes on with one (`exedra/1`, as what follows).
    FsUploadOpen = "fs/uploadOpen", Filesystem, fs::UploadOpenParams => fs::UploadOpenResult;
    /// Puts what was uploaded in its place.
    FsUploadFinish = "fs/uploadFinish", Filesystem, fs::UploadFinishParams => fs::Done;
    /// Gives an upload up.
    FsUploadDiscard = "fs/uploadDiscard", Filesystem, fs::UploadDiscardParams => fs::Done;
    /// Lists a tree (0.145).
    FsWalk = "fs/walk", Filesystem, fs::WalkParams => fs::WalkResult;
    /// Waits for paths to appear (0.169).
    FsWatchMissing = "fs/watchMissing", Filesystem, fs::WatchMissingParams => fs::WatchMissingResult;
    /// Performs an HTTP request from the executor's place in the network.
    HttpRequest = "http/request", Http, http::RequestParams => http::RequestResult;
    /// Tells what kind of machine this is (0.142 and later).
    EnvironmentInfo = "environment/info", Info, environment::NoParams => environment::EnvironmentInfo;
    /// Tells how it is (0.145).
    EnvironmentStatus = "environment/status", Status, environment::NoParams => environment::StatusResult;
    /// Reads settings that the machine keeps for its clients (0.155).
    EnvironmentConfigRead = "environmentConfig/read", Config,
        environment::ConfigReadParams => environment::ConfigReadResult;
    /// Looks for plugins and skills (0.145).
    CapabilityRootsDiscover = "capabilityRoots/discoverV1", Discovery,
        capability::DiscoverParams => capability::DiscoverResult;
}

macro_rules! notifications {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $params:ty;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $variant;

            impl Notification for $variant {
                const NAME: &'static str = $name;
                type Params = $params;
            }
        )+

        /// A notification from a server with its params decoded.
        #[derive(Clone, Debug)]
        pub enum ServerEvent {
            $($(#[$doc])* $variant($params),)+
        }

        impl ServerEvent {
            /// Decodes the params of `method`; none for one that we do not know.
            ///
            /// # Errors
            /// The decoder's text.
            pub fn decode(method: &str, params: Option<&RawValue>) -> Result<Option<Self>, String> {
                match method {
                    $($name => decode_params(params).map(|p| Some(Self::$variant(p))),)+
                    _ => Ok(None),
                }
            }
        }
    };
}

notifications! {
    /// Output of a process.
    ProcessOutput = "process/output", process::OutputParams;
    /// A child was reaped.
    ProcessExited = "process/exited", process::ExitedParams;
    /// The last event of a process.
    ProcessClosed = "process/closed", process::ClosedParams;
    /// A path that was missing may be there.
    FsMissingChanged = "fs/missingChanged", fs::MissingChangedParams;
    /// A piece of a response body.
    HttpBodyDelta = "http/request/bodyDelta", http::BodyDeltaParams;
}

impl Request {
    /// Decodes the params of `method` in the header of a binary message, with `payload` behind it.
    ///
    /// # Errors
    /// The method has no bytes to be given so, or its params do not fit.
    pub fn decode_binary(method: &str, params: Option<&RawValue>, payload: Bytes) -> Result<Self, RpcError> {
        match method {
            ProcessWrite::NAME => decode_params(params)
                .map(|head: process::WriteHead| Self::ProcessWrite(head.with(payload)))
                .map_err(invalid_params),
            FsWriteBlock::NAME => decode_params(params)
                .map(|head: fs::WriteBlockHead| Self::FsWriteBlock(head.with(payload)))
                .map_err(invalid_params),
            other => Err(RpcError::new(INVALID_REQUEST, format!("`{other}` takes no binary message"))),
        }
    }
}

impl ServerEvent {
    /// Decodes the params of `method` in the header of a binary message, with `payload` behind it; none for one that we
    /// do not know.
    ///
    /// # Errors
    /// The decoder's text.
    pub fn decode_binary(method: &str, params: Option<&RawValue>, payload: Bytes) -> Result<Option<Self>, String> {
        match method {
            ProcessOutput::NAME => {
                decode_params(params).map(|head: process::OutputHead| Some(Self::ProcessOutput(head.with(payload))))
            }
            _ => Ok(None),
        }
    }
}

/// The notification that a client sends after `initialize`.
pub const INITIALIZED: &str = "initialized";

/// The notification by which a client confirms events (`exedra/1`).
pub const PROCESS_ACK: &str = "process/ack";

/// Whether `method` is there for a peer with whom `agreed` was agreed on: one of the extension only if its part was.
pub fn is_agreed(method: &str, agreed: session::ExedraOne) -> bool {
    match method {
        ProcessCloseStdin::NAME => agreed.close_stdin,
        ProcessResize::NAME => agreed.resize,
        ProcessList::NAME => agreed.list,
        FsUploadOpen::NAME | FsUploadFinish::NAME | FsUploadDiscard::NAME => agreed.uploads,
        PROCESS_ACK => agreed.ack,
        _ => true,
    }
}

/// The answer to a request for a method that is not there.
pub fn unknown_method(method: &str) -> RpcError {
    RpcError::new(METHOD_NOT_FOUND, format!("exec-server stub does not implement `{method}` yet"))
}

fn invalid_params(message: String) -> RpcError {
    // Stock takes a Windows path for a wrong request, not for wrong params (protocol 12.2).
    let code = if message.contains("' is invalid on '") { INVALID_REQUEST } else { INVALID_PARAMS };
    RpcError::new(code, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_all_are_decoded() {
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for row in TABLE {
            match Request::decode(row.name, None) {
                Ok(request) => assert_eq!(request.row().name, row.name),
                Err(error) => assert_eq!(error.code, INVALID_PARAMS, "{}", row.name),
            }
        }
        assert_eq!(Request::decode("nope", None).unwrap_err(), unknown_method("nope"));
    }

    #[test]
    fn null_is_no_absence_for_plain_defaults() {
        let text = r#"{"processId":"p","argv":["a"],"cwd":"/","env":{},"tty":false,"pipeStdin":null}"#;
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        let error = Request::decode("process/start", Some(&raw)).unwrap_err();
        assert_eq!(error.message, "invalid type: null, expected a boolean");
    }
}
