//! Uploads of `exedra/1`: they go on where they were cut off, and replace a file only by what they promised.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use exedra_executor::ExecutorConfig;
use exedra_host::policy::{Current, Policy};
use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, Client, config};

async fn connect(bench: &mut Bench) -> Client {
    let mut client = bench.connect();
    client.handshake_with(json!({"clientName": "x", "extensions": {"exedra/1": {"uploads": true}}})).await;
    assert_eq!(client.seen[0]["result"]["extensions"]["exedra/1"]["uploads"], true);
    client
}

fn open(handle: &str, path: &Path, size: usize) -> Value {
    json!({"handleId": handle, "path": path, "uploadId": "u", "size": size})
}

fn block(handle: &str, offset: usize, bytes: &[u8]) -> Value {
    json!({"handleId": handle, "offset": offset, "chunk": Base64Text::encode(bytes)})
}

fn finish(handle: &str, bytes: &[u8]) -> Value {
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"handleId": handle, "size": bytes.len(), "sha256": sha256})
}

/// Calls what must succeed.
async fn ask(client: &mut Client, method: &str, params: Value) -> Value {
    let answer = client.call(method, params).await;
    assert!(answer["result"].is_object(), "{method}: {answer}");
    answer["result"].clone()
}

/// Calls what must be refused; why.
async fn refused(client: &mut Client, method: &str, params: Value) -> String {
    let answer = client.call(method, params).await;
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{method}: {answer}")).to_owned()
}

/// Names in `dir`, in order.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_upload_goes_on_after_a_cut_and_keeps_the_mode_of_what_it_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o751)).unwrap();
    let mut bench = Bench::new();
    let mut first = connect(&mut bench).await;
    assert_eq!(ask(&mut first, "fs/uploadOpen", open("h", &path, 10)).await, json!({"offset": 0}));
    ask(&mut first, "fs/writeBlock", block("h", 0, b"01234")).await;
    let other = refused(&mut connect(&mut bench).await, "fs/uploadOpen", open("h", &path, 10)).await;
    assert_eq!(other, "the upload is being written by another connection");
    let part = names(dir.path()).into_iter().find(|name| name.starts_with(".exedra-upload-")).unwrap();
    assert_eq!(fs::metadata(dir.path().join(&part)).unwrap().permissions().mode() & 0o777, 0o600);
    drop(first);
    // Another client, which need not have written the first half.
    let mut second = connect(&mut bench).await;
    let offset = loop {
        let answer = second.call("fs/uploadOpen", open("h", &path, 10)).await;
        match answer["error"]["code"].as_i64() {
            Some(-32011) => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => break answer["result"]["offset"].clone(),
        }
    };
    assert_eq!(offset, 5);
    let hole = refused(&mut second, "fs/writeBlock", block("h", 6, b"x")).await;
    assert_eq!(hole, "the upload has 5 bytes: a block at 6 would leave a hole");
    let beyond = refused(&mut second, "fs/writeBlock", block("h", 5, b"567890")).await;
    assert_eq!(beyond, "the block ends at 11, the upload at 10");
    assert_eq!(
        refused(&mut second, "fs/uploadFinish", finish("h", b"0123456789")).await,
        "the upload has 5 bytes, not 10"
    );
    ask(&mut second, "fs/writeBlock", block("h", 3, b"3456789")).await;
    assert_eq!(fs::read(&path).unwrap(), b"old");
    ask(&mut second, "fs/uploadFinish", finish("h", b"0123456789")).await;
    assert_eq!(fs::read(&path).unwrap(), b"0123456789");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o751);
    assert_eq!(names(dir.path()), ["f"]);
    let again = second.call("fs/writeBlock", block("h", 0, b"x")).await;
    assert_eq!(again["error"]["code"], -32004, "the handle has gone with it");
}

#[tokio::test]
async fn what_is_not_what_was_promised_takes_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    let mut bench = Bench::new();
    let mut client = connect(&mut bench).await;
    ask(&mut client, "fs/uploadOpen", open("h", &path, 3)).await;
    ask(&mut client, "fs/writeBlock", block("h", 0, b"abd")).await;
    let wrong = refused(&mut client, "fs/uploadFinish", finish("h", b"abc")).await;
    assert!(wrong.starts_with("the SHA-256 of what was uploaded is a52d159f"), "{wrong}");
    assert_eq!(names(dir.path()), [""; 0], "neither the file nor its part");
    // It may begin anew; what is given up leaves nothing, what is closed stays for whoever comes back.
    assert_eq!(ask(&mut client, "fs/uploadOpen", open("h", &path, 3)).await["offset"], 0);
    ask(&mut client, "fs/writeBlock", block("h", 0, b"ab")).await;
    ask(&mut client, "fs/close", json!({"handleId": "h"})).await;
    assert_eq!(ask(&mut client, "fs/uploadOpen", open("h", &path, 3)).await["offset"], 2);
    ask(&mut client, "fs/uploadDiscard", json!({"handleId": "h"})).await;
    assert_eq!(names(dir.path()), [""; 0]);
    // A smaller upload of that name begins at nothing.
    ask(&mut client, "fs/uploadOpen", open("h", &path, 3)).await;
    ask(&mut client, "fs/writeBlock", block("h", 0, b"abc")).await;
    ask(&mut client, "fs/close", json!({"handleId": "h"})).await;
    assert_eq!(ask(&mut client, "fs/uploadOpen", open("h", &path, 2)).await["offset"], 0);
    let none = refused(&mut client, "fs/uploadFinish", finish("nope", b"")).await;
    assert_eq!(none, "unknown file handle `nope`");
    ask(&mut client, "fs/open", json!({"handleId": "r", "path": "/proc/self/comm"})).await;
    let plain = refused(&mut client, "fs/uploadFinish", finish("r", b"")).await;
    assert_eq!(plain, "file handle `r` is no upload");
}

#[tokio::test]
async fn links_are_followed_once_and_what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/f"), "old").unwrap();
    symlink("sub/f", &link).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    let mut bench = Bench::new();
    let mut client = connect(&mut bench).await;
    for (path, why) in [("sub", "is not a file"), ("dangling", "is a link that leads nowhere")] {
        let text = refused(&mut client, "fs/uploadOpen", open("h", &dir.path().join(path), 1)).await;
        assert!(text.ends_with(why), "{text}");
    }
    ask(&mut client, "fs/uploadOpen", open("h", &link, 1)).await;
    ask(&mut client, "fs/writeBlock", block("h", 0, b"x")).await;
    // What the link led to when the upload began is what is replaced, wherever it leads now.
    fs::write(&real, "other").unwrap();
    fs::remove_file(&link).unwrap();
    symlink("real", &link).unwrap();
    ask(&mut client, "fs/uploadFinish", finish("h", b"x")).await;
    assert_eq!(fs::read(dir.path().join("sub/f")).unwrap(), b"x");
    assert_eq!(fs::read(&real).unwrap(), b"other");
    // A target that has become a link meanwhile is not replaced.
    ask(&mut client, "fs/uploadOpen", open("h", &real, 1)).await;
    ask(&mut client, "fs/writeBlock", block("h", 0, b"x")).await;
    fs::remove_file(&real).unwrap();
    symlink("/etc/passwd", &real).unwrap();
    assert!(refused(&mut client, "fs/uploadFinish", finish("h", b"x")).await.ends_with("is not a file"));
}

#[tokio::test]
async fn the_policy_holds_at_the_beginning_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let (open_dir, closed) = (dir.join("open"), dir.join("closed"));
    fs::create_dir(&open_dir).unwrap();
    fs::create_dir(&closed).unwrap();
    let policy = |text: &str| {
        let file = dir.join("policy.toml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Policy::load(&file).unwrap()
    };
    let root = |access: &str| format!("[[roots]]\npath = \"{}\"\naccess = \"{access}\"\n", open_dir.display());
    let current = Current::new(policy(&root("write")));
    let mut config = ExecutorConfig { ..config() };
    config.host.policy = current.clone();
    let mut bench = Bench::with(config);
    let mut client = connect(&mut bench).await;
    let outside = refused(&mut client, "fs/uploadOpen", open("h", &closed.join("f"), 1)).await;
    assert!(outside.starts_with("policy: "), "{outside}");
    symlink(&closed, open_dir.join("way")).unwrap();
    let through = refused(&mut client, "fs/uploadOpen", open("h", &open_dir.join("way/f"), 1)).await;
    assert!(through.starts_with("policy: "), "{through}");
    // The directory is carried out of the roots, and a link put in its place.
    let sub = open_dir.join("sub");
    fs::create_dir(&sub).unwrap();
    ask(&mut client, "fs/uploadOpen", open("h", &sub.join("f"), 1)).await;
    ask(&mut client, "fs/writeBlock", block("h", 0, b"x")).await;
    fs::rename(&sub, closed.join("sub")).unwrap();
    symlink(closed.join("sub"), &sub).unwrap();
    let moved = refused(&mut client, "fs/uploadFinish", finish("h", b"x")).await;
    assert!(moved.starts_with("policy: "), "{moved}");
    assert!(!closed.join("sub/f").exists());
    // The owner takes the right away meanwhile.
    ask(&mut client, "fs/uploadOpen", open("i", &open_dir.join("f"), 1)).await;
    ask(&mut client, "fs/writeBlock", block("i", 0, b"x")).await;
    current.set(policy(&root("read")));
    let late = refused(&mut client, "fs/uploadFinish", finish("i", b"x")).await;
    assert!(late.starts_with("policy: "), "{late}");
    assert!(!open_dir.join("f").exists());
    current.set(policy(&format!("read_only = true\n{}", root("write"))));
    let method = refused(&mut client, "fs/uploadFinish", finish("i", b"x")).await;
    assert!(method.contains("read_only"), "{method}");
}

#[tokio::test]
async fn what_was_given_up_a_week_ago_is_swept_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let part = |digit: &str| dir.path().join(format!(".exedra-upload-{}", digit.repeat(32)));
    let age = |path: &Path, days: u64| {
        let file = fs::File::options().write(true).create(true).truncate(false).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    };
    age(&part("a"), 8);
    age(&part("b"), 6);
    age(&dir.path().join(".exedra-upload-mine"), 8);
    let mut bench = Bench::new();
    let mut client = connect(&mut bench).await;
    ask(&mut client, "fs/uploadOpen", open("h", &dir.path().join("f"), 1)).await;
    assert!(!part("a").exists() && part("b").exists() && dir.path().join(".exedra-upload-mine").exists());
}

#[tokio::test]
async fn an_upload_for_which_there_is_no_room_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    let mut client = connect(&mut bench).await;
    let params = open("h", &dir.path().join("f"), usize::try_from(1_u64 << 60).unwrap());
    let text = refused(&mut client, "fs/uploadOpen", params).await;
    assert!(text.starts_with("no room: the upload needs 1152921504606846976 bytes more"), "{text}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test]
async fn who_did_not_agree_has_no_uploads() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let answer = client.call("fs/uploadOpen", open("h", Path::new("/tmp/f"), 1)).await;
    assert_eq!(answer["error"]["code"], -32601);
}
