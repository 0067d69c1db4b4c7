//! What of a sandbox works on this machine, for whoever wants to know before it is needed.
//!
//! In flows what was found by trying, out flow lines that a person can read.

use std::fmt;

use super::fence::Landlock;

/// One part, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// Why it does not work; none if it does.
    pub problem: Option<String>,
}

/// All parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Namespaces, mounts, and the whole sandbox within them, as an empty run of it found.
    pub namespaces: Part,
    /// Landlock.
    pub landlock: Part,
    /// The filter of system calls.
    pub filter: Part,
}

impl Support {
    /// From what was found.
    pub fn new(namespaces: Result<(), String>, landlock: Landlock, filter: Result<(), String>) -> Self {
        let problem = match landlock {
            Landlock::Absent => Some("the kernel has none, or it is not switched on".to_owned()),
            Landlock::Old => Some("it is too old to stand alone: ABI 3 (Linux 6.2) is needed".to_owned()),
            Landlock::Enough => None,
        };
        Self {
            namespaces: Part { name: "sandbox: namespaces", problem: namespaces.err() },
            landlock: Part { name: "sandbox: Landlock", problem },
            filter: Part { name: "sandbox: system call filter", problem: filter.err() },
        }
    }

    /// Whether every sandbox can be enforced.
    pub fn is_whole(&self) -> bool {
        self.namespaces.problem.is_none() && self.filter.problem.is_none()
    }

    /// Whether read-only access with writable directories can be enforced at least.
    pub fn is_partial(&self) -> bool {
        self.landlock.problem.is_none() && self.filter.problem.is_none()
    }

    /// The parts, one a line.
    pub fn parts(&self) -> [&Part; 3] {
        [&self.namespaces, &self.landlock, &self.filter]
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "{}: works", self.name),
            Some(problem) => write!(f, "{}: {problem}", self.name),
        }
    }
}
