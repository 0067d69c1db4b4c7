//! The board by example, and under random events with clients that act only when they are woken.

use std::collections::BTreeMap;

use super::*;

const RESERVATION: Duration = Duration::from_secs(5);

struct Stage {
    board: Board,
    start: Instant,
    seconds: u64,
}

impl Stage {
    fn new() -> Self {
        Self { board: Board::new(RESERVATION), start: Instant::now(), seconds: 0 }
    }

    /// A board that knows the registration `r` of `box`, epoch 1.
    fn known() -> Self {
        let mut stage = Self::new();
        stage.learn("r", 1);
        stage
    }

    fn now(&self) -> Now {
        Now { instant: self.start + Duration::from_secs(self.seconds), unix: 1_000 + self.seconds }
    }

    fn learn(&mut self, registration: &str, epoch: u64) {
        self.board.learn(&executor(), slot(registration, epoch));
    }

    fn online(&mut self, registration: &str, epoch: u64) -> Vec<Effect> {
        others(self.board.online(&id(registration), (epoch, false), self.now()))
    }

    fn held(&mut self, registration: &str) {
        self.board.held(&id(registration), self.now());
    }

    fn offline(&mut self, registration: &str) {
        self.board.offline(&id(registration), self.now());
    }

    fn join(&mut self) -> WaiterId {
        let (waiter, effects) = self.board.join(&executor(), self.now());
        assert_eq!(others(effects), []);
        waiter.unwrap()
    }

    fn ask(&mut self, waiter: WaiterId) -> Answer {
        self.board.ask(waiter, self.now()).0
    }

    fn why(&self) -> Option<Wait> {
        self.board.why(&executor())
    }

    fn leave(&mut self, waiter: WaiterId) -> Vec<Effect> {
        self.board.leave(waiter, self.now())
    }
}

/// All but the words to a server from before.
fn others(mut effects: Vec<Effect>) -> Vec<Effect> {
    effects.retain(|effect| !matches!(effect, Effect::Want(_)));
    effects
}

fn executor() -> ExecutorId {
    ExecutorId::parse("box").unwrap()
}

fn id(registration: &str) -> RegistrationId {
    RegistrationId::new(registration)
}

fn slot(registration: &str, epoch: u64) -> Slot {
    Slot { registration: id(registration), epoch, transport: Transport::Direct, told: false }
}

fn granted(registration: &str, epoch: u64) -> Answer {
    Answer::Granted(slot(registration, epoch))
}

fn waiting(why: Wait) -> Answer {
    Answer::Waiting { why, until: None }
}

#[test]
fn a_free_executor_is_granted_at_once() {
    let mut stage = Stage::known();
    assert_eq!(stage.why(), Some(Wait::Away { last_seen: None }));
    assert_eq!(stage.online("r", 1), []);
    assert_eq!(stage.why(), None);
    let client = stage.join();
    assert_eq!(stage.ask(client), granted("r", 1));
    assert_eq!(stage.why(), Some(Wait::Held { since: 1_000 }), "reserved is held");
    stage.board.settle(client);
    stage.seconds = 3;
    stage.held("r");
    assert_eq!(stage.why(), Some(Wait::Held { since: 1_003 }));
    stage.seconds = 9;
    stage.offline("r");
    assert_eq!(stage.why(), Some(Wait::Away { last_seen: Some(1_009) }));
}

#[test]
fn a_server_from_before_lets_go_of_an_executor_that_is_asked_for_or_here() {
    let mut stage = Stage::known();
    let (waiter, effects) = stage.board.join(&executor(), stage.now());
    assert_eq!(effects, [Effect::Want(id("r"))]);
    stage.leave(waiter.unwrap());
    let effects = stage.board.online(&id("r"), (1, false), stage.now());
    assert_eq!(effects, [Effect::Want(id("r"))]);
    let (_, effects) = stage.board.join(&executor(), stage.now());
    assert_eq!(effects, [], "it is here");
    stage.board.held(&id("r"), stage.now());
    let (_, effects) = stage.board.join(&executor(), stage.now());
    assert_eq!(effects, [Effect::Want(id("r"))], "whoever has it may be gone");
    let effects = stage.board.online(&id("x"), (1, false), stage.now());
    assert_eq!(
        effects,
        [Effect::Cut(id("x"), CloseReason::Revoked)],
        "of one that is unknown there is nothing to want"
    );
}

#[test]
fn the_line_is_served_in_its_order_when_the_executor_comes_back() {
    let mut stage = Stage::known();
    stage.online("r", 1);
    stage.held("r");
    let (a, b) = (stage.join(), stage.join());
    assert_eq!(stage.ask(b), waiting(Wait::Held { since: 1_000 }));
    assert_eq!(stage.ask(a), waiting(Wait::Held { since: 1_000 }));
    stage.seconds = 1;
    stage.offline("r");
    assert_eq!(stage.ask(a), waiting(Wait::Away { last_seen: Some(1_001) }));
    assert_eq!(stage.online("r", 1), [Effect::Wake(a)]);
    assert_eq!(stage.ask(b), waiting(Wait::Held { since: 1_001 }), "not before its turn");
    assert_eq!(stage.ask(a), granted("r", 1));
    stage.held("r");
    stage.board.settle(a);
    stage.offline("r");
    assert_eq!(stage.online("r", 1), [Effect::Wake(b)]);
    assert_eq!(stage.ask(b), granted("r", 1));
}

#[test]
fn a_reservation_lapses_for_the_next_in_line() {
    let mut stage = Stage::known();
    stage.online("r", 1);
    let a = stage.join();
    let b = stage.join();
    assert_eq!(stage.ask(b), waiting(Wait::Held { since: 1_000 }), "the clock runs from the ticket on");
    stage.seconds = 2;
    let (answer, effects) = stage.board.ask(a, stage.now());
    assert_eq!((answer, effects), (granted("r", 1), vec![Effect::Wake(b)]));
    stage.board.settle(a);
    let until = stage.start + Duration::from_secs(7);
    let held = Wait::Held { since: 1_000 };
    assert_eq!(stage.ask(b), Answer::Waiting { why: held, until: Some(until) });
    let c = stage.join();
    assert_eq!(stage.ask(c), waiting(held), "only the first watches");
    stage.seconds = 7;
    assert_eq!(stage.ask(b), granted("r", 1));
    stage.held("r");
    assert_eq!(stage.why(), Some(Wait::Held { since: 1_007 }));
    assert_eq!(stage.ask(c), waiting(Wait::Held { since: 1_007 }));
}

#[test]
fn who_leaves_makes_room() {
    let mut stage = Stage::known();
    stage.online("r", 1);
    let (a, b, c, d) = (stage.join(), stage.join(), stage.join(), stage.join());
    assert_eq!(stage.leave(c), [], "from the middle");
    assert_eq!(stage.leave(a), [Effect::Wake(b)], "granted, and gone before it knew");
    assert_eq!(stage.ask(b), granted("r", 1));
    assert_eq!(stage.leave(b), [Effect::Wake(d)], "granted, and gone before it got its ticket");
    assert_eq!(stage.ask(d), granted("r", 1));
    let e = stage.join();
    let f = stage.join();
    assert_eq!(stage.leave(e), [Effect::Wake(f)], "the next has to watch the reservation");
    stage.board.settle(d);
    stage.leave(f);
    assert!(stage.board.waiters.is_empty() && stage.board.seats[&executor()].line.is_empty());
}

#[test]
fn a_grant_that_nobody_knows_of_yet_is_not_lost() {
    let mut stage = Stage::known();
    for event in [Stage::offline as fn(&mut Stage, &str), Stage::held] {
        stage.online("r", 1);
        let (a, b) = (stage.join(), stage.join());
        event(&mut stage, "r");
        assert!(matches!(stage.ask(a), Answer::Waiting { .. }));
        stage.offline("r");
        assert_eq!(stage.online("r", 1), [Effect::Wake(a)], "it is first again");
        assert_eq!(stage.ask(a), granted("r", 1));
        stage.leave(a);
        stage.leave(b);
        stage.offline("r");
    }
}

#[test]
fn a_ticket_outlasts_a_moment_without_the_executor() {
    let mut stage = Stage::known();
    stage.online("r", 1);
    let (a, b) = (stage.join(), stage.join());
    assert_eq!(stage.ask(a), granted("r", 1));
    stage.board.settle(a);
    stage.ask(b);
    for seconds in [1, 3] {
        stage.seconds = seconds;
        stage.offline("r");
        assert_eq!(stage.ask(b), waiting(Wait::Away { last_seen: Some(1_000 + seconds) }));
        assert_eq!(stage.online("r", 1), [Effect::Wake(b)], "to watch, and not for a ticket of its own");
        let until = stage.start + Duration::from_secs(5);
        assert_eq!(stage.ask(b), Answer::Waiting { why: Wait::Held { since: 1_000 }, until: Some(until) });
    }
    stage.seconds = 4;
    stage.held("r");
    stage.offline("r");
    assert_eq!(stage.online("r", 1), [Effect::Wake(b)]);
    assert_eq!(stage.ask(b), granted("r", 1), "the first came, and is gone");
}

#[test]
fn a_ticket_does_not_outlast_its_time_its_client_or_the_instance() {
    let mut stage = Stage::known();
    let granted_and_away = |stage: &mut Stage| {
        stage.online("r", 1);
        let (a, b) = (stage.join(), stage.join());
        assert_eq!(stage.ask(a), granted("r", 1));
        stage.offline("r");
        (a, b)
    };
    let (a, b) = granted_and_away(&mut stage);
    stage.board.settle(a);
    stage.seconds += 5;
    assert_eq!(stage.online("r", 1), [Effect::Wake(b)]);
    assert_eq!(stage.ask(b), granted("r", 1), "it lapsed");
    stage.leave(b);
    let (a, b) = granted_and_away(&mut stage);
    assert_eq!(stage.leave(a), [], "nothing to wake for");
    assert_eq!(stage.online("r", 1), [Effect::Wake(b)]);
    assert_eq!(stage.ask(b), granted("r", 1), "it was given back");
    stage.leave(b);
    let (a, b) = granted_and_away(&mut stage);
    stage.board.settle(a);
    stage.learn("s", 2);
    assert!(stage.online("s", 2).contains(&Effect::Wake(b)));
    assert_eq!(stage.ask(b), granted("s", 2), "the ticket is for the older");
}

#[test]
fn a_newer_instance_cuts_the_older_when_it_comes_online() {
    let mut stage = Stage::known();
    stage.online("r", 1);
    stage.held("r");
    stage.learn("s", 2);
    assert_eq!(stage.why(), Some(Wait::Held { since: 1_000 }), "registering alone changes nothing");
    let client = stage.join();
    let cut = |registration| Effect::Cut(id(registration), CloseReason::Replaced);
    assert_eq!(stage.online("s", 2), [cut("r"), Effect::Wake(client)]);
    assert_eq!(stage.ask(client), granted("s", 2));
    stage.offline("r");
    stage.held("r");
    assert_eq!(stage.ask(client), granted("s", 2), "late reports of the older go nowhere");
    assert_eq!(stage.online("r", 1), [Effect::Cut(id("r"), CloseReason::Revoked)]);
    stage.learn("r", 1);
    assert_eq!(stage.online("r", 1), [Effect::Cut(id("r"), CloseReason::Revoked)], "it stays forgotten");
    assert_eq!(stage.ask(client), granted("s", 2));
}

#[test]
fn an_older_instance_serves_until_the_newer_is_there() {
    let mut stage = Stage::known();
    stage.learn("s", 2);
    assert_eq!(stage.online("r", 1), []);
    let client = stage.join();
    assert_eq!(stage.ask(client), granted("r", 1));
    assert_eq!(stage.online("s", 2).len(), 1, "the newer one is still known");
}

#[test]
fn a_registration_that_nobody_made_is_cut() {
    let mut stage = Stage::known();
    assert_eq!(stage.online("x", 9), [Effect::Cut(id("x"), CloseReason::Revoked)]);
    stage.offline("x");
    stage.held("x");
    assert_eq!(stage.why(), Some(Wait::Away { last_seen: None }));
}

#[test]
fn a_full_line_takes_nobody() {
    let mut stage = Stage::known();
    for _ in 0..LINE_MAX {
        stage.join();
    }
    assert_eq!(stage.board.join(&executor(), stage.now()), (None, vec![]));
}

#[test]
fn only_so_many_registrations_are_remembered() {
    let mut stage = Stage::new();
    for epoch in 1..=100 {
        stage.learn(&format!("r{epoch}"), epoch);
    }
    assert_eq!(stage.board.executors.len(), KNOWN_MAX);
    assert_eq!(stage.board.seats[&executor()].known.len(), KNOWN_MAX);
    assert_eq!(stage.online("r92", 92), [Effect::Cut(id("r92"), CloseReason::Revoked)]);
    assert_eq!(stage.online("r100", 100).len(), KNOWN_MAX - 1);
}

#[test]
fn what_was_seen_is_saved_once_and_while_it_is_online() {
    let mut stage = Stage::known();
    let take = |stage: &mut Stage| stage.board.take_seen(stage.now());
    assert_eq!(take(&mut stage), []);
    stage.online("r", 1);
    stage.seconds = 10;
    assert_eq!(take(&mut stage), [(executor(), 1_010)]);
    stage.seconds = 20;
    stage.offline("r");
    stage.seconds = 30;
    let seen = take(&mut stage);
    assert_eq!(seen, [(executor(), 1_020)]);
    assert_eq!(take(&mut stage), []);
    stage.board.put_seen_back(&seen);
    assert_eq!(take(&mut stage), seen);
}

/// A client as the driver runs it: it asks when it was woken or its time has come, and at no other moment.
struct Client {
    woken: bool,
    until: Option<Instant>,
    granted: bool,
}

struct Crowd {
    stage: Stage,
    clients: BTreeMap<WaiterId, Client>,
}

impl Crowd {
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Wake(waiter) = effect
                && let Some(client) = self.clients.get_mut(&waiter)
            {
                client.woken = true;
            }
        }
    }

    /// Lets one client run, if there is one that would; says whether there was.
    fn step(&mut self, pick: usize) -> bool {
        let now = self.stage.now();
        let due = |client: &Client| client.woken || client.until.is_some_and(|until| until <= now.instant);
        let able: Vec<_> =
            self.clients.iter().filter(|(_, one)| !one.granted && due(one)).map(|(waiter, _)| *waiter).collect();
        let Some(waiter) = able.get(pick % able.len().max(1)).copied() else { return false };
        let (answer, effects) = self.stage.board.ask(waiter, now);
        let earlier = self.clients.range(..waiter).any(|(_, one)| !one.granted);
        let client = self.clients.get_mut(&waiter).unwrap();
        (client.woken, client.until) = (false, None);
        match answer {
            Answer::Granted(_) => {
                assert!(!earlier, "somebody waits for longer");
                client.granted = true;
            }
            Answer::Waiting { until, .. } => client.until = until,
        }
        self.carry_out(effects);
        true
    }

    fn check(&self) {
        let Some(seat) = self.stage.board.seats.get(&executor()) else { return };
        assert!(seat.line.iter().is_sorted(), "{:?}", seat.line);
        let waiting: Vec<_> = seat.line.iter().copied().collect();
        let reserved = match &seat.present {
            Some(Present { hold: Hold::Free, .. }) => {
                assert!(waiting.is_empty(), "free, and somebody waits");
                None
            }
            Some(Present { hold: Hold::Reserved { waiter, until: None, .. }, .. }) => Some(*waiter),
            _ => None,
        };
        let known: Vec<_> = reserved.into_iter().chain(waiting).collect();
        let expected: Vec<_> = self.clients.iter().filter(|(_, one)| !one.granted).map(|(waiter, _)| *waiter).collect();
        assert_eq!(known, expected, "everybody who waits has one place");
    }
}

#[test]
fn under_random_events_nobody_is_forgotten_or_overtaken() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut crowd = Crowd { stage: Stage::new(), clients: BTreeMap::new() };
        let mut epochs = 0;
        let registration = |epoch: u64| format!("r{epoch}");
        for _ in 0..200 {
            let some_epoch = rng.u64(0..=epochs);
            match rng.u32(0..100) {
                0..5 => {
                    epochs += 1;
                    crowd.stage.learn(&registration(epochs), epochs);
                }
                5..25 => {
                    let effects = crowd.stage.online(&registration(some_epoch), some_epoch);
                    crowd.carry_out(effects);
                }
                25..35 => crowd.stage.held(&registration(some_epoch)),
                35..45 => crowd.stage.offline(&registration(some_epoch)),
                45..65 => {
                    let now = crowd.stage.now();
                    let (waiter, effects) = crowd.stage.board.join(&executor(), now);
                    crowd.carry_out(others(effects));
                    let waiter = waiter.unwrap();
                    crowd.clients.insert(waiter, Client { woken: true, until: None, granted: false });
                }
                65..75 if !crowd.clients.is_empty() => {
                    let waiter = *crowd.clients.keys().nth(rng.usize(..crowd.clients.len())).unwrap();
                    let client = crowd.clients.remove(&waiter).unwrap();
                    if client.granted && rng.bool() {
                        crowd.stage.board.settle(waiter);
                    } else {
                        let effects = crowd.stage.leave(waiter);
                        crowd.carry_out(effects);
                    }
                }
                75..80 => crowd.stage.seconds += rng.u64(1..8),
                _ => {
                    crowd.step(rng.usize(..));
                }
            }
            crowd.check();
        }
        epochs += 1;
        crowd.stage.learn(&registration(epochs), epochs);
        let effects = crowd.stage.online(&registration(epochs), epochs);
        crowd.carry_out(effects);
        for round in 0..=2 * crowd.clients.len() {
            while crowd.step(0) {}
            if seed % 2 == 0 {
                // Nobody comes, so reservations lapse; the first in line gives up once, while one is running.
                let first = crowd.stage.board.seats[&executor()].line.front().copied();
                if let Some(first) = first.filter(|_| round == 1) {
                    crowd.clients.remove(&first);
                    let effects = crowd.stage.leave(first);
                    crowd.carry_out(effects);
                }
                crowd.stage.seconds += 5;
            } else {
                // The executor comes and goes with each client.
                crowd.stage.held(&registration(epochs));
                crowd.stage.offline(&registration(epochs));
                let effects = crowd.stage.online(&registration(epochs), epochs);
                crowd.carry_out(effects);
            }
        }
        assert!(crowd.clients.values().all(|client| client.granted), "seed {seed}: somebody was forgotten");
    }
}

#[test]
fn an_executor_for_many_is_granted_to_all_who_ask() {
    let mut stage = Stage::new();
    let many = |epoch| Slot { registration: id("m"), epoch, transport: Transport::Relay, told: false };
    stage.board.learn(&executor(), many(1));
    let early: Vec<_> = (0..3).map(|_| stage.join()).collect();
    assert!(matches!(stage.ask(early[0]), Answer::Waiting { why: Wait::Away { .. }, .. }));
    let woken = stage.online("m", 1);
    assert!(early.iter().all(|waiter| woken.contains(&Effect::Wake(*waiter))), "{woken:?}");
    for waiter in early {
        assert_eq!(stage.ask(waiter), Answer::Granted(many(1)));
        assert!(stage.board.stands(waiter, &id("m")));
        stage.board.settle(waiter);
    }
    let late = stage.join();
    assert_eq!(stage.ask(late), Answer::Granted(many(1)));
    stage.leave(late);
    assert_eq!(stage.why(), None);
    stage.offline("m");
    let late = stage.join();
    assert!(matches!(stage.ask(late), Answer::Waiting { why: Wait::Away { last_seen: Some(_) }, .. }));
    assert!(!stage.board.stands(late, &id("m")));
}
