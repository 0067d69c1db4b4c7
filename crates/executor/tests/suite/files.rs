//! Files by blocks, trees, and what is missing, as newer clients ask for them.

use std::fs;

use exedra_proto::base64::Base64Text;
use exedra_proto::path::to_uri;
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn blocks_of_one_handle_keep_their_order_without_waiting_for_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = to_uri(&dir.path().join("f"));
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let mut ids = vec![client.post("fs/open", json!({"handleId": "h", "path": path, "mode": "replace"})).await];
    for round in 0..50_u8 {
        let chunk = Base64Text::encode(&[round; 1000]);
        ids.push(client.post("fs/writeBlock", json!({"handleId": "h", "offset": 0, "chunk": chunk})).await);
    }
    ids.push(client.post("fs/close", json!({"handleId": "h"})).await);
    ids.push(client.post("fs/open", json!({"handleId": "h", "path": path})).await);
    let read = client.post("fs/readBlock", json!({"handleId": "h", "offset": 999, "len": 2})).await;
    let close = client.post("fs/close", json!({"handleId": "h"})).await;
    let late = client.post("fs/readBlock", json!({"handleId": "h", "offset": 0, "len": 1})).await;
    for id in ids {
        let answer = client.response(id).await;
        assert!(answer["result"].is_object(), "{answer}");
    }
    let last = Base64Text::encode(&[49]).0;
    assert_eq!(client.response(read).await["result"], json!({"chunk": last, "eof": true}));
    assert_eq!(client.response(close).await["result"], json!({}));
    assert_eq!(client.response(late).await["error"], json!({"code": -32004, "message": "unknown file handle `h`"}));
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), [49; 1000]);
}

#[tokio::test]
async fn handles_belong_to_their_connection() {
    let mut bench = Bench::new();
    let mut first = bench.open().await;
    let mut second = bench.open().await;
    let opened = first.call("fs/open", json!({"handleId": "h", "path": "file:///proc/self/comm"})).await;
    assert_eq!(opened["result"]["handleId"], "h");
    let read = json!({"handleId": "h", "offset": 0, "len": 100});
    assert_eq!(second.call("fs/readBlock", read.clone()).await["error"]["code"], -32004);
    assert!(first.call("fs/readBlock", read).await["result"]["eof"].as_bool().unwrap());
    let mode = first.call("fs/open", json!({"handleId": "x", "path": "file:///", "mode": "append"})).await;
    let text = "unknown variant `append`, expected `read` or `replace`";
    assert_eq!(mode["error"], json!({"code": -32602, "message": text}));
}

#[tokio::test]
async fn answers_name_paths_as_the_client_does() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    fs::write(real.join("a b"), "").unwrap();
    std::os::unix::fs::symlink("a b", real.join("link")).unwrap();
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let options = json!({"maxDepth": 1, "maxDirectories": 9, "maxEntries": 9, "followDirectorySymlinks": false});
    for form in [|path: &std::path::Path| path.display().to_string(), |path: &std::path::Path| to_uri(path)] {
        let canonical = client.call("fs/canonicalize", json!({"path": form(&real.join("link"))})).await;
        assert_eq!(canonical["result"]["path"], form(&real.join("a b")));
        let walked = client.call("fs/walk", json!({"path": form(&real), "options": options})).await;
        let entry = json!({"path": form(&real.join("a b")), "kind": "file"});
        assert_eq!(walked["result"], json!({"entries": [entry], "errors": [], "truncated": false}));
    }
    let native = client.call("fs/readFile", json!({"path": real})).await;
    assert_eq!(native["error"], json!({"code": -32603, "message": "Is a directory (os error 21)"}));
    let uri = client.call("fs/readFile", json!({"path": to_uri(&real)})).await;
    assert_eq!(uri["error"], json!({"code": -32600, "message": format!("path `{}` is not a file", real.display())}));
}

#[tokio::test]
async fn what_was_missing_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("sub/f");
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let watch = |id: u64| json!({"watchId": id, "missing": [to_uri(&missing)]});
    assert_eq!(client.call("fs/watchMissing", watch(7)).await["result"], json!({"watching": true}));
    assert_eq!(client.call("fs/watchMissing", watch(7)).await["result"], json!({"watching": false}));
    client.call("fs/createDirectory", json!({"path": to_uri(&dir.path().join("sub"))})).await;
    let event = client.event().await;
    assert_eq!(event, json!({"method": "fs/missingChanged", "params": {"watchId": 7}}));
    assert_eq!(client.call("fs/watchMissing", watch(8)).await["result"], json!({"watching": true}));
    client.call("fs/writeFile", json!({"path": to_uri(&missing), "dataBase64": ""})).await;
    assert_eq!(client.event().await["params"]["watchId"], 8, "and none of the first watch in between");
    assert_eq!(client.call("fs/watchMissing", watch(9)).await["result"], json!({"watching": false}));
}
