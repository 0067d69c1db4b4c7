//! What of a sandbox and of limits works on this machine, for whoever wants to know before it is needed.
//!
//! In flows what was found by trying, out flow parts that a person can read, and what they come to.

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
    /// The limit on memory.
    pub memory: Part,
    /// The limit on processes.
    pub processes: Part,
}

/// What can be enforced of sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Whatever is asked for.
    Whole,
    /// Everything readable, some paths writable, the network or not.
    Partial,
    /// Nothing.
    None,
}

impl Support {
    /// From what was found.
    pub fn new(
        namespaces: Result<(), String>,
        landlock: Landlock,
        filter: Result<(), String>,
        memory: Result<(), String>,
        processes: Result<(), String>,
    ) -> Self {
        let problem = match landlock {
            Landlock::Absent => Some("the kernel has none, or it is not switched on".to_owned()),
            Landlock::Old => Some("it is too old to stand alone: ABI 3 (Linux 6.2) is needed".to_owned()),
            Landlock::Enough => None,
        };
        let part = |name, found: Result<(), String>| Part { name, problem: found.err() };
        Self {
            namespaces: part("sandbox: namespaces", namespaces),
            landlock: Part { name: "sandbox: Landlock", problem },
            filter: part("sandbox: filter of system calls", filter),
            memory: part("limits: memory", memory),
            processes: part("limits: processes", processes),
        }
    }

    /// What the parts of the sandbox come to. Within namespaces Landlock is a second fence.
    pub fn strength(&self) -> Strength {
        let works = |part: &Part| part.problem.is_none();
        match (works(&self.namespaces), works(&self.landlock), works(&self.filter)) {
            (true, _, true) => Strength::Whole,
            (false, true, true) => Strength::Partial,
            _ => Strength::None,
        }
    }

    /// The parts.
    pub fn parts(&self) -> [&Part; 5] {
        [&self.namespaces, &self.landlock, &self.filter, &self.memory, &self.processes]
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whatever is asked for is enforced",
            Self::Partial => "with everything readable and some paths writable it is enforced, any other is refused",
            Self::None => "none can be enforced, whatever asks for one is refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parts_come_to() {
        let no = || Err("no".to_owned());
        let of = |namespaces, landlock, filter| Support::new(namespaces, landlock, filter, no(), no()).strength();
        assert_eq!(of(Ok(()), Landlock::Absent, Ok(())), Strength::Whole);
        assert_eq!(of(no(), Landlock::Enough, Ok(())), Strength::Partial);
        assert_eq!(of(no(), Landlock::Old, Ok(())), Strength::None);
        assert_eq!(of(Ok(()), Landlock::Enough, no()), Strength::None);
    }
}
