//! TCP's own view of a peer that we cannot ask: is it slow, or gone?
//!
//! While a peer does not read, pings do not reach it, and its silence says nothing. TCP then still exchanges segments
//! with it: data unacknowledged is sent again, and a window that is closed is probed, by the kernel, at growing
//! intervals of up to 2 minutes. A living peer acknowledges each at once, even while its program is stopped; one that is
//! gone acknowledges none. So a peer is [gone](View::is_gone) when several in a row went unanswered and the last
//! acknowledgement is older than the limit. That finds a vanished peer in about a minute, or a few when it had been
//! paused for long before.
//!
//! Why not otherwise: `TCP_USER_TIMEOUT` also ends a connection whose living peer keeps its window closed (a pager left
//! open), and keep-alive does not run while data waits. `getsockopt(TCP_INFO)` would tell the same, but no crate here
//! offers it without `unsafe`; so the kernel is asked over netlink (`sock_diag(7)`), which takes bytes and needs no right.
//! Where that is refused or missing, the kernel's own patience decides: it gives up after some 15 minutes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Segments in a row without an answer that make a peer gone.
const UNANSWERED: u8 = 3;

/// What the kernel knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Time since the last acknowledgement.
    last_ack: Duration,
    /// Segments sent again, or probes of a closed window, since then.
    unanswered: u8,
}

impl View {
    /// Whether the peer is gone, by `limit` of silence.
    pub fn is_gone(&self, limit: Duration) -> bool {
        self.unanswered >= UNANSWERED && self.last_ack >= limit
    }
}

/// Asks the kernel about the connection between two addresses; `None` if it does not say.
#[cfg(target_os = "linux")]
pub fn view(local: SocketAddr, peer: SocketAddr) -> Option<View> {
    use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG)).ok()?;
    sendto(&socket, &request(local, peer), SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).ok()?;
    let mut reply = [0; 1024];
    // The kernel answers within the send, so there is nothing to wait for.
    let (len, _) = recv(&socket, &mut reply[..], RecvFlags::empty()).ok()?;
    parse(&reply[..len])
}

/// Nothing to ask here.
#[cfg(not(target_os = "linux"))]
pub fn view(_local: SocketAddr, _peer: SocketAddr) -> Option<View> {
    None
}

/// A netlink message with `inet_diag_req_v2` for one socket, asking for its `tcp_info`.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "netlink is Linux's"))]
fn request(local: SocketAddr, peer: SocketAddr) -> [u8; 72] {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const INET_DIAG_INFO: u8 = 2;
    let mut message = [0; 72];
    message[0..4].copy_from_slice(&72u32.to_ne_bytes());
    message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[16] = if local.is_ipv4() { 2 } else { 10 };
    message[17] = 6;
    message[18] = 1 << (INET_DIAG_INFO - 1);
    message[20..24].fill(0xff);
    message[24..26].copy_from_slice(&local.port().to_be_bytes());
    message[26..28].copy_from_slice(&peer.port().to_be_bytes());
    for (ip, at) in [(local.ip(), 28), (peer.ip(), 44)] {
        match ip {
            IpAddr::V4(ip) => message[at..at + 4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => message[at..at + 16].copy_from_slice(&ip.octets()),
        }
    }
    if let SocketAddr::V6(local) = local {
        message[60..64].copy_from_slice(&local.scope_id().to_ne_bytes());
    }
    message[64..72].fill(0xff);
    message
}

/// Finds `tcp_info` among the attributes of the answer.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "netlink is Linux's"))]
fn parse(reply: &[u8]) -> Option<View> {
    const HEADER: usize = 16;
    const MESSAGE: usize = 72;
    const INET_DIAG_INFO: u16 = 2;
    let u16_at = |bytes: &[u8], at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if u16_at(reply, 4)? != 20 {
        return None;
    }
    let mut attributes = reply.get(HEADER + MESSAGE..)?;
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)?;
        let info = attributes.get(4..len)?;
        if kind == INET_DIAG_INFO {
            // struct tcp_info: retransmits and probes are its bytes 2 and 3, last_ack_recv is at 56, in ms.
            let unanswered = (*info.get(2)?).max(*info.get(3)?);
            return Some(View { last_ack: Duration::from_millis(u32_at(info, 56)?.into()), unanswered });
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_a_row_of_unanswered_segments_and_a_long_silence_make_a_peer_gone() {
        let limit = Duration::from_secs(45);
        let view = |unanswered, secs| View { last_ack: Duration::from_secs(secs), unanswered };
        assert!(view(3, 45).is_gone(limit));
        assert!(!view(2, 4_500).is_gone(limit), "a living peer has at most one probe on its way");
        assert!(!view(9, 44).is_gone(limit), "a bad network may lose some");
    }

    #[test]
    fn an_answer_cut_anywhere_says_nothing_and_never_panics() {
        let mut reply = vec![0; 88];
        reply[4..6].copy_from_slice(&20u16.to_ne_bytes());
        for (kind, len) in [(8u16, 5u16), (2, 4 + 104)] {
            let start = reply.len();
            reply.extend(len.to_ne_bytes());
            reply.extend(kind.to_ne_bytes());
            reply.resize(start + usize::from(len).next_multiple_of(4), 0);
        }
        let info = 88 + 8 + 4;
        reply[info + 3] = 7;
        reply[info + 56..info + 60].copy_from_slice(&1_500u32.to_ne_bytes());
        assert_eq!(parse(&reply), Some(View { last_ack: Duration::from_millis(1_500), unanswered: 7 }));
        for len in 0..reply.len() {
            assert_eq!(parse(&reply[..len]), None, "cut at {len}");
        }
        reply[4] = 2;
        assert_eq!(parse(&reply), None, "an error of netlink");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_tells_of_a_living_peer_whose_window_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let (peer, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            let (peer, mut accepted) = (peer.unwrap(), accepted.unwrap().0);
            let chunk = vec![0; 1 << 20];
            while tokio::time::timeout(Duration::from_millis(200), accepted.write_all(&chunk)).await.is_ok() {}
            let view = view(accepted.local_addr().unwrap(), accepted.peer_addr().unwrap()).expect("an answer");
            assert!(view.unanswered < UNANSWERED, "{view:?}");
            assert!(view.last_ack < Duration::from_secs(60), "{view:?}");
            drop(peer);
        }
    }
}
