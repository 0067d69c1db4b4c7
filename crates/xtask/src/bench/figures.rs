//! What is made of samples, and how figures are written.

use std::time::Duration;

/// For a process of the run to say that it is ready.
pub(super) const READY: Duration = Duration::from_secs(20);

/// The middle one; of an even number the lower of the two.
pub(super) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// A duration given in seconds.
pub(super) fn time(seconds: f64) -> String {
    if seconds < 0.001 { format!("{:.0} µs", seconds * 1e6) } else { format!("{:.2} ms", seconds * 1e3) }
}

/// A rate given in bytes per second.
pub(super) fn rate(bytes_per_second: f64) -> String {
    format!("{:.0} MB/s", bytes_per_second / 1e6)
}

/// A rate of events.
pub(super) fn per_second(events: f64) -> String {
    format!("{events:.0}/s")
}

/// A size given in bytes.
pub(super) fn size(bytes: f64) -> String {
    if bytes < 1e5 { format!("{:.1} KB", bytes / 1e3) } else { format!("{:.1} MB", bytes / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_mind_an_outlier() {
        assert_eq!(median(vec![3.0, 1.0, 900.0]).to_bits(), 3.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.0_f64.to_bits());
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn figures_have_their_unit() {
        assert_eq!(time(0.000_204), "204 µs");
        assert_eq!(time(0.0441), "44.10 ms");
        assert_eq!(rate(250e6), "250 MB/s");
        assert_eq!(size(12.34e6), "12.3 MB");
    }
}
