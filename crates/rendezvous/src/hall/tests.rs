//! A whole hall over pipes in memory, against a model, by seeds.
//!
//! Real sockets' code, real hub, real switch; only the pipes are in memory, so that each step is ours: peers write and read
//! as much as the seed says, and the hall is polled only when something woke it. So a waking that is lost shows as well.

mod looks;
mod peer;
mod senders;
mod world;

use std::time::Duration;

use self::world::{Manner, World};
use crate::limits::{QUANTUM, STALL, STALL_BYTES};

/// Runs `case` for each seed, on a clock that stands still unless the case moves it: so many seeds usually, and of the full
/// count a part.
fn for_each_seed(usual: u64, part: u64, case: impl AsyncFn(u64)) {
    let cases = std::env::var("EXEDRA_CASES").map_or(usual, |n| n.parse::<u64>().unwrap().div_ceil(part));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for seed in 0..cases {
        // Polled by hand, the pipes must not hold back for the sake of other tasks.
        runtime.block_on(tokio::task::coop::unconstrained(case(seed)));
    }
}

/// No frame to the wrong socket, none lost without a cut, none reordered within a stream, nothing held beyond the limits.
#[test]
fn frames_go_where_they_belong_in_order_and_whole() {
    for_each_seed(150, 1, async |seed| {
        let mut world = World::new(seed, Manner::ANY);
        for _ in 0..60 {
            world.step();
        }
        world.come_to_rest();
    });
}

/// Those who read what comes for them, and go on with what they send, are not kept waiting by each other, however long it takes:
/// nobody is cut.
#[test]
fn among_those_who_read_and_go_on_nobody_is_cut_however_slow_they_are() {
    const STEP: Duration = Duration::from_millis(700);
    // In as many steps as fit into the patience with each, all that is asked for in it.
    let steps = STALL.as_millis() / STEP.as_millis();
    let least = STALL_BYTES.div_ceil(usize::try_from(steps).unwrap());
    for_each_seed(60, 1, async |seed| {
        let mut world = World::new(seed, Manner::CREDIT);
        for _ in 0..60 {
            world.step();
            if seed % 2 == 0 {
                world.all_go_on(least);
                tokio::time::advance(STEP).await;
            }
        }
        world.come_to_rest();
        assert_eq!(world.cut(), 0, "seed {seed}");
    });
}

/// Those who always have something to send get the same share of the executor, but for a quantum and a message.
#[test]
fn senders_get_the_same_share() {
    for_each_seed(5, 20, async |seed| {
        let mut world = World::new(seed, Manner::WIDE);
        let largest = world.pile_up();
        let mut got = world.taken_of_each();
        while world.all_have_more() {
            world.executor_reads();
            got = world.taken_of_each();
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            assert!(most - least <= 2 * (QUANTUM + largest), "seed {seed}: {got:?}");
        }
        assert!(got.iter().all(|got| *got > 0), "seed {seed}: {got:?}");
        world.come_to_rest();
    });
}
