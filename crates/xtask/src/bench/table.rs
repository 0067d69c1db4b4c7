//! The table of a benchmark: one row for each figure, printed when it is there.
//!
//! In flow figures with their goals, out flow lines on stdout and, at the end, what they amount to. It knows no
//! measurement.

use std::io::Write as _;

use anyhow::Result;

use super::Outcome;

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// Ours is at most so much of theirs.
    RatioAtMost(f64),
    /// Ours is at least so much of theirs.
    RatioAtLeast(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// Ours is at least this.
    AtLeast(f64),
}

/// One figure.
#[derive(Debug)]
pub(super) struct Row {
    /// What was measured.
    pub(super) what: &'static str,
    /// Ours.
    pub(super) ours: f64,
    /// That of whoever stands beside it, if anybody, and who that is, unless it is the stock program.
    pub(super) theirs: Option<(f64, Option<&'static str>)>,
    /// How to write them.
    pub(super) unit: fn(f64) -> String,
    /// What it has to be.
    pub(super) goal: Goal,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.theirs.map(|(theirs, _)| self.ours / theirs)
    }

    /// Whether the goal is met. Not a number meets none.
    fn is_met(&self) -> bool {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        match self.goal {
            Goal::RatioAtMost(most) => ratio <= most,
            Goal::RatioAtLeast(least) => ratio >= least,
            Goal::AtMost(most) => self.ours <= most,
            Goal::AtLeast(least) => self.ours >= least,
        }
    }

    fn target(&self) -> String {
        match self.goal {
            Goal::RatioAtMost(most) if most < 1.0 => format!("<= 1/{:.0}", 1.0 / most),
            Goal::RatioAtMost(most) => format!("<= {most}"),
            Goal::RatioAtLeast(least) => format!(">= {least}"),
            Goal::AtMost(most) => format!("<= {}", (self.unit)(most)),
            Goal::AtLeast(least) => format!(">= {}", (self.unit)(least)),
        }
    }
}

/// The rows so far.
pub(super) struct Table {
    missed: bool,
    unmeasured: bool,
}

impl Table {
    pub(super) fn new(stock: &str) -> Result<Self> {
        line(["", "exedra", &format!("stock {stock}"), "ratio", "target", ""])?;
        Ok(Self { missed: false, unmeasured: false })
    }

    /// Prints a row.
    pub(super) fn add(&mut self, row: &Row) -> Result<()> {
        let met = row.is_met();
        self.missed |= !met;
        let theirs = match row.theirs {
            Some((theirs, Some(who))) => format!("{} {who}", (row.unit)(theirs)),
            Some((theirs, None)) => (row.unit)(theirs),
            None => String::new(),
        };
        let ratio = row.ratio().map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
        line([row.what, &(row.unit)(row.ours), &theirs, &ratio, &row.target(), if met { "ok" } else { "MISS" }])
    }

    /// Prints that something could not be measured.
    pub(super) fn lacks(&mut self, what: &str, why: &anyhow::Error) -> Result<()> {
        self.unmeasured = true;
        writeln!(std::io::stdout(), "{what}: could not be measured: {why:#}")?;
        Ok(())
    }

    /// Prints that there is nothing here to measure with, which is no failure.
    pub(super) fn not_here(&self, what: &str, why: &str) -> Result<()> {
        writeln!(std::io::stdout(), "{what}: n/a ({why})")?;
        Ok(())
    }

    /// What the rows amount to.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self { unmeasured: true, .. } => Outcome::Unmeasured,
            Self { missed: true, .. } => Outcome::Missed,
            _ => Outcome::Met,
        }
    }
}

fn line(cells: [&str; 6]) -> Result<()> {
    let [what, ours, theirs, ratio, target, verdict] = cells;
    let text = format!("{what:<42} {ours:>11} {theirs:>15} {ratio:>8} {target:>10}  {verdict}");
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, theirs: f64, goal: Goal) -> Row {
        Row { what: "", ours, theirs: Some((theirs, None)), unit: |figure| figure.to_string(), goal }
    }

    #[test]
    fn goals_are_met_or_not() {
        assert!(row(1.0, 20.0, Goal::RatioAtMost(0.05)).is_met());
        assert!(!row(1.01, 20.0, Goal::RatioAtMost(0.05)).is_met());
        assert!(row(20.0, 20.0, Goal::RatioAtLeast(1.0)).is_met());
        assert!(!row(19.0, 20.0, Goal::RatioAtLeast(1.0)).is_met());
        assert!(row(12.0, 1.0, Goal::AtMost(12.0)).is_met());
        assert!(!row(12.1, 1.0, Goal::AtMost(12.0)).is_met());
        assert!(!row(f64::NAN, 1.0, Goal::AtMost(12.0)).is_met());
        assert!(!row(1.0, f64::NAN, Goal::RatioAtMost(1.0)).is_met());
    }

    #[test]
    fn a_small_ratio_is_written_as_a_fraction() {
        assert_eq!(row(1.0, 1.0, Goal::RatioAtMost(0.05)).target(), "<= 1/20");
        assert_eq!(row(1.0, 1.0, Goal::RatioAtMost(1.0)).target(), "<= 1");
    }

    #[test]
    fn a_run_is_as_good_as_its_worst_row() {
        let mut table = Table { missed: false, unmeasured: false };
        table.add(&row(1.0, 1.0, Goal::AtMost(1.0))).unwrap();
        table.add(&row(2.0, 1.0, Goal::RatioAtMost(1.0))).unwrap();
        assert_eq!(table.outcome(), Outcome::Missed);
        let mut table = Table { missed: true, unmeasured: false };
        table.lacks("it", &anyhow::anyhow!("no")).unwrap();
        assert_eq!(table.outcome(), Outcome::Unmeasured);
    }
}
