//! A little of `cargo xtask soak rolling`: two restarts of each kind under a few executors with traffic.

use std::path::Path;

use xtask::build::{self, Profile};
use xtask::rolling::{self, Rolling};

#[tokio::test(flavor = "multi_thread")]
async fn a_few_restarts_under_traffic_are_noticed_by_nobody() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let exedra = build::exedra(root, Profile::Dev).unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(rolling::run(&Rolling::quick(exedra), dir.path()).await.unwrap());
}
