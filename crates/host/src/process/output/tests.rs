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
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
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
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
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
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
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
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
    for seq in 1..=RETAINED_CHUNKS as u64 + 10 {
        log.output(OUT, piece(1));
        log.delivered(seq);
    }
    assert_eq!(log.chunks.len(), RETAINED_CHUNKS);
}

#[test]
fn attached_the_window_stops_the_reading_and_delivery_resumes_it() {
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
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
fn what_the_peer_has_not_read_is_on_its_way_and_there_again_after_a_break() {
    let mut log = Log::new(Some(Delivery::Read), WhenFull::Wait);
    let mut pieces = 0;
    while wants(&log) {
        log.output(OUT, piece(64 * 1024));
        pieces += 1;
        assert_eq!(log.take(usize::MAX, usize::MAX).len(), 1, "what is on its way stops no other event");
    }
    assert_eq!(pieces, WINDOW_READ.div_ceil(64 * 1024 + CHUNK_OVERHEAD));
    log.delivered(1);
    assert!(wants(&log), "word of the first makes room");
    log.exited(0, None);
    log.closed();
    assert_eq!(log.take(usize::MAX, usize::MAX).len(), 2);
    assert!(!log.is_settled());
    // The connection breaks; the peer has the first three.
    log.detach();
    log.attach(Delivery::Read);
    assert!(!log.has_pending(), "whoever comes back reads");
    let reading = log.read(3, None);
    assert_eq!(seqs(&reading), (4..=pieces as u64).collect::<Vec<_>>());
    assert!(reading.closed && reading.exit_code == Some(0));
    assert!(log.is_settled());
}

#[test]
fn detached_the_backlog_is_kept_whole_and_fits_one_message() {
    let mut log = Log::new(None, WhenFull::Wait);
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
    let mut log = Log::new(None, WhenFull::Wait);
    for _ in 0..100 {
        log.output(OUT, piece(64 * 1024));
    }
    let lost = seqs(&log.read(0, None));
    assert_eq!(lost, (1..=100).collect::<Vec<_>>());
    log.attach(Delivery::Sent);
    assert_eq!(seqs(&log.read(0, None)), lost);
    assert_eq!(seqs(&log.read(40, None)), (41..=100).collect::<Vec<_>>());
    assert_eq!(seqs(&log.read(0, None)), (25..=100).collect::<Vec<_>>(), "what was confirmed may go");
}

#[test]
fn a_reader_confirms_nothing_that_was_not_there_yet() {
    let mut log = Log::new(None, WhenFull::Wait);
    log.read(u64::MAX, None);
    for _ in 0..20 {
        log.output(OUT, piece(64 * 1024));
    }
    assert_eq!(log.retained(), 0);
    assert_eq!(log.read(0, None).chunks.len(), 20);
}

#[test]
fn a_backlog_does_not_stop_an_attached_command() {
    let mut log = Log::new(None, WhenFull::Wait);
    while wants(&log) {
        log.output(OUT, piece(64 * 1024));
    }
    log.attach(Delivery::Sent);
    assert!(wants(&log) && !log.has_pending());
}

#[test]
fn events_of_a_detached_time_are_never_notified() {
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
    log.output(OUT, piece(1));
    log.detach();
    log.output(OUT, piece(1));
    log.attach(Delivery::Sent);
    assert!(log.take(9, 9).is_empty());
    log.output(OUT, piece(1));
    log.exited(3, None);
    log.closed();
    let events = log.take(9, 9);
    assert_eq!(events.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(events[1].1, EventKind::Exited { code: 3, limit: None, denied: false });
    assert_eq!(events[2].1, EventKind::Closed);
    assert_eq!(seqs(&log.read(0, None)), [1, 2, 3]);
}

#[test]
fn what_is_still_to_be_notified_is_not_evicted_by_a_read() {
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
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
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
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
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
    log.output(OUT, piece(10));
    log.output(OUT, piece(10));
    log.delivered(1);
    log.trim();
    assert_eq!(seqs(&log.read(0, None)), [2]);
}

#[test]
fn a_log_is_settled_by_delivery_of_every_event() {
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
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
    let mut log = Log::new(None, WhenFull::Wait);
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
    let mut log = Log::new(None, WhenFull::Wait);
    log.output(OUT, piece(1));
    log.attach(Delivery::Sent);
    log.exited(0, None);
    log.closed();
    (2..=3).for_each(|seq| log.delivered(seq));
    assert!(!log.is_settled());
    log.read(1, None);
    assert!(log.is_settled());
}

#[test]
fn without_common_room_a_detached_log_holds_one_piece_and_an_attached_one_its_window() {
    let mut log = Log::new(None, WhenFull::Wait);
    assert_eq!(log.demand(false), Demand::More);
    log.output(OUT, piece(1));
    assert_eq!((log.demand(false), log.demand(true)), (Demand::Short, Demand::More));
    log.attach(Delivery::Sent);
    assert_eq!(log.demand(false), Demand::More);
    log.detach();
    log.read(1, None);
    assert_eq!(log.demand(false), Demand::More);
}

fn attached_to_acknowledge() -> Log {
    Log::new(Some(Delivery::Acknowledged), WhenFull::Wait)
}

fn numbers(events: &[(u64, EventKind)]) -> Vec<u64> {
    events.iter().map(|(seq, _)| *seq).collect()
}

#[test]
fn what_was_handed_out_and_not_acknowledged_comes_again_the_end_included() {
    let mut log = attached_to_acknowledge();
    for _ in 0..4 {
        log.output(OUT, piece(10));
    }
    log.exited(3, None);
    log.closed();
    let all = log.take(usize::MAX, 9);
    assert_eq!(numbers(&all), [1, 2, 3, 4, 5, 6]);
    (1..=6).for_each(|seq| log.delivered(seq));
    log.acknowledge(2);
    log.detach();
    assert!(!log.is_settled());
    log.attach(Delivery::Acknowledged);
    assert_eq!(log.take(usize::MAX, 9), all[2..]);
    assert!(!log.has_pending());
    log.acknowledge(5);
    assert!(!log.is_settled());
    log.attach(Delivery::Acknowledged);
    assert_eq!(log.take(usize::MAX, 9), all[5..]);
    log.acknowledge(6);
    assert!(log.is_settled());
}

#[test]
fn the_window_counts_until_it_is_acknowledged() {
    let mut log = attached_to_acknowledge();
    let mut pieces = 0;
    while wants(&log) {
        log.output(OUT, piece(64 * 1024));
        pieces += 1;
    }
    assert_eq!(pieces, WINDOW / (64 * 1024));
    assert_eq!(log.take(usize::MAX, 99).len(), pieces);
    (1..=pieces as u64).for_each(|seq| log.delivered(seq));
    assert!(!wants(&log), "sent is not acknowledged");
    log.output(OUT, piece(1));
    assert!(!log.has_pending(), "and nothing more is handed out");
    log.acknowledge(1);
    assert!(log.has_pending() && wants(&log));
}

#[test]
fn a_backlog_is_handed_out_by_the_window() {
    let mut log = Log::new(None, WhenFull::Wait);
    while wants(&log) {
        log.output(OUT, piece(64 * 1024));
    }
    let last = log.next_seq - 1;
    log.attach(Delivery::Acknowledged);
    assert!(!wants(&log));
    let mut got = Vec::new();
    while log.has_pending() {
        let events = log.take(100_000, 99);
        assert!(log.handed < WINDOW + 2 * (64 * 1024 + CHUNK_OVERHEAD));
        got.extend(numbers(&events));
        if !log.has_pending() {
            log.acknowledge(*got.last().unwrap());
        }
    }
    assert_eq!(got, (1..=last).collect::<Vec<_>>());
    assert!(wants(&log));
    assert_eq!((log.backlog, log.in_flight, log.handed), (0, 0, 0));
}

#[test]
fn who_acknowledges_first_gets_no_duplicate_and_nobody_acknowledges_the_future() {
    let mut log = attached_to_acknowledge();
    log.output(OUT, piece(1));
    log.output(OUT, piece(1));
    log.take(9, 9);
    log.detach();
    log.attach(Delivery::Acknowledged);
    log.acknowledge(1);
    assert_eq!(numbers(&log.take(9, 9)), [2]);
    log.acknowledge(u64::MAX);
    log.output(OUT, piece(1));
    assert_eq!(numbers(&log.take(9, 9)), [3]);
    assert_eq!(log.confirmed, 2);
}

#[test]
fn a_session_may_be_resumed_in_the_other_way() {
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
    log.output(OUT, piece(1));
    log.take(9, 9);
    log.delivered(1);
    log.output(OUT, piece(1));
    log.attach(Delivery::Acknowledged);
    assert_eq!(numbers(&log.take(9, 9)), [1, 2], "the first was sent, whether or not it arrived");
    log.attach(Delivery::Sent);
    assert!(!log.has_pending());
    log.exited(0, None);
    log.closed();
    assert_eq!(numbers(&log.take(9, 9)), [3, 4]);
    assert_eq!(seqs(&log.read(1, None)), [2]);
    assert_eq!(log.in_flight, 0);
}

#[test]
fn where_it_is_wanted_the_oldest_goes_and_is_counted() {
    let mut log = Log::new(None, WhenFull::DropOldest);
    let count = 800;
    for _ in 0..count {
        assert!(wants(&log));
        log.output(OUT, piece(64 * 1024));
    }
    log.exited(0, None);
    log.closed();
    assert!(log.backlog <= BACKLOG_JSON);
    let reading = log.read(0, None);
    let kept = reading.chunks.len() as u64;
    assert_eq!(seqs(&reading), (count - kept + 1..=count).collect::<Vec<_>>());
    assert!(kept * 64 * 1024 >= 32 * 1024 * 1024);
    assert_eq!(reading.dropped, (count - kept) * 64 * 1024);
    assert_eq!((reading.exit_code, reading.closed), (Some(0), true));
    assert!(log.is_settled());
}

#[test]
fn what_was_delivered_goes_uncounted_and_nothing_goes_while_somebody_is_attached() {
    let mut log = Log::new(None, WhenFull::DropOldest);
    (0..3).for_each(|_| log.output(OUT, piece(10)));
    log.read(1, None);
    assert!(log.drop_oldest());
    assert_eq!((log.dropped(), log.retained()), (0, 0));
    log.attach(Delivery::Sent);
    assert!(!log.drop_oldest());
    log.detach();
    assert!(log.drop_oldest() && !log.drop_oldest());
    assert_eq!(log.dropped(), 10);
}

#[test]
fn after_a_break_what_was_sent_before_is_there_until_it_was_asked_for() {
    let mut log = Log::new(Some(Delivery::Sent), WhenFull::Wait);
    let send = |log: &mut Log, count: u64| {
        for _ in 0..count {
            log.output(OUT, piece(64 * 1024));
            for (seq, _) in log.take(usize::MAX, usize::MAX) {
                log.delivered(seq);
            }
        }
    };
    send(&mut log, 8);
    log.detach();
    log.attach(Delivery::Sent);
    // More is on its way before anybody has read, and the first answer is lost with another connection.
    send(&mut log, 20);
    log.read(0, None);
    send(&mut log, 20);
    let seqs: Vec<u64> = log.read(0, None).chunks.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, (1..=48).collect::<Vec<_>>());
    log.read(40, None);
    assert_eq!(log.retained(), RETAINED_BYTES, "what was asked to come after goes");
}
