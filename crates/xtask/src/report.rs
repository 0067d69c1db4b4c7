//! One line for each check of a run, and the count at its end.
//!
//! In flow names and outcomes as they come, out flow `PASS` and `FAIL` lines on stdout. It knows no check.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Report {
    passed: Cell<usize>,
    failed: Cell<usize>,
}

impl Report {
    /// Prints the outcome of `check`, with the time that it took, and gives what it found.
    ///
    /// # Errors
    /// Stdout is gone.
    pub async fn check<T>(&self, name: &str, check: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        let begin = Instant::now();
        let outcome = check.await;
        let seconds = begin.elapsed().as_secs_f64();
        let mut out = std::io::stdout().lock();
        match outcome {
            Ok(found) => {
                self.passed.set(self.passed.get() + 1);
                writeln!(out, "PASS  {name} ({seconds:.1} s)")?;
                Ok(Some(found))
            }
            Err(error) => {
                self.failed.set(self.failed.get() + 1);
                writeln!(out, "FAIL  {name} ({seconds:.1} s): {error:#}")?;
                Ok(None)
            }
        }
    }

    /// Prints a line about what was found.
    ///
    /// # Errors
    /// Stdout is gone.
    pub fn note(&self, text: &str) -> Result<()> {
        writeln!(std::io::stdout(), "      {text}")?;
        Ok(())
    }

    /// Prints that there is nothing here to check with, which is no failure.
    ///
    /// # Errors
    /// Stdout is gone.
    pub fn skip(&self, name: &str, why: &str) -> Result<()> {
        writeln!(std::io::stdout(), "SKIP  {name}: {why}")?;
        Ok(())
    }

    /// Prints the last line and tells whether nothing failed.
    ///
    /// # Errors
    /// Stdout is gone.
    pub fn finish(&self) -> Result<bool> {
        writeln!(std::io::stdout(), "{} passed, {} failed", self.passed.get(), self.failed.get())?;
        Ok(self.failed.get() == 0)
    }
}
