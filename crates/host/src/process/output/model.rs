//! The log against the plainest thing that could work, under random operations.

use super::super::spool::{Spool, Writer};
use super::*;

const OUT: OutputStream = OutputStream::Stdout;

fn seqs(reading: &Reading) -> Vec<u64> {
    reading.chunks.iter().map(|(seq, ..)| *seq).collect()
}

/// The plainest thing that could work: everything ever written, with what is known about it.
#[derive(Default)]
struct Model {
    events: Vec<Fact>,
    attached: Option<Delivery>,
    resumed: bool,
    cursor: usize,
    confirmed: usize,
}

#[derive(Default)]
struct Fact {
    len: Option<usize>,
    delivered: bool,
    flying: bool,
    handed: bool,
    gone: bool,
    returned: bool,
}

impl Model {
    fn push(&mut self, len: Option<usize>) {
        self.events.push(Fact { len, flying: self.attached.is_some() && len.is_some(), ..Fact::default() });
    }

    fn acknowledges(&self) -> bool {
        self.attached == Some(Delivery::Acknowledged)
    }

    fn attach(&mut self, how: Delivery) {
        self.detach();
        self.attached = Some(how);
        self.resumed |= how != Delivery::Acknowledged;
        self.cursor = if self.acknowledges() { self.confirmed } else { self.events.len() };
        for fact in self.events.iter_mut().skip(self.cursor) {
            fact.flying = fact.len.is_some() && !fact.delivered;
        }
    }

    fn detach(&mut self) {
        self.attached = None;
        self.events.iter_mut().for_each(|fact| (fact.flying, fact.handed) = (false, false));
        self.evict();
    }

    fn handed(&self) -> usize {
        let handed = self.events.iter().filter(|fact| fact.handed && fact.flying);
        handed.filter_map(|fact| fact.len).map(|len| len + CHUNK_OVERHEAD).sum()
    }

    fn has_pending(&self) -> bool {
        let open = !self.acknowledges() || self.handed() < WINDOW;
        self.attached.is_some() && self.cursor < self.events.len() && open
    }

    fn take(&mut self, max_bytes: usize, max_events: usize) -> Vec<(u64, usize)> {
        let (mut out, mut total) = (Vec::new(), 0);
        while self.has_pending() && out.len() < max_events && (out.is_empty() || total < max_bytes) {
            let acknowledges = self.acknowledges();
            let fact = &mut self.events[self.cursor];
            self.cursor += 1;
            if !fact.gone {
                fact.handed = acknowledges;
                total += fact.len.unwrap_or(0);
                out.push((self.cursor as u64, fact.len.unwrap_or(0)));
            }
        }
        out
    }

    fn confirm(&mut self, seq: usize) {
        let (last, acknowledges) = (seq.min(self.events.len()), self.acknowledges());
        if last <= self.confirmed {
            return;
        }
        for fact in &mut self.events[..last] {
            fact.delivered = true;
            fact.flying &= !acknowledges;
        }
        self.confirmed = last;
        if acknowledges {
            self.cursor = self.cursor.max(last);
        }
        self.evict();
    }

    fn most(&self, seq: usize) -> usize {
        if self.resumed && seq > self.confirmed { RETAINED_AFTER_BREAK } else { RETAINED_BYTES }
    }

    fn evict(&mut self) {
        let free = |fact: &&mut Fact| fact.len.is_some() && fact.delivered && !fact.flying && !fact.gone;
        let mut kept: usize = self.events.iter_mut().filter(free).filter_map(|fact| fact.len).sum();
        let most: Vec<usize> = (1..=self.events.len()).map(|seq| self.most(seq)).collect();
        for (fact, most) in self.events.iter_mut().zip(most) {
            if !free(&&mut *fact) {
                continue;
            }
            if kept <= most {
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
        run_model(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), None);
    }
}

/// Where pieces are makes no difference to what a log answers, also if the disk is full at times.
#[test]
fn with_a_disk_it_agrees_with_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&dir.path().join("spool"), 16 * 1024 * 1024).unwrap();
    for seed in 1..=60_u64 {
        run_model(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), Some(spool.writer()));
    }
}

/// What the driver does after each piece, or forgets to do for a while.
fn spill(log: &mut Log, writer: &mut Writer) {
    let (seqs, pieces): (Vec<u64>, Vec<Bytes>) = log.take_for_disk().into_iter().unzip();
    match writer.write(&pieces) {
        Ok(places) => log.spilled(seqs.into_iter().zip(places)),
        Err(_) => log.not_spilled(),
    }
}

fn recall(log: &mut Log) {
    let on_disk = |(seq, chunk): (&u64, &Chunk)| match &chunk.bytes {
        Body::Disk(place) => Some((*seq, place.clone())),
        Body::Memory(_) => None,
    };
    let all: Vec<_> = log.chunks.range(log.cursor..).filter_map(on_disk).collect();
    // It is told as soon as it matters.
    assert_eq!(log.has_pending() && log.waits_for_disk(log.cursor), !log.to_recall().is_empty());
    all.into_iter().for_each(|(seq, place)| log.recalled(seq, Some(place.read().unwrap())));
}

fn run_model(mut state: u64, mut disk: Option<Writer>) {
    let (mut log, mut model) = (Log::new(None, WhenFull::Wait), Model::default());
    if disk.is_some() {
        log = log.spilling();
    }
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
                log.output(OUT, Bytes::from(vec![len.to_le_bytes()[0]; len]));
                model.push(Some(len));
                if let Some(writer) = disk.as_mut().filter(|_| random(&mut state, 4) > 0) {
                    spill(&mut log, writer);
                }
            }
            5 => {
                let how = [Delivery::Sent, Delivery::Read, Delivery::Acknowledged][random(&mut state, 3) as usize];
                if model.attached.is_none() || random(&mut state, 6) == 0 {
                    log.attach(how);
                    model.attach(how);
                }
            }
            6 if random(&mut state, 6) == 0 => {
                log.detach();
                model.detach();
            }
            7 | 8 => {
                let max = random(&mut state, 200_000) as usize;
                recall(&mut log);
                let events: Vec<_> = log.take(max, 8).iter().map(|(seq, kind)| (*seq, kind.output_len())).collect();
                assert_eq!(events, model.take(max, 8));
                taken.extend(events.iter().map(|(seq, _)| *seq));
            }
            9 => {
                for seq in taken.drain(..taken.len().div_ceil(2)) {
                    log.delivered(seq);
                    if !model.acknowledges() {
                        let fact = &mut model.events[seq as usize - 1];
                        (fact.delivered, fact.flying) = (true, false);
                        model.evict();
                    }
                }
            }
            10 => {
                let seq = random(&mut state, model.events.len() as u64 + 2);
                log.acknowledge(seq);
                model.confirm(seq as usize);
            }
            _ => {
                let after = random(&mut state, model.events.len() as u64 + 2);
                let max = (random(&mut state, 2) == 0).then(|| random(&mut state, 300_000) as usize);
                model.confirm(after as usize);
                let reading = log.read(after, max);
                assert_eq!(seqs(&reading), model.read(after, max));
                let next = reading.chunks.last().map_or(model.events.len() as u64 + 1, |(seq, ..)| seq + 1);
                assert_eq!(reading.next_seq, next);
                for (.., body) in reading.chunks.iter().take(3) {
                    let bytes = body.load().unwrap();
                    assert!(bytes.len() == body.len() && bytes.iter().all(|byte| *byte == body.len().to_le_bytes()[0]));
                }
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
    assert_eq!(log.handed, model.handed());
    assert_eq!(log.has_pending(), model.has_pending());
    assert_eq!(log.backlog, total(|f| !f.delivered, |len| len.div_ceil(3) * 4 + JSON_OVERHEAD));
    assert_eq!(log.held, log.chunks.values().map(Chunk::held).sum::<usize>());
    assert_eq!(log.unseen, total(|f| !f.delivered && !f.returned, |_| 1));
    assert!(log.retained() <= model.most(usize::MAX));
}
