//! What the client of one connection speaks, told by what it sends: there is no version on the wire (protocol 2.3).
//!
//! In flow the requests of a connection as they are decoded, out flows a [`Dialect`] and what differs by it: how reads
//! count, whether writes need an id, the words of some refusals. A client of 0.142 or later shows itself by a `file:` URI,
//! a `writeId`, a sandbox on a process or a method that earlier ones lack; an earlier one by a native path or a write
//! without an id. Whoever has shown nothing is taken for the newest. Nothing here is kept, sent or refused.

use crate::envelope::{RpcError, Unreadable};
use crate::method::Request;
use crate::path::{OTHER_SCHEME, PathForm, RELATIVE};

/// What a client speaks, as far as it has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// It has shown nothing.
    #[default]
    Unknown,
    /// 0.129 to 0.133.
    Early,
    /// 0.142 and later; once shown, it stays.
    Late,
}

/// What `nextSeq` of a read without `maxBytes` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextSeq {
    /// The number after the last piece that the answer holds.
    AfterLastPiece,
    /// The number of the event to come.
    NextEvent,
}

/// Early words for JSON that is no message.
const NO_MESSAGE: &str = "data did not match any variant of untagged enum JSONRPCMessage";
/// Early words for a path that is not absolute.
const NOT_ABSOLUTE: &str = "AbsolutePathBuf deserialized without a base path";

impl Dialect {
    /// Learns from `request`.
    pub fn observe(&mut self, request: &Request) {
        if *self != Self::Late {
            *self = shown_by(request).unwrap_or(*self);
        }
    }

    /// How a read without `maxBytes` counts. A client that resumes a session may read before it shows anything; one that
    /// waits for the next event must then not be told of an earlier one, while an early client is content with either.
    pub fn next_seq(self) -> NextSeq {
        if self == Self::Early { NextSeq::AfterLastPiece } else { NextSeq::NextEvent }
    }

    /// Whether a write without an id is refused.
    pub fn needs_write_id(self) -> bool {
        self == Self::Late
    }

    /// Why a text is no message, in words that the client's own server would use.
    pub fn unreadable(self, cause: &Unreadable) -> String {
        match (self, cause) {
            (Self::Early, Unreadable::NoObject | Unreadable::NoMessage(_)) => NO_MESSAGE.to_owned(),
            _ => cause.to_string(),
        }
    }

    /// A refusal of params, in words that the client's own server would use.
    #[must_use]
    pub fn refusal(self, error: RpcError) -> RpcError {
        let relative = error.message == RELATIVE || error.message.starts_with(OTHER_SCHEME);
        if self == Self::Early && relative { RpcError::new(error.code, NOT_ABSOLUTE) } else { error }
    }
}

fn shown_by(request: &Request) -> Option<Dialect> {
    let path = match request {
        Request::Initialize(_)
        | Request::ProcessRead(_)
        | Request::ProcessTerminate(_)
        | Request::ProcessCloseStdin(_)
        | Request::ProcessResize(_)
        | Request::ProcessList(_)
        | Request::HttpRequest(_) => return None,
        Request::ProcessStart(params) if params.sandbox.is_some() => return Some(Dialect::Late),
        Request::ProcessWrite(params) if params.write_id.is_none() => return Some(Dialect::Early),
        Request::ProcessStart(params) => params.cwd.form(),
        Request::FsReadFile(params) | Request::FsGetMetadata(params) | Request::FsReadDirectory(params) => {
            params.path.form()
        }
        Request::FsWriteFile(params) => params.path.form(),
        Request::FsCreateDirectory(params) => params.path.form(),
        Request::FsRemove(params) => params.path.form(),
        Request::FsCopy(params) => params.source_path.form(),
        // A write with an id, and every method that early clients lack.
        _ => return Some(Dialect::Late),
    };
    Some(if path == PathForm::Uri { Dialect::Late } else { Dialect::Early })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::envelope::{INVALID_PARAMS, parse};

    fn after(requests: &[(&str, &str)]) -> Dialect {
        let mut dialect = Dialect::default();
        for (method, params) in requests {
            let params: Box<RawValue> = serde_json::from_str(params).unwrap();
            dialect.observe(&Request::decode(method, Some(&params)).unwrap());
        }
        dialect
    }

    const URI: (&str, &str) = ("fs/getMetadata", r#"{"path":"file:///x"}"#);
    const NATIVE: (&str, &str) = ("fs/getMetadata", r#"{"path":"/x"}"#);
    const BARE_WRITE: (&str, &str) = ("process/write", r#"{"processId":"p","chunk":""}"#);
    const WRITE: (&str, &str) = ("process/write", r#"{"processId":"p","chunk":"","writeId":"w"}"#);
    const SIGNAL: (&str, &str) = ("process/signal", r#"{"processId":"p","signal":"interrupt"}"#);
    const READ: (&str, &str) = ("process/read", r#"{"processId":"p"}"#);

    fn start(cwd: &str, sandbox: &str) -> String {
        format!(r#"{{"processId":"p","argv":["a"],"cwd":"{cwd}","env":{{}},"tty":false{sandbox}}}"#)
    }

    #[test]
    fn each_sign_tells() {
        for late in [URI, WRITE, SIGNAL] {
            assert_eq!(after(&[late]), Dialect::Late, "{late:?}");
        }
        for early in [NATIVE, BARE_WRITE] {
            assert_eq!(after(&[early]), Dialect::Early, "{early:?}");
        }
        assert_eq!(after(&[READ, ("initialize", r#"{"clientName":"c"}"#)]), Dialect::Unknown);
        let sandbox = r#","sandbox":{"permissions":{"type":"disabled"},"windowsSandboxLevel":"disabled"}"#;
        assert_eq!(after(&[("process/start", &start("/", ""))]), Dialect::Early);
        assert_eq!(after(&[("process/start", &start("file:///", ""))]), Dialect::Late);
        assert_eq!(after(&[("process/start", &start("/", sandbox))]), Dialect::Late);
        assert_eq!(after(&[("process/start", &start("/", r#","sandbox":null"#))]), Dialect::Early);
    }

    #[test]
    fn late_stays_and_early_does_not() {
        assert_eq!(after(&[NATIVE, READ, URI, NATIVE, BARE_WRITE]), Dialect::Late);
        assert_eq!(after(&[BARE_WRITE, WRITE]), Dialect::Late);
    }

    #[test]
    fn who_has_shown_nothing_is_taken_for_the_newest() {
        for dialect in [Dialect::Unknown, Dialect::Late] {
            assert_eq!(dialect.next_seq(), NextSeq::NextEvent);
            assert_eq!(dialect.unreadable(&parse("5").unwrap_err()), "expected a JSON-RPC object");
        }
        assert!(!Dialect::Unknown.needs_write_id());
    }

    #[test]
    fn early_clients_get_early_words() {
        let dialect = Dialect::Early;
        for text in ["5", "[]", r#"{"foo":1}"#, r#"{"id":1,"method":5}"#] {
            assert_eq!(dialect.unreadable(&parse(text).unwrap_err()), NO_MESSAGE, "{text}");
        }
        assert_eq!(dialect.unreadable(&parse("{bad").unwrap_err()), "key must be a string at line 1 column 2");
        let refusal = |text: &str| dialect.refusal(RpcError::new(INVALID_PARAMS, text)).message;
        assert_eq!(refusal(RELATIVE), NOT_ABSOLUTE);
        assert_eq!(refusal("unsupported path URI scheme `http`"), NOT_ABSOLUTE);
        assert_eq!(refusal("missing field `path`"), "missing field `path`");
        assert_eq!(Dialect::Late.refusal(RpcError::new(INVALID_PARAMS, RELATIVE)).message, RELATIVE);
    }
}
