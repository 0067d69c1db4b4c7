//! Talks to a registry over HTTP: an executor registers, a client asks to be connected with one.
//!
//! In flow a base URL, a token and an id, out flow the registry's reply or an error by what the caller can do. The
//! register call is that of stock 0.130 (protocol 3), and a description that other registries ignore. The token goes to the origin of the base URL and nowhere
//! else; neither it nor the ticket in a reply is printed.

mod answer;
mod base;
mod bearer;
mod connect;
mod http;
mod overview;
mod register;
mod trace;

use std::sync::Arc;
use std::time::Duration;

pub use bearer::BearerSource;
pub use connect::RegistryClient;
pub use overview::Verb;
pub use register::{BEARER_VARIABLE, DEFAULT_NAME, Description, Registration, RegistrationConfig};

/// How to talk to a registry.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Allows plain http (and ws) to hosts that are not loopback.
    pub insecure_http: bool,
    /// Limit for the TCP and TLS connection.
    pub connect_timeout: Duration,
    /// Limit for a registration, from the request to the end of the reply.
    pub request_timeout: Duration,
    /// TLS settings for `https://`; none: the platform's certificates.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            insecure_http: false,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            tls: None,
        }
    }
}
