use bytes::Bytes;
use exedra_proto::process::OutputStream;

use super::super::ledger::NAMES;
use super::*;
use crate::process::event::EventKind;

fn id(name: &str) -> ProcessId {
    ProcessId::new(name)
}

fn roster(names: &[&'static str]) -> Roster<&'static str> {
    let mut roster = Roster::new(Duration::from_secs(80), Arc::new(Ledger::new(usize::MAX, NAMES)), WhenFull::Wait);
    for name in names {
        roster.reserve(&id(name), 0).unwrap();
        roster.admit(&id(name), *name).unwrap();
    }
    roster
}

fn write(roster: &mut Roster<&'static str>, name: &str, len: usize) -> bool {
    let bytes = Bytes::from(vec![0; len]);
    roster.change(&id(name), |log| log.output(OutputStream::Stdout, bytes)).unwrap().pending
}

fn deliver(roster: &mut Roster<&'static str>, events: &[Event]) {
    for event in events {
        roster.change(&event.process, |log| log.delivered(event.seq));
    }
}

#[test]
fn an_id_is_taken_from_the_reservation_until_it_is_forgotten() {
    let mut roster = roster(&[]);
    roster.attach(Delivery::Sent);
    let now = Instant::now();
    roster.reserve(&id("p"), 0).unwrap();
    assert_eq!(roster.reserve(&id("p"), 0), Err(StartError::AlreadyExists(id("p"))));
    assert_eq!(roster.find(&id("p")), Found::Starting);
    roster.release(&id("p"));
    roster.reserve(&id("p"), 0).unwrap();
    roster.admit(&id("p"), "h").unwrap();
    roster.change(&id("p"), |log| log.exited(0, None)).unwrap();
    roster.close(&id("p")).unwrap();
    let events = roster.take(9);
    deliver(&mut roster, &events);
    assert_eq!(roster.reserve(&id("p"), 0), Err(StartError::AlreadyExists(id("p"))));
    assert!(roster.purge(now).is_empty());
    assert!(roster.purge(now + Duration::from_secs(79)).is_empty());
    assert_eq!(roster.next_purge(), Some(now + Duration::from_secs(80)));
    assert_eq!(roster.purge(now + Duration::from_secs(80)), ["h"]);
    assert_eq!(roster.find(&id("p")), Found::Unknown);
    assert!(roster.reserve(&id("p"), 0).is_ok());
}

#[test]
fn a_start_can_be_cancelled_and_refused() {
    let mut roster = roster(&[]);
    roster.reserve(&id("p"), 0).unwrap();
    roster.cancel(&id("p"));
    assert_eq!(roster.admit(&id("p"), "h"), Err(StartError::Cancelled(id("p"))));
    roster.reserve(&id("q"), 0).unwrap();
    roster.shut_down();
    assert_eq!(roster.admit(&id("q"), "h"), Err(StartError::ShuttingDown));
    assert_eq!(roster.reserve(&id("r"), 0), Err(StartError::ShuttingDown));
    assert_eq!(roster.find(&id("q")), Found::Unknown);
}

#[test]
fn turns_are_fair_and_in_order() {
    let mut roster = roster(&["a", "b"]);
    roster.attach(Delivery::Sent);
    for _ in 0..8 {
        write(&mut roster, "a", 64 * 1024);
    }
    write(&mut roster, "b", 1);
    let first = roster.take(200 * 1024);
    let order: Vec<_> = first.iter().map(|event| (event.process.as_str(), event.seq)).collect();
    assert_eq!(order, [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("a", 4)]);
    let rest = roster.take(usize::MAX);
    assert_eq!(rest.iter().map(|event| event.seq).collect::<Vec<_>>(), [5, 6, 7, 8]);
    assert!(roster.take(usize::MAX).is_empty());
}

#[test]
fn one_event_is_taken_however_small_the_limit() {
    let mut roster = roster(&["a"]);
    roster.attach(Delivery::Sent);
    write(&mut roster, "a", 10);
    write(&mut roster, "a", 10);
    assert_eq!(roster.take(0).len(), 1);
}

#[test]
fn detached_nothing_is_taken_and_what_was_not_taken_never_is() {
    let mut roster = roster(&["a"]);
    assert!(!write(&mut roster, "a", 1));
    roster.attach(Delivery::Sent);
    assert!(write(&mut roster, "a", 1));
    roster.detach();
    roster.attach(Delivery::Sent);
    assert!(roster.take(9).is_empty());
    write(&mut roster, "a", 1);
    assert_eq!(roster.take(9)[0].seq, 3);
}

#[test]
fn what_was_not_acknowledged_comes_again_and_is_not_forgotten() {
    let mut roster = roster(&["a", "b"]);
    roster.attach(Delivery::Acknowledged);
    assert!(write(&mut roster, "a", 1));
    end(&mut roster, "a");
    let first = roster.take(9);
    assert_eq!(first.len(), 3);
    deliver(&mut roster, &first);
    roster.detach();
    roster.attach(Delivery::Acknowledged);
    assert_eq!(roster.take(9), first);
    let (now, week) = (Instant::now(), Duration::from_secs(7 * 24 * 60 * 60));
    assert!(roster.purge(now).is_empty() && roster.purge(now + week).is_empty());
    assert!(roster.change(&id("a"), |log| log.acknowledge(3)).unwrap().settled);
    assert!(roster.purge(now).is_empty());
    assert_eq!(roster.purge(now + Duration::from_secs(80)), ["a"]);
}

#[test]
fn a_closed_process_is_not_forgotten_before_its_end_was_taken() {
    let mut roster = roster(&["a"]);
    roster.attach(Delivery::Sent);
    let now = Instant::now();
    roster.change(&id("a"), |log| log.exited(0, None)).unwrap();
    roster.close(&id("a")).unwrap();
    roster.change(&id("a"), |log| log.read(0, None)).unwrap();
    assert!(roster.purge(now).is_empty());
    let late = now + Duration::from_secs(100);
    assert!(roster.purge(late).is_empty());
    let kinds: Vec<_> = roster.take(9).into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Exited { code: 0, limit: None, denied: false }, EventKind::Closed]);
    assert_eq!(roster.purge(late + Duration::from_secs(80)), ["a"]);
}

fn end(roster: &mut Roster<&'static str>, name: &str) {
    roster.change(&id(name), |log| log.exited(0, None)).unwrap();
    roster.close(&id(name)).unwrap();
}

#[test]
fn what_ended_unseen_stays_until_it_was_read() {
    let mut roster = roster(&["a"]);
    write(&mut roster, "a", 1);
    end(&mut roster, "a");
    let now = Instant::now();
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    assert!(roster.purge(now).is_empty() && roster.purge(now + week).is_empty());
    roster.attach(Delivery::Sent);
    assert!(roster.purge(now + week).is_empty() && roster.purge(now + week + week).is_empty());
    assert!(roster.change(&id("a"), |log| log.read(0, None)).unwrap().settled);
    let read = now + week + week;
    assert!(roster.purge(read).is_empty());
    assert_eq!(roster.next_purge(), Some(read + Duration::from_secs(80)));
    assert_eq!(roster.purge(read + Duration::from_secs(80)), ["a"]);
    assert_eq!(roster.owed, 0);
}

#[test]
fn while_nobody_is_attached_no_time_is_over() {
    let mut roster = roster(&["a"]);
    roster.attach(Delivery::Sent);
    end(&mut roster, "a");
    let events = roster.take(9);
    deliver(&mut roster, &events);
    let now = Instant::now();
    assert!(roster.purge(now).is_empty());
    roster.detach();
    let late = now + Duration::from_secs(500);
    assert!(roster.purge(late).is_empty());
    assert_eq!(roster.next_purge(), None);
    roster.attach(Delivery::Sent);
    assert!(roster.purge(late).is_empty(), "the last answer may have been lost: as long again");
    assert_eq!(roster.purge(late + Duration::from_secs(80)), ["a"]);
}

#[test]
fn too_many_unread_results_refuse_a_start_and_lose_nothing() {
    let mut roster = roster(&[]);
    let now = Instant::now();
    for i in 0..CLOSED_MAX {
        let id = id(&i.to_string());
        roster.reserve(&id, 0).unwrap();
        roster.admit(&id, "h").unwrap();
        end(&mut roster, id.as_str());
    }
    assert_eq!(roster.reserve(&id("more"), 0), Err(StartError::TooManyUnread(CLOSED_MAX)));
    assert!(roster.purge(now).is_empty());
    roster.attach(Delivery::Sent);
    roster.change(&id("7"), |log| log.read(0, None)).unwrap();
    assert!(roster.reserve(&id("more"), 0).is_ok());
    assert!(roster.purge(now).is_empty());
    assert_eq!(roster.find(&id("0")), Found::Live("h"));
}

#[test]
fn closed_processes_are_bounded_in_number_and_in_bytes() {
    let mut roster = roster(&[]);
    roster.attach(Delivery::Sent);
    let now = Instant::now();
    for i in 0..CLOSED_MAX + 5 {
        let id = id(&i.to_string());
        roster.reserve(&id, 0).unwrap();
        roster.admit(&id, "h").unwrap();
        if i < 70 {
            let bytes = Bytes::from(vec![0; 1024 * 1024]);
            roster.change(&id, |log| log.output(OutputStream::Stdout, bytes)).unwrap();
        }
        roster.change(&id, |log| log.exited(0, None)).unwrap();
        roster.close(&id).unwrap();
        let events = roster.take(usize::MAX);
        deliver(&mut roster, &events);
    }
    roster.trim();
    assert!(roster.closed_bytes <= CLOSED_BYTES);
    let read = |roster: &mut Roster<_>, i: &str| roster.change(&id(i), |log| log.read(0, None)).unwrap().value;
    assert!(read(&mut roster, "0").chunks.is_empty());
    assert_eq!(read(&mut roster, "0").exit_code, Some(0));
    assert_eq!(read(&mut roster, "69").chunks.len(), 1);
    assert_eq!(roster.purge(now).len(), 5);
    assert_eq!(roster.find(&id("4")), Found::Unknown);
    assert_eq!(roster.find(&id("5")), Found::Live("h"));
}

#[test]
fn what_is_kept_is_accounted_for_until_it_goes() {
    let ledger = Arc::new(Ledger::new(1, NAMES));
    let (mut one, mut two) = (
        Roster::new(Duration::ZERO, ledger.clone(), WhenFull::Wait),
        Roster::new(Duration::ZERO, ledger.clone(), WhenFull::Wait),
    );
    for roster in [&mut one, &mut two] {
        roster.reserve(&id("p"), 0).unwrap();
        roster.admit(&id("p"), "p").unwrap();
    }
    write(&mut one, "p", 3);
    let demand = |roster: &mut Roster<_>| roster.change(&id("p"), |_| ()).unwrap().demand;
    assert_eq!((demand(&mut one), demand(&mut two)), (Demand::Short, Demand::More));
    write(&mut two, "p", 3);
    assert_eq!(demand(&mut two), Demand::Short);
    drop(one);
    assert!(ledger.held() > 0);
    end(&mut two, "p");
    two.attach(Delivery::Sent);
    two.change(&id("p"), |log| log.read(0, None)).unwrap();
    assert_eq!(two.purge(Instant::now()), ["p"]);
    assert_eq!(ledger.held(), 0);
    drop(two);
    assert_eq!(ledger.held(), 0);
}

#[test]
fn without_common_room_the_oldest_of_the_writer_goes_and_is_counted() {
    let ledger = Arc::new(Ledger::new(300, NAMES));
    let mut roster = Roster::new(Duration::ZERO, ledger.clone(), WhenFull::DropOldest);
    for name in ["p", "q"] {
        roster.reserve(&id(name), 0).unwrap();
        roster.admit(&id(name), name).unwrap();
    }
    let mut output = |name: &str| {
        let bytes = Bytes::from(vec![0; 30]);
        roster.change(&id(name), |log| log.output(OutputStream::Stdout, bytes)).unwrap()
    };
    assert_eq!((output("p").dropped, output("p").dropped), (0, 0));
    let third = output("q");
    assert_eq!((third.dropped, third.demand), (0, Demand::More), "its only piece stays");
    assert_eq!((output("q").dropped, output("q").dropped), (30, 30));
    let reading = roster.change(&id("q"), |log| log.read(0, None)).unwrap().value;
    assert_eq!((reading.dropped, reading.chunks.len(), reading.next_seq), (60, 1, 4));
    drop(roster);
    assert_eq!(ledger.held(), 0);
}

#[test]
fn long_ids_are_counted_until_they_are_forgotten() {
    let ledger = Arc::new(Ledger::new(usize::MAX, NAMES));
    let mut roster = Roster::<u32>::new(Duration::from_secs(80), ledger.clone(), WhenFull::Wait);
    let long = |n: usize| ProcessId::new(format!("{n}{}", "x".repeat(1 << 20)));
    let fit = (0..100).take_while(|n| roster.reserve(&long(*n), 0).is_ok()).count();
    assert_eq!(fit, 32);
    assert_eq!(roster.reserve(&long(fit), 0), Err(StartError::TooLongNames));
    assert!(roster.reserve(&id("short"), 0).is_ok());
    roster.release(&long(0));
    assert!(roster.reserve(&long(fit), 0).is_ok());
    drop(roster);
    assert!(ledger.take_names(32 << 20).is_some(), "all is given back");
}
