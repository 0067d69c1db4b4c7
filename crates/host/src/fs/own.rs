//! What no file method reaches, whatever the rules say: the executor's own state, and its view of processes.
//!
//! In flow real places, out flows whether one is kept. Pure.

use std::path::{Component, Path, PathBuf};

/// Where the system shows processes.
pub const PROCESSES: &str = "/proc";
/// What of a process tells its secrets, or lets them be changed.
const SECRETS: [&str; 2] = ["mem", "environ"];

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    places: Vec<PathBuf>,
    processes: Processes,
}

/// What of the view of processes is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processes {
    /// Nothing.
    #[default]
    None,
    /// The memory and the variables of the process with this number.
    Secrets(u32),
    /// Every process.
    Each,
    /// All of it, the settings of the kernel too.
    Whole,
}

impl Own {
    /// All that is at or below `places`, and of processes what `processes` says.
    pub fn new(places: Vec<PathBuf>, processes: Processes) -> Self {
        Self { places, processes }
    }

    /// Whether it has to hold against whoever swaps links meanwhile.
    pub fn is_strict(&self) -> bool {
        matches!(self.processes, Processes::Each | Processes::Whole)
    }

    /// Whether there is nothing to keep.
    pub fn is_nothing(&self) -> bool {
        self.places.is_empty() && self.processes == Processes::None
    }

    /// Whether `real` is kept.
    pub fn holds(&self, real: &Path) -> bool {
        self.places.iter().any(|place| real.starts_with(place)) || self.holds_process(real)
    }

    /// Something kept at or below `real`.
    pub fn below(&self, real: &Path) -> Option<&Path> {
        self.places.iter().find(|place| place.starts_with(real)).map(PathBuf::as_path)
    }

    fn holds_process(&self, real: &Path) -> bool {
        let Ok(below) = real.strip_prefix(PROCESSES) else { return false };
        let number = below.components().next().and_then(|first| match first {
            Component::Normal(name) => name.to_str()?.parse::<u32>().ok(),
            _ => None,
        });
        match self.processes {
            Processes::None => false,
            Processes::Secrets(own) => {
                let secret = below.file_name().is_some_and(|name| SECRETS.iter().any(|secret| name == *secret));
                number == Some(own) && secret
            }
            Processes::Each => number.is_some(),
            Processes::Whole => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept() {
        let own = |processes| Own::new(vec!["/s/exedra".into()], processes);
        let holds = |processes, path: &str| own(processes).holds(Path::new(path));
        for path in ["/s/exedra", "/s/exedra/identity"] {
            assert!(holds(Processes::None, path) && holds(Processes::Whole, path), "{path}");
        }
        for path in ["/s", "/s/exedra2", "/x/s/exedra"] {
            assert!(!holds(Processes::Whole, path), "{path}");
        }
        for (path, kept) in [
            ("/proc/7/mem", [true, true, true]),
            ("/proc/7/task/8/environ", [true, true, true]),
            ("/proc/7/status", [false, true, true]),
            ("/proc/9/mem", [false, true, true]),
            ("/proc/sys/kernel/core_pattern", [false, false, true]),
            ("/proc", [false, false, true]),
            ("/process/7/mem", [false, false, false]),
        ] {
            let all = [Processes::Secrets(7), Processes::Each, Processes::Whole];
            assert_eq!(all.map(|processes| holds(processes, path)), kept, "{path}");
        }
        assert_eq!(own(Processes::None).below(Path::new("/s")), Some(Path::new("/s/exedra")));
        assert_eq!(own(Processes::None).below(Path::new("/t")), None);
    }
}
