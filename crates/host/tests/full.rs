//! An upload where the file system takes no more: what was taken stays, and it goes on when there is room. In a program of
//! its own, since the limit that stands for a full disk is one of the whole process.

use exedra_host::fs::Files;
use exedra_host::{Host, HostConfig};
use exedra_proto::fs::{UploadFinishParams, UploadOpenParams};
use exedra_proto::path::AbsolutePath;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Largest file while the disk is full, in bytes.
const FULL: u64 = 64 * 1024;
/// SHA-256 of 100,000 zeros.
const SHA256: &str = "9192c25b734fcbadbe32dadc28089c60db0e39f90cc20ce2e5733f57261acc0c";

#[tokio::test]
async fn an_upload_that_finds_the_disk_full_goes_on_when_there_is_room() {
    // Without a handler the signal would end us; with one, the write fails.
    let _ignored = signal(SignalKind::from_raw(25)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("f");
    std::fs::write(&target, "old").unwrap();
    let files = Files::new(Host::start(HostConfig::default()).unwrap());
    let open = || UploadOpenParams {
        handle_id: "h".to_owned(),
        path: AbsolutePath::native(target.clone()).unwrap(),
        upload_id: "u".to_owned(),
        size: Some(100_000),
        sandbox: None,
    };
    assert_eq!(files.upload_open(open()).await.unwrap().offset, 0);
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(FULL), maximum: before.maximum }).unwrap();
    let error = files.write_bytes("h".to_owned(), 0, vec![0; 100_000]).await.unwrap_err();
    assert!(error.text.contains("File too large"), "{error}");
    let closed = files.write_bytes("h".to_owned(), 0, vec![0]).await.unwrap_err();
    assert_eq!(closed.text, "unknown file handle `h`");
    assert_eq!(std::fs::read(&target).unwrap(), b"old");
    let offset = files.upload_open(open()).await.unwrap().offset;
    assert_eq!(offset, FULL, "what was taken is there");
    setrlimit(Resource::Fsize, before).unwrap();
    files.write_bytes("h".to_owned(), offset, vec![0; 100_000 - FULL as usize]).await.unwrap();
    let finish = UploadFinishParams { handle_id: "h".to_owned(), size: 100_000, sha256: SHA256.to_owned() };
    files.upload_finish(finish).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), vec![0; 100_000]);
}
