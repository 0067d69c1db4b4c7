//! The seeded tests at their full count, in a release build, one part after the other or one alone.
//!
//! In flows the name of a part, or none, out flow the tests' own figures as they come and a summary. A test that is seeded
//! reads how many cases to run from the environment and takes a small number without; this sets it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::build::cargo;

/// How many cases a seeded test runs; a test's own default is small enough for every day.
pub const CASES: &str = "EXEDRA_CASES";
/// The same for tests that proptest runs.
const PROPTEST: &str = "PROPTEST_CASES";
/// Set to `1`: what only makes sense at length is done at length.
pub const SOAK: &str = "EXEDRA_SOAK";

/// Some tests that show one thing.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, with its figures.
    pub what: &'static str,
    cases: u64,
    tests: &'static [Tests],
}

/// Tests of one program.
#[derive(Clone, Copy, Debug)]
struct Tests {
    package: &'static str,
    target: &'static [&'static str],
    /// Parts of their names.
    filters: &'static [&'static str],
}

const LIB: &[&str] = &["--lib"];

const fn tests(package: &'static str, target: &'static [&'static str], filters: &'static [&'static str]) -> Tests {
    Tests { package, target, filters }
}

/// All parts.
pub const PARTS: &[Part] = &[
    Part {
        name: "cuts-stock",
        what: "20 seeds x 50 cuts, 64 MiB of output by 8 processes and 8 echoes, by the rules for stock executors",
        cases: 20,
        tests: &[tests("exedra-testkit", &["--test", "cuts"], &["by_the_rules_for_stock_executors"])],
    },
    Part {
        name: "cuts-confirmed",
        what: "the same with output that is confirmed",
        cases: 20,
        tests: &[tests("exedra-testkit", &["--test", "cuts"], &["with_output_that_is_confirmed"])],
    },
    Part {
        name: "leaks",
        what: "10,000 starts, 2,000 connections, 500 resumed sessions, and all figures as before",
        cases: 1,
        tests: &[tests("exedra-executor", &["--test", "leaks"], &[])],
    },
    Part {
        name: "model",
        what: "10,000 interleavings of all methods against a model of the sessions",
        cases: 10_000,
        tests: &[tests("exedra-executor", &["--test", "suite"], &["model::"])],
    },
    Part {
        name: "decoders",
        what: "1,000,000 random and mutated inputs for each decoder of JSON, relay and websocket frames, and binary messages",
        cases: 10_000,
        tests: &[
            tests("exedra-proto", LIB, &["frame::tests::no_input", "binary::tests", "bulk::tests"]),
            tests("exedra-proto", &["--test", "envelopes"], &["no_input"]),
            tests("exedra-link", LIB, &["ws::inlet::tests::no_bytes"]),
        ],
    },
    Part {
        name: "links",
        what: "10,000 rounds of links swapped during a call: beneath roots, in sandboxes, and for commands",
        cases: 10_000,
        tests: &[
            tests("exedra-host", &["--test", "roots"], &[]),
            tests("exedra-host", &["--test", "sandbox"], &["files::", "escape::"]),
        ],
    },
    Part {
        name: "router",
        what: "100,000 random courses each against a model: meetings in the router, whole halls with their peers, their rules",
        cases: 100_000,
        tests: &[tests(
            "exedra-rendezvous",
            LIB,
            &["random_events_agree_with_the_model", "hall::tests", "switch::tests", "turns::tests", "inbox::tests"],
        )],
    },
    Part {
        name: "tables",
        what: "10,000 cases each: the session table, the order of requests, the streams of a websocket",
        cases: 10_000,
        tests: &[
            tests("exedra-executor", LIB, &["session::table", "dispatch::order"]),
            tests("exedra-link", LIB, &["mux_and_model_agree"]),
        ],
    },
    Part {
        name: "sandbox",
        what: "2,000 random sandboxes: what commands and what file methods may do is the same",
        cases: 2_000,
        tests: &[
            tests("exedra-host", LIB, &["sandbox::survey"]),
            tests("exedra-host", &["--test", "sandbox"], &["agree::"]),
        ],
    },
    Part {
        name: "plane",
        what: "200 seeds of a link that delays and cuts under the whole plane",
        cases: 200,
        tests: &[tests("exedra-testkit", &["--test", "plane"], &[])],
    },
    Part {
        name: "memory",
        what: "3 sieges of a server by all kinds of bad guests at once: its memory stays bounded, and comes back",
        cases: 3,
        tests: &[tests("exedra", &["--test", "cli"], &["memory::"])],
    },
];

/// Runs the part of that name, or all, in the checkout at `root`; `cases` in place of the full count. Tells whether all passed.
///
/// # Errors
/// There is no such part, or cargo cannot be run.
#[expect(clippy::print_stdout, reason = "the summary is what this command is for")]
pub fn run(root: &Path, name: Option<&str>, cases: Option<u64>) -> Result<bool> {
    let chosen: Vec<&Part> = PARTS.iter().filter(|part| name.is_none_or(|name| part.name == name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        bail!("there is no part `{}`; there are {}, durable", name.unwrap_or_default(), names.join(", "));
    }
    let mut outcomes = Vec::new();
    for part in chosen {
        println!("== {}: {}", part.name, part.what);
        let began = Instant::now();
        let passed = part.run(root, cases)?;
        outcomes.push((part, passed, began.elapsed()));
    }
    println!();
    for (part, passed, took) in &outcomes {
        println!("{}", line(part, *passed, *took, cases));
    }
    Ok(outcomes.iter().all(|(_, passed, _)| *passed))
}

impl Part {
    fn run(&self, root: &Path, cases: Option<u64>) -> Result<bool> {
        let mut passed = true;
        for tests in self.tests {
            let mut cargo = cargo(root);
            cargo.args(["test", "--release", "--package", tests.package]).args(tests.target);
            cargo.arg("--").args(tests.filters).arg("--nocapture");
            let cases = cases.unwrap_or(self.cases).to_string();
            cargo.env(SOAK, "1").env(CASES, &cases).env(PROPTEST, cases);
            passed &= cargo.status().context("cannot run cargo")?.success();
        }
        Ok(passed)
    }
}

fn line(part: &Part, passed: bool, took: Duration, cases: Option<u64>) -> String {
    let word = if passed { "PASS" } else { "FAIL" };
    let count = cases.map_or_else(String::new, |cases| format!("; with {cases} cases"));
    format!("{word}  {:<14} {:>6.0} s  {}{count}", part.name, took.as_secs_f64(), part.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_an_unknown_one_is_refused() {
        let mut names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PARTS.len());
        let error = run(Path::new("/"), Some("nope"), None).unwrap_err();
        assert!(error.to_string().starts_with("there is no part `nope`; there are cuts-stock, "), "{error}");
    }

    #[test]
    fn the_summary_says_what_was_not_at_full_count() {
        let took = Duration::from_secs(61);
        let full = line(&PARTS[3], true, took, None);
        assert_eq!(
            full,
            "PASS  model              61 s  10,000 interleavings of all methods against a model of the sessions"
        );
        assert!(line(&PARTS[3], false, took, Some(7)).ends_with("; with 7 cases"));
    }
}
