//! The seven file methods: what is sent, what comes back, what is missing.

use std::collections::VecDeque;

use exedra_client::files::FileHandle;
use exedra_proto::base64::Base64Text;
use exedra_proto::fs::{OpenMode, WalkKind, WalkOptions};
use exedra_proto::path::AbsolutePath;
use serde_json::{Value, json};

use crate::peer::{Peer, open};

fn path(text: &str) -> AbsolutePath {
    AbsolutePath::parse(text).unwrap()
}

/// Runs `$ours` on the files while the peer expects `$method` with `$params` and answers `$result`.
macro_rules! exchange {
    ($files:ident => $ours:expr, $method:literal, $params:tt, $result:tt) => {{
        let (executor, mut peer) = open(true).await;
        let $files = executor.files();
        let (ours, ()) = tokio::join!(async { $ours.await }, async {
            let call = peer.call($method).await;
            assert_eq!(call.params, json!($params));
            peer.answer(&call, json!($result)).await;
        });
        ours.unwrap()
    }};
}

#[tokio::test]
async fn each_method_sends_its_params_and_reads_its_result() {
    let read = exchange!(files => files.read(&path("/f")), "fs/readFile", {"path": "/f"}, {"dataBase64": "AP8="});
    assert_eq!(read, [0, 255]);
    exchange!(files => files.write(&path("/f"), &[0, 255]), "fs/writeFile", {"path": "/f", "dataBase64": "AP8="}, {});
    exchange!(files => files.create_directory(&path("/d"), false), "fs/createDirectory",
        {"path": "/d", "recursive": false}, {});
    let metadata = exchange!(files => files.metadata(&path("file:///a%20b")), "fs/getMetadata",
        {"path": "file:///a%20b"},
        {"isDirectory": false, "isFile": true, "isSymlink": false, "createdAtMs": 1, "modifiedAtMs": 2});
    assert_eq!((metadata.is_file, metadata.size, metadata.modified_at_ms), (true, None, 2));
    let entries = exchange!(files => files.read_directory(&path("/d")), "fs/readDirectory", {"path": "/d"},
        {"entries": [{"fileName": "x", "isDirectory": false, "isFile": true}]});
    assert_eq!(entries[0].file_name, "x");
    exchange!(files => files.remove(&path("/d"), true, false), "fs/remove",
        {"path": "/d", "recursive": true, "force": false}, {});
    exchange!(files => files.copy(&path("/a"), &path("/b"), true), "fs/copy",
        {"sourcePath": "/a", "destinationPath": "/b", "recursive": true}, {});
}

#[tokio::test]
async fn what_newer_executors_can_do() {
    let real = exchange!(files => files.canonicalize(&path("file:///l")), "fs/canonicalize", {"path": "file:///l"},
        {"path": "file:///f"});
    assert_eq!(real, path("file:///f"));
    let options = WalkOptions {
        max_depth: 1,
        max_directories: 2,
        max_entries: 3,
        follow_directory_symlinks: true,
        prune_hidden_directories: false,
    };
    let walked = exchange!(files => files.walk(&path("/d"), options), "fs/walk",
        {"path": "/d", "options": {"maxDepth": 1, "maxDirectories": 2, "maxEntries": 3,
            "followDirectorySymlinks": true, "pruneHiddenDirectories": false}},
        {"entries": [{"path": "/d/f", "kind": "file"}], "errors": [], "truncated": true});
    assert_eq!((walked.entries[0].kind, walked.truncated), (WalkKind::File, true));
}

#[tokio::test]
async fn a_file_by_blocks() {
    let (executor, mut peer) = open(true).await;
    let ours = async {
        let file = executor.files().open(&path("/f"), OpenMode::Replace).await.unwrap();
        file.write_block(3, &[0, 255]).await.unwrap();
        assert_eq!(file.read_block(1, 9).await.unwrap(), (vec![0, 255].into(), true));
        file.close().await.unwrap();
    };
    let theirs = async {
        let open = peer.call("fs/open").await;
        let id = open.params["handleId"].clone();
        assert_eq!(open.params, json!({"handleId": id, "path": "/f", "mode": "replace"}));
        peer.answer(&open, json!({"handleId": id})).await;
        let write = peer.call("fs/writeBlock").await;
        assert_eq!(write.params, json!({"handleId": id, "offset": 3, "chunk": "AP8="}));
        peer.answer(&write, json!({})).await;
        let read = peer.call("fs/readBlock").await;
        assert_eq!(read.params, json!({"handleId": id, "offset": 1, "len": 9}));
        peer.answer(&read, json!({"chunk": "AP8=", "eof": true})).await;
        let close = peer.call("fs/close").await;
        assert_eq!(close.params, json!({"handleId": id}));
        peer.answer(&close, json!({})).await;
    };
    tokio::join!(ours, theirs);
}

#[tokio::test]
async fn a_download_asks_ahead_and_ends_where_a_block_does() {
    const BLOCK: usize = FileHandle::MAX_BLOCK;
    let content: Vec<u8> = (0..2 * BLOCK + 3).map(|at| (at / 3).to_le_bytes()[0]).collect();
    let (executor, mut peer) = open(true).await;
    let (files, file) = (executor.files(), path("/f"));
    let theirs = async |peer: &mut Peer, cut: usize, blocks: usize| {
        let open = peer.call("fs/open").await;
        let id = open.params["handleId"].clone();
        assert_eq!(open.params, json!({"handleId": id, "path": "/f", "mode": "read"}));
        peer.answer(&open, json!({"handleId": id})).await;
        let mut asked = VecDeque::new();
        while asked.len() < 4 {
            asked.push_back(peer.call("fs/readBlock").await);
        }
        for (block, bytes) in content.chunks(BLOCK).enumerate() {
            let read = asked.pop_front().unwrap();
            assert_eq!(read.params, json!({"handleId": id, "offset": block * BLOCK, "len": BLOCK}));
            let (bytes, eof) = (&bytes[..bytes.len() - cut], bytes.len() < BLOCK);
            peer.answer(&read, json!({"chunk": Base64Text::encode(bytes), "eof": eof})).await;
            if block + 1 == blocks {
                break;
            }
            if !eof {
                asked.push_back(peer.call("fs/readBlock").await);
            }
        }
        let close = peer.call("fs/close").await;
        assert_eq!(close.params, json!({"handleId": id}));
        peer.answer(&close, json!({})).await;
    };
    let (mut sink, mut told) = (Vec::new(), Vec::new());
    let (size, ()) = tokio::join!(files.download(&file, &mut sink, |bytes| told.push(bytes)), theirs(&mut peer, 0, 3));
    assert_eq!(size.unwrap(), content.len() as u64);
    assert!(sink == content);
    assert_eq!(told, [BLOCK as u64, 2 * BLOCK as u64, content.len() as u64]);

    let mut sink = Vec::new();
    let (cut, ()) = tokio::join!(files.download(&file, &mut sink, |_| {}), theirs(&mut peer, 1, 1));
    assert!(matches!(cut.unwrap_err(), exedra_client::Error::Protocol(_)), "a block that is cut leaves no hole");

    let mut sink = std::io::Cursor::new(vec![0; 10].into_boxed_slice());
    let (full, ()) = tokio::join!(files.download(&file, &mut sink, |_| {}), theirs(&mut peer, 0, 1));
    assert!(matches!(full.unwrap_err(), exedra_client::Error::Sink(_)));
}

#[tokio::test]
async fn a_change_is_seen_even_before_the_answer_and_a_later_watch_takes_the_place() {
    let (executor, mut peer) = open(true).await;
    let (files, missing, present) = (executor.files(), [path("/none")], path("/f"));
    let (first, id) = tokio::join!(files.watch_missing(&missing, None), async {
        let call = peer.call("fs/watchMissing").await;
        peer.answer(&call, json!({"watching": true})).await;
        call.params["watchId"].as_u64().unwrap()
    });
    let (second, ()) = tokio::join!(files.watch_missing(&missing, Some(&present)), async {
        let call = peer.call("fs/watchMissing").await;
        assert!(call.params["watchId"].as_u64().unwrap() > id);
        let params = json!({"watchId": call.params["watchId"]});
        peer.say(json!({"method": "fs/missingChanged", "params": params})).await;
        peer.answer(&call, json!({"watching": true})).await;
    });
    assert!(!first.unwrap().unwrap().changed().await);
    assert!(second.unwrap().unwrap().changed().await);
    let (none, ()) = tokio::join!(files.watch_missing(&missing, None), async {
        let call = peer.call("fs/watchMissing").await;
        peer.answer(&call, json!({"watching": false})).await;
    });
    assert!(none.unwrap().is_none());
}

#[tokio::test]
async fn a_missing_file_is_told_apart() {
    let (executor, mut peer) = open(true).await;
    let files = executor.files();
    let missing_path = path("/none");
    for (code, missing) in [(-32004, true), (-32600, false), (-32603, false)] {
        let (read, ()) = tokio::join!(files.read(&missing_path), async {
            let call = peer.call("fs/readFile").await;
            peer.refuse(&call, code, "No such file or directory (os error 2)").await;
        });
        assert_eq!(read.unwrap_err().is_not_found(), missing, "{code}");
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_error_and_the_connection_goes_on() {
    let (executor, mut peer) = open(true).await;
    let files = executor.files();
    let a_path = path("/f");
    for nonsense in [json!({"dataBase64": "!!!"}), json!({}), Value::Null] {
        let (read, ()) = tokio::join!(files.read(&a_path), async {
            let call = peer.call("fs/readFile").await;
            peer.answer(&call, nonsense.clone()).await;
        });
        let error = read.unwrap_err();
        assert!(matches!(error, exedra_client::Error::Protocol(_)), "{error}");
    }
}
