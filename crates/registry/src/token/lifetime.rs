//! How long a token is good, as people write it: `30d`, `12h`, `90m`, `45s`.
//!
//! In flows the text of a flag, out flows a duration, or a sentence that says what is expected.

use std::time::Duration;

const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
/// A hundred years: more is a slip of the pen.
const LONGEST: u64 = 36_500 * 86_400;

/// Why a text is no lifetime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no lifetime; write a number above 0 and a unit, as in 30d, 12h, 90m")]
pub struct InvalidLifetime(String);

/// Reads `text`.
///
/// # Errors
/// It is no number with a unit, is zero, or is more than a hundred years.
pub fn parse_lifetime(text: &str) -> Result<Duration, InvalidLifetime> {
    let parse = || {
        let text = text.trim();
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
        let number = text.strip_suffix(unit)?;
        let digits_alone = number.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = number.parse::<u64>().ok()?.checked_mul(factor)?;
        (digits_alone && (1..=LONGEST).contains(&seconds)).then(|| Duration::from_secs(seconds))
    };
    parse().ok_or_else(|| InvalidLifetime(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_and_a_unit() {
        let secs = |text| parse_lifetime(text).map(|lifetime| lifetime.as_secs());
        assert_eq!(secs("30d"), Ok(2_592_000));
        assert_eq!(secs(" 12h "), Ok(43_200));
        assert_eq!(secs("90m"), Ok(5_400));
        assert_eq!(secs("1s"), Ok(1));
        assert_eq!(secs("36500d"), Ok(LONGEST));
        for bad in
            ["", "d", "30", "0d", "-1d", "+1d", "1.5h", "1 d", "3w", "30D", "36501d", "99999999999999999999d", "٣d"]
        {
            assert!(secs(bad).is_err(), "{bad}");
        }
    }
}
