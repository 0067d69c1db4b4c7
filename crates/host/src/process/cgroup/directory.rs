//! One control group as its directory: limits, counts, killing what is in it.
//!
//! In flow a path and what it is to limit, out flow counts. Knows no process of ours and nobody's name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long to go on killing what is forked meanwhile, where the system does not kill the whole group at once.
const LONGEST: Duration = Duration::from_secs(10);

/// The two layouts of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A tree per controller.
    One,
    /// One tree.
    Two,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Which files it has.
    pub version: Version,
    /// Where it is.
    pub path: PathBuf,
}

impl Directory {
    /// At most so many bytes, swap included.
    ///
    /// # Errors
    /// It is not possible here.
    pub fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let bytes = bytes.to_string();
        match self.version {
            Version::One => {
                self.write("memory.limit_in_bytes", &bytes)?;
                // Without this file there is no count of swap, or no swap.
                let _ = self.write("memory.memsw.limit_in_bytes", &bytes);
                let _ = self.write("memory.swappiness", "0");
                Ok(())
            }
            Version::Two => {
                self.write("memory.max", &bytes)?;
                let _ = self.write("memory.swap.max", "0");
                let _ = self.write("memory.oom.group", "1");
                Ok(())
            }
        }
    }

    /// At most so many processes and threads.
    ///
    /// # Errors
    /// It is not possible here.
    pub fn limit_processes(&self, count: u64) -> io::Result<()> {
        self.write("pids.max", &count.to_string())
    }

    /// Whether something was killed for want of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        let file = if self.version == Version::One { "memory.oom_control" } else { "memory.events" };
        self.field(file, "oom_kill").is_some_and(|count| count > 0)
    }

    /// Whether something could not fork.
    pub fn ran_out_of_processes(&self) -> bool {
        self.field("pids.events", "max").is_some_and(|count| count > 0)
    }

    /// CPU time of all that is or was in it.
    pub fn cpu_time(&self) -> Option<Duration> {
        match self.version {
            Version::One => Some(Duration::from_nanos(self.read("cpuacct.usage")?.trim().parse().ok()?)),
            Version::Two => self.field("cpu.stat", "usage_usec").map(Duration::from_micros),
        }
    }

    /// Whether anything lives in it.
    pub fn is_populated(&self) -> bool {
        match self.version {
            Version::One => !self.members().is_empty(),
            Version::Two => self.field("cgroup.events", "populated") != Some(0) && self.path.exists(),
        }
    }

    /// Kills all that is in it. Blocks while that forks.
    pub fn kill(&self) {
        if self.version == Version::Two && self.write("cgroup.kill", "1").is_ok() {
            return;
        }
        let began = Instant::now();
        loop {
            let members = self.members();
            if members.is_empty() || began.elapsed() > LONGEST {
                return;
            }
            for pid in members {
                let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
                if self.members().contains(&pid) {
                    let _ = pidfd_send_signal(pidfd, Signal::KILL);
                }
            }
        }
    }

    /// Removes it; false if something is in it still.
    pub fn remove(&self) -> bool {
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn members(&self) -> Vec<Pid> {
        let procs = self.read("cgroup.procs").unwrap_or_default();
        procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
    }

    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = self.read(file)?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path.join(file)).ok()
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        write(&self.path, file, text)
    }
}

/// Writes a file that the system made.
///
/// # Errors
/// It is not there, or does not take the text.
pub fn write(directory: &Path, file: &str, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(directory.join(file))?;
    io::Write::write_all(&mut file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        let directory = Directory { version, path: dir.path().to_owned() };
        (dir, directory)
    }

    #[test]
    fn the_files_of_version_two() {
        let empty = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max"].map(|name| (name, ""));
        let counts = [
            ("memory.events", "low 0\noom 1\noom_kill 2\n"),
            ("pids.events", "max 0\n"),
            ("cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
        ];
        let (dir, group) = made(Version::Two, &[&empty[..], &counts[..]].concat());
        group.limit_memory(4096).unwrap();
        group.limit_processes(7).unwrap();
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!([text("memory.max"), text("memory.swap.max"), text("pids.max")], ["4096", "0", "7"]);
        assert!(group.ran_out_of_memory() && !group.ran_out_of_processes() && group.is_populated());
        assert_eq!(group.cpu_time(), Some(Duration::from_millis(2500)));
    }

    #[test]
    fn the_files_of_version_one() {
        let counts = [("memory.oom_control", "under_oom 0\noom_kill 0\n"), ("pids.events", "max 3\n")];
        let (_dir, group) = made(
            Version::One,
            &[&[("memory.limit_in_bytes", ""), ("cpuacct.usage", "1000000000\n")], &counts[..]].concat(),
        );
        group.limit_memory(4096).unwrap();
        assert!(!group.ran_out_of_memory() && group.ran_out_of_processes() && !group.is_populated());
        assert_eq!(group.cpu_time(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn without_its_files_nothing_is_limited() {
        let (_dir, group) = made(Version::Two, &[]);
        assert!(group.limit_memory(1).is_err() && group.limit_processes(1).is_err());
        assert!(!group.ran_out_of_memory() && !group.ran_out_of_processes());
        assert_eq!(group.cpu_time(), None);
    }
}
