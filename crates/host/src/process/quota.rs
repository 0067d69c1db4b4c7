//! What one process may use: the owner's limits and those of the request, and the meter that says when one is passed.
//!
//! In flow limits, pieces of output, counts and the time; out flow what the child sets on itself, what its control group is
//! to hold to, and the limit that was passed. Pure: no clock, no group, no process.

use std::time::{Duration, Instant};

use exedra_proto::limits::{Limit, ResourceLimits};
use rustix::process::{Resource, getrlimit};

use super::cgroup::Bounds;
use super::launch::Rlimit;

/// Between two looks at what a control group counts.
const LOOK: Duration = Duration::from_millis(50);
/// The system's own mark of a process that used its CPU time up: killed by SIGXCPU.
const USED_UP: i32 = 128 + 24;

/// What one process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    limits: ResourceLimits,
    /// Whether memory and processes must be held, or may be let go where they cannot.
    strict: (bool, bool),
}

/// What a control group counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// CPU time of all that is or was in it.
    pub cpu_time: Option<Duration>,
    /// Something was killed for want of memory.
    pub out_of_memory: bool,
    /// Something could not fork.
    pub out_of_processes: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Meter {
    deadline: Option<Instant>,
    cpu: Option<Duration>,
    output_left: u64,
    /// When to look at the counts again.
    next_look: Option<Instant>,
    passed: Option<Limit>,
}

impl Quota {
    /// The tighter of both, for each.
    pub fn new(owner: &ResourceLimits, asked: Option<&ResourceLimits>) -> Self {
        let none = ResourceLimits::default();
        let asked = asked.unwrap_or(&none);
        let tighter = |of: fn(&ResourceLimits) -> Option<u64>| [of(owner), of(asked)].into_iter().flatten().min();
        let strict = |of: fn(&ResourceLimits) -> Option<u64>| {
            [owner, asked].iter().any(|limits| of(limits).is_some() && !limits.best_effort)
        };
        let limits = ResourceLimits {
            wall_ms: tighter(|limits| limits.wall_ms),
            cpu_seconds: tighter(|limits| limits.cpu_seconds),
            memory_bytes: tighter(|limits| limits.memory_bytes),
            processes: tighter(|limits| limits.processes),
            open_files: tighter(|limits| limits.open_files),
            output_bytes: tighter(|limits| limits.output_bytes),
            best_effort: false,
        };
        Self { limits, strict: (strict(|limits| limits.memory_bytes), strict(|limits| limits.processes)) }
    }

    /// What the child sets on itself.
    pub fn rlimits(&self) -> Vec<Rlimit> {
        // A second more, for a program that handles the signal.
        let cpu = self.limits.cpu_seconds.map(|soft| rlimit(Resource::Cpu, soft, soft.saturating_add(1)));
        let files = self.limits.open_files.map(|most| rlimit(Resource::Nofile, most, most));
        cpu.into_iter().chain(files).collect()
    }

    /// What its control group is to hold to: all of it first, then without what may be let go.
    pub fn bounds(&self) -> Vec<Bounds> {
        let (memory, processes) = (self.limits.memory_bytes, self.limits.processes);
        let all = Bounds { memory, processes, cpu: self.limits.cpu_seconds.is_some() };
        let mut bounds = vec![all];
        if memory.is_some() && !self.strict.0 {
            bounds.push(Bounds { memory: None, ..all });
        }
        if processes.is_some() && !self.strict.1 {
            bounds.extend(bounds.clone().into_iter().map(|bounds| Bounds { processes: None, ..bounds }));
        }
        bounds
    }

    /// For a process that starts now.
    pub fn meter(&self, now: Instant) -> Meter {
        let looks =
            [self.limits.memory_bytes, self.limits.processes, self.limits.cpu_seconds].iter().any(Option::is_some);
        let wall = self.limits.wall_ms.and_then(|wall| now.checked_add(Duration::from_millis(wall)));
        Meter {
            deadline: wall,
            cpu: self.limits.cpu_seconds.map(Duration::from_secs),
            output_left: self.limits.output_bytes.unwrap_or(u64::MAX),
            next_look: looks.then_some(now + LOOK),
            passed: None,
        }
    }
}

impl Meter {
    /// The limit that was passed first.
    pub fn passed(&self) -> Option<Limit> {
        self.passed
    }

    /// When to call [`Self::look`]; never once a limit has been passed.
    pub fn next_look(&self) -> Option<Instant> {
        let next = [self.deadline, self.next_look].into_iter().flatten().min();
        next.filter(|_| self.passed.is_none())
    }

    /// Compares; whether a limit was passed just now.
    pub fn look(&mut self, now: Instant, counts: Counts) -> bool {
        self.next_look = self.next_look.map(|_| now + LOOK);
        let late = self.deadline.is_some_and(|deadline| now >= deadline).then_some(Limit::WallTime);
        self.pass(counted(self.cpu, counts).or(late))
    }

    /// Takes a piece of output; how much of it may be passed on.
    pub fn output(&mut self, len: usize) -> usize {
        let may = usize::try_from(self.output_left).unwrap_or(usize::MAX).min(len);
        self.output_left -= may as u64;
        if may < len {
            self.pass(Some(Limit::OutputBytes));
        }
        may
    }

    /// The process ended by itself, as far as we know.
    pub fn exited(&mut self, code: i32, counts: Counts) {
        let used_up = (self.cpu.is_some() && code == USED_UP).then_some(Limit::CpuTime);
        self.pass(counted(self.cpu, counts).or(used_up));
    }

    fn pass(&mut self, limit: Option<Limit>) -> bool {
        let first = self.passed.is_none() && limit.is_some();
        self.passed = self.passed.or(limit);
        first
    }
}

fn counted(cpu: Option<Duration>, counts: Counts) -> Option<Limit> {
    let used_up = cpu.zip(counts.cpu_time).is_some_and(|(most, used)| used >= most);
    [(counts.out_of_memory, Limit::Memory), (counts.out_of_processes, Limit::Processes), (used_up, Limit::CpuTime)]
        .into_iter()
        .find_map(|(passed, limit)| passed.then_some(limit))
}

/// No wider than our own: a limit can be lowered by everybody, and raised by few.
fn rlimit(resource: Resource, soft: u64, hard: u64) -> Rlimit {
    let own = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    Rlimit { resource, soft: soft.min(own), hard: hard.min(own) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(json: &str) -> ResourceLimits {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_tighter_of_both_counts() {
        let owner = limits(r#"{"wallMs":100,"cpuSeconds":9,"outputBytes":5}"#);
        let asked = limits(r#"{"wallMs":200,"cpuSeconds":3,"openFiles":7}"#);
        let quota = Quota::new(&owner, Some(&asked));
        let want = limits(r#"{"wallMs":100,"cpuSeconds":3,"openFiles":7,"outputBytes":5}"#);
        assert_eq!(quota.limits, want);
        assert_eq!(Quota::new(&owner, None).limits, owner);
        let [cpu, files] = quota.rlimits()[..] else { panic!() };
        assert_eq!((cpu.soft, cpu.hard, files.soft, files.hard), (3, 4, 7, 7));
    }

    #[test]
    fn only_what_nobody_insists_on_is_let_go() {
        let strict = limits(r#"{"memoryBytes":10}"#);
        let lax = limits(r#"{"memoryBytes":20,"processes":3,"bestEffort":true}"#);
        let of = |owner: &ResourceLimits, asked| {
            let bounds = Quota::new(owner, asked).bounds();
            bounds.iter().map(|bounds| (bounds.memory, bounds.processes)).collect::<Vec<_>>()
        };
        assert_eq!(of(&strict, None), [(Some(10), None)]);
        for (owner, asked) in [(&strict, &lax), (&lax, &strict)] {
            assert_eq!(of(owner, Some(asked)), [(Some(10), Some(3)), (Some(10), None)]);
        }
        let all = [(Some(20), Some(3)), (None, Some(3)), (Some(20), None), (None, None)];
        assert_eq!(of(&lax, None), all);
    }

    #[test]
    fn wall_time_and_counts() {
        let start = Instant::now();
        let quota = Quota::new(&limits(r#"{"wallMs":60,"cpuSeconds":2}"#), None);
        let mut meter = quota.meter(start);
        assert_eq!(meter.next_look(), Some(start + LOOK));
        assert!(!meter.look(start + LOOK, Counts::default()));
        assert_eq!(meter.next_look(), Some(start + Duration::from_millis(60)));
        assert!(meter.look(start + Duration::from_millis(60), Counts::default()));
        assert_eq!((meter.passed(), meter.next_look()), (Some(Limit::WallTime), None));
        let of = |counts, code| {
            let mut meter = quota.meter(start);
            meter.exited(code, counts);
            meter.passed()
        };
        let counts = Counts { cpu_time: Some(Duration::from_secs(2)), ..Counts::default() };
        assert_eq!(of(counts, 0), Some(Limit::CpuTime));
        assert_eq!(of(Counts { out_of_memory: true, ..counts }, 0), Some(Limit::Memory));
        assert_eq!(of(Counts { out_of_processes: true, ..counts }, 0), Some(Limit::Processes));
        assert_eq!(of(Counts::default(), USED_UP), Some(Limit::CpuTime));
        assert_eq!(of(Counts::default(), 137), None);
        let mut unlimited = Quota::default().meter(start);
        unlimited.exited(USED_UP, Counts::default());
        assert_eq!((unlimited.passed(), unlimited.next_look()), (None, None));
    }

    #[test]
    fn output_up_to_the_last_byte() {
        let mut meter = Quota::new(&limits(r#"{"outputBytes":5}"#), None).meter(Instant::now());
        assert_eq!(meter.output(5), 5);
        assert_eq!(meter.passed(), None);
        assert_eq!(meter.output(1), 0);
        assert_eq!(meter.passed(), Some(Limit::OutputBytes));
    }
}
