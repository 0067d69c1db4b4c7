//! The head of a websocket frame: parsed from a masked client frame, written for an unmasked server frame.
//!
//! Bytes in, a [`Header`] or a [`Violation`] out, and the other way round. It knows one frame, not the ones before.

use super::Violation;

/// Longest head that is written, in bytes.
pub const MAX_LEN: usize = 10;
/// Longest payload of a control frame, in bytes.
pub const MAX_CONTROL: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with a message.
    Continuation,
    /// Begins a text message.
    Text,
    /// Begins a binary message.
    Binary,
    /// Ends the connection.
    Close,
    /// Asks for a sign of life.
    Ping,
    /// Gives it.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Whether it is about the connection and not part of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with it.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Payload in bytes.
    pub payload: u64,
    /// The mask of the payload.
    pub mask: [u8; 4],
    /// Bytes of the head itself.
    pub len: usize,
}

/// Reads the head at the start of `input`; `None` while it is incomplete.
///
/// # Errors
/// The frame breaks a rule that can be told from its head alone. The first two bytes are judged at once.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Violation> {
    let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else { return Ok(None) };
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::Opcode)?;
    let fin = first & 0x80 != 0;
    if first & 0x70 != 0 {
        return Err(Violation::Reserved);
    }
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    let short = second & 0x7f;
    if opcode.is_control() && (!fin || usize::from(short) > MAX_CONTROL) {
        return Err(Violation::Control);
    }
    let (payload, rest) = match short {
        126 => match rest.split_first_chunk() {
            Some((&bytes, rest)) => (u64::from(u16::from_be_bytes(bytes)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((&bytes, rest)) => (u64::from_be_bytes(bytes), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    if payload > i64::MAX as u64 {
        return Err(Violation::Length);
    }
    let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    Ok(Some(Header { fin, opcode, payload, mask, len: input.len() - rest.len() }))
}

/// The head of an unmasked frame, and how many of the bytes it has.
pub fn encode(fin: bool, opcode: Opcode, payload: usize) -> ([u8; MAX_LEN], usize) {
    let mut head = [0; MAX_LEN];
    head[0] = opcode.bits() | if fin { 0x80 } else { 0 };
    let len = match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(short @ ..126), _) => {
            head[1] = short;
            2
        }
        (_, Ok(medium)) => {
            head[1] = 126;
            head[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            head[1] = 127;
            head[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
            10
        }
    };
    (head, len)
}

/// An unmasked frame, head and payload.
pub fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let (head, len) = encode(fin, opcode, payload.len());
    [&head[..len], payload].concat()
}

/// Reads the head of one of our own unmasked data frames: whether the message ends with it, what it is, the bytes of the
/// head and those of the payload.
pub fn parse_unmasked(input: &[u8]) -> Option<(bool, Opcode, usize, usize)> {
    let (&[first, second], rest) = input.split_first_chunk::<2>()?;
    let opcode = Opcode::from_bits(first & 0x0f)?;
    let (head, payload) = match second {
        126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    Some((first & 0x80 != 0, opcode, head, usize::try_from(payload).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_every_length_are_read_and_incomplete_ones_wait() {
        for (payload, tail) in [
            (0u64, vec![0x80]),
            (125, vec![0x80 | 125]),
            (126, vec![0xfe, 0, 126]),
            (65_535, vec![0xfe, 0xff, 0xff]),
            (65_536, vec![0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut bytes = vec![0x82];
            bytes.extend(tail);
            bytes.extend([1, 2, 3, 4]);
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{payload} cut at {cut}");
            }
            let len = bytes.len();
            bytes.push(9);
            let expected = Header { fin: true, opcode: Opcode::Binary, payload, mask: [1, 2, 3, 4], len };
            assert_eq!(parse(&bytes), Ok(Some(expected)));
        }
    }

    #[test]
    fn broken_heads_are_refused_by_their_first_bytes() {
        for (bytes, violation) in [
            (&[0x81, 0x05][..], Violation::Unmasked),
            (&[0xc1, 0x85], Violation::Reserved),
            (&[0xa1, 0x85], Violation::Reserved),
            (&[0x91, 0x85], Violation::Reserved),
            (&[0x83, 0x85], Violation::Opcode),
            (&[0x8b, 0x85], Violation::Opcode),
            (&[0x09, 0x80], Violation::Control),
            (&[0x88, 0xfe], Violation::Control),
            (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::Length),
        ] {
            assert_eq!(parse(bytes), Err(violation), "{bytes:02x?}");
        }
    }

    #[test]
    fn heads_are_written_as_short_as_they_can_be() {
        for (payload, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (head, len) = encode(true, Opcode::Binary, payload);
            assert_eq!(&head[..len], expected);
        }
        assert_eq!(encode(false, Opcode::Continuation, 1).0[0], 0);
        assert_eq!(encode(true, Opcode::Pong, 1).0[0], 0x8a);
    }
}
