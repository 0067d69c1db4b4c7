//! The `fs/*` functions on real files; texts and codes as recorded from stock 0.130, and where we do better.
#![expect(clippy::unwrap_used, reason = "the lints know tests by #[test], not what those call")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use exedra_host::fs::{Content, Files, FsError, FsErrorKind, WHOLE_FILE_LIMIT};
use exedra_host::{Host, HostConfig};
use exedra_proto::base64::Base64Text;
use exedra_proto::fs::Metadata;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The directory that the fixtures describe.
struct Place {
    dir: tempfile::TempDir,
    files: Files,
}

impl Place {
    fn new() -> Self {
        let place =
            Self { dir: tempfile::tempdir().unwrap(), files: Files::new(Host::start(HostConfig::default()).unwrap()) };
        fs::write(place.at("f.txt"), "hello").unwrap();
        let touched = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        fs::File::options().write(true).open(place.at("f.txt")).unwrap().set_modified(touched).unwrap();
        fs::create_dir_all(place.at("full/sub")).unwrap();
        fs::write(place.at("full/a.txt"), "A").unwrap();
        fs::create_dir(place.at("empty")).unwrap();
        symlink("f.txt", place.at("lnk")).unwrap();
        symlink("nowhere", place.at("dangling")).unwrap();
        symlink("full", place.at("dirlink")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, place.at("fifo"), 0o600.into()).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place.at("socket")).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>, FsError> {
        Ok(self.files.read_file(path(self.at(name))).await?.data_base64.decode().unwrap())
    }

    async fn write(&self, name: &str, text: &str) -> Result<(), FsError> {
        let data = Base64Text::encode(text.as_bytes());
        self.files.write_file(params(json!({"path": self.at(name), "dataBase64": data}))).await.map(|_| ())
    }

    async fn metadata(&self, name: &str) -> Result<Metadata, FsError> {
        self.files.get_metadata(path(self.at(name))).await
    }

    async fn create(&self, name: &str, recursive: Option<bool>) -> Result<(), FsError> {
        self.files.create_directory(params(json!({"path": self.at(name), "recursive": recursive}))).await.map(|_| ())
    }

    async fn remove(&self, name: &str, over: Value) -> Result<(), FsError> {
        let mut members = json!({"path": self.at(name)});
        members.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        self.files.remove(params(members)).await.map(|_| ())
    }

    async fn copy(&self, from: &str, to: &str, recursive: bool) -> Result<(), FsError> {
        let members = json!({"sourcePath": self.at(from), "destinationPath": self.at(to), "recursive": recursive});
        self.files.copy(params(members)).await.map(|_| ())
    }

    async fn names(&self, name: &str) -> Result<Vec<(String, bool, bool)>, FsError> {
        let entries = self.files.read_directory(path(self.at(name))).await?.entries;
        let mut names: Vec<_> = entries.into_iter().map(|e| (e.file_name, e.is_directory, e.is_file)).collect();
        names.sort();
        Ok(names)
    }

    fn not_a_file(&self, name: &str) -> FsError {
        FsError::invalid(format!("path `{}` is not a file", self.at(name).display()))
    }
}

fn params<P: DeserializeOwned>(members: Value) -> P {
    serde_json::from_value(members).unwrap()
}

fn path<P: DeserializeOwned>(path: impl AsRef<Path>) -> P {
    params(json!({"path": path.as_ref()}))
}

fn not_found() -> FsError {
    FsError { kind: FsErrorKind::NotFound, text: "No such file or directory (os error 2)".into() }
}

fn other(text: &str) -> FsError {
    FsError { kind: FsErrorKind::Other, text: text.into() }
}

#[tokio::test]
async fn reading() {
    let place = Place::new();
    assert_eq!(place.read("f.txt").await.unwrap(), b"hello");
    assert_eq!(place.read("lnk").await.unwrap(), b"hello");
    assert_eq!(place.read("nope").await, Err(not_found()));
    assert_eq!(place.read("dangling").await, Err(not_found()));
    assert_eq!(place.read("full").await, Err(other("Is a directory (os error 21)")));
    assert_eq!(place.read("f.txt/x").await, Err(other("Not a directory (os error 20)")));
    for special in ["fifo", "socket", "/dev/zero", "/dev/tty"] {
        assert_eq!(place.read(special).await, Err(place.not_a_file(special)), "{special}");
    }
    let comm = place.read("/proc/self/comm").await.unwrap();
    assert!(!comm.is_empty(), "its size is given as 0");
}

#[tokio::test]
async fn large_files_are_refused_with_the_size_and_the_limit() {
    let place = Place::new();
    let file = fs::File::create(place.at("big")).unwrap();
    file.set_len(512 * 1024 * 1024 + 1).unwrap();
    let stock = FsError::invalid("file is too large to read: limit is 536870912 bytes");
    assert_eq!(place.read("big").await, Err(stock));
    file.set_len(WHOLE_FILE_LIMIT + 1).unwrap();
    let ours = "file is too large to read in one message: it has 50282497 bytes, the limit is 50282496 bytes";
    assert_eq!(place.read("big").await, Err(FsError::invalid(ours)));
    file.set_len(WHOLE_FILE_LIMIT).unwrap();
    let encoded = place.files.read_file(path(place.at("big"))).await.unwrap().data_base64.0;
    assert!(encoded.len() > 60 * 1024 * 1024 && encoded.len() < 64 * 1024 * 1024);
}

#[tokio::test]
async fn of_files_that_are_larger_than_asked_for_the_size_is_told() {
    let place = Place::new();
    let read = async |name: &str, most| place.files.read_file_up_to(path(place.at(name)), most).await;
    let whole = place.files.read_file(path(place.at("f.txt"))).await.unwrap();
    assert_eq!(read("f.txt", 5).await, Ok(Content::Whole(whole)));
    assert_eq!(read("f.txt", 4).await, Ok(Content::Larger(5)));
    assert!(matches!(read("/proc/self/status", 10).await, Ok(Content::Larger(11))), "its size is given as 0");
    assert_eq!(read("nope", 5).await, Err(not_found()));
    assert_eq!(read("full", 5).await, Err(other("Is a directory (os error 21)")));
}

#[tokio::test]
async fn writing() {
    let place = Place::new();
    place.write("new", "data").await.unwrap();
    assert_eq!(place.text("new"), "data");
    assert_eq!(place.write("no/such/w", "").await, Err(not_found()));
    assert_eq!(place.write("full", "").await, Err(other("Is a directory (os error 21)")));
    let bad: Result<_, _> = place.files.write_file(params(json!({"path": place.at("w"), "dataBase64": "!!"}))).await;
    let text = "fs/writeFile requires valid base64 dataBase64: Invalid symbol 33, offset 0.";
    assert_eq!(bad.unwrap_err(), FsError::invalid(text));
    assert!(!place.at("w").exists());
    place.write("dangling", "through").await.unwrap();
    assert_eq!(place.text("nowhere"), "through");
}

#[tokio::test]
async fn writing_keeps_what_a_client_can_see_of_an_existing_file() {
    let place = Place::new();
    fs::set_permissions(place.at("f.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(place.at("f.txt"), place.at("hard")).unwrap();
    let before = fs::metadata(place.at("f.txt")).unwrap();
    place.write("lnk", "hi").await.unwrap();
    let after = fs::metadata(place.at("f.txt")).unwrap();
    assert_eq!((after.ino(), after.mode(), after.nlink()), (before.ino(), before.mode(), 2));
    assert_eq!(place.text("hard"), "hi");
    assert!(fs::symlink_metadata(place.at("lnk")).unwrap().is_symlink());
}

#[tokio::test]
async fn a_full_disk_is_no_success_and_nothing_waits_for_a_reader() {
    let place = Place::new();
    assert_eq!(place.write("/dev/full", "x").await, Err(other("No space left on device (os error 28)")));
    assert_eq!(place.copy("f.txt", "/dev/full", false).await, Err(other("No space left on device (os error 28)")));
    place.write("/dev/null", "x").await.unwrap();
    for special in ["fifo", "socket"] {
        assert_eq!(place.write(special, "x").await, Err(place.not_a_file(special)));
        assert_eq!(place.copy("f.txt", special, false).await, Err(place.not_a_file(special)));
    }
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let reader = rustix::fs::open(place.at("fifo"), flags, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(place.write("fifo", "x").await, Err(place.not_a_file("fifo")), "also with a reader");
    drop(reader);
}

#[tokio::test]
async fn creating_directories() {
    let place = Place::new();
    let exists = Err(other("File exists (os error 17)"));
    place.create("m/n", None).await.unwrap();
    place.create("m/n", Some(true)).await.unwrap();
    place.create("dirlink", None).await.unwrap();
    assert_eq!(place.create("m", Some(false)).await, exists);
    assert_eq!(place.create("q/r", Some(false)).await, Err(not_found()));
    assert_eq!(place.create("f.txt", None).await, exists);
    assert_eq!(place.create("dangling", None).await, exists);
    assert_eq!(place.create("f.txt/x", None).await, Err(other("Not a directory (os error 20)")));
}

#[tokio::test]
async fn metadata() {
    let place = Place::new();
    let file = place.metadata("f.txt").await.unwrap();
    assert_eq!((file.is_directory, file.is_file, file.is_symlink, file.size), (false, true, false, Some(5)));
    assert_eq!(file.modified_at_ms, 1_700_000_000_000);
    let created = fs::metadata(place.at("f.txt")).unwrap().created();
    assert_eq!(file.created_at_ms > 0, created.is_ok());
    let link = place.metadata("lnk").await.unwrap();
    assert_eq!(
        (link.is_file, link.is_symlink, link.size, link.modified_at_ms),
        (true, true, Some(5), 1_700_000_000_000)
    );
    let directory = place.metadata("full").await.unwrap();
    assert_eq!((directory.is_directory, directory.is_file), (true, false));
    for special in ["fifo", "socket", "/dev/null"] {
        let special = place.metadata(special).await.unwrap();
        assert_eq!((special.is_directory, special.is_file, special.is_symlink), (false, false, false));
    }
    assert_eq!(place.metadata("/proc/self/comm").await.unwrap().created_at_ms, 0);
    assert_eq!(place.metadata("dangling").await, Err(not_found()));
    assert_eq!(place.metadata("nope").await, Err(not_found()));
    assert_eq!(place.metadata("f.txt/x").await, Err(other("Not a directory (os error 20)")));
    let nul = FsError::invalid("file name contained an unexpected NUL byte");
    assert_eq!(place.metadata("a\0b").await, Err(nul));
}

#[tokio::test]
async fn listing() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::new();
    assert_eq!(place.names("full").await.unwrap(), [("a.txt".into(), false, true), ("sub".into(), true, false)]);
    assert_eq!(place.names("dirlink").await.unwrap().len(), 2);
    fs::write(place.dir.path().join(std::ffi::OsStr::from_bytes(b"empty/\xff\n")), "").unwrap();
    assert_eq!(place.names("empty").await.unwrap(), [("\u{fffd}\n".into(), false, true)]);
    let all = place.names("").await.unwrap();
    let flags = |name: &str| all.iter().find(|entry| entry.0 == name).map(|entry| (entry.1, entry.2));
    assert_eq!(flags("dangling"), None);
    assert_eq!(flags("lnk"), Some((false, true)));
    assert_eq!(flags("dirlink"), Some((true, false)));
    assert_eq!(flags("fifo"), Some((false, false)));
    assert_eq!(place.names("f.txt").await, Err(other("Not a directory (os error 20)")));
    assert_eq!(place.names("nope").await, Err(not_found()));
}

#[tokio::test]
async fn removing() {
    let place = Place::new();
    let flat = || json!({"recursive": false});
    assert_eq!(place.remove("full", flat()).await, Err(other("Directory not empty (os error 39)")));
    place.remove("nope", json!({})).await.unwrap();
    assert_eq!(place.remove("nope", json!({"force": false})).await, Err(not_found()));
    assert_eq!(place.remove("f.txt/x", json!({})).await, Err(other("Not a directory (os error 20)")));
    place.remove("empty", flat()).await.unwrap();
    for name in ["fifo", "socket", "dangling", "lnk"] {
        place.remove(name, json!({})).await.unwrap();
        assert!(fs::symlink_metadata(place.at(name)).is_err(), "{name}");
    }
    assert_eq!(place.text("f.txt"), "hello", "the target of the link stays");
    assert!(place.remove("/", json!({})).await.is_err());
}

#[tokio::test]
async fn removing_follows_no_link_on_any_level() {
    let place = Place::new();
    place.remove("dirlink", json!({})).await.unwrap();
    assert_eq!(place.text("full/a.txt"), "A");
    fs::create_dir(place.at("outer")).unwrap();
    symlink(place.at("full"), place.at("outer/inner")).unwrap();
    place.remove("outer", json!({})).await.unwrap();
    assert!(!place.at("outer").exists());
    assert_eq!(place.text("full/a.txt"), "A");
}

#[tokio::test]
async fn copying_files() {
    let place = Place::new();
    fs::set_permissions(place.at("f.txt"), fs::Permissions::from_mode(0o4751)).unwrap();
    let mode = |name: &str| fs::metadata(place.at(name)).unwrap().mode() & 0o7777;
    place.copy("f.txt", "new", false).await.unwrap();
    assert_eq!((place.text("new"), mode("new")), ("hello".into(), 0o4751));
    fs::write(place.at("longer"), "something longer").unwrap();
    place.copy("f.txt", "longer", true).await.unwrap();
    assert_eq!((place.text("longer"), mode("longer")), ("hello".into(), 0o4751));
    place.copy("f.txt", "dangling", false).await.unwrap();
    assert_eq!(place.text("nowhere"), "hello");
    assert_eq!(place.copy("f.txt", "full", true).await, Err(other("Is a directory (os error 21)")));
    assert_eq!(place.copy("f.txt", "no/x", true).await, Err(not_found()));
    assert_eq!(place.copy("nope", "x", false).await, Err(not_found()));
    let kinds = FsError::invalid("fs/copy only supports regular files, directories, and symlinks");
    assert_eq!(place.copy("fifo", "x", false).await, Err(kinds));
}

#[tokio::test]
async fn a_file_copied_onto_itself_is_left_as_it_is() {
    let place = Place::new();
    fs::hard_link(place.at("f.txt"), place.at("hard")).unwrap();
    for onto in ["f.txt", "lnk", "hard", "full/../f.txt"] {
        place.copy("f.txt", onto, false).await.unwrap();
        assert_eq!(place.text("f.txt"), "hello", "{onto}");
    }
}

#[tokio::test]
async fn copying_links() {
    let place = Place::new();
    for (from, target) in [("lnk", "f.txt"), ("dangling", "nowhere"), ("dirlink", "full")] {
        let to = format!("{from}2");
        place.copy(from, &to, false).await.unwrap();
        assert_eq!(fs::read_link(place.at(&to)).unwrap(), Path::new(target));
        assert_eq!(place.copy(from, &to, false).await, Err(other("File exists (os error 17)")));
    }
}

#[tokio::test]
async fn copying_directories() {
    let place = Place::new();
    let needs = FsError::invalid("fs/copy requires recursive: true when sourcePath is a directory");
    assert_eq!(place.copy("full", "x", false).await, Err(needs));
    let itself = FsError::invalid("fs/copy cannot copy a directory to itself or one of its descendants");
    for into in ["full", "full/sub/x", "dirlink", "dirlink/new/deep"] {
        assert_eq!(place.copy("full", into, true).await, Err(itself.clone()), "{into}");
    }
    assert_eq!(place.copy("full", "f.txt", true).await, Err(other("File exists (os error 17)")));
    symlink("a.txt", place.at("full/link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.at("full/skipped"), 0o600.into()).unwrap();
    fs::create_dir(place.at("there")).unwrap();
    fs::write(place.at("there/a.txt"), "old").unwrap();
    fs::write(place.at("there/own"), "stays").unwrap();
    place.copy("full", "there", true).await.unwrap();
    assert_eq!((place.text("there/a.txt"), place.text("there/own")), ("A".into(), "stays".into()));
    place.copy("full", "deep/down", true).await.unwrap();
    assert_eq!(fs::read_link(place.at("deep/down/link")).unwrap(), Path::new("a.txt"));
    assert!(place.at("deep/down/sub").is_dir());
    assert!(fs::symlink_metadata(place.at("deep/down/skipped")).is_err());
}

/// The case `sandbox-shapes` of the 0.130 fixture, as far as it gets here, on every method.
#[tokio::test]
async fn what_cannot_be_enforced_is_refused() {
    let place = Place::new();
    let context = |permissions: Value| json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
    let restricted = |entries: Value| {
        let file_system = json!({"type": "restricted", "entries": entries});
        context(json!({"type": "managed", "network": "restricted", "file_system": file_system}))
    };
    let read = |sandbox: Value| place.files.read_file(params(json!({"path": place.at("f.txt"), "sandbox": sandbox})));
    for free in [
        Value::Null,
        context(json!({"type": "disabled"})),
        context(json!({"type": "external", "network": "restricted"})),
        context(json!({"type": "managed", "network": "enabled", "file_system": {"type": "unrestricted"}})),
    ] {
        assert_eq!(read(free).await.unwrap().data_base64.0, "aGVsbG8=");
    }
    let project = json!([{"path": {"type": "special", "value": {"kind": "project_roots"}}, "access": "read"}]);
    let cwd = FsError::invalid("file system sandbox context with dynamic permissions requires cwd");
    assert_eq!(read(restricted(project)).await, Err(cwd));
    let unknown = json!([{"path": {"type": "special", "value": {"kind": "unknown", "path": "x"}}, "access": "deny"}]);
    let why =
        "sandbox intent cannot be enforced on this executor: it denies `x`, a place that this version does not know";
    assert_eq!(read(restricted(unknown)).await, Err(FsError::invalid(why)));
    // Nothing is granted: nothing is there, for any method.
    let nothing = restricted(json!([]));
    let at = place.at("f.txt");
    let one = || json!({"path": at, "force": false, "sandbox": nothing});
    let absent = FsError::from(std::io::Error::from_raw_os_error(2));
    assert_eq!(place.files.read_file(params(one())).await.unwrap_err(), absent);
    assert_eq!(place.files.get_metadata(params(one())).await.unwrap_err(), absent);
    assert_eq!(place.files.canonicalize(params(one())).await.unwrap_err(), absent);
    assert_eq!(place.files.read_directory(params(one())).await.unwrap_err(), absent);
    assert_eq!(place.files.remove(params(one())).await.unwrap_err(), absent);
    assert_eq!(place.files.create_directory(params(one())).await.unwrap_err(), absent);
    let write = json!({"path": at, "dataBase64": "", "sandbox": nothing});
    assert_eq!(place.files.write_file(params(write)).await.unwrap_err(), absent);
    for mode in ["read", "replace"] {
        let open = json!({"path": at, "handleId": "h", "mode": mode, "sandbox": nothing});
        assert_eq!(place.files.open(params(open)).await.unwrap_err(), absent);
    }
    let both = json!({"sourcePath": at, "destinationPath": place.at("x"), "recursive": false, "sandbox": nothing});
    assert_eq!(place.files.copy(params(both)).await.unwrap_err(), absent);
    let options = json!({"maxDepth": 1, "maxDirectories": 9, "maxEntries": 9, "followDirectorySymlinks": true});
    let walk = json!({"path": place.at(""), "options": options, "sandbox": nothing});
    assert_eq!(place.files.walk(params(walk)).await.unwrap_err(), absent);
    let watch = json!({"watchId": 1, "missing": [place.at("x")], "sandbox": nothing});
    assert!(place.files.watch_missing(params(watch)).await.unwrap().is_none());
    assert_eq!(place.text("f.txt"), "hello");
}
