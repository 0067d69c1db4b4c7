//! What a request is about to do, as a record; none for what only looks. One match over all methods, so that a new one
//! cannot be forgotten. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use exedra_proto::base64::Base64Text;
use exedra_proto::fs::OpenMode;
use exedra_proto::method::Request;
use exedra_proto::process::StartParams;

use super::record::{By, Record};
use crate::identity::Identity;

/// The record of `request`, by whom it came.
pub fn record(request: &Request, by: By, identity: &Identity) -> Option<Record> {
    let method = request.row().name;
    let file = |path: &Path, to: Option<&Path>, bytes: Option<u64>| {
        let text = |path: &Path| path.display().to_string();
        Some(Record::File { by: by.clone(), method, path: text(path), to: to.map(text), bytes })
    };
    match request {
        Request::ProcessStart(params) => Some(start(params, by, identity)),
        Request::ProcessTerminate(params) => Some(Record::Signal { by, process: params.process_id.clone(), method }),
        Request::ProcessSignal(params) => Some(Record::Signal { by, process: params.process_id.clone(), method }),
        Request::FsWriteFile(params) => file(params.path.as_path(), None, Some(decoded_len(&params.data_base64))),
        Request::FsCreateDirectory(params) => file(params.path.as_path(), None, None),
        Request::FsRemove(params) => file(params.path.as_path(), None, None),
        Request::FsCopy(params) => file(params.source_path.as_path(), Some(params.destination_path.as_path()), None),
        Request::HttpRequest(params) => {
            let bytes = params.body_base64.as_ref().map_or(0, decoded_len);
            Some(Record::Http { by, method: params.method.clone(), url: without_secrets(&params.url), bytes })
        }
        Request::Initialize(_)
        | Request::ProcessRead(_)
        | Request::ProcessWrite(_)
        | Request::ProcessCloseStdin(_)
        | Request::ProcessResize(_)
        | Request::ProcessList(_)
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
        | Request::CapabilityRootsDiscover(_) => None,
        Request::FsOpen(params) if params.mode == OpenMode::Read => None,
        Request::FsOpen(params) => file(params.path.as_path(), None, None),
        Request::FsUploadOpen(params) => file(params.path.as_path(), None, None),
        // The path stands in the record of the opening.
        Request::FsWriteBlock(params) => {
            file(&of_handle(&params.handle_id), None, Some(params.chunk.decoded_len() as u64))
        }
        Request::FsUploadFinish(params) => file(&of_handle(&params.handle_id), None, Some(params.size)),
        Request::FsUploadDiscard(params) => file(&of_handle(&params.handle_id), None, None),
    }
}

fn of_handle(handle: &str) -> PathBuf {
    format!("(handle {handle})").into()
}

fn start(params: &StartParams, by: By, identity: &Identity) -> Record {
    let policy = params.env_policy.as_ref().map(|policy| &policy.set);
    let given = policy.into_iter().flatten().chain(&params.env);
    let env: BTreeMap<String, String> =
        given.map(|(name, value)| (before_value(name), identity.digest(name, value))).collect();
    Record::Start {
        by,
        process: params.process_id.clone(),
        argv: params.argv.clone(),
        cwd: params.cwd.as_path().display().to_string(),
        env,
        tty: params.tty,
        sandbox: params.sandbox.is_some(),
    }
}

/// A name with the sign in it is refused, and what follows it may be a value.
fn before_value(name: &str) -> String {
    name.split('=').next().unwrap_or_default().to_owned()
}

/// How many bytes the text stands for, without decoding it.
fn decoded_len(text: &Base64Text) -> u64 {
    let padding = text.0.bytes().rev().take(2).filter(|byte| *byte == b'=').count();
    (text.0.len() / 4 * 3).saturating_sub(padding) as u64
}

/// A URL up to its path; user, password, query and fragment may hold secrets. What is no URL is not repeated.
fn without_secrets(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else { return "(no URL)".to_owned() };
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use exedra_proto::ids::SessionId;
    use serde_json::json;

    use super::*;

    fn intent(method: &str, params: &serde_json::Value) -> serde_json::Value {
        let raw = serde_json::value::to_raw_value(params).unwrap();
        let request = Request::decode(method, Some(&raw)).unwrap();
        let by = By { session: SessionId::new("s"), connection: 1, request: json!(7) };
        let record = record(&request, by, &Identity::from_seed(&[1; 32]).unwrap());
        serde_json::to_value(record).unwrap()
    }

    #[test]
    fn a_start_tells_no_value_of_the_environment() {
        let policy = json!({"inherit": "none", "ignoreDefaultExcludes": true, "exclude": [], "includeOnly": [],
            "set": {"B": "value-of-b"}});
        let params = json!({"processId": "p", "argv": ["sh", "-c", "x"], "cwd": "/tmp", "env": {"A": "value-of-a", "C=value-of-c": ""},
            "envPolicy": policy, "tty": false});
        let record = intent("process/start", &params);
        assert_eq!(record["kind"], "start");
        assert_eq!(record["argv"], json!(["sh", "-c", "x"]));
        assert_eq!((record["session"].as_str(), record["request"].as_i64()), (Some("s"), Some(7)));
        assert_eq!(record["env"].as_object().unwrap().len(), 3);
        assert!(!record.to_string().contains("value-of"), "{record}");
    }

    #[test]
    fn changes_are_recorded_and_looks_are_not() {
        let write = intent("fs/writeFile", &json!({"path": "/a", "dataBase64": "aGVsbG8="}));
        assert_eq!((write["kind"].as_str(), write["bytes"].as_u64()), (Some("file"), Some(5)));
        let copy = json!({"sourcePath": "/a", "destinationPath": "/b", "recursive": false});
        assert_eq!(intent("fs/copy", &copy)["to"], "/b");
        assert!(intent("fs/readFile", &json!({"path": "/a"})).is_null());
    }

    #[test]
    fn a_url_is_kept_up_to_its_path() {
        let url = "https://me:pw@host:8/p?token=t#f";
        let params = json!({"requestId": "r", "method": "GET", "url": url});
        assert_eq!(intent("http/request", &params)["url"], "https://host:8/p");
        assert_eq!(without_secrets("not a url"), "(no URL)");
    }
}
