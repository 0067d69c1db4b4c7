//! Binary messages of `exedra/1`: a JSON-RPC message whose member `chunk` is not in it but behind it, as raw bytes.
//!
//! In flows a message as bytes, out flow its header, which is JSON-RPC text, and the bytes behind it, without a copy; and
//! back again. The first byte is 0x01, with which no JSON begins; then comes the length of the header, 32 bits, the highest
//! byte first. What a header means is for [`crate::envelope`] and [`crate::method`].

use bytes::{BufMut as _, Bytes, BytesMut};

/// The first byte of a binary message.
pub const MARK: u8 = 0x01;
/// Longest header, in bytes; a longer one is refused before it is looked at.
pub const MAX_HEADER: usize = 64 * 1024;
/// Mark and length.
const PREFIX: usize = 5;

/// Why bytes are no binary message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with [`MARK`].
    #[error("a binary message begins with the byte 0x01")]
    Unmarked,
    /// It ends before its header does.
    #[error("a binary message ends within its header")]
    Short,
    /// Its header is longer than [`MAX_HEADER`].
    #[error("the header of a binary message takes {0} bytes, at most {MAX_HEADER} are allowed")]
    LongHeader(usize),
    /// Its header is no text.
    #[error("the header of a binary message is not UTF-8")]
    NoText,
}

/// A binary message taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    header: Bytes,
    /// The bytes behind the header.
    pub payload: Bytes,
}

impl Parts {
    /// The header.
    pub fn header(&self) -> &str {
        // Checked when it was split.
        std::str::from_utf8(&self.header).unwrap_or_default()
    }

    /// The part of the header that is `text`, which must be a part of [`Self::header`], as a shared buffer.
    pub fn shared(&self, text: &str) -> Bytes {
        self.header.slice_ref(text.as_bytes())
    }
}

/// Whether `message` is a binary message, well formed or not.
pub fn is_marked(message: &[u8]) -> bool {
    message.first() == Some(&MARK)
}

/// One message of `header`, at most [`MAX_HEADER`] long, and `payload`.
pub fn join(header: &str, payload: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(PREFIX + header.len() + payload.len());
    message.put_u8(MARK);
    message.put_u32(u32::try_from(header.len()).unwrap_or(u32::MAX));
    message.put_slice(header.as_bytes());
    message.put_slice(payload);
    message.freeze()
}

/// Takes a message apart.
///
/// # Errors
/// It is none.
pub fn split(mut message: Bytes) -> Result<Parts, Malformed> {
    if !is_marked(&message) {
        return Err(Malformed::Unmarked);
    }
    let length = message.get(1..PREFIX).and_then(|length| length.try_into().ok()).ok_or(Malformed::Short)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(Malformed::LongHeader(length));
    }
    if message.len() < PREFIX + length {
        return Err(Malformed::Short);
    }
    let payload = message.split_off(PREFIX + length);
    let header = message.split_off(PREFIX);
    std::str::from_utf8(&header).map_err(|_| Malformed::NoText)?;
    Ok(Parts { header, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> u64 {
        std::env::var("EXEDRA_CASES").ok().and_then(|n| n.parse::<u64>().ok()).map_or(500, |cases| cases * 100)
    }

    fn bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
        let length = random.usize(0..=most);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    }

    #[test]
    fn what_was_joined_comes_apart_and_nothing_less_does() {
        for seed in 0..cases() {
            let mut random = fastrand::Rng::with_seed(seed);
            let length = random.usize(0..200);
            let header: String = std::iter::repeat_with(|| random.char(..)).take(length).collect();
            let payload = bytes(&mut random, 300);
            let message = join(&header, &payload);
            let parts = split(message.clone()).unwrap();
            assert_eq!((parts.header(), &parts.payload[..]), (header.as_str(), &payload[..]), "seed {seed}");
            let cut = random.usize(0..PREFIX + header.len());
            let less = split(message.slice(..cut)).unwrap_err();
            assert_eq!(less, if cut == 0 { Malformed::Unmarked } else { Malformed::Short }, "seed {seed}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_hand_out_more_than_there_is() {
        for seed in 0..cases() {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut message = bytes(&mut random, 100);
            if random.bool() {
                message.splice(0..0, [MARK, 0, 0, 0, random.u8(..)]);
            }
            let length = message.len();
            match split(message.into()) {
                Ok(parts) => assert_eq!(PREFIX + parts.header().len() + parts.payload.len(), length),
                Err(malformed) => assert!(!malformed.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn a_header_that_is_too_long_or_no_text_is_refused() {
        let long = join(&"x".repeat(MAX_HEADER + 1), b"");
        assert_eq!(split(long), Err(Malformed::LongHeader(MAX_HEADER + 1)));
        assert_eq!(split(Bytes::from_static(b"\x01\xff\xff\xff\xff")), Err(Malformed::LongHeader(0xffff_ffff)));
        assert_eq!(split(Bytes::from_static(b"\x01\0\0\0\x01\xff")), Err(Malformed::NoText));
        assert_eq!(split(Bytes::from_static(b"{}")), Err(Malformed::Unmarked));
        assert!(!is_marked(b"{}") && !is_marked(b"") && is_marked(&[MARK]));
    }
}
