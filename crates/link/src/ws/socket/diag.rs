//! Asks the Linux kernel about one TCP socket, over `NETLINK_SOCK_DIAG`: the safe way to `tcp_info`.
//!
//! In go both addresses of the socket, out comes what its peer has acknowledged. One request, one answer, no waiting;
//! anything unexpected is no answer. Layouts: `linux/netlink.h`, `linux/inet_diag.h`, `struct tcp_info` of `linux/tcp.h`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use super::Health;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;
const HEADER: usize = 16;
const DIAG_MSG: usize = 72;

pub(super) fn health(local: SocketAddr, remote: SocketAddr) -> Option<Health> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG)).ok()?;
    sendto(&socket, &request(local, remote)?, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).ok()?;
    // The kernel answers within the call above.
    let mut answer = [0; 2048];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT).ok()?;
    parse(answer.get(..len)?)
}

/// `nlmsghdr`, then `inet_diag_req_v2`.
fn request(local: SocketAddr, remote: SocketAddr) -> Option<Vec<u8>> {
    let (family, interface) = match local {
        SocketAddr::V4(_) => (AddressFamily::INET, 0),
        SocketAddr::V6(address) => (AddressFamily::INET6, address.scope_id()),
    };
    let mut body = vec![u8::try_from(family.as_raw()).ok()?, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(local.port().to_be_bytes());
    body.extend(remote.port().to_be_bytes());
    body.extend(address(local.ip()));
    body.extend(address(remote.ip()));
    body.extend(interface.to_ne_bytes());
    body.extend([0xff; 8]);

    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len()).ok()?.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    Some(message)
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

/// `nlmsghdr`, then `inet_diag_msg`, then attributes.
fn parse(answer: &[u8]) -> Option<Health> {
    if u16_at(answer, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let message = answer.get(HEADER..usize::try_from(u32_at(answer, 0)?).ok()?)?;
    let owed = u32_at(message, 60)?;
    let mut attributes = message.get(DIAG_MSG..)?;
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..len)?;
        if u16_at(attributes, 2)? == INET_DIAG_INFO {
            let last_ack = Duration::from_millis(u32_at(value, 56)?.into());
            return Some(Health { owed, last_ack, retransmits: *value.get(2)?, probes: *value.get(3)? });
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_a_broken_one_is_none() {
        let mut info = vec![0; 104];
        info[2] = 7;
        info[3] = 3;
        info[56..60].copy_from_slice(&46_000u32.to_ne_bytes());
        let mut message = vec![0; DIAG_MSG];
        message[60..64].copy_from_slice(&4096u32.to_ne_bytes());
        message.extend([5u16.to_ne_bytes(), 8u16.to_ne_bytes()].concat());
        message.extend([0; 4]);
        message.extend([u16::try_from(info.len() + 4).unwrap().to_ne_bytes(), 2u16.to_ne_bytes()].concat());
        message.extend(info);
        let mut answer = u32::try_from(HEADER + message.len()).unwrap().to_ne_bytes().to_vec();
        answer.extend([20u16.to_ne_bytes(), 0u16.to_ne_bytes()].concat());
        answer.extend([0; 8]);
        answer.extend(message);

        let expected = Health { owed: 4096, last_ack: Duration::from_secs(46), retransmits: 7, probes: 3 };
        assert_eq!(parse(&answer), Some(expected));
        for len in 0..answer.len() {
            assert_eq!(parse(&answer[..len]), None);
        }
        answer[4] = 2;
        assert_eq!(parse(&answer), None, "an error message");
    }
}
