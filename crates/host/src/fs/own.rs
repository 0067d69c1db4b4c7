//! What no file method reaches, whatever the rules say: the executor's own state, and its view of processes.
//!
//! In flow real places, out flows whether one is kept. Of the disk it only asks whose a number among the processes is.

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
    /// Our own memory and variables.
    Secrets,
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
            Processes::Secrets => {
                let secret = below.file_name().is_some_and(|name| SECRETS.iter().any(|secret| name == *secret));
                secret && number.is_some_and(is_ours)
            }
            Processes::Each => number.is_some(),
            Processes::Whole => true,
        }
    }
}

/// Whether a number is that of one of our threads, the first of which is the process. The view may be of a PID namespace that
/// is not ours, and then shows other numbers than we know.
fn is_ours(number: u32) -> bool {
    Path::new(&format!("{PROCESSES}/self/task/{number}")).exists()
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
        let (tell, told) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            gone.recv().unwrap();
        });
        let (own_number, thread_number) = (std::process::id(), told.recv().unwrap());
        for (path, kept) in [
            (&*format!("/proc/{own_number}/mem"), [true, true, true]),
            (&format!("/proc/{own_number}/task/8/environ"), [true, true, true]),
            (&format!("/proc/{thread_number}/environ"), [true, true, true]),
            (&format!("/proc/{own_number}/status"), [false, true, true]),
            ("/proc/1/mem", [false, true, true]),
            ("/proc/sys/kernel/core_pattern", [false, false, true]),
            ("/proc", [false, false, true]),
            ("/process/7/mem", [false, false, false]),
        ] {
            let all = [Processes::Secrets, Processes::Each, Processes::Whole];
            assert_eq!(all.map(|processes| holds(processes, path)), kept, "{path}");
        }
        go.send(()).unwrap();
        thread.join().unwrap();
        assert_eq!(own(Processes::None).below(Path::new("/s")), Some(Path::new("/s/exedra")));
        assert_eq!(own(Processes::None).below(Path::new("/t")), None);
    }
}
