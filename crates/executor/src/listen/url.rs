//! What `--listen` accepts: `ws://IP:PORT`, `unix://PATH`, `stdio`.
//!
//! In flows the text of the flag, out flows where to listen. It opens nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::error::ExecutorError;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenUrl {
    /// A websocket on a TCP port; port 0 lets the system choose.
    Ws(SocketAddr),
    /// A websocket on a socket file.
    Unix(PathBuf),
    /// Lines of JSON on standard input and output.
    Stdio,
}

impl ListenUrl {
    /// Where stock listens when nothing is said.
    pub const DEFAULT: &'static str = "ws://127.0.0.1:0";

    /// Reads `text`.
    ///
    /// # Errors
    /// It has none of the three forms.
    pub fn parse(text: &str) -> Result<Self, ExecutorError> {
        if matches!(text, "stdio" | "stdio://") {
            return Ok(Self::Stdio);
        }
        if let Some(address) = text.strip_prefix("ws://") {
            return address.parse().map(Self::Ws).map_err(|_| ExecutorError::WebsocketUrl(text.to_owned()));
        }
        match text.strip_prefix("unix://") {
            Some("") => Err(ExecutorError::SocketUrl(text.to_owned())),
            Some(path) if path.contains('\0') => Err(ExecutorError::SocketUrl(text.to_owned())),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => Err(ExecutorError::UnsupportedUrl(text.to_owned())),
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ws(address) => match address.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
            },
            Self::Unix(_) | Self::Stdio => true,
        }
    }
}

impl std::str::FromStr for ListenUrl {
    type Err = ExecutorError;

    fn from_str(text: &str) -> Result<Self, ExecutorError> {
        Self::parse(text)
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ws(address) => write!(f, "ws://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Stdio => f.write_str("stdio"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        for text in ["ws://127.0.0.1:0", "ws://[::1]:8080", "unix:///run/x.sock", "unix://x.sock", "stdio"] {
            assert_eq!(ListenUrl::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ListenUrl::parse("stdio://").unwrap(), ListenUrl::Stdio);
        assert!(ListenUrl::parse(ListenUrl::DEFAULT).unwrap().is_local());
        assert!(!ListenUrl::parse("ws://0.0.0.0:1").unwrap().is_local());
    }

    #[test]
    fn refusals_name_the_url_and_the_forms() {
        let text = |bad: &str| ListenUrl::parse(bad).unwrap_err().to_string();
        for bad in ["ws://localhost:1", "ws://1.2.3.4", "ws://", "ws://1.2.3.4:99999", "ws://1.2.3.4:1/"] {
            let expected = format!("invalid websocket --listen URL `{bad}`; expected `ws://IP:PORT`");
            assert_eq!(text(bad), expected);
        }
        assert_eq!(text("unix://"), "invalid socket file --listen URL `unix://`; expected `unix://PATH`");
        for bad in ["", "http://1.2.3.4:1", "wss://1.2.3.4:1", "1.2.3.4:1", "WS://1.2.3.4:1"] {
            let expected =
                format!("unsupported --listen URL `{bad}`; expected `ws://IP:PORT`, `unix://PATH` or `stdio`");
            assert_eq!(text(bad), expected);
        }
    }
}
