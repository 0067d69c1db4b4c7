//! The files as a sandboxed process sees them: a root of its own, made of mounts.
//!
//! In flows a [`Plan`], out flows a process whose root is the new one and to which the old one cannot be reached. Called
//! once, in mount, PID and user namespaces of the process's own, before anything of the client's runs. Every place is
//! opened without following a link: a link that was put there after the plan was made is an error.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind_recursive,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::job::Raw;
use super::mounts::Mounts;
use super::plan::{Mount, Plan, Root, SETTINGS, What};

/// Directories one of which every machine has; it is covered for a moment, in our namespace alone.
const BASES: [&str; 4] = ["/tmp", "/run", "/var", "/usr"];
/// Within the base: what was the root, what is to be it, and where a mount is prepared.
const OLD: &str = "/old";
const NEW: &str = "/new";
const STAGE: &str = "/stage";
const STAGE_FILE: &str = "/stage-file";
/// A file that nobody may open.
const HIDDEN: &str = "/hidden";
/// What has to be among the devices.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// A copy of an open place with all mounts below it.
const COPY: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE
    .union(OpenTreeFlags::OPEN_TREE_CLOEXEC)
    .union(OpenTreeFlags::AT_EMPTY_PATH)
    .union(OpenTreeFlags::AT_RECURSIVE);
/// From one open place onto another.
const ONTO: MoveMountFlags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);
/// Where systems have libraries.
const LIBRARIES: [&str; 12] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/nix/store",
    "/gnu/store",
];
/// Of mounts of our own that hold a directory or two.
const TINY_755: &CStr = c"size=1m,mode=755";

/// Makes it, and makes it our root.
///
/// # Errors
/// Something could not be mounted: the process must end.
pub fn make(plan: &Plan) -> io::Result<()> {
    let mounts = Mounts::read()?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let view = View::begin(mounts)?;
    view.root(plan.root)?;
    if plan.root != Root::Whole {
        view.devices()?;
    }
    view.processes()?;
    let mut hidden = Vec::new();
    for mount in &plan.mounts {
        view.mount(mount, &mut hidden)?;
    }
    for (at, to) in &plan.links {
        make_link(at.as_path(), to.as_path())?;
    }
    // The innermost first: one may not enter the others any more.
    for (at, mode) in hidden.into_iter().rev() {
        rustix::fs::chmod(&at, Mode::from_raw_mode(mode))?;
        mount_remount(&at, MountFlags::BIND | PLAIN | MountFlags::RDONLY, "")?;
    }
    if plan.root == Root::Empty {
        mount_remount(NEW, MountFlags::BIND | PLAIN | MountFlags::RDONLY, "")?;
    }
    Mounts::read_in(&inside(OLD, Path::new("/proc")))?.keep_groups(Path::new(NEW))?;
    if let Some(execute) = &plan.execute {
        view.executable(execute.iter().map(Raw::as_path))?;
    }
    view.leave_the_old()
}

struct View {
    mounts: Mounts,
    old: OwnedFd,
}

impl View {
    /// Puts a directory of our own in the place of the root, with the old one in it.
    fn begin(mounts: Mounts) -> io::Result<Self> {
        let base = BASES.iter().find(|base| Path::new(base).is_dir()).ok_or(Errno::NOENT)?;
        mount("tmpfs", *base, "tmpfs", PLAIN, TINY_755)?;
        chdir(*base)?;
        for directory in [OLD, NEW, STAGE] {
            std::fs::create_dir(directory.trim_start_matches('/'))?;
        }
        pivot_root(".", OLD.trim_start_matches('/'))?;
        chdir("/")?;
        std::fs::write(STAGE_FILE, "")?;
        let secret = rustix::fs::open(HIDDEN, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        drop(secret);
        let old = rustix::fs::open(OLD, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { mounts, old })
    }

    fn root(&self, root: Root) -> io::Result<()> {
        if root == Root::Empty {
            return Ok(mount("tmpfs", NEW, "tmpfs", PLAIN, TINY_755)?);
        }
        mount_bind_recursive(OLD, NEW)?;
        match root {
            Root::ReadOnly => self.mounts.narrow(Path::new("/"), Path::new(NEW), PLAIN | MountFlags::RDONLY),
            Root::Writable => {
                self.mounts.narrow(Path::new("/"), Path::new(NEW), PLAIN)?;
                let settings = inside(NEW, Path::new(SETTINGS));
                match settings.is_dir() {
                    true => self.mounts.narrow(Path::new(SETTINGS), &settings, PLAIN | MountFlags::RDONLY),
                    false => Ok(()),
                }
            }
            Root::Whole | Root::Empty => Ok(()),
        }
    }

    /// The few devices that programs need, terminals of the sandbox's own, and shared memory.
    fn devices(&self) -> io::Result<()> {
        let dev = inside(NEW, Path::new("/dev"));
        make_directory(&dev)?;
        mount("tmpfs", &dev, "tmpfs", MountFlags::NOSUID, TINY_755)?;
        for name in DEVICES {
            let (from, to) = (inside(OLD, &Path::new("/dev").join(name)), dev.join(name));
            if from.exists() {
                std::fs::write(&to, "")?;
                mount_bind_recursive(&from, &to)?;
            }
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            std::os::unix::fs::symlink(target, dev.join(name))?;
        }
        for name in ["shm", "pts"] {
            std::fs::create_dir(dev.join(name))?;
        }
        mount("tmpfs", dev.join("shm"), "tmpfs", PLAIN, c"mode=1777")?;
        let terminals = MountFlags::NOSUID | MountFlags::NOEXEC;
        match mount("devpts", dev.join("pts"), "devpts", terminals, c"newinstance,ptmxmode=0666,mode=620") {
            Ok(()) => std::os::unix::fs::symlink("pts/ptmx", dev.join("ptmx"))?,
            // Then no terminal can be made within.
            Err(Errno::PERM | Errno::NODEV | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(mount_remount(&dev, MountFlags::BIND | MountFlags::NOSUID | MountFlags::RDONLY, "")?)
    }

    /// The processes of the sandbox alone. Where the system does not let us have that, as in a container that hides parts
    /// of its own, there are none.
    fn processes(&self) -> io::Result<()> {
        let at = inside(NEW, Path::new("/proc"));
        make_directory(&at)?;
        let flags = PLAIN | MountFlags::NOEXEC | MountFlags::RDONLY;
        match mount("proc", &at, "proc", flags, c"") {
            Err(Errno::PERM) => Ok(mount("tmpfs", &at, "tmpfs", flags, TINY_755)?),
            done => Ok(done?),
        }
    }

    fn mount(&self, mount: &Mount, hidden: &mut Vec<(PathBuf, u32)>) -> io::Result<()> {
        let at = mount.at.as_path();
        match mount.what {
            What::Shown { writable, in_hidden } => self.show(at, writable, in_hidden),
            What::HiddenDirectory { passable, in_hidden } => {
                if in_hidden {
                    make_way(at, true)?;
                }
                let Some(place) = self.place(at)? else { return Ok(()) };
                mount_tmpfs(STAGE, TINY_755)?;
                attach(STAGE, &place)?;
                hidden.push((inside(NEW, at), if passable { 0o111 } else { 0 }));
                Ok(())
            }
            What::HiddenFile => {
                let Some(place) = self.place(at)? else { return Ok(()) };
                mount_bind_recursive(HIDDEN, STAGE_FILE)?;
                mount_remount(STAGE_FILE, MountFlags::BIND | PLAIN | MountFlags::RDONLY, "")?;
                attach(STAGE_FILE, &place)
            }
            What::Pinned => {
                let Some(place) = self.place(at)? else { return Ok(()) };
                Ok(move_mount(open_tree(&place, "", COPY)?, "", &place, "", ONTO)?)
            }
        }
    }

    fn show(&self, at: &Path, writable: bool, in_hidden: bool) -> io::Result<()> {
        let source = open(&self.old, at)?;
        let directory = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode).is_dir();
        if in_hidden {
            make_way(at, directory)?;
        }
        let stage = if directory { STAGE } else { STAGE_FILE };
        let tree = open_tree(&source, "", COPY)?;
        move_mount(&tree, "", CWD, stage, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        drop(tree);
        self.mounts.narrow(at, Path::new(stage), if writable { PLAIN } else { PLAIN | MountFlags::RDONLY })?;
        let place = self.place(at)?.ok_or(Errno::NOENT)?;
        attach(stage, &place)
    }

    /// Leaves nothing executable but `listed`, and libraries. Landlock keeps the rest from being executed, but the loader, which
    /// must be executable, would take a program from anywhere.
    fn executable<'a>(&self, listed: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let mounts = Mounts::read_in(&inside(OLD, Path::new("/proc")))?;
        let new = rustix::fs::open(NEW, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let all: BTreeSet<&Path> = listed.chain(LIBRARIES.iter().map(Path::new)).collect();
        let mut trees = Vec::new();
        for at in all {
            // What is not there, or hidden, needs nothing; names that are links lead to others of these.
            let Ok(place) = open(&new, at) else { continue };
            if !trees.iter().any(|(_, above)| at.starts_with(above)) {
                trees.push((open_tree(&place, "", COPY)?, at));
            }
        }
        mounts.narrow(Path::new(NEW), Path::new(NEW), MountFlags::NOEXEC)?;
        for (tree, at) in trees {
            move_mount(&tree, "", open(&new, at)?, "", ONTO)?;
        }
        Ok(())
    }

    /// Where something is to be mounted; none if the sandbox has nothing there because that part is its own.
    fn place(&self, at: &Path) -> io::Result<Option<OwnedFd>> {
        let new = rustix::fs::open(NEW, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let own = ["/proc", "/dev"].iter().any(|own| at.starts_with(own));
        match open(&new, at) {
            Err(Errno::NOENT) if own => Ok(None),
            place => Ok(Some(place?)),
        }
    }

    fn leave_the_old(self) -> io::Result<()> {
        drop(self.old);
        chdir(NEW)?;
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        // The base, with the old root in it, is what lay below; nothing of it is left.
        chdir("/")?;
        Ok(())
    }
}

fn mount_tmpfs(at: &str, options: &CStr) -> io::Result<()> {
    Ok(mount("tmpfs", at, "tmpfs", PLAIN, options)?)
}

/// Moves what was prepared at `stage` onto an open place.
fn attach(stage: &str, place: &OwnedFd) -> io::Result<()> {
    Ok(move_mount(CWD, stage, place, "", MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)?)
}

/// A place below an open root, no link followed on the way.
fn open(root: &OwnedFd, at: &Path) -> Result<OwnedFd, Errno> {
    let below = at.strip_prefix("/").unwrap_or(at);
    if below.as_os_str().is_empty() {
        return rustix::io::dup(root);
    }
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH;
    openat2(root, below, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn inside(root: &str, at: &Path) -> PathBuf {
    Path::new(root).join(at.strip_prefix("/").unwrap_or(at))
}

/// Makes a place in what is our own, and the way there.
fn make_way(at: &Path, directory: bool) -> io::Result<()> {
    let place = inside(NEW, at);
    if directory {
        return std::fs::create_dir_all(place);
    }
    std::fs::create_dir_all(place.parent().ok_or(Errno::INVAL)?)?;
    match std::fs::OpenOptions::new().write(true).create_new(true).open(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes a link in what is our own.
fn make_link(at: &Path, to: &Path) -> io::Result<()> {
    let place = inside(NEW, at);
    std::fs::create_dir_all(place.parent().ok_or(Errno::INVAL)?)?;
    match std::os::unix::fs::symlink(to, place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn make_directory(at: &Path) -> io::Result<()> {
    match std::fs::create_dir(at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
