//! Control groups: one for each process and what descends from it, where the system lets us make some. In it all can be
//! killed at once, counted, and held to limits.
//!
//! In flow what is to be limited, out flow [`Group`]s: version 2 where we may make groups below our own, a tree of version 1
//! for a limit that version 2 does not have here. All of one executor are below one directory, named after it, so that
//! another can remove what a crash left. Empty groups without limits, in which nothing was killed,
//! are used again. Knows no table.

mod directory;
mod find;

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use rustix::fs::{Mode, OFlags};
use rustix::process::getpid;
use tracing::{info, warn};

use self::directory::{Directory, Version, write};
use super::census;

/// Empty groups that are kept to be used again. When full, the next is removed.
const SPARE: usize = 32;
/// How long to wait for what was killed to be gone from its group.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Between two looks for that.
const LOOK: Duration = Duration::from_millis(5);
/// How the directories of executors are named: this, the number space, the process number and the start.
const PREFIX: &str = "exedra";

/// The group into which the executor itself goes, where it must not stay in its own.
const ASIDE: &str = "executor";

/// The next name of a group in this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where groups are made.
#[derive(Debug)]
pub struct Site {
    own: find::Own,
    /// The name of our directory in each tree.
    home: String,
    /// Version 2 lets us make groups, as far as we know.
    unified: AtomicBool,
    /// It has the controllers for limits there.
    controllers: bool,
    spare: Mutex<Vec<PathBuf>>,
    /// To be removed when what was killed in them is gone.
    leftover: Mutex<Vec<Directory>>,
}

/// What a group is to hold to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Whether CPU time must be counted.
    pub cpu: bool,
}

/// Why a limit cannot be held.
#[derive(Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// The groups of one process. Dropped, all in them is killed and they go.
#[derive(Debug)]
pub struct Group {
    site: Arc<Site>,
    tree: Option<Directory>,
    memory: Option<Directory>,
    processes: Option<Directory>,
    cpu: Option<Directory>,
    bounds: Bounds,
    /// Something was killed in it. The system may take whoever is born into it later for one of them.
    killed: AtomicBool,
    /// It was found empty.
    vacant: AtomicBool,
}

impl Site {
    /// Looks where we are, and removes what executors that are dead left there. Blocks.
    pub fn find() -> Arc<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let mut own = find::own(&read("mountinfo"), &read("cgroup"));
        let space = namespace();
        let home = home(getpid().as_raw_nonzero().get(), &space);
        if home.is_none() {
            own = find::Own::default();
        }
        own.unified = own.unified.map(|own| before_stepping_aside(own, home.as_deref()));
        let unified = AtomicBool::new(own.unified.is_some());
        let controllers = own.unified.as_deref().zip(home.as_deref()).is_some_and(has_controllers);
        for (version, tree) in trees(&own) {
            sweep(version, tree, &space);
        }
        let (spare, leftover) = (Mutex::default(), Mutex::default());
        Arc::new(Self { own, home: home.unwrap_or_default(), unified, controllers, spare, leftover })
    }

    /// As where none can be made.
    pub fn nowhere() -> Arc<Self> {
        Arc::new(Self {
            own: find::Own::default(),
            home: String::new(),
            unified: AtomicBool::new(false),
            controllers: false,
            spare: Mutex::default(),
            leftover: Mutex::default(),
        })
    }

    /// Makes the groups of a process.
    ///
    /// # Errors
    /// A limit that it is to hold to cannot be held here.
    pub fn make(self: &Arc<Self>, bounds: Bounds) -> Result<Group, Unavailable> {
        let mut group = Group {
            site: self.clone(),
            tree: None,
            memory: None,
            processes: None,
            cpu: None,
            bounds: Bounds::default(),
            killed: AtomicBool::new(false),
            vacant: AtomicBool::new(false),
        };
        let plain = bounds == Bounds::default();
        group.tree = self.tree(plain);
        let name = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
        if let Some(bytes) = bounds.memory {
            let limit = |directory: &Directory| directory.limit_memory(bytes);
            group.memory = Some(self.controlled(&group, self.own.memory.as_deref(), &name, "memory", limit)?);
        }
        if let Some(count) = bounds.processes {
            let limit = |directory: &Directory| directory.limit_processes(count);
            group.processes =
                Some(self.controlled(&group, self.own.processes.as_deref(), &name, "processes", limit)?);
        }
        if bounds.cpu {
            let counts = |directory: &Directory| directory.cpu_time().is_some();
            let v1 = || self.mkdir(Version::One, self.own.cpu.as_deref()?, &name).ok();
            group.cpu = group.tree.clone().filter(counts).or_else(v1);
        }
        group.bounds = bounds;
        Ok(group)
    }

    fn tree(&self, plain: bool) -> Option<Directory> {
        if plain && let Some(path) = self.spare().pop() {
            return Some(Directory { version: Version::Two, path });
        }
        let own = self.own.unified.as_deref().filter(|_| self.unified.load(Ordering::Relaxed))?;
        let name = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
        match self.mkdir(Version::Two, own, &name) {
            Ok(directory) => Some(directory),
            Err(error) => {
                info!(%error, "no control groups of version 2 can be made here, descendants are found by their mark alone");
                self.unified.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// The directory that holds to a limit: that of the tree, else one of version 1.
    fn controlled(
        &self,
        group: &Group,
        v1: Option<&Path>,
        name: &str,
        what: &str,
        limit: impl Fn(&Directory) -> io::Result<()>,
    ) -> Result<Directory, Unavailable> {
        if let Some(tree) = group.tree.as_ref().filter(|_| self.controllers)
            && limit(tree).is_ok()
        {
            return Ok(tree.clone());
        }
        let cannot =
            |why: &dyn std::fmt::Display| Unavailable(format!("the limit on {what} cannot be held here: {why}"));
        let own = v1.ok_or_else(|| cannot(&"no control group that could has been delegated to the executor"))?;
        let directory = self.mkdir(Version::One, own, name).map_err(|error| cannot(&error))?;
        limit(&directory).map_err(|error| {
            directory.remove();
            cannot(&error)
        })?;
        Ok(directory)
    }

    fn mkdir(&self, version: Version, own: &Path, name: &str) -> io::Result<Directory> {
        let home = own.join(&self.home);
        let path = home.join(name);
        match fs::create_dir(&path) {
            // Trees of version 1 may be mounted together.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && version == Version::One => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::create_dir(&home) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                if version == Version::Two && self.controllers {
                    let _ = write(&home, "cgroup.subtree_control", "+memory +pids");
                }
                fs::create_dir(&path)?;
            }
            made => made?,
        }
        Ok(Directory { version, path })
    }

    /// Takes a group back whose processes are gone, or have been killed; in one that is reusable nothing was killed.
    fn take_back(&self, directory: Directory, reusable: bool) {
        if reusable {
            let mut spare = self.spare();
            if spare.len() < SPARE {
                spare.push(directory.path);
                return;
            }
        }
        let mut leftover = self.leftover();
        if !directory.remove() {
            leftover.push(directory);
        }
        leftover.retain(|directory| !directory.remove());
    }

    fn spare(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leftover(&self) -> MutexGuard<'_, Vec<Directory>> {
        self.leftover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let spare = std::mem::take(&mut *self.spare());
        spare.into_iter().for_each(|path| _ = Directory { version: Version::Two, path }.remove());
        let left = std::mem::take(&mut *self.leftover());
        let left = removed(left, LAST_WAIT);
        if left > 0 {
            warn!(left, "control groups could not be removed");
        }
        // Another executor in this process may have some in it still; then it is that one's to remove.
        trees(&self.own).for_each(|(version, own)| {
            Directory { version, path: own.join(&self.home) }.remove();
        });
    }
}

impl Group {
    /// What the child enters: the group it is born into, and the files named `cgroup.procs` of the others.
    ///
    /// # Errors
    /// The system refuses to open them.
    pub fn doors(&self) -> io::Result<(Option<OwnedFd>, Vec<OwnedFd>)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let born = |tree: &Directory| rustix::fs::open(&tree.path, flags, Mode::empty());
        let tree = self.tree.as_ref().map(born).transpose()?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let open = |directory: &Directory| rustix::fs::open(directory.path.join("cgroup.procs"), flags, Mode::empty());
        let others = self.directories().filter(|directory| directory.version == Version::One);
        let procs = others.map(open).collect::<Result<_, _>>()?;
        Ok((tree, procs))
    }

    /// Kills all that is in it.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.directories().for_each(Directory::kill);
    }

    /// Whether anything lives in it, where that can be told. To be asked once its process has ended, and dropped at once
    /// where nothing does: it is not asked again then.
    pub fn is_populated(&self) -> bool {
        let populated = self.directories().any(Directory::is_populated);
        self.vacant.store(!populated, Ordering::Relaxed);
        populated
    }

    /// Whether its limit on memory was reached.
    pub fn ran_out_of_memory(&self) -> bool {
        self.memory.as_ref().is_some_and(Directory::ran_out_of_memory)
    }

    /// Whether its limit on processes was reached.
    pub fn ran_out_of_processes(&self) -> bool {
        self.processes.as_ref().is_some_and(Directory::ran_out_of_processes)
    }

    /// CPU time of all that is or was in it, where it is counted.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.cpu.as_ref().and_then(Directory::cpu_time)
    }

    /// Each directory once.
    fn directories(&self) -> impl Iterator<Item = &Directory> {
        let mut seen = HashSet::new();
        let all = [&self.tree, &self.memory, &self.processes, &self.cpu];
        all.into_iter().flatten().filter(move |directory| seen.insert(&directory.path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !*self.vacant.get_mut() && self.is_populated() {
            self.kill();
        }
        let reusable = self.bounds == Bounds::default() && !self.killed.load(Ordering::Relaxed);
        for directory in self.directories() {
            self.site.take_back(directory.clone(), reusable);
        }
    }
}

/// Our trees.
fn trees(own: &find::Own) -> impl Iterator<Item = (Version, &Path)> {
    let v1 = [&own.memory, &own.processes, &own.cpu].into_iter().flatten().map(|own| (Version::One, own.as_path()));
    own.unified.iter().map(|own| (Version::Two, own.as_path())).chain(v1)
}

/// The space in which process numbers mean what they mean to us.
fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// The name of the directory of an executor that lives.
fn home(pid: i32, space: &str) -> Option<String> {
    Some(format!("{PREFIX}-{space}-{pid}-{}", census::stat(pid)?.started))
}

/// Ends and removes what executors left that are dead.
fn sweep(version: Version, own: &Path, space: &str) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let Some(rest) = name.strip_prefix(&format!("{PREFIX}-{space}-")) else { continue };
        let Some(pid) = rest.split('-').next().and_then(|pid| pid.parse().ok()) else { continue };
        if home(pid, space).as_deref() == Some(&name) {
            continue;
        }
        let groups = fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let groups = groups.filter(|group| group.file_type().is_ok_and(|kind| kind.is_dir()));
        let groups: Vec<_> = groups.map(|group| Directory { version, path: group.path() }).collect();
        groups.iter().for_each(Directory::kill);
        let left = removed(groups, LAST_WAIT);
        Directory { version, path: entry.path() }.remove();
        info!(executor = pid, left, "removed the control groups of an executor that is dead");
    }
}

/// Removes what can be removed in time; how many are left.
fn removed(mut directories: Vec<Directory>, wait: Duration) -> usize {
    let deadline = Instant::now() + wait;
    loop {
        directories.retain(|directory| !directory.remove());
        if directories.is_empty() || Instant::now() >= deadline {
            return directories.len();
        }
        thread::sleep(LOOK);
    }
}

/// Whether groups below `own` can have limits: the controllers are there, and can be handed down.
fn has_controllers((own, home): (&Path, &str)) -> bool {
    let list = |file: &str| fs::read_to_string(own.join(file)).unwrap_or_default();
    let both = |text: &str| ["memory", "pids"].iter().all(|name| text.split_whitespace().any(|word| word == *name));
    if !both(&list("cgroup.controllers")) {
        return false;
    }
    let hand_down = || write(own, "cgroup.subtree_control", "+memory +pids").is_ok();
    both(&list("cgroup.subtree_control")) || hand_down() || (step_aside(own, home) && hand_down())
}

/// A group with processes of its own hands nothing down: if we are alone in ours, we go into one below it.
fn step_aside(own: &Path, home: &str) -> bool {
    let pid = getpid().as_raw_nonzero().to_string();
    let alone = fs::read_to_string(own.join("cgroup.procs")).is_ok_and(|procs| procs.lines().all(|line| line == pid));
    let aside = own.join(home).join(ASIDE);
    alone && fs::create_dir_all(&aside).is_ok() && write(&aside, "cgroup.procs", &pid).is_ok()
}

/// The group that was given to us, if this process has stepped aside already.
fn before_stepping_aside(own: PathBuf, home: Option<&str>) -> PathBuf {
    let aside = own.file_name().is_some_and(|name| name == ASIDE);
    match own.parent() {
        Some(parent) if aside && parent.file_name().and_then(|name| name.to_str()) == home => {
            parent.parent().map_or_else(|| own.clone(), Path::to_owned)
        }
        _ => own,
    }
}

#[cfg(test)]
mod tests;
