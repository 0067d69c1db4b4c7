//! An upload over a link that is cut again and again arrives whole, sending again little of what had arrived.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exedra_client::Error;
use exedra_client::connect::{Options, listener_with};
use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig};
use exedra_proto::path::AbsolutePath;
use exedra_testkit::faults::{Faults, FaultyLink};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What is uploaded, in bytes: no whole number of blocks.
const SIZE: usize = (24 << 20) + 4321;
/// Cuts of one upload.
const CUTS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_arrives_whole_over_a_link_that_is_cut() {
    let executor = Arc::new(Executor::new(ExecutorConfig::default()).unwrap());
    let url = ListenUrl::parse("ws://127.0.0.1:0").unwrap();
    let listener = Listener::bind(&url, ListenOptions::default()).await.unwrap();
    let address: SocketAddr = listener.url().to_string().trim_start_matches("ws://").parse().unwrap();
    let (cancel, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let stop = cancel.clone();
    tasks.spawn(async move { drop(listener.run(executor, stop).await) });
    let link = FaultyLink::start(address, Faults::none()).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let path = AbsolutePath::native(dir.path().join("f")).unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(SIZE).collect();
    let (url, patience) = (format!("ws://{}", link.address), Duration::from_secs(30));
    let client = listener_with(Options::default(), &url, None, patience, |_, _| {}).await.unwrap();
    let arrived = AtomicU64::new(0);
    let mut source = Cursor::new(content.clone());
    let upload = async {
        let told = |bytes| {
            let before = arrived.swap(bytes, Ordering::Relaxed);
            assert!(bytes >= before, "{before} bytes had arrived, and it went on from {bytes}");
        };
        client.files().upload(&path, &mut source, told).await
    };
    let cut = async {
        for n in 1..=CUTS {
            while arrived.load(Ordering::Relaxed) < n * SIZE as u64 / (CUTS + 1) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            link.cut();
        }
    };
    let (size, ()) = tokio::join!(upload, cut);
    assert_eq!(size.unwrap(), SIZE as u64);
    assert!(std::fs::read(dir.path().join("f")).unwrap() == content, "another content");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "and no part is left");

    let missing = AbsolutePath::native(dir.path().join("none/f")).unwrap();
    let error = client.files().upload(&missing, &mut source, |_| {}).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    client.close().await;

    let options = Options { offer: None, ..Options::default() };
    let stock =
        listener_with(options, &format!("ws://{address}"), None, Duration::from_secs(30), |_, _| {}).await.unwrap();
    let error = stock.files().upload(&path, &mut source, |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Lacking("fs/uploadOpen")), "{error}");
    stock.close().await;
    cancel.cancel();
    while tasks.join_next().await.is_some() {}
}
