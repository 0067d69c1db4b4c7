//! Brings up the loopback interface of a network namespace of our own, as programs expect to find it.
//!
//! One message to the kernel and its answer. Knows nothing of what else is in the namespace, since nothing is.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// `RTM_NEWLINK`
const NEW_LINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`
const REQUEST_ACK: u16 = 1 | 4;
/// `NLMSG_ERROR`, which an acknowledgement is too.
const ERROR: u16 = 2;
/// The interface has this number in every namespace.
const LOOPBACK: i32 = 1;
/// `IFF_UP`
const UP: u32 = 1;

/// Brings it up.
///
/// # Errors
/// The kernel refuses it.
pub fn up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 256];
    let (read, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let errno = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, errno) {
        (Some(ERROR), Some(0)) if read >= 20 => Ok(()),
        (Some(ERROR), Some(errno)) if read >= 20 => Err(io::Error::from_raw_os_error(-errno)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `nlmsghdr` and `ifinfomsg`.
fn request() -> [u8; 32] {
    let mut message = [0; 32];
    message[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_ACK.to_ne_bytes());
    message[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    message[20..24].copy_from_slice(&LOOPBACK.to_ne_bytes());
    message[24..28].copy_from_slice(&UP.to_ne_bytes());
    message[28..32].copy_from_slice(&UP.to_ne_bytes());
    message
}
