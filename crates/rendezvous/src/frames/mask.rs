//! The mask of client frames: lifted in place, a piece at a time.
//!
//! A payload may come in pieces; the mask is turned by what was lifted, so that it fits the next piece.

/// Lifts `mask` from `payload`, and turns it for what follows.
pub fn lift(mask: &mut [u8; 4], payload: &mut [u8]) {
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
    mask.rotate_left(payload.len() % 4);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_same_as_the_whole() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..200).collect();
        let masked: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        for first in 0..=plain.len() {
            for second in [0, 1, 7, 8, 9, 64] {
                let mut bytes = masked.clone();
                let (mut mask, second) = (mask, (first + second).min(plain.len()));
                lift(&mut mask, &mut bytes[..first]);
                lift(&mut mask, &mut bytes[first..second]);
                lift(&mut mask, &mut bytes[second..]);
                assert_eq!(bytes, plain, "cut at {first} and {second}");
            }
        }
    }
}
