//! The hall, its peers, and what each of them is owed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use exedra_proto::frame::{Body, Frame as Relay, Invalid, StreamId, reset};
use exedra_proto::ticket::{Role, Shape};

use super::super::Hall;
use super::peer::Peer;
use crate::budget::Share;
use crate::config::Times;
use crate::hub::{Hub, Link};
use crate::limits::{
    ASKED_QUEUE, CLIENT_QUEUE, COLLECTED, COLLECTED_IN_ALL, EXECUTOR_QUEUE, HALLS_QUEUE, MAX_PIECE, STALL,
};
use crate::piped::{self, Nobody};
use crate::router::Fences;

/// Clients at once.
const CLIENTS: usize = 5;
/// Streams of one client.
const STREAMS: usize = 3;
/// Heads, resets and other small things beside what a limit counts.
const SMALL: usize = 32 * 1024;
/// What a frame of these streams has beside its payload, and a websocket's frame beside that, about.
const OVERHEAD: usize = 24;
/// All that a hall may hold.
const ALL: usize = 4 * 1024 * 1024;

/// What may happen.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Clients vanish in the middle of anything, steal, and send what is no frame; peers do not read for as long as they like.
    wild: bool,
    /// Pipes hold more than the hall reads at once.
    wide: bool,
}

impl Manner {
    pub const ANY: Self = Self { wild: true, wide: false };
    /// Pipes are never the reason that somebody has nothing to send.
    pub const WIDE: Self = Self { wild: true, wide: true };
    /// Nobody is sent more than it is sure to take: all read what comes, in their time.
    pub const CREDIT: Self = Self { wild: false, wide: false };
}

/// One stream: what was sent and has not come.
struct Lane {
    owner: u32,
    up: VecDeque<(u32, usize)>,
    down: VecDeque<(u32, usize)>,
    sent: (u32, u32),
    /// The executor has seen it.
    seen: bool,
    /// Its client, or the executor, has sent a reset.
    reset_up: bool,
    reset_down: bool,
    /// What is left of it may be lost: its client is gone, or somebody has ended it.
    up_may_end: bool,
    down_may_end: bool,
    /// Each side was told of its end.
    over_up: bool,
    over_down: bool,
    /// Those who sent by it, too. When its client is gone before they are heard, the name is free and theirs.
    thieves: Vec<u32>,
}

struct Guest {
    number: u32,
    peer: Peer,
    streams: Vec<u32>,
}

/// What wakes the hall.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct World {
    seed: u64,
    rng: fastrand::Rng,
    manner: Manner,
    /// Whether messages may be large.
    large: bool,
    pipe: usize,
    hub: Arc<Hub>,
    hall: Box<Hall>,
    woken: Arc<Woken>,
    /// What other halls hold.
    others: Share,
    executor: Peer,
    guests: Vec<Guest>,
    /// Those who have said close and wait for the answer.
    leaving: Vec<Guest>,
    numbers: u32,
    lanes: BTreeMap<u32, Lane>,
    /// Messages that may come to the executor as no frame: their senders vanished, or sent none.
    spoiled: usize,
    taken: BTreeMap<u32, usize>,
    cut: usize,
}

fn id(stream: u32) -> StreamId {
    StreamId::new(format!("stream-{stream}")).unwrap()
}

fn number(stream: &StreamId) -> u32 {
    stream.as_str().strip_prefix("stream-").and_then(|number| number.parse().ok()).expect("a name that somebody gave")
}

fn data(stream: u32, seq: u32, tag: u32, len: usize) -> Bytes {
    Relay { stream: id(stream), body: Body::Data { seq, payload: vec![tag as u8; len].into() } }.encode()
}

fn end(stream: u32) -> Bytes {
    Relay { stream: id(stream), body: Body::Reset { reason: "done".into() } }.encode()
}

fn connect(hub: &Arc<Hub>, role: Role, pipe: usize) -> (Option<Box<Link>>, Peer) {
    let (ours, theirs) = tokio::io::duplex(pipe);
    let link = piped::link(hub, &piped::claims(role, Shape::Streams), false, ours);
    (hub.opened(link), Peer::new(theirs, pipe))
}

impl World {
    pub fn new(seed: u64, manner: Manner) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pipe = if manner.wide { 256 * 1024 } else { [64, 1_000, 16 * 1024, 256 * 1024][rng.usize(..4)] };
        let hub = Arc::new(Hub::new(100, Fences::default(), Arc::new(Nobody), STALL));
        let (link, executor) = connect(&hub, Role::Executor, pipe);
        let others = Share::new(link.as_ref().unwrap().seat.budget());
        let hall = Box::new(Hall::new(link.unwrap(), Times::default()));
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let large = pipe >= 1_000 && rng.u8(..6) == 0;
        let mut world = Self {
            seed,
            rng,
            manner,
            large,
            pipe,
            hub,
            hall,
            woken,
            others,
            executor,
            guests: Vec::new(),
            leaving: Vec::new(),
            numbers: 0,
            lanes: BTreeMap::new(),
            spoiled: 0,
            taken: BTreeMap::new(),
            cut: 0,
        };
        world.join();
        world.join();
        world
    }

    /// How many were closed that had not asked for it.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// Something happens, and the hall does what it can.
    pub fn step(&mut self) {
        let guest = self.rng.usize(..self.guests.len());
        match self.rng.u8(..100) {
            0..6 if self.guests.len() < CLIENTS => self.join(),
            6..8 if self.guests.len() > 1 => self.leave(guest),
            8..10 if self.guests.len() > 1 && self.manner.wild => self.vanish(guest),
            10..40 => self.client_sends(guest),
            40..43 => self.client_ends_a_stream(guest),
            43..46 if self.manner.wild => self.client_steals(guest),
            46..48 if self.manner.wild => self.client_sends_rubbish(guest),
            48..70 => self.executor_sends(),
            70..73 => self.executor_ends_a_stream(),
            73..84 => self.executor_reads(),
            84 if self.manner.wild => {
                let held = if self.rng.bool() { HALLS_QUEUE } else { 0 };
                self.others.set(held, 0);
            }
            _ => {
                let most = self.bytes();
                self.guests[guest].peer.read(most);
            }
        }
        let most = self.bytes();
        for guest in self.guests.iter_mut().chain(&mut self.leaving) {
            guest.peer.write(most);
        }
        self.executor.write(most);
        if !self.manner.wild {
            self.all_read();
        }
        self.settle();
    }

    /// All write what they have and read what comes, until nothing moves: then nobody may be owed anything.
    pub fn come_to_rest(&mut self) {
        loop {
            let mut moved = self.executor.write(usize::MAX);
            for guest in self.guests.iter_mut().chain(&mut self.leaving) {
                moved += guest.peer.write(usize::MAX);
            }
            self.settle();
            moved += self.all_read();
            self.settle();
            if moved == 0 {
                break;
            }
        }
        let seed = self.seed;
        assert_eq!(self.executor.unsent(), 0, "seed {seed}: the executor is not read any more");
        for guest in &self.guests {
            assert_eq!(guest.peer.unsent(), 0, "seed {seed}: a client is not read any more");
        }
        for (stream, lane) in &self.lanes {
            assert!(lane.up.is_empty() || lane.up_may_end, "seed {seed}: {stream} up: {:?}", lane.up);
            assert!(lane.down.is_empty() || lane.down_may_end, "seed {seed}: {stream} down: {:?}", lane.down);
            assert!(
                lane.over_up || !lane.reset_up || !lane.seen || lane.reset_down,
                "seed {seed}: the executor was not told of {stream}'s end"
            );
        }
        assert!(self.leaving.iter().all(|guest| !guest.peer.is_there()), "seed {seed}: no answer to a close");
        assert_eq!((self.hall.switch.waiting(), self.hall.collected), (0, 0), "seed {seed}");
    }

    /// Every client writes so much at least of what it has, as far as it is read; and all read what comes.
    pub fn all_go_on(&mut self, least: usize) {
        let mut left: BTreeMap<u32, usize> = BTreeMap::new();
        loop {
            let mut moved = 0;
            for guest in &mut self.guests {
                let left = left.entry(guest.number).or_insert(least);
                let written = guest.peer.write(*left);
                *left -= written;
                moved += written;
            }
            if moved == 0 {
                break;
            }
            self.settle();
            self.all_read();
            self.settle();
        }
    }

    fn all_read(&mut self) -> usize {
        let mut read = self.executor.read(usize::MAX);
        for guest in self.guests.iter_mut().chain(&mut self.leaving) {
            read += guest.peer.read(usize::MAX);
        }
        read
    }

    pub fn executor_reads(&mut self) {
        let most = self.bytes();
        self.executor.read(most);
        self.settle();
    }

    /// Every client has more to send than pipes and hall hold; how large the largest message is.
    pub fn pile_up(&mut self) -> usize {
        while self.guests.len() < CLIENTS {
            self.join();
        }
        let mut largest = 0;
        for guest in 0..CLIENTS {
            let len = [300, 4_000, 30_000, 150_000][self.rng.usize(..4)];
            let size = [700, 20_000, usize::MAX][self.rng.usize(..3)];
            for _ in 0..(1_200_000 + 4 * self.pipe) / len {
                self.send(guest, len, size);
            }
            largest = largest.max(len);
        }
        self.write_all();
        largest
    }

    /// Whether each client still has something that the hall has not been able to read.
    pub fn all_have_more(&mut self) -> bool {
        self.write_all();
        self.guests.iter().all(|guest| guest.peer.unsent() > 0)
    }

    fn write_all(&mut self) {
        loop {
            let moved: usize = self.guests.iter_mut().map(|guest| guest.peer.write(usize::MAX)).sum();
            self.settle();
            if moved == 0 {
                break;
            }
        }
    }

    /// What has come to the executor of each client, in bytes.
    pub fn taken_of_each(&self) -> Vec<usize> {
        self.guests.iter().map(|guest| self.taken.get(&guest.number).copied().unwrap_or(0)).collect()
    }

    fn bytes(&mut self) -> usize {
        [1, 30, 2_000, 50_000, 1 << 20][self.rng.usize(..5)]
    }

    fn length(&mut self) -> usize {
        1 + match self.rng.u8(..100) {
            0..15 if self.large => self.rng.usize(..1_500_000),
            0..60 => self.rng.usize(..200),
            60..90 => self.rng.usize(..5_000),
            90..97 => self.rng.usize(..40_000),
            _ => self.rng.usize(..80_000),
        }
    }

    fn join(&mut self) {
        let (link, peer) = connect(&self.hub, Role::Harness, self.pipe);
        assert!(link.is_none(), "the executor is there");
        self.numbers += 1;
        self.guests.push(Guest { number: self.numbers, peer, streams: Vec::new() });
    }

    fn leave(&mut self, at: usize) {
        let mut guest = self.guests.remove(at);
        guest.peer.say_close();
        for stream in &guest.streams {
            let lane = self.lanes.get_mut(stream).unwrap();
            lane.down_may_end = true;
        }
        self.leaving.push(guest);
    }

    fn vanish(&mut self, at: usize) {
        let mut guest = self.guests.remove(at);
        guest.peer.vanish();
        self.give_up(&guest);
    }

    /// Nothing more is owed to a client, and nothing by it.
    fn give_up(&mut self, guest: &Guest) {
        self.spoiled += 1;
        for stream in &guest.streams {
            let lane = self.lanes.get_mut(stream).unwrap();
            (lane.up_may_end, lane.down_may_end) = (true, true);
        }
    }

    fn client_sends(&mut self, guest: usize) {
        let (len, size) = (self.length(), [200, 3_000, 70_000, usize::MAX][self.rng.usize(..4)]);
        self.send(guest, len, size);
    }

    fn send(&mut self, at: usize, len: usize, size: usize) {
        let guest = &mut self.guests[at];
        let is_new = guest.streams.len() < STREAMS;
        if is_new {
            let stream = u32::try_from(self.lanes.len()).unwrap();
            guest.streams.push(stream);
            self.lanes.insert(
                stream,
                Lane {
                    owner: guest.number,
                    up: VecDeque::new(),
                    down: VecDeque::new(),
                    sent: (0, 0),
                    seen: false,
                    reset_up: false,
                    reset_down: false,
                    up_may_end: false,
                    down_may_end: false,
                    over_up: false,
                    over_down: false,
                    thieves: Vec::new(),
                },
            );
        }
        let stream = match guest.streams.last() {
            Some(newest) if is_new => *newest,
            _ => *self.rng.choice(&guest.streams).unwrap(),
        };
        let lane = self.lanes.get_mut(&stream).unwrap();
        let seq = lane.sent.0;
        guest.peer.send(&data(stream, seq, guest.number, len), size.min(len + 100));
        if !lane.reset_up {
            lane.sent.0 += 1;
            lane.up.push_back((seq, len));
        }
    }

    fn client_ends_a_stream(&mut self, at: usize) {
        let guest = &mut self.guests[at];
        let Some(stream) = self.rng.choice(&guest.streams).copied() else { return };
        guest.peer.send(&end(stream), usize::MAX);
        let lane = self.lanes.get_mut(&stream).unwrap();
        lane.reset_up = true;
        lane.down_may_end = true;
    }

    /// A client sends by another's stream, of which the executor has heard already.
    fn client_steals(&mut self, at: usize) {
        let others = self.lanes.iter().filter(|(_, lane)| lane.seen && lane.owner != self.guests[at].number);
        let living = others.filter(|(_, lane)| self.guests.iter().any(|guest| guest.number == lane.owner));
        let others: Vec<u32> = living.map(|(stream, _)| *stream).collect();
        let Some(stream) = self.rng.choice(others) else { return };
        let guest = &mut self.guests[at];
        guest.peer.send(&data(stream, 0, guest.number, 10), 5);
        self.lanes.get_mut(&stream).unwrap().thieves.push(guest.number);
    }

    fn client_sends_rubbish(&mut self, at: usize) {
        let len = self.length();
        let size = [200, 3_000, usize::MAX][self.rng.usize(..3)];
        let guest = &mut self.guests[at];
        let rubbish = match (self.rng.u8(..3), guest.streams.first()) {
            (0, Some(stream)) => [&data(*stream, 0, 0, len)[..], &[0x12, 1, b'x']].concat(),
            (1, Some(stream)) => [&data(*stream, 0, 0, len)[..], &[0xff; 12]].concat(),
            _ => vec![0xff; len],
        };
        guest.peer.send(&rubbish, size.min(rubbish.len()));
        self.spoiled += 1;
    }

    fn executor_sends(&mut self) {
        let streams: Vec<u32> = self.lanes.iter().filter(|(_, lane)| lane.seen).map(|(stream, _)| *stream).collect();
        let Some(stream) = self.rng.choice(streams) else { return };
        let (len, size) = (self.length(), [300, 70_000, usize::MAX][self.rng.usize(..3)]);
        let lane = self.lanes.get_mut(&stream).unwrap();
        let seq = lane.sent.1;
        self.executor.send(&data(stream, seq, stream, len), size.min(len + 100));
        if !lane.reset_down {
            lane.sent.1 += 1;
            lane.down.push_back((seq, len));
        }
    }

    fn executor_ends_a_stream(&mut self) {
        let streams: Vec<u32> = self.lanes.iter().filter(|(_, lane)| lane.seen).map(|(stream, _)| *stream).collect();
        let Some(stream) = self.rng.choice(streams) else { return };
        self.executor.send(&end(stream), usize::MAX);
        let lane = self.lanes.get_mut(&stream).unwrap();
        lane.reset_down = true;
        lane.up_may_end = true;
    }

    /// Polls the hall for as long as it is woken, and looks at what has come.
    fn settle(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut polls = 0;
        while self.woken.0.swap(false, Ordering::Relaxed) {
            let polled = self.hall.poll(&mut Context::from_waker(&waker));
            assert!(matches!(polled, Poll::Pending), "seed {}: the executor ended", self.seed);
            self.hold_limits();
            polls += 1;
            assert!(polls < 100_000, "seed {}: the hall never rests", self.seed);
        }
        self.executor_hears();
        self.clients_hear();
    }

    fn hold_limits(&self) {
        let hall = &self.hall;
        let (down, up) = (hall.switch.waiting(), hall.executor.out.waiting());
        assert!(down <= EXECUTOR_QUEUE + MAX_PIECE + SMALL, "seed {}: {down} wait for clients", self.seed);
        assert!(up <= ASKED_QUEUE + COLLECTED + MAX_PIECE + SMALL, "seed {}: {up} wait for the executor", self.seed);
        assert!(hall.collected <= COLLECTED_IN_ALL + MAX_PIECE, "seed {}: {} collected", self.seed, hall.collected);
        assert!(down + up + hall.collected <= ALL, "seed {}: {down}, {up} and {} in all", self.seed, hall.collected);
        for member in hall.members.values() {
            let waits = member.out.waiting();
            assert!(waits <= CLIENT_QUEUE + MAX_PIECE + SMALL, "seed {}: {waits} wait for a client", self.seed);
        }
        let counted: usize = hall.members.values().map(|member| member.out.len()).sum();
        assert_eq!(counted, down, "seed {}", self.seed);
    }

    fn executor_hears(&mut self) {
        let seed = self.seed;
        while let Some(message) = self.executor.came.pop_front() {
            let Relay { stream, body } = match message {
                Ok(message) => message,
                Err(Invalid::Undecodable) if self.spoiled > 0 => {
                    self.spoiled -= 1;
                    continue;
                }
                Err(invalid) => panic!("seed {seed}: the executor got no frame: {invalid}"),
            };
            let name = number(&stream);
            let lane = self.lanes.get_mut(&name).expect("a stream that somebody began");
            let is_free = !self.guests.iter().any(|guest| guest.number == lane.owner);
            match body {
                Body::Data { payload, .. } if is_free && lane.thieves.contains(&payload[0].into()) => {}
                Body::Reset { .. } if is_free && !lane.thieves.is_empty() => {
                    (lane.over_up, lane.up_may_end, lane.down_may_end) = (true, true, true);
                }
                Body::Data { seq, payload } => {
                    assert!(!lane.over_up, "seed {seed}: {name} goes on behind its end");
                    assert_eq!(lane.up.pop_front(), Some((seq, payload.len())), "seed {seed}: up {name}");
                    assert!(payload.iter().all(|byte| *byte == lane.owner as u8), "seed {seed}: another's in {name}");
                    lane.seen = true;
                    *self.taken.entry(lane.owner).or_default() += payload.len() + OVERHEAD;
                }
                Body::Reset { reason } => {
                    let known = reason == "done" && lane.reset_up
                        || reason == reset::HARNESS_GONE && is_free
                        || reason == reset::UNKNOWN_STREAM && lane.down_may_end;
                    assert!(known, "seed {seed}: {name} ended by {reason}");
                    if reason != reset::UNKNOWN_STREAM {
                        assert!(!lane.over_up, "seed {seed}: {name} ended twice");
                        assert!(
                            lane.up.is_empty() || lane.up_may_end,
                            "seed {seed}: {name} ended before its messages came"
                        );
                        lane.over_up = true;
                        lane.down_may_end = true;
                    }
                }
                other => panic!("seed {seed}: nobody sends {other:?}"),
            }
        }
    }

    fn clients_hear(&mut self) {
        let seed = self.seed;
        for guest in self.guests.iter_mut().chain(&mut self.leaving) {
            while let Some(message) = guest.peer.came.pop_front() {
                let Relay { stream, body } = message.expect("a frame");
                let name = number(&stream);
                let lane = self.lanes.get_mut(&name).unwrap();
                match body {
                    _ if lane.thieves.contains(&guest.number) => {}
                    Body::Data { seq, payload } => {
                        assert_eq!(lane.owner, guest.number, "seed {seed}: {name} came to another");
                        assert!(!lane.over_down, "seed {seed}: {name} goes on behind its end");
                        assert_eq!(lane.down.pop_front(), Some((seq, payload.len())), "seed {seed}: down {name}");
                        assert!(payload.iter().all(|byte| *byte == name as u8), "seed {seed}: another's in {name}");
                    }
                    Body::Reset { reason } => {
                        assert!(
                            lane.owner == guest.number && reason == "done" && lane.reset_down,
                            "seed {seed}: {name} ended by {reason}"
                        );
                        assert!(lane.down.is_empty(), "seed {seed}: {name} ended before its messages came");
                        lane.over_down = true;
                    }
                    other => panic!("seed {seed}: nobody sends {other:?}"),
                }
            }
        }
        let (gone, there) = std::mem::take(&mut self.guests)
            .into_iter()
            .partition(|guest: &Guest| guest.peer.said_close || !guest.peer.is_there());
        self.guests = there;
        for guest in gone {
            self.cut += 1;
            self.give_up(&guest);
            self.leaving.push(guest);
        }
    }
}
