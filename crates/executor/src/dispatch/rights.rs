//! What a client's token has to give for each method: one match over all of them, so that a new one cannot be forgotten.
//!
//! In flow a request and the rights of whoever sent it, out flows a refusal or none. Pure. What the owner allows is another
//! matter, and is asked too.

use exedra_proto::method::Request;
use exedra_proto::rights::{Right, Rights};

/// What the texts of refusals for want of a right begin with.
pub const RIGHTS: &str = "rights:";

/// Refuses `request` if `rights` do not have what it needs.
///
/// # Errors
/// The refusal.
pub fn judge(request: &Request, rights: Rights) -> Result<(), String> {
    if rights.is_all() {
        return Ok(());
    }
    let Some(missing) = needed(request).iter().find(|right| !rights.has(**right)) else { return Ok(()) };
    let (method, missing) = (request.row().name, missing.as_str());
    let what = if method == "process/start" && missing == Right::Pty.as_str() { " on a terminal" } else { "" };
    let given = match rights.words().next() {
        Some(_) => format!("{rights} alone"),
        None => "no right".to_owned(),
    };
    Err(format!("{RIGHTS} {method}{what} needs the right {missing}; the client's token gives {given}"))
}

/// What `request` needs.
fn needed(request: &Request) -> &'static [Right] {
    match request {
        Request::ProcessStart(params) if params.tty => &[Right::Exec, Right::Pty],
        Request::ProcessResize(_) => &[Right::Exec, Right::Pty],
        Request::ProcessStart(_)
        | Request::ProcessRead(_)
        | Request::ProcessWrite(_)
        | Request::ProcessCloseStdin(_)
        | Request::ProcessList(_)
        | Request::ProcessSignal(_)
        | Request::ProcessTerminate(_) => &[Right::Exec],
        Request::FsReadFile(_)
        | Request::FsWriteFile(_)
        | Request::FsCreateDirectory(_)
        | Request::FsGetMetadata(_)
        | Request::FsReadDirectory(_)
        | Request::FsRemove(_)
        | Request::FsCopy(_)
        | Request::FsCanonicalize(_)
        | Request::FsOpen(_)
        | Request::FsReadBlock(_)
        | Request::FsWriteBlock(_)
        | Request::FsUploadOpen(_)
        | Request::FsUploadFinish(_)
        | Request::FsUploadDiscard(_)
        | Request::FsClose(_)
        | Request::FsWalk(_)
        | Request::FsWatchMissing(_)
        // Both read files.
        | Request::EnvironmentConfigRead(_)
        | Request::CapabilityRootsDiscover(_) => &[Right::Files],
        Request::HttpRequest(_) => &[Right::Http],
        Request::Initialize(_) | Request::EnvironmentInfo(_) | Request::EnvironmentStatus(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(method: &str, params: serde_json::Value, rights: &str) -> Result<(), String> {
        let params = serde_json::value::to_raw_value(&params).unwrap();
        let request = Request::decode(method, Some(&params)).unwrap();
        judge(&request, Rights::parse(rights).unwrap())
    }

    fn start(tty: bool) -> serde_json::Value {
        json!({"processId": "1", "argv": ["true"], "cwd": "file:///", "env": {}, "tty": tty, "arg0": null})
    }

    #[test]
    fn each_method_needs_its_right() {
        let list = ("process/list", json!({}), "exec");
        let read = ("fs/readFile", json!({"path": "file:///x"}), "files");
        let http = ("http/request", json!({"method": "GET", "url": "http://h/", "requestId": "1"}), "http");
        for (method, params, right) in [list, read, http, ("process/start", start(false), "exec")] {
            assert_eq!(judged(method, params.clone(), right), Ok(()), "{method}");
            let others = Right::ALL.into_iter().map(Right::as_str).filter(|word| *word != right);
            let others = others.collect::<Vec<_>>().join(",");
            let refusal = judged(method, params, &others).unwrap_err();
            assert_eq!(
                refusal,
                format!("rights: {method} needs the right {right}; the client's token gives {others} alone")
            );
        }
        assert_eq!(judged("environment/info", json!({}), "http"), Ok(()));
    }

    #[test]
    fn a_terminal_needs_two() {
        let expected = "rights: process/start on a terminal needs the right pty; the client's token gives exec alone";
        assert_eq!(judged("process/start", start(true), "exec"), Err(expected.to_owned()));
        assert!(judged("process/start", start(true), "pty").unwrap_err().contains("needs the right exec"));
        assert_eq!(judged("process/start", start(true), "exec,pty"), Ok(()));
    }

    #[test]
    fn no_right_is_none() {
        let none: Rights = serde_json::from_str("[]").unwrap();
        let params = serde_json::value::to_raw_value(&json!({})).unwrap();
        let request = Request::decode("process/list", Some(&params)).unwrap();
        assert!(judge(&request, none).unwrap_err().ends_with("the client's token gives no right"));
    }
}
