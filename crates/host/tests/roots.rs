//! What leads out of the roots, and does not; and the methods of newer clients on real files.
#![expect(clippy::unwrap_used, reason = "the lints know tests by #[test], not what those call")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exedra_host::fs::{Access, Files, FsError, FsErrorKind, Roots};
use exedra_host::{Host, HostConfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// `in` may be written but for `in/secret`, `lib` read; `out` is out of bounds.
struct Place {
    dir: tempfile::TempDir,
    files: Files,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        for name in ["in/sub", "in/secret", "lib", "out/deep"] {
            fs::create_dir_all(real.join(name)).unwrap();
        }
        for name in ["in/f", "in/sub/g", "in/secret/key", "lib/l", "out/o", "out/deep/o"] {
            fs::write(real.join(name), name).unwrap();
        }
        let rules = [("in", Access::Write), ("in/secret", Access::Deny), ("lib", Access::Read)];
        let roots = Roots::only(rules.map(|(name, access)| (real.join(name), access)));
        Self { dir, files: Files::beneath(Host::start(HostConfig::default()).unwrap(), roots) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    async fn read(&self, name: &str) -> Result<String, FsError> {
        let read = self.files.read_file(params(json!({"path": self.at(name)}))).await?;
        Ok(String::from_utf8(read.data_base64.decode().unwrap()).unwrap())
    }

    async fn write(&self, name: &str) -> Result<(), FsError> {
        self.files.write_file(params(json!({"path": self.at(name), "dataBase64": "bmV3"}))).await.map(drop)
    }

    async fn remove(&self, name: &str) -> Result<(), FsError> {
        self.files.remove(params(json!({"path": self.at(name)}))).await.map(drop)
    }

    async fn create(&self, name: &str) -> Result<(), FsError> {
        self.files.create_directory(params(json!({"path": self.at(name)}))).await.map(drop)
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), FsError> {
        let members = json!({"sourcePath": self.at(from), "destinationPath": self.at(to), "recursive": true});
        self.files.copy(params(members)).await.map(drop)
    }

    async fn open(&self, name: &str, mode: &str) -> Result<(), FsError> {
        let id = if name.len() > 32 { "long" } else { name };
        self.files.open(params(json!({"handleId": id, "path": self.at(name), "mode": mode}))).await.map(drop)
    }

    async fn walk(&self, name: &str) -> Result<Vec<String>, FsError> {
        let result = self.files.walk(params(json!({"path": self.at(name), "options": options(true)}))).await?;
        let base = self.at(name);
        Ok(result.entries.iter().map(|e| e.path.as_path().strip_prefix(&base).unwrap().display().to_string()).collect())
    }
}

fn params<P: DeserializeOwned>(members: Value) -> P {
    serde_json::from_value(members).unwrap()
}

fn options(follow: bool) -> Value {
    json!({"maxDepth": 64, "maxDirectories": 100, "maxEntries": 1000, "followDirectorySymlinks": follow})
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, FsError>) {
    let error = result.unwrap_err();
    assert!(error.kind == FsErrorKind::Invalid && error.text.starts_with("policy: "), "{error:?}");
}

#[tokio::test]
async fn inside_everything_works() {
    let place = Place::new();
    assert_eq!(place.read("in/f").await.unwrap(), "in/f");
    assert_eq!(place.read("lib/l").await.unwrap(), "lib/l");
    for name in ["in/f", "in/fresh"] {
        place.write(name).await.unwrap();
        assert_eq!(place.text(name), "new");
    }
    place.create("in/a/b/c").await.unwrap();
    place.create("in/a/b/c").await.unwrap();
    place.copy("lib", "in/a/lib").await.unwrap();
    assert_eq!(place.text("in/a/lib/l"), "lib/l");
    symlink("../lib/l", place.at("in/link")).unwrap();
    assert_eq!(place.read("in/link").await.unwrap(), "lib/l", "from one root to another");
    let metadata = place.files.get_metadata(params(json!({"path": place.at("in/link")}))).await.unwrap();
    assert!(metadata.is_symlink && metadata.is_file && metadata.size == Some(5));
    let real = place.files.canonicalize(params(json!({"path": place.at("in/link")}))).await.unwrap();
    assert_eq!(real.path.as_path(), place.at("lib/l"));
    let listed = place.files.read_directory(params(json!({"path": place.at("in")}))).await.unwrap().entries;
    let mut names: Vec<_> = listed.into_iter().map(|entry| entry.file_name).collect();
    names.sort();
    assert_eq!(names, ["a", "f", "fresh", "link", "sub"], "what is denied cannot be examined");
    place.remove("in/link").await.unwrap();
    place.remove("in/a").await.unwrap();
    place.remove("in/nothing").await.unwrap();
    assert!(!place.at("in/a").exists() && place.at("lib/l").exists());
    assert_eq!(place.read("in/none").await.unwrap_err().kind, FsErrorKind::NotFound);
}

#[tokio::test]
async fn nothing_leads_out() {
    let place = Place::new();
    symlink(place.at("out"), place.at("in/dir")).unwrap();
    symlink("../out/o", place.at("in/file")).unwrap();
    symlink("../out/none", place.at("in/dangling")).unwrap();
    symlink("/proc/self/root", place.at("in/magic")).unwrap();
    symlink("secret/key", place.at("in/inner")).unwrap();
    let outside = place.at("out/o");
    let magic = format!("in/magic{}", outside.display());
    let proc = format!("/proc/self/root{}", outside.display());
    let names = ["out/o", "in/dir/o", "in/file", "in/secret/key", "in/inner", "in/../out/o", &magic, &proc];
    for name in names {
        let read = place.read(name).await;
        assert!(read.is_err(), "{name}: {read:?}");
        assert!(place.write(name).await.is_err(), "{name}");
        assert!(place.open(name, "read").await.is_err(), "{name}");
        assert!(place.open(name, "replace").await.is_err(), "{name}");
        assert!(place.copy(name, "in/stolen").await.is_err() || place.at("in/stolen").is_symlink(), "{name}");
        let _ = fs::remove_file(place.at("in/stolen"));
        assert!(place.copy("in/f", name).await.is_err(), "{name}");
        assert!(place.files.get_metadata(params(json!({"path": place.at(name)}))).await.is_err(), "{name}");
        assert!(place.files.canonicalize(params(json!({"path": place.at(name)}))).await.is_err(), "{name}");
    }
    for name in ["out/new", "in/dir/new", "in/dangling", "lib/new", "lib/l", "in/secret/new"] {
        refused(place.write(name).await);
        assert!(place.create(&format!("{name}/x")).await.is_err(), "{name}");
    }
    refused(place.create("in/dir/new").await);
    refused(place.read("out/none").await);
    refused(place.read("in/dir/none").await);
    for name in ["out", "in/dir/deep", "in/secret", "in", "lib/l"] {
        refused(place.remove(name).await);
    }
    for name in ["out", "in/dir", "in/secret"] {
        refused(place.files.read_directory(params(json!({"path": place.at(name)}))).await);
        refused(place.walk(name).await);
    }
    assert_eq!(place.walk("in").await.unwrap(), ["f", "sub", "sub/g"], "neither what is denied nor links out of it");
    for (name, text) in [("out/o", "out/o"), ("in/secret/key", "in/secret/key"), ("lib/l", "lib/l")] {
        assert_eq!(place.text(name), text);
    }
    assert_eq!(fs::read_dir(place.at("out")).unwrap().count(), 2);
}

#[tokio::test]
async fn a_file_with_several_names_is_not_written() {
    let place = Place::new();
    fs::hard_link(place.at("out/o"), place.at("in/hard")).unwrap();
    refused(place.write("in/hard").await);
    refused(place.open("in/hard", "replace").await);
    refused(place.copy("in/f", "in/hard").await);
    assert_eq!(place.text("out/o"), "out/o");
    place.remove("in/hard").await.unwrap();
    assert_eq!(place.text("out/o"), "out/o");
}

/// Rounds of the race; all of them under `cargo xtask soak`.
fn rounds() -> usize {
    std::env::var("EXEDRA_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

#[tokio::test]
async fn a_link_that_is_swapped_during_a_call_leads_nowhere_else() {
    let place = Place::new();
    fs::create_dir(place.at("in/real")).unwrap();
    fs::write(place.at("in/real/o"), "inside").unwrap();
    let swapping = Arc::new(AtomicBool::new(true));
    let (turn, good, bad, spare) = (place.at("in/turn"), place.at("in/real"), place.at("out"), place.at("in/spare"));
    symlink(&good, &turn).unwrap();
    let swapper = std::thread::spawn({
        let swapping = Arc::clone(&swapping);
        move || {
            while swapping.load(Ordering::Relaxed) {
                for to in [&bad, &good] {
                    symlink(to, &spare).unwrap();
                    fs::rename(&spare, &turn).unwrap();
                }
            }
        }
    });
    for round in 0..rounds() {
        if let Ok(text) = place.read("in/turn/o").await {
            assert!(text == "inside" || text == "new", "round {round}: {text}");
        }
        let _ = place.write("in/turn/o").await;
        let _ = place.write("in/turn/made").await;
        let _ = place.create("in/turn/directory/deep").await;
        let _ = place.copy("in/turn/deep", "in/stolen").await;
        let _ = place.remove("in/turn/deep").await;
        let _ = place.remove("in/turn/made").await;
    }
    swapping.store(false, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!((place.text("out/o"), place.text("out/deep/o")), ("out/o".into(), "out/deep/o".into()));
    assert_eq!(fs::read_dir(place.at("out")).unwrap().count(), 2, "nothing was made there");
    assert!(!place.at("in/stolen").exists());
}

#[tokio::test]
async fn blocks() {
    let place = Place::new();
    let files = &place.files;
    place.open("in/f", "read").await.unwrap();
    let again = place.open("in/f", "read").await.unwrap_err().text;
    assert_eq!(again, "file handle `in/f` already exists");
    let block = |offset: u64, len: u64| params(json!({"handleId": "in/f", "offset": offset, "len": len}));
    let read = |offset: u64, len: u64| files.read_block(block(offset, len), "<".to_owned());
    assert_eq!(read(0, 4).await.unwrap(), ("<aW4vZg==".to_owned(), 4), "it ends just there");
    assert_eq!(read(4, 4).await.unwrap(), ("<".to_owned(), 0));
    assert_eq!(files.read_bytes(block(3, 4), b"<".to_vec()).await.unwrap(), (b"<f".to_vec(), 1));
    for len in [0, 1_048_577] {
        assert_eq!(read(0, len).await.unwrap_err().text, "file read block length must be between 1 and 1048576");
    }
    let onto = |id: &'static str| files.write_block(params(json!({"handleId": id, "offset": 2, "chunk": "bmV3"})));
    assert_eq!(onto("in/f").await.unwrap_err().text, "Bad file descriptor (os error 9)");
    assert_eq!(read(0, 4).await.unwrap_err().text, "unknown file handle `in/f`", "a failure closes it");
    place.open("in/w", "replace").await.unwrap();
    onto("in/w").await.unwrap();
    files.close(params(json!({"handleId": "in/w"}))).await.unwrap();
    files.close(params(json!({"handleId": "in/w"}))).await.unwrap();
    assert_eq!(place.text("in/w"), "\0\0new");
    for mode in ["read", "replace"] {
        let directory = place.open("in/sub", mode).await.unwrap_err();
        assert_eq!(directory, FsError::invalid(format!("path `{}` is not a file", place.at("in/sub").display())));
    }
    let long = "x".repeat(33);
    let open = |id: &str| files.open(params(json!({"handleId": id, "path": place.at("in/f")})));
    assert_eq!(open(&long).await.unwrap_err().text, "file handle ID must not exceed 32 bytes");
    for number in 0..128 {
        open(&number.to_string()).await.unwrap();
    }
    assert_eq!(open("x").await.unwrap_err().text, "at most 128 file handles may be open per connection");
}

#[tokio::test]
async fn links_are_refused_where_they_are_not_to_be_followed() {
    let place = Place::new();
    let files = Files::new(Host::start(HostConfig::default()).unwrap());
    symlink("f", place.at("in/last")).unwrap();
    symlink("sub", place.at("in/dir")).unwrap();
    let with = |name: &str| json!({"path": place.at(name), "followSymlinks": false, "recursive": false});
    let text = |error: FsError| (error.kind, error.text);
    let looped = (FsErrorKind::Other, "Symbolic link loop (os error 40)".to_owned());
    let contains = (FsErrorKind::Invalid, "path contains a symbolic link".to_owned());
    let inside = (FsErrorKind::Other, "Not a directory (os error 20)".to_owned());
    assert_eq!(text(files.read_file(params(with("in/last"))).await.unwrap_err()), looped);
    assert_eq!(text(files.get_metadata(params(with("in/last"))).await.unwrap_err()), contains);
    assert_eq!(text(files.remove(params(with("in/last"))).await.unwrap_err()), contains);
    for name in ["in/dir/g", "in/dir/none"] {
        assert_eq!(text(files.read_file(params(with(name))).await.unwrap_err()), inside);
        assert_eq!(text(files.remove(params(with(name))).await.unwrap_err()), inside);
    }
    assert_eq!(files.read_file(params(with("in/f"))).await.unwrap().data_base64.0, "aW4vZg==");
    files.remove(params(with("in/f"))).await.unwrap();
    assert!(!place.at("in/f").exists() && place.at("in/last").is_symlink());
}

#[tokio::test]
async fn walking_keeps_its_limits() {
    let place = Place::new();
    let files = Files::new(Host::start(HostConfig::default()).unwrap());
    symlink("..", place.at("in/sub/up")).unwrap();
    symlink("f", place.at("in/link")).unwrap();
    fs::create_dir(place.at("in/.hidden")).unwrap();
    fs::write(place.at("in/.hidden/x"), "").unwrap();
    let walk = async |over: Value| {
        let mut all = options(true);
        all.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        files.walk(params(json!({"path": place.at("in"), "options": all}))).await
    };
    let names = |result: &exedra_proto::fs::WalkResult| {
        let base = place.at("in");
        let name =
            |e: &exedra_proto::fs::WalkEntry| e.path.as_path().strip_prefix(&base).unwrap().display().to_string();
        result.entries.iter().map(name).collect::<Vec<_>>()
    };
    let all = walk(json!({})).await.unwrap();
    assert_eq!(names(&all), [".hidden", "f", "secret", "sub", ".hidden/x", "secret/key", "sub/g", "sub/up"]);
    assert!(!all.truncated && all.errors.is_empty());
    let some = walk(json!({"maxDepth": 0, "followDirectorySymlinks": false})).await.unwrap();
    assert_eq!(names(&some), [".hidden", "f", "secret", "sub"]);
    let pruned = walk(json!({"pruneHiddenDirectories": true, "followDirectorySymlinks": false})).await.unwrap();
    assert_eq!(names(&pruned), [".hidden", "f", "secret", "sub", "secret/key", "sub/g"]);
    let two = walk(json!({"maxDirectories": 2})).await.unwrap();
    assert!(two.truncated && names(&two).ends_with(&[".hidden/x".to_owned()]));
    let three = walk(json!({"maxEntries": 3})).await.unwrap();
    assert!(three.truncated);
    assert_eq!(names(&three), [".hidden", "f"], "the link counts");
    for zero in ["maxDirectories", "maxEntries"] {
        let error = walk(json!({zero: 0})).await.unwrap_err().text;
        assert_eq!(error, "filesystem walk limits must be greater than zero");
    }
    assert!(walk(json!({"maxDepth": 65})).await.unwrap_err().text.starts_with("filesystem walk limits exceed"));
    let missing = files.walk(params(json!({"path": place.at("none"), "options": options(true)}))).await;
    assert_eq!(missing.unwrap_err().kind, FsErrorKind::NotFound);
    let file = files.walk(params(json!({"path": place.at("in/f"), "options": options(true)}))).await.unwrap();
    assert_eq!(file, exedra_proto::fs::WalkResult::default());
}

#[tokio::test]
async fn what_is_missing_is_told_when_it_appears() {
    let place = Place::new();
    let files = &place.files;
    let set = async |id: u64, missing: &[&str], present: Option<&str>| {
        let missing: Vec<_> = missing.iter().map(|name| place.at(name)).collect();
        let present = present.map(|name| place.at(name));
        files.watch_missing(params(json!({"watchId": id, "missing": missing, "present": present}))).await
    };
    let watch = set(1, &["in/new/deep/er"], None).await.unwrap().unwrap();
    fs::write(place.at("in/unrelated"), "").unwrap();
    fs::create_dir(place.at("in/new")).unwrap();
    assert!(watch.wait().await, "the first missing directory");
    assert!(set(1, &["in/none"], None).await.unwrap().is_none(), "the id is used");
    assert!(set(2, &[], None).await.unwrap().is_none());
    assert!(set(3, &["in/none", "in/f"], None).await.unwrap().is_none(), "one exists");
    assert!(set(4, &["in/none"], Some("in/none")).await.unwrap().is_none(), "is not present");
    let old = set(5, &["in/none"], Some("in/f")).await.unwrap().unwrap();
    let new = set(6, &["in/none"], Some("in/f")).await.unwrap().unwrap();
    assert!(!old.wait().await, "replaced");
    fs::write(place.at("in/f"), "changed").unwrap();
    assert!(new.wait().await);
    let removed = set(7, &["in/none"], Some("in/f")).await.unwrap().unwrap();
    fs::remove_file(place.at("in/f")).unwrap();
    assert!(removed.wait().await);
    refused(set(8, &["out/none"], None).await);
    symlink("nowhere", place.at("in/dangling")).unwrap();
    assert!(set(9, &["in/dangling"], None).await.unwrap().is_none(), "its target is elsewhere");
}
