//! What a listener is told on the command line, under stock's names where stock has them (protocol 19.3).

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What a client has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WsAuthMode {
    /// A token that is in a file, or whose hash is given.
    CapabilityToken,
    /// A JWT that is signed with a shared secret (HS256) and expires.
    SignedBearerToken,
}

/// Flags of a listener.
#[derive(Debug, Default, Args)]
pub struct ListenArgs {
    /// What clients on ws:// have to show in `Authorization: Bearer …`
    #[arg(long, value_enum, value_name = "MODE", conflicts_with = "remote")]
    pub ws_auth: Option<WsAuthMode>,
    /// The token is in this file, which is read again for every client
    #[arg(long, value_name = "FILE", requires = "ws_auth", conflicts_with = "ws_token_sha256")]
    pub ws_token_file: Option<PathBuf>,
    /// The token has this SHA-256 (64 hex digits)
    #[arg(long, value_name = "HEX", requires = "ws_auth")]
    pub ws_token_sha256: Option<String>,
    /// The secret that signs tokens, at least 32 bytes
    #[arg(long, value_name = "FILE", requires = "ws_auth")]
    pub ws_shared_secret_file: Option<PathBuf>,
    /// Who must have issued a signed token
    #[arg(long, value_name = "TEXT", requires = "ws_shared_secret_file")]
    pub ws_issuer: Option<String>,
    /// For whom a signed token must be
    #[arg(long, value_name = "TEXT", requires = "ws_shared_secret_file")]
    pub ws_audience: Option<String>,
    /// Allowed difference of clocks [default: 30]
    #[arg(long, value_name = "N", requires = "ws_shared_secret_file")]
    pub ws_max_clock_skew_seconds: Option<u64>,
    /// Take the token from the URL too (ws://IP:PORT/?token=…), for clients that send no header, such as a stock Codex
    #[arg(long, requires = "ws_auth")]
    pub ws_auth_query: bool,
    /// Certificate chain for TLS (PEM); read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "remote")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Listen on an address that other machines can reach without --ws-auth or without TLS
    #[arg(long, conflicts_with = "remote")]
    pub insecure: bool,
    /// Clients connected at a time; one more gets 503 [default: 4096]
    #[arg(long, value_name = "N", conflicts_with = "remote")]
    pub max_connections: Option<usize>,
}

/// How much there may be at a time, on a listener or behind a server.
#[derive(Debug, Default, Args)]
pub struct LimitArgs {
    /// Sessions at a time, attached or not; one more is refused [default: 4096]
    #[arg(long, value_name = "N")]
    pub max_sessions: Option<usize>,
    /// Processes at a time; one more is refused [default: 8192]
    #[arg(long, value_name = "N")]
    pub max_processes: Option<usize>,
}
