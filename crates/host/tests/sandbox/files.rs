//! The `fs` methods under a sandbox: what stock clients ask for, and what would lead out of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exedra_host::fs::{Files, FsError, FsErrorKind};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::rig::{Rig, entry, glob, special};

/// A rig's directory, through `fs` methods that carry a sandbox.
struct Place {
    rig: Rig,
    files: Files,
    sandbox: Value,
}

impl Place {
    fn new(sandbox: impl FnOnce(&Rig) -> Value) -> Self {
        let rig = Rig::new();
        for name in ["w/sub", "w/.git", "w/private", "out/deep"] {
            fs::create_dir_all(rig.path(name)).unwrap();
        }
        for name in ["w/f", "w/.git/config", "w/private/key", "out/o", "out/deep/o"] {
            fs::write(rig.path(name), name).unwrap();
        }
        let sandbox = sandbox(&rig);
        Self { files: Files::new(Arc::clone(&rig.host)), rig, sandbox }
    }

    /// What stock clients ask for in `workspace-write` mode, and something denied.
    fn workspace() -> Self {
        Self::new(|rig| rig.workspace(&[entry(&rig.path("w/private"), "deny")]))
    }

    /// The members with the sandbox.
    fn with<P: DeserializeOwned>(&self, mut members: Value) -> P {
        members["sandbox"] = self.sandbox.clone();
        serde_json::from_value(members).unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        // Joining an absolute one gives that.
        self.rig.path(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    async fn read(&self, name: &str) -> Result<String, FsError> {
        let read = self.files.read_file(self.with(json!({"path": self.at(name)}))).await?;
        Ok(String::from_utf8(read.data_base64.decode().unwrap()).unwrap())
    }

    async fn write(&self, name: &str) -> Result<(), FsError> {
        self.files.write_file(self.with(json!({"path": self.at(name), "dataBase64": "bmV3"}))).await.map(drop)
    }

    async fn remove(&self, name: &str) -> Result<(), FsError> {
        self.files.remove(self.with(json!({"path": self.at(name), "force": false}))).await.map(drop)
    }

    async fn create(&self, name: &str) -> Result<(), FsError> {
        self.files.create_directory(self.with(json!({"path": self.at(name)}))).await.map(drop)
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), FsError> {
        let members = json!({"sourcePath": self.at(from), "destinationPath": self.at(to), "recursive": true});
        self.files.copy(self.with(members)).await.map(drop)
    }

    async fn open(&self, handle: &str, name: &str, mode: &str) -> Result<(), FsError> {
        let members = json!({"handleId": handle, "path": self.at(name), "mode": mode});
        self.files.open(self.with(members)).await.map(drop)
    }

    async fn names(&self, name: &str) -> Result<Vec<String>, FsError> {
        let listed = self.files.read_directory(self.with(json!({"path": self.at(name)}))).await?;
        let mut names: Vec<_> = listed.entries.into_iter().map(|entry| entry.file_name).collect();
        names.sort();
        Ok(names)
    }

    async fn walk(&self, name: &str) -> Result<Vec<String>, FsError> {
        let options =
            json!({"maxDepth": 64, "maxDirectories": 100, "maxEntries": 1000, "followDirectorySymlinks": true});
        let base = self.at(name);
        let result = self.files.walk(self.with(json!({"path": base, "options": options}))).await?;
        Ok(result.entries.iter().map(|e| e.path.as_path().strip_prefix(&base).unwrap().display().to_string()).collect())
    }
}

/// The number of the system's error in a refusal.
#[track_caller]
fn number<T: std::fmt::Debug>(result: Result<T, FsError>) -> i32 {
    let text = result.unwrap_err().text;
    let number = text.rsplit_once("(os error ").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
    assert!(number.is_some(), "{text}");
    number.unwrap()
}

const GONE: i32 = 2;
const REFUSED: i32 = 13;
const BUSY: i32 = 16;
const READ_ONLY: i32 = 30;

#[tokio::test]
async fn inside_the_workspace_everything_works_and_outside_it_is_only_read() {
    let place = Place::workspace();
    assert_eq!(place.read("w/f").await.unwrap(), "w/f");
    assert_eq!(place.read("out/o").await.unwrap(), "out/o");
    assert_eq!(place.read("w/.git/config").await.unwrap(), "w/.git/config");
    for name in ["w/f", "w/fresh"] {
        place.write(name).await.unwrap();
        assert_eq!(place.text(name), "new");
    }
    place.create("w/a/b").await.unwrap();
    place.copy("out", "w/a/out").await.unwrap();
    assert_eq!(place.text("w/a/out/deep/o"), "out/deep/o");
    place.remove("w/a").await.unwrap();
    place.open("h", "w/block", "replace").await.unwrap();
    place
        .files
        .write_block(serde_json::from_value(json!({"handleId": "h", "offset": 1, "chunk": "bmV3"})).unwrap())
        .await
        .unwrap();
    assert_eq!(place.text("w/block"), "\0new");
    let metadata = place.files.get_metadata(place.with(json!({"path": place.at("out/o")}))).await.unwrap();
    assert!(metadata.is_file && metadata.size == Some(5));
    assert_eq!(place.walk("out").await.unwrap(), ["deep", "o", "secret", "deep/o"]);
    for name in ["out/o", "out/none", "w/.git/config", "w/.git/none", "w/.codex"] {
        assert_eq!(number(place.write(name).await), READ_ONLY, "{name}");
        assert_eq!(number(place.open("x", name, "replace").await), READ_ONLY, "{name}");
        assert_eq!(number(place.copy("w/f", name).await), READ_ONLY, "{name}");
    }
    for name in ["out/o", "out/deep", "w/.git/config", "w/.git"] {
        assert_eq!(number(place.remove(name).await), READ_ONLY, "{name}");
    }
    for name in ["out/none", "w/.git/none", "w/.codex"] {
        assert_eq!(number(place.remove(name).await), GONE, "{name}: there is nothing to be removed");
    }
    for name in ["out/none/x", "w/.codex/none"] {
        assert_eq!(number(place.write(name).await), GONE, "{name}: neither is its directory");
    }
    assert_eq!(number(place.create("out/new/deep").await), READ_ONLY);
    assert_eq!(number(place.create("w/.agents").await), READ_ONLY);
    assert!(!place.at("w/.codex").exists() && !place.at("w/.agents").exists(), "nothing stands in for them");
}

#[tokio::test]
async fn what_is_denied_is_not_touched_and_stays_where_it_is() {
    let place = Place::workspace();
    for name in ["w/private/key", "w/private/none"] {
        assert_eq!(number(place.read(name).await), REFUSED, "{name}");
        assert_eq!(number(place.write(name).await), REFUSED, "{name}");
        assert_eq!(number(place.remove(name).await), REFUSED, "{name}");
        assert_eq!(number(place.open("h", name, "read").await), REFUSED, "{name}");
        assert_eq!(number(place.copy(name, "w/stolen").await), REFUSED, "{name}");
    }
    assert_eq!(number(place.names("w/private").await), REFUSED);
    assert_eq!(number(place.copy("w", "w2").await), READ_ONLY);
    assert_eq!(place.names("w").await.unwrap(), [".git", "f", "sub"]);
    assert_eq!(place.walk("w").await.unwrap(), [".git", "f", "sub", ".git/config"]);
    let above = Place::new(|rig| {
        rig.sandbox(
            "restricted",
            &[special("root", "write"), entry(&rig.path("w/private"), "deny"), glob(&rig.text("out/**/o"), "read")],
        )
    });
    assert_eq!(number(above.remove("w").await), BUSY, "something denied is below it");
    assert_eq!(number(above.remove("out").await), BUSY);
    assert_eq!(number(above.write("out/deep/o").await), READ_ONLY);
    above.write("out/deep/p").await.unwrap();
    assert_eq!(above.text("w/private/key"), "w/private/key");
}

#[tokio::test]
async fn what_is_not_granted_is_not_there() {
    let place = Place::new(|rig| rig.sandbox("restricted", &[special("project_roots", "write")]));
    place.write("w/f").await.unwrap();
    place.create("w/a/b/c").await.unwrap();
    for name in ["out/o", "out/none", "/etc/passwd", "/proc/self/environ", "/"] {
        let gone = if name.starts_with("/proc") { REFUSED } else { GONE };
        assert_eq!(number(place.read(name).await), gone, "{name}");
        assert_eq!(number(place.write(name).await), gone, "{name}");
        assert_eq!(number(place.names(name).await), gone, "{name}");
        assert_eq!(number(place.copy(name, "w/stolen").await), gone, "{name}");
        assert!(place.create(name).await.is_err(), "{name}");
    }
    assert!(!place.at("w/stolen").exists());
    let watch = |missing: &str| place.with(json!({"watchId": missing.len(), "missing": [place.at(missing)]}));
    assert!(place.files.watch_missing(watch("w/later")).await.unwrap().is_some());
    assert!(place.files.watch_missing(watch("out/later/on")).await.unwrap().is_none());
}

#[tokio::test]
async fn nothing_leads_out_by_links_dots_or_the_views_of_processes() {
    let place =
        Place::new(|rig| rig.sandbox("restricted", &[special("minimal", "read"), special("project_roots", "write")]));
    let outside = place.at("out/o");
    for (text, name) in [
        (place.at("out").as_path(), "w/dir"),
        (Path::new("../out/o"), "w/file"),
        (Path::new("../out/none"), "w/dangling"),
        (Path::new("/proc/self/root"), "w/magic"),
        (Path::new("/proc/self/cwd"), "w/cwd"),
    ] {
        symlink(text, place.at(name)).unwrap();
    }
    let magic = format!("w/magic{}", outside.display());
    let root = format!("/proc/self/root{}", outside.display());
    let task = format!("/proc/thread-self/root{}", outside.display());
    let numbered = format!("/proc/{}/root{}", std::process::id(), outside.display());
    let names = ["w/dir/o", "w/file", "w/../out/o", "w/sub/../../out/o", &magic, &root, &task, &numbered, "w/cwd/x"];
    for name in names {
        assert!(place.read(name).await.is_err(), "{name}");
        assert!(place.write(name).await.is_err(), "{name}");
        assert!(place.open("h", name, "read").await.is_err(), "{name}");
        assert!(place.open("h", name, "replace").await.is_err(), "{name}");
        assert!(place.copy("w/f", name).await.is_err(), "{name}");
        assert!(place.copy(name, "w/stolen").await.is_err() || place.at("w/stolen").is_symlink(), "{name}");
        let _ = fs::remove_file(place.at("w/stolen"));
        assert!(place.files.get_metadata(place.with(json!({"path": place.at(name)}))).await.is_err(), "{name}");
        assert!(place.files.canonicalize(place.with(json!({"path": place.at(name)}))).await.is_err(), "{name}");
    }
    assert!(place.write("w/dangling").await.is_err());
    assert!(place.remove("w/dir/deep").await.is_err() && place.remove("w/dir/o").await.is_err());
    assert!(place.create("w/dir/made").await.is_err());
    // A second name of a file outside, made by somebody who may.
    fs::hard_link(&outside, place.at("w/hard")).unwrap();
    let refusal = place.write("w/hard").await.unwrap_err();
    assert!(refusal.kind == FsErrorKind::Invalid && refusal.text.starts_with("sandbox: "), "{refusal:?}");
    assert!(place.open("h", "w/hard", "replace").await.is_err() && place.copy("w/f", "w/hard").await.is_err());
    assert_eq!((place.text("out/o"), place.text("out/deep/o")), ("out/o".into(), "out/deep/o".into()));
    assert_eq!(fs::read_dir(place.at("out")).unwrap().count(), 3);
}

/// What runs in the sandbox cannot make a second name of a file outside, and what a client has made there leads nowhere.
#[tokio::test]
async fn a_command_and_the_methods_cannot_help_each_other_out() {
    let place = Place::workspace();
    let script = r#"ln "$OUT/o" hard 2>/dev/null; ln .git/config config 2>/dev/null; ln -s "$OUT" dir; ln -s private/key key; ls"#;
    let story = place.rig.run(&place.sandbox, script).await;
    let made: Vec<&str> = story.output.split_whitespace().collect();
    assert_eq!(made, ["dir", "f", "key", "private", "sub"], "no hard links");
    assert_eq!(number(place.write("w/dir/o").await), READ_ONLY);
    assert_eq!(number(place.read("w/key").await), REFUSED);
    assert_eq!(place.text("out/o"), "out/o");
}

/// Rounds of the race; all of them under `cargo xtask soak`.
fn rounds() -> usize {
    std::env::var("EXEDRA_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

#[tokio::test]
async fn a_link_that_is_swapped_during_a_call_leads_nowhere_else() {
    let place =
        Place::new(|rig| rig.sandbox("restricted", &[special("minimal", "read"), special("project_roots", "write")]));
    fs::create_dir(place.at("w/real")).unwrap();
    fs::write(place.at("w/real/o"), "inside").unwrap();
    let (turn, spare) = (place.at("w/turn"), place.at("w/spare"));
    let ends = [place.at("out"), place.at("w/.git"), place.at("w/real")];
    symlink(&ends[2], &turn).unwrap();
    let swapping = Arc::new(AtomicBool::new(true));
    let swapper = std::thread::spawn({
        let swapping = Arc::clone(&swapping);
        move || {
            while swapping.load(Ordering::Relaxed) {
                for to in &ends {
                    symlink(to, &spare).unwrap();
                    fs::rename(&spare, &turn).unwrap();
                }
            }
        }
    });
    for round in 0..rounds() {
        if let Ok(text) = place.read("w/turn/o").await {
            assert!(text == "inside" || text == "new", "round {round}: {text}");
        }
        let _ = place.write("w/turn/o").await;
        let _ = place.write("w/turn/config").await;
        let _ = place.open(&round.to_string(), "w/turn/config", "replace").await;
        let _ = place.files.close(serde_json::from_value(json!({"handleId": round.to_string()})).unwrap()).await;
        let _ = place.create("w/turn/directory/deep").await;
        let _ = place.copy("w/turn/deep", "w/stolen").await;
        for name in ["w/turn/deep", "w/turn/config", "w/turn/directory"] {
            let _ = place.remove(name).await;
        }
    }
    swapping.store(false, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!((place.text("out/o"), place.text("out/deep/o")), ("out/o".into(), "out/deep/o".into()));
    assert_eq!(place.text("w/.git/config"), "w/.git/config");
    assert_eq!(fs::read_dir(place.at("out")).unwrap().count(), 3, "nothing was made there");
    assert_eq!(fs::read_dir(place.at("w/.git")).unwrap().count(), 1, "nor there");
    assert!(!place.at("w/stolen").exists());
}
