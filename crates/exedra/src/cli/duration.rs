//! Times as people write them: `10s`, `500ms`, `2m`, `12h`, `30d`, and `0`.
//!
//! In flows the text of a flag, out flows a duration or a sentence that says what is expected.

use std::time::Duration;

/// Units with their milliseconds.
const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `text`.
///
/// # Errors
/// A sentence for the user.
pub fn parse(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is no time; write a number and a unit, as in 500ms, 10s, 5m, 12h, 30d");
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    number.checked_mul(*factor).map(Duration::from_millis).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse(" 10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "10", "s", "-1s", "1.5s", "10 s", "10S", "99999999999999999999s", "999999999999999999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
