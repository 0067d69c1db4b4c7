//! Who is at the other end of a connection, for logs and for the words of one error.

use std::fmt;
use std::net::SocketAddr;

use exedra_proto::ids::TokenId;
use exedra_proto::introduction::Introduction;
use exedra_proto::rights::Rights;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client of the TCP listener.
    Tcp(SocketAddr),
    /// A client of the socket file.
    Unix,
    /// Whoever started us with pipes.
    Stdio,
    /// A rendezvous, and behind it a client.
    Rendezvous,
    /// A client in a stream of a rendezvous's websocket, the one of this number.
    Stream(u64),
}

impl Peer {
    /// What could not be parsed, in the words of stock.
    pub fn message_label(&self) -> String {
        match self {
            Self::Tcp(address) => format!("websocket JSON-RPC message from exec-server websocket {address}"),
            Self::Unix => "websocket JSON-RPC message from exec-server websocket unix socket".to_owned(),
            Self::Stdio => "JSON-RPC message from exec-server stdio".to_owned(),
            Self::Rendezvous | Self::Stream(_) => {
                "websocket JSON-RPC message from remote exec-server websocket".to_owned()
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix => f.write_str("unix socket"),
            Self::Stdio => f.write_str("stdio"),
            Self::Rendezvous => f.write_str("rendezvous"),
            Self::Stream(number) => write!(f, "rendezvous, client {number}"),
        }
    }
}

/// What is known of the client at the other end beside where it is: from the token that it showed here, or to the server
/// between, never from what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The id of the token, where a server says so.
    pub token: Option<TokenId>,
    /// Whom the token names.
    pub name: Option<String>,
    /// Labels of the token; none where no token says.
    pub labels: Option<Vec<String>>,
    /// What the token allows.
    pub rights: Rights,
}

/// A client of whom nothing is known. Whoever let it in allows it all that the owner does.
impl Default for Client {
    fn default() -> Self {
        Self { token: None, name: None, labels: None, rights: Rights::ALL }
    }
}

impl From<Introduction> for Client {
    fn from(Introduction { token, client }: Introduction) -> Self {
        let name = Some(client.name).filter(|name| !name.is_empty());
        Self { token: Some(token), name, labels: Some(client.labels), rights: client.rights }
    }
}
