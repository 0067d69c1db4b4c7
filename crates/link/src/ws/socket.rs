//! What a websocket stands on: TCP options, and the kernel's view of a TCP peer.
//!
//! A peer that leaves our bytes alone may be dead, or may be paused on purpose (`exec … | less`) for hours.
//! `TCP_USER_TIMEOUT` cannot tell the two apart: it also kills a living peer whose window stays closed. So it is not
//! set; instead [`TcpView`] asks the kernel, over a sock_diag netlink socket, whether the peer still acknowledges: a
//! paused peer answers window probes, a dead one answers nothing. Where the kernel does not tell (no Linux, no netlink),
//! its own retransmission time-out ends the connection, after a quarter of an hour or so.

#[cfg(target_os = "linux")]
mod diag;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// What the kernel may hold of ours that it has not sent yet, in bytes; when it is full we wait. What it holds beyond that
/// helps no throughput, delays what comes after it, and is lost with the connection.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// Sets `TCP_NODELAY`, and bounds what the kernel holds unsent; every TCP socket, accepted or dialled, goes through here.
///
/// # Errors
/// The system's.
pub fn prepare_tcp(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    stream.set_nodelay(true)
}

/// The kernel's view of the peer of one TCP socket. It holds addresses, no descriptor.
#[derive(Clone, Copy, Debug)]
pub struct TcpView {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux can be asked"))]
    local: SocketAddr,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux can be asked"))]
    remote: SocketAddr,
}

/// What the kernel knows about a TCP peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Bytes of ours that the peer has not acknowledged, sent or not.
    pub(crate) owed: u32,
    /// Time since its last acknowledgement.
    pub(crate) last_ack: Duration,
    /// Retransmissions in a row without an answer.
    pub(crate) retransmits: u8,
    /// Probes of a closed window in a row without an answer.
    pub(crate) probes: u8,
}

impl TcpView {
    /// The view of `stream`'s peer; none if it is not connected.
    pub fn of(stream: &TcpStream) -> Option<Self> {
        Some(Self { local: stream.local_addr().ok()?, remote: stream.peer_addr().ok()? })
    }

    /// Asks the kernel; none where it does not tell.
    pub(crate) fn health(&self) -> Option<Health> {
        #[cfg(target_os = "linux")]
        return diag::health(self.local, self.remote);
        #[cfg(not(target_os = "linux"))]
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn addresses_of_both_families_are_found() {
        let mut told = Vec::new();
        for (bind, dial) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let Ok(listener) = TcpListener::bind(bind).await else { continue };
            let port = listener.local_addr().unwrap().port();
            let Ok(ours) = TcpStream::connect((dial, port)).await else { continue };
            let (theirs, _) = listener.accept().await.unwrap();
            told.extend([&ours, &theirs].map(|stream| TcpView::of(stream).unwrap().health().is_some()));
        }
        // A kernel that does not tell tells of none.
        assert!(told.iter().all(|health| *health == told[0]), "{told:?}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_tells_a_paused_peer_from_a_dead_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_theirs, _) = listener.accept().await.unwrap();
        let view = TcpView::of(&ours).unwrap();
        let Some(idle) = view.health() else { return };
        assert_eq!((idle.owed, idle.retransmits, idle.probes), (0, 0, 0));

        let fill = async { while ours.write_all(&[0; 65536]).await.is_ok() {} };
        assert!(timeout(Duration::from_millis(700), fill).await.is_err(), "a peer that never reads blocks us");
        let paused = view.health().unwrap();
        assert!(paused.owed > 0);
        assert_eq!((paused.retransmits, paused.probes), (0, 0), "it answers the probes of its window");
        assert!(paused.last_ack < Duration::from_secs(2));
    }
}
