//! Marks: websocket pings with a number, behind what was sent before them. A peer answers a ping once it has read it, and
//! so all that came before; so a pong tells what it has. As plain data, sixteen bytes.
//!
//! Numbers rise on one connection, so that the answer to a later mark is one to all before: a peer may answer the latest
//! ping only. Our rendezvous passes a mark's answer on when the other side has read as far; pings without a mark it
//! answers at once.

/// What a mark's payload begins with.
const PREFIX: [u8; 8] = *b"exedra/m";

/// The payload of mark `number`, in a ping and in its pong.
pub fn encode(number: u64) -> [u8; 16] {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&PREFIX);
    payload[8..].copy_from_slice(&number.to_be_bytes());
    payload
}

/// The number in the payload of a ping or pong, if that is a mark.
pub fn decode(payload: &[u8]) -> Option<u64> {
    let number = payload.strip_prefix(&PREFIX)?;
    number.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_written_and_nothing_else_is_one() {
        for number in [0, 1, u64::MAX] {
            assert_eq!(decode(&encode(number)), Some(number));
        }
        let long = [&encode(7)[..], b"8"].concat();
        for other in [&b""[..], b"exedra/m", &encode(7)[..15], &long, &7_u64.to_be_bytes()] {
            assert_eq!(decode(other), None);
        }
    }
}
