//! From when until when a certificate is good: the one part of it that is looked at here. Whether it is good otherwise, the TLS
//! library decides.

use std::time::{SystemTime, UNIX_EPOCH};

/// DER's tags of what is on the way.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The time for which a certificate was made, both ends included (RFC 5280, 4.1.2.5); seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its begin.
    pub not_before: u64,
    /// Its end.
    pub not_after: u64,
}

impl Validity {
    /// That of a certificate in DER; none if it cannot be read.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = inside(certificate, SEQUENCE)?;
        let (mut rest, _) = inside(certificate, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            rest = inside(rest, VERSION)?.1;
        }
        // Serial number, algorithm, issuer.
        for _ in 0..3 {
            rest = element(rest)?.2;
        }
        let (validity, _) = inside(rest, SEQUENCE)?;
        let (begin_tag, begin, validity) = element(validity)?;
        let (end_tag, end, _) = element(validity)?;
        Some(Self { not_before: time(begin_tag, begin)?, not_after: time(end_tag, end)? })
    }

    /// Whether `now` is in it.
    pub fn holds(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Tag and content of the first element, and what is behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(digits, _)| digits.len() <= 4)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

fn inside(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, behind) = element(der)?;
    (found == tag).then_some((content, behind))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the only forms that RFC 5280 allows.
fn time(tag: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: u64 = digits.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, digits.get(2..)?)
        }
        (GENERALIZED_TIME, 14) => (digits.get(..4)?.parse().ok()?, digits.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Counted from March on, a leap day is the last of its year.
    let (shifted, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = shifted / 4 - shifted / 100 + shifted / 400;
    let days = shifted * 365 + leap_days + (153 * from_march + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(since_1970 * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn begin_and_end_of_a_certificate_are_found() {
        for ((year, month, day), expected) in [
            ((2030, 2, 28), 1_898_467_200),
            ((2032, 2, 29), 1_961_625_600),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((2100, 3, 1), 4_107_542_400),
        ] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(1999, 12, 31), date_time_ymd(year, month, day));
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let found = Validity { not_before: 946_598_400, not_after: expected };
            assert_eq!(Validity::of(certificate.der()), Some(found), "{year}-{month}-{day}");
            for cut in 0..certificate.der().len().min(300) {
                // No panic, whatever is missing.
                let _ = Validity::of(&certificate.der()[..cut]);
            }
        }
        for bad in ["", "2001Z", "20301301000000Z", "2030010100000Z", "20300101000000", "2030é101000000Z"] {
            assert_eq!(time(GENERALIZED_TIME, bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Validity::of(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
    #[test]
    fn a_certificate_is_good_from_its_begin_to_its_end() {
        let validity = Validity { not_before: 10, not_after: 20 };
        let holds = |second: u64| validity.holds(UNIX_EPOCH + Duration::from_secs(second));
        assert_eq!([9, 10, 20, 21].map(holds), [false, true, true, false]);
    }
}
