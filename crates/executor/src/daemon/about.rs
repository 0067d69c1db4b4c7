//! What a daemon tells its registry of itself, beyond what stock executors tell: for people, never for rights.
//!
//! In flow the labels of the owner and the transports to offer, out flows the description that goes into every registration.

use std::collections::BTreeMap;

use exedra_link::dial::registry::Description;
use exedra_proto::registry::Transport;
use serde_json::{Map, Value};

/// What can be served, best first.
pub const TRANSPORTS: [Transport; 2] = [Transport::Relay, Transport::Direct];

/// The description of this process on this machine.
pub fn describe(labels: BTreeMap<String, String>, transports: Vec<Transport>) -> Description {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let metadata: Map<String, Value> = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("os", std::env::consts::OS.to_owned()),
        ("arch", std::env::consts::ARCH.to_owned()),
        ("hostname", hostname),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.into()))
    .collect();
    Description { labels, metadata, transports }
}
