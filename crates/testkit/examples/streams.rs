//! A registry and a rendezvous for streams, until it is killed: prints where, as one line of JSON.

use std::io::Write as _;

use exedra_testkit::streams::StreamPlane;
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plane = StreamPlane::start().await?;
    writeln!(std::io::stdout(), "{}", json!({ "registry": plane.registry, "harness": plane.harness }))?;
    std::future::pending().await
}
