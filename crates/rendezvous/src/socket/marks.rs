//! Marks of one peer that wait until its counterpart has read as far.
//!
//! In flow the numbers of marks, each with how much the counterpart was sent before it, and how far that is known to have
//! read; out flow numbers to answer. Only the first that waits and the latest are kept: an answer to a mark is one to all
//! before it, and with the first the answers keep coming however fast marks do.

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    first: Option<(u64, u64)>,
    latest: Option<(u64, u64)>,
}

impl Marks {
    /// Mark `number` waits until the counterpart has read `target`.
    pub fn wait(&mut self, number: u64, target: u64) {
        let slot = if self.first.is_none() { &mut self.first } else { &mut self.latest };
        *slot = Some((number, target));
    }

    /// The counterpart has read `confirmed`: the latest number to answer, if any is.
    pub fn reached(&mut self, confirmed: u64) -> Option<u64> {
        let mut answer = None;
        while let Some((number, _)) = self.first.take_if(|(_, target)| *target <= confirmed) {
            answer = Some(number);
            self.first = self.latest.take();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_marks_keeps_the_first_and_the_latest() {
        let mut marks = Marks::default();
        assert_eq!(marks.reached(u64::MAX), None);
        for number in 1..=9 {
            marks.wait(number, number * 100);
        }
        assert_eq!(marks.reached(99), None);
        assert_eq!(marks.reached(100), Some(1));
        assert_eq!(marks.reached(899), None);
        marks.wait(10, 1_000);
        assert_eq!(marks.reached(950), Some(9));
        assert_eq!(marks.reached(1_000), Some(10));
        assert_eq!(marks.reached(u64::MAX), None);
    }
}
