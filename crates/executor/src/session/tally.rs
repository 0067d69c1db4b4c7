//! What was sent behind which mark: the books of a connection whose peer has to answer before output counts as delivered.
//!
//! In flow events as they are sent, marks as they are put behind them, answers, and the time; out flow when the next mark
//! is due, and the events that an answer covers. Pure: no tokio, no clock, no connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use exedra_host::process::{Event, EventRun};

/// Output after which a mark is due, in bytes: a small part of what may be on its way, so that answers keep coming.
const BYTES: usize = 256 * 1024;
/// Events after which one is due.
const EVENTS: usize = 256;
/// How long a little waits for more before one is due: a mark for each line of a chatty command would double its frames.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Default)]
pub struct Tally {
    open: Vec<EventRun>,
    bytes: usize,
    events: usize,
    since: Option<Instant>,
    /// What lies before each mark that is not answered, and behind the one before it.
    marked: VecDeque<(u64, Vec<EventRun>)>,
    answered: u64,
}

impl Tally {
    /// `event` was sent.
    pub fn sent(&mut self, event: &Event, now: Instant) {
        self.since.get_or_insert(now);
        self.bytes += event.kind.output_len();
        self.events += 1;
        match self.open.last_mut() {
            Some(run) if run.process == event.process && run.last + 1 == event.seq => run.last = event.seq,
            _ => self.open.push(event.run()),
        }
    }

    /// When the next mark is to be put; none while nothing was sent since the last one.
    pub fn due(&self) -> Option<Instant> {
        let full = self.bytes >= BYTES || self.events >= EVENTS;
        self.since.map(|since| if full { since } else { since + PAUSE })
    }

    /// Mark `number` was put behind all that was sent.
    pub fn marked(&mut self, number: u64) {
        self.marked.push_back((number, std::mem::take(&mut self.open)));
        (self.bytes, self.events, self.since) = (0, 0, None);
    }

    /// The latest mark that was answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Mark `number` was answered, if none beyond it was before, and with it all up to it: takes out what the peer has.
    pub fn answer(&mut self, number: u64) -> Vec<EventRun> {
        self.answered = self.answered.max(number);
        let covered = self.marked.iter().take_while(|(mark, _)| *mark <= self.answered).count();
        self.marked.drain(..covered).flat_map(|(_, runs)| runs).collect()
    }
}

#[cfg(test)]
mod tests {
    use exedra_host::process::EventKind;
    use exedra_proto::ids::ProcessId;
    use exedra_proto::process::OutputStream;

    use super::*;

    fn output(process: &str, seq: u64, len: usize) -> Event {
        let kind = EventKind::Output { stream: OutputStream::Stdout, bytes: vec![0; len].into() };
        Event { process: ProcessId::new(process), seq, kind }
    }

    fn told(runs: &[EventRun]) -> Vec<(&str, u64, u64)> {
        runs.iter().map(|run| (run.process.as_str(), run.first, run.last)).collect()
    }

    #[test]
    fn an_answer_covers_what_was_sent_before_its_mark() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        for (process, seq) in [("a", 4), ("a", 5), ("b", 1), ("a", 6)] {
            tally.sent(&output(process, seq, 1), now);
        }
        tally.marked(1);
        tally.sent(&output("a", 7, 1), now);
        tally.marked(2);
        tally.sent(&output("a", 8, 1), now);
        assert_eq!(told(&tally.answer(0)), []);
        assert_eq!(told(&tally.answer(1)), [("a", 4, 5), ("b", 1, 1), ("a", 6, 6)]);
        assert_eq!(told(&tally.answer(2)), [("a", 7, 7)]);
        assert_eq!(told(&tally.answer(2)), []);
        tally.marked(3);
        assert_eq!(told(&tally.answer(u64::MAX)), [("a", 8, 8)]);
        tally.sent(&output("a", 9, 1), now);
        tally.marked(4);
        assert_eq!(told(&tally.answer(0)), [("a", 9, 9)], "nothing more is waited for");
    }

    #[test]
    fn a_later_answer_counts_for_earlier_marks() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        for mark in 1..=3 {
            tally.sent(&output("a", mark, 1), now);
            tally.marked(mark);
        }
        assert_eq!(told(&tally.answer(2)), [("a", 1, 1), ("a", 2, 2)]);
        assert_eq!(told(&tally.answer(3)), [("a", 3, 3)]);
    }

    #[test]
    fn a_mark_is_due_after_much_or_after_a_pause() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        assert_eq!(tally.due(), None);
        tally.sent(&output("a", 1, 10), now);
        tally.sent(&output("a", 2, 10), now + PAUSE / 2);
        assert_eq!(tally.due(), Some(now + PAUSE));
        tally.sent(&output("a", 3, BYTES), now + PAUSE / 2);
        assert_eq!(tally.due(), Some(now));
        tally.marked(1);
        assert_eq!(tally.due(), None);
        for seq in 4..4 + EVENTS as u64 {
            tally.sent(&output("a", seq, 0), now);
        }
        assert_eq!(tally.due(), Some(now));
    }
}
