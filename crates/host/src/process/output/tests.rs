use super::*;

const OUT: OutputStream = OutputStream::Stdout;

fn piece(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

fn wants(log: &Log) -> bool {
    log.demand(true) == Demand::More
}

fn seqs(reading: &Reading) -> Vec<u64> {
    reading.chunks.iter().map(|(seq, ..)| *seq).collect()
}

/// What `read-after-close` of the 0.130 fixture recorded.
#[test]
fn reads_as_stock_recorded_them() {
    let mut log = Log::new(true);
    log.output(OUT, Bytes::from_static(b"ab"));
    log.output(OUT, Bytes::from_static(b"cd"));
    log.exited(7, None);
    log.closed();
    for (after, max, want, next) in [
        (0, None, vec![1, 2], 3),
        (1, None, vec![2], 3),
        (0, Some(1), vec![1], 2),
        (0, Some(0), vec![1], 2),
        (0, Some(2), vec![1], 2),
        (0, Some(3), vec![1], 2),
        (0, Some(4), vec![1, 2], 3),
        (2, None, vec![], 5),
        (99, None, vec![], 5),
    ] {
        let reading = log.read(after, max);
        assert_eq!((seqs(&reading), reading.next_seq), (want, next), "after {after} max {max:?}");
        assert_eq!((reading.exit_code, reading.closed, reading.is_news), (Some(7), true, true));
    }
}

#[test]
fn a_long_poll_is_answered_by_output_exit_and_close_only() {
    let mut log = Log::new(true);
    assert!(!log.read(0, None).is_news);
    log.output(OUT, piece(1));
    assert!(log.read(0, None).is_news);
    assert!(!log.read(1, None).is_news);
    log.exited(0, None);
    assert!(log.read(1, None).is_news);
    assert!(!log.read(2, None).is_news);
    log.closed();
    assert!(log.read(2, None).is_news);
}

#[test]
fn the_newest_of_the_delivered_stays() {
    let mut log = Log::new(true);
    for seq in 1..=40 {
        log.output(OUT, piece(64 * 1024));
        log.take(1, 1);
        log.delivered(seq);
    }
    assert_eq!(seqs(&log.read(0, None)), (25..=40).collect::<Vec<_>>());
    assert_eq!(log.retained(), RETAINED_BYTES);
}

#[test]
fn tiny_pieces_are_bounded_by_number() {
    let mut log = Log::new(true);
    for seq in 1..=RETAINED_CHUNKS as u64 + 10 {
        log.output(OUT, piece(1));
        log.delivered(seq);
    }
    assert_eq!(log.chunks.len(), RETAINED_CHUNKS);
}

#[test]
fn attached_the_window_stops_the_reading_and_delivery_resumes_it() {
    let mut log = Log::new(true);
    let mut written = 0;
    while wants(&log) {
        log.output(OUT, piece(64 * 1024));
        written += 64 * 1024;
    }
    assert_eq!(written, WINDOW);
    let first = log.take(usize::MAX, 2);
    assert!(!wants(&log), "taken is not yet delivered");
    for (seq, _) in first {
        log.delivered(seq);
    }
    assert!(wants(&log));
}

#[test]
fn detached_the_backlog_is_kept_whole_and_fits_one_message() {
    let mut log = Log::new(false);
    let mut count = 0;
    while wants(&log) {
        log.output(OUT, piece(64 * 1024));
        count += 1;
    }
    assert!(count * 64 * 1024 >= 32 * 1024 * 1024);
    let reading = log.read(0, None);
    assert_eq!(reading.chunks.len(), count);
    let json: usize = reading.chunks.iter().map(|(.., bytes)| bytes.len().div_ceil(3) * 4 + JSON_OVERHEAD).sum();
    assert!(json <= READ_JSON);
    assert!(!wants(&log), "the answer may be lost");
    log.read(count as u64, None);
    assert!(wants(&log), "asked for what comes after, all of it was received");
    assert_eq!(log.retained(), RETAINED_BYTES);
}

#[test]
fn an_answer_that_was_lost_can_be_had_again() {
    let mut log = Log::new(false);
    for _ in 0..100 {
        log.output(OUT, piece(64 * 1024));
    }
    let lost = seqs(&log.read(0, None));
    assert_eq!(lost, (1..=100).collect::<Vec<_>>());
    log.attach();
    assert_eq!(seqs(&log.read(0, None)), lost);
    assert_eq!(seqs(&log.read(40, None)), (41..=100).collect::<Vec<_>>());
    assert_eq!(seqs(&log.read(0, None)), (25..=100).collect::<Vec<_>>(), "what was confirmed may go");
}

#[test]
fn a_reader_confirms_nothing_that_was_not_there_yet() {
    let mut log = Log::new(false);
    log.read(u64::MAX, None);
    for _ in 0..20 {
        log.output(OUT, piece(64 * 1024));
    }
    assert_eq!(log.retained(), 0);
    assert_eq!(log.read(0, None).chunks.len(), 20);
}

#[test]
fn a_backlog_does_not_stop_an_attached_command() {
    let mut log = Log::new(false);
    while wants(&log) {
        log.output(OUT, piece(64 * 1024));
    }
    log.attach();
    assert!(wants(&log) && !log.has_pending());
}

#[test]
fn events_of_a_detached_time_are_never_notified() {
    let mut log = Log::new(true);
    log.output(OUT, piece(1));
    log.detach();
    log.output(OUT, piece(1));
    log.attach();
    assert!(log.take(9, 9).is_empty());
    log.output(OUT, piece(1));
    log.exited(3, None);
    log.closed();
    let events = log.take(9, 9);
    assert_eq!(events.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(events[1].1, EventKind::Exited { code: 3, limit: None });
    assert_eq!(events[2].1, EventKind::Closed);
    assert_eq!(seqs(&log.read(0, None)), [1, 2, 3]);
}

#[test]
fn what_is_still_to_be_notified_is_not_evicted_by_a_read() {
    let mut log = Log::new(true);
    for _ in 0..20 {
        log.output(OUT, piece(64 * 1024));
    }
    assert_eq!(log.read(0, None).chunks.len(), 20);
    assert_eq!(log.take(usize::MAX, usize::MAX).len(), 20);
    for seq in 1..=20 {
        log.delivered(seq);
    }
    assert_eq!(log.read(0, None).chunks.len(), 16);
}

#[test]
fn a_take_stops_at_its_limits_but_gives_one() {
    let mut log = Log::new(true);
    for _ in 0..4 {
        log.output(OUT, piece(10));
    }
    assert_eq!(log.take(0, 9).len(), 1);
    assert_eq!(log.take(15, 9).len(), 2);
    assert_eq!(log.take(99, 1).len(), 1);
    assert!(log.take(99, 1).is_empty());
}

#[test]
fn trimming_leaves_what_nobody_has_seen() {
    let mut log = Log::new(true);
    log.output(OUT, piece(10));
    log.output(OUT, piece(10));
    log.delivered(1);
    log.trim();
    assert_eq!(seqs(&log.read(0, None)), [2]);
}

#[test]
fn a_log_is_settled_by_delivery_of_every_event() {
    let mut log = Log::new(true);
    log.output(OUT, piece(1));
    log.exited(0, None);
    log.closed();
    for seq in 1..=3 {
        assert!(!log.is_settled());
        log.delivered(seq);
    }
    assert!(log.is_settled());
}

#[test]
fn a_log_is_settled_by_reading_to_its_end() {
    let mut log = Log::new(false);
    log.output(OUT, piece(10));
    log.output(OUT, piece(10));
    log.read(0, Some(10));
    log.exited(0, None);
    log.closed();
    assert!(!log.is_settled());
    assert!(log.read(0, Some(10)).closed);
    assert!(!log.is_settled(), "the second piece was in no answer yet");
    log.read(1, None);
    assert!(log.is_settled());
    assert_eq!(seqs(&log.read(1, None)), [2]);
}

#[test]
fn a_gap_that_was_never_read_keeps_a_log_from_being_settled() {
    let mut log = Log::new(false);
    log.output(OUT, piece(1));
    log.attach();
    log.exited(0, None);
    log.closed();
    (2..=3).for_each(|seq| log.delivered(seq));
    assert!(!log.is_settled());
    log.read(1, None);
    assert!(log.is_settled());
}

#[test]
fn without_common_room_a_detached_log_holds_one_piece_and_an_attached_one_its_window() {
    let mut log = Log::new(false);
    assert_eq!(log.demand(false), Demand::More);
    log.output(OUT, piece(1));
    assert_eq!((log.demand(false), log.demand(true)), (Demand::Short, Demand::More));
    log.attach();
    assert_eq!(log.demand(false), Demand::More);
    log.detach();
    log.read(1, None);
    assert_eq!(log.demand(false), Demand::More);
}

/// The plainest thing that could work: everything ever written, with what is known about it.
#[derive(Default)]
struct Model {
    events: Vec<Fact>,
    attached: bool,
    cursor: usize,
}

struct Fact {
    len: Option<usize>,
    delivered: bool,
    flying: bool,
    gone: bool,
    returned: bool,
}

impl Model {
    fn push(&mut self, len: Option<usize>) {
        self.events.push(Fact {
            len,
            delivered: false,
            flying: self.attached && len.is_some(),
            gone: false,
            returned: false,
        });
    }

    fn evict(&mut self) {
        let free = |fact: &&mut Fact| fact.len.is_some() && fact.delivered && !fact.flying && !fact.gone;
        let mut kept: usize = self.events.iter_mut().filter(free).filter_map(|fact| fact.len).sum();
        for fact in self.events.iter_mut().filter(free) {
            if kept <= RETAINED_BYTES {
                break;
            }
            fact.gone = true;
            kept -= fact.len.unwrap_or(0);
        }
    }

    fn readable(&self) -> Vec<(u64, usize)> {
        let numbered = self.events.iter().zip(1..);
        numbered.filter(|(fact, _)| !fact.gone).filter_map(|(fact, seq)| Some((seq, fact.len?))).collect()
    }

    fn read(&self, after: u64, max: Option<usize>) -> Vec<u64> {
        let (mut out, mut total) = (Vec::new(), 0);
        for (seq, len) in self.readable().into_iter().filter(|(seq, _)| *seq > after) {
            if !out.is_empty() && max.is_some_and(|max| total + len > max || total >= max) {
                break;
            }
            total += len;
            out.push(seq);
        }
        out
    }
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

#[test]
fn random_operations_agree_with_the_model() {
    for seed in 1..=60_u64 {
        run_model(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
}

fn run_model(mut state: u64) {
    let (mut log, mut model) = (Log::new(false), Model::default());
    let mut taken: Vec<u64> = Vec::new();
    let steps = 200 + random(&mut state, 400);
    for step in 0..steps {
        if step + 2 == steps {
            log.exited(0, None);
            model.push(None);
        }
        match random(&mut state, 12) {
            0..=4 => {
                let len = 1 + random(&mut state, 65_536) as usize;
                log.output(OUT, piece(len));
                model.push(Some(len));
            }
            5 if !model.attached => {
                log.attach();
                (model.attached, model.cursor) = (true, model.events.len());
            }
            6 if random(&mut state, 6) == 0 => {
                log.detach();
                model.attached = false;
                model.events.iter_mut().for_each(|fact| fact.flying = false);
                model.evict();
            }
            7 | 8 => {
                let events = log.take(random(&mut state, 200_000) as usize, 8);
                assert_eq!(!events.is_empty(), model.attached && model.cursor < model.events.len());
                for (seq, kind) in events {
                    assert_eq!(seq as usize, model.cursor + 1);
                    assert_eq!(kind.output_len(), model.events[model.cursor].len.unwrap_or(0));
                    model.cursor += 1;
                    taken.push(seq);
                }
            }
            9 | 10 => {
                for seq in taken.drain(..taken.len().div_ceil(2)) {
                    log.delivered(seq);
                    let fact = &mut model.events[seq as usize - 1];
                    (fact.delivered, fact.flying) = (true, false);
                    model.evict();
                }
            }
            _ => {
                let after = random(&mut state, model.events.len() as u64 + 2);
                let max = (random(&mut state, 2) == 0).then(|| random(&mut state, 300_000) as usize);
                model.events.iter_mut().take(after as usize).for_each(|fact| fact.delivered = true);
                model.evict();
                let reading = log.read(after, max);
                assert_eq!(seqs(&reading), model.read(after, max));
                let next = reading.chunks.last().map_or(model.events.len() as u64 + 1, |(seq, ..)| seq + 1);
                assert_eq!(reading.next_seq, next);
                reading.chunks.iter().for_each(|(seq, ..)| model.events[*seq as usize - 1].returned = true);
            }
        }
        compare(&log, &model);
    }
}

fn compare(log: &Log, model: &Model) {
    let present: Vec<(u64, usize)> = log.chunks.iter().map(|(seq, chunk)| (*seq, chunk.bytes.len())).collect();
    assert_eq!(present, model.readable());
    let total = |wanted: fn(&Fact) -> bool, cost: fn(usize) -> usize| {
        let facts = model.events.iter().filter(|fact| !fact.gone && wanted(fact));
        facts.filter_map(|fact| fact.len).map(cost).sum::<usize>()
    };
    assert_eq!(log.retained, total(|f| f.delivered && !f.flying, |len| len));
    assert_eq!(log.in_flight, total(|f| f.flying, |len| len + CHUNK_OVERHEAD));
    assert_eq!(log.backlog, total(|f| !f.delivered, |len| len.div_ceil(3) * 4 + JSON_OVERHEAD));
    assert_eq!(log.unseen, total(|f| !f.delivered && !f.returned, |_| 1));
    assert!(log.retained() <= RETAINED_BYTES);
}
