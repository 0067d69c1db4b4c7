//! The registry: who exists, who may, and where to meet.
//!
//! Executors register and clients ask to be connected, over HTTP; signed tickets for the rendezvous flow out, and a
//! database in a data directory keeps the records. Layers: `http` over `service` over `store`, each knowing the one
//! below alone; beside them `auth`, `workload` (whom other issuers vouch for), `presence` (who is online and whose turn it is) and `keys`. The rendezvous is joined
//! by the key ring and two small traits; no message of theirs ever comes here.

mod auth;
pub mod backup;
pub mod checkup;
pub mod clock;
pub mod config;
mod datadir;
pub mod error;
mod http;
mod keys;
mod presence;
mod rates;
mod registry;
mod serverkey;
mod service;
mod sigv4;
pub mod store;
pub mod token;
mod uses;
pub mod workload;

pub use config::{ACCESS_KEEP, PublicUrl, RegistryConfig};
pub use datadir::has_records;
pub use error::RegistryError;
pub use http::openapi_text;
pub use rates::RateLimits;
pub use registry::{Look, Registry, open_tokens};
pub use service::tokens::{AwsPair, CreatedToken, NewToken, Tokens};
