//! Random interleavings of methods on several connections, against a model of the sessions and their processes.
//!
//! Requests are posted without waiting for answers, so that what one connection asks for runs side by side. The model knows
//! what every answer may be: exactly one where the protocol fixes the order, one of a few where two requests race.

mod ops;
mod world;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use self::ops::op;
use self::world::World;

/// A cut here, 10,000 in `cargo xtask soak`.
fn cases() -> u32 {
    std::env::var("EXEDRA_CASES").map_or(40, |cases| cases.parse().unwrap())
}

/// Cases mostly wait: several at a time.
const LANES: u32 = 4;

#[test]
fn the_executor_agrees_with_a_model_of_sessions_and_processes() {
    let per_lane = cases().div_ceil(LANES);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (1..=LANES).map(|lane| scope.spawn(move || run(lane, per_lane))).collect();
        let failed = lanes.into_iter().filter_map(|lane| lane.join().err()).count();
        assert_eq!(failed, 0, "lanes that failed");
    });
}

fn run(lane: u32, cases: u32) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[lane.to_le_bytes()[0]; 32]);
    let outcome = TestRunner::new_with_rng(config, rng).run(&vec(op(), 1..60), |ops| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for op in ops {
                world.apply(op).await.map_err(TestCaseError::fail)?;
            }
            world.end().await.map_err(TestCaseError::fail)
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
