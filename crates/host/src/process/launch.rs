//! The one unsafe module: starts a program as `vfork` does, without copying the address space and without a race; hands
//! descriptors to the runtime's watch; and gives memory back to the system (`rest`).
//!
//! In flows a [`Launch`] with every string made beforehand, out flows a [`Launched`] child or the errno of the step that
//! failed. Knows no path search beyond "try these in order", and nothing of what the child is for.
//!
//! How it holds: the child shares our memory (`CLONE_VM`) while the calling thread sleeps (`CLONE_VFORK`) until the
//! child has executed or ended. So the child allocates nothing, locks nothing, returns from nothing, and calls only
//! thin wrappers of system calls; all signals are blocked around it, and it drops every handler before it lets them in
//! again, so that no handler of ours ever runs in it. It has its own stack and its own table of descriptors.
#![expect(
    unsafe_code,
    reason = "clone with shared memory, registering a descriptor, and giving memory back, have no safe form; they are here \
              and nowhere else"
)]

mod clone3;
pub mod rest;

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::process::Resource;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Enough for a few frames without locals, many times over.
const STACK: usize = 64 * 1024;
/// Of the flags of `clone3`, beyond those of `clone`.
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// Signals are numbered from 1 to this.
const LAST_SIGNAL: c_long = 64;
/// Bytes of the kernel's signal set.
const SIGNAL_SET: usize = 8;
/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// `CAP_SETPCAP`, `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`: what makes a sandbox in namespaces of one's own.
const CAPABILITIES: [c_long; 3] = [8, 12, 21];
/// Beside an errno: it is that of a step in the namespaces.
const IN_NAMESPACES: c_int = 1 << 16;

/// A program to start. Every descriptor passed is at least 3.
pub struct Launch {
    /// Paths to try in order.
    pub candidates: Vec<CString>,
    /// What the child sees as its arguments.
    pub argv: Vec<CString>,
    /// `NAME=value` each.
    pub env: Vec<CString>,
    /// Where to run it.
    pub cwd: CString,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// Whether standard input is to be the controlling terminal.
    pub terminal: bool,
    /// Limits that the child sets on itself; one that it must not set fails the launch.
    pub rlimits: Vec<Rlimit>,
    /// The directory of a control group of version 2 into which the child is born, where the system can do that; elsewhere
    /// it enters that group as it does the others.
    pub birthplace: Option<OwnedFd>,
    /// Files named `cgroup.procs`, open for writing: the child enters the groups of all of them first of all.
    pub cgroups: Vec<OwnedFd>,
    /// What the child finds as descriptor 3. Whatever else is open above 2 is closed for it.
    pub inherit: Option<OwnedFd>,
    /// Namespaces that the child is born into, where it may mount and drop rights before it runs anything else.
    pub namespaces: Option<Namespaces>,
}

/// User, mount, PID and IPC namespaces of the child's own; in the first it has all rights, and is who it is outside.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// A network namespace too.
    pub network: bool,
    /// The text for `uid_map`.
    pub uid_map: CString,
    /// The text for `gid_map`.
    pub gid_map: CString,
}

/// A limit of the child's, as the kernel has them: `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub resource: Resource,
    /// What counts.
    pub soft: u64,
    /// Up to where the child may raise it.
    pub hard: u64,
}

/// A running child, not yet reaped.
#[derive(Debug)]
pub struct Launched {
    /// Its number, which is that of its process group and session too.
    pub pid: i32,
    /// A descriptor of it, where asked for and where the system has them.
    pub pidfd: Option<OwnedFd>,
}

/// A descriptor whose readiness the runtime watches. It cannot be taken out or exchanged while it is watched.
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

/// Memory for the children's stack, used by one at a time.
#[derive(Debug)]
pub struct Launcher {
    stack: *mut c_void,
}

/// What the child reads, and the one thing that it writes.
struct Plan {
    candidates: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    stdio: [RawFd; 3],
    terminal: bool,
    rlimits: Vec<(c_long, [u64; 2])>,
    cgroups: Vec<RawFd>,
    inherit: Option<RawFd>,
    namespaces: Option<[(*const c_char, *const c_char, usize); 3]>,
    parent: libc::pid_t,
    error: AtomicI32,
}

impl Watched {
    /// Watches `fd`, which must not block. Needs a runtime around it.
    ///
    /// # Errors
    /// The system refuses the registration.
    pub fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an owned descriptor stays open, and the same, until it is dropped; dropping it deregisters first, and
        // `Watched` gives out shared references only.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, interest) }?))
    }
}

impl Deref for Watched {
    type Target = AsyncFd<OwnedFd>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Launcher {
    /// Maps the stack.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a fresh anonymous mapping, checked below; its lowest page becomes a guard.
        let stack = unsafe { libc::mmap(ptr::null_mut(), STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if stack == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let launcher = Self { stack };
        // SAFETY: the page lies within the mapping above.
        if unsafe { libc::mprotect(stack, 4096, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(launcher)
    }

    /// Starts the program and waits until it runs. It gets SIGTERM when the calling thread ends; in a PID namespace,
    /// whose first process ignores that, SIGKILL.
    ///
    /// # Errors
    /// What the failing step said: entering the directory, or the last of the candidates. [`io::ErrorKind::Unsupported`]
    /// if the system refuses the namespaces.
    pub fn launch(&mut self, launch: &Launch, want_pidfd: bool) -> io::Result<Launched> {
        let (candidates, argv, env) = (pointers(&launch.candidates), pointers(&launch.argv), pointers(&launch.env));
        let mut plan = Plan {
            candidates: candidates.as_ptr(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            cwd: launch.cwd.as_ptr(),
            stdio: [0, 1, 2].map(|i: usize| launch.stdio[i].as_fd().as_raw_fd()),
            terminal: launch.terminal,
            rlimits: launch.rlimits.iter().map(|limit| limit.raw()).collect(),
            cgroups: launch.cgroups.iter().map(AsRawFd::as_raw_fd).collect(),
            inherit: launch.inherit.as_ref().map(AsRawFd::as_raw_fd),
            namespaces: launch.namespaces.as_ref().map(Namespaces::maps),
            // SAFETY: no preconditions.
            parent: unsafe { libc::getpid() },
            error: AtomicI32::new(0),
        };
        let born = self.with_signals_blocked(|this| this.clone_anyhow(&mut plan, launch, want_pidfd));
        let (pid, pidfd) = match born {
            Err(error) if launch.namespaces.is_some() => return Err(no_namespaces(&error)),
            born => born?,
        };
        match plan.error.load(Ordering::Relaxed) {
            0 => Ok(Launched { pid, pidfd }),
            errno if errno & IN_NAMESPACES != 0 => {
                reap(pid);
                Err(no_namespaces(&io::Error::from_raw_os_error(errno & !IN_NAMESPACES)))
            }
            errno => {
                reap(pid);
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn with_signals_blocked<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are written before they are read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        }
        let result = act(self);
        // SAFETY: `before` was written by the call above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
        result
    }

    /// In the newest way that the system knows.
    fn clone_anyhow(
        &mut self,
        plan: &mut Plan,
        launch: &Launch,
        want_pidfd: bool,
    ) -> io::Result<(i32, Option<OwnedFd>)> {
        let flags = launch.namespaces.as_ref().map_or(0, Namespaces::flags);
        let with_pidfd = if want_pidfd { flags | libc::CLONE_PIDFD } else { flags };
        // What is entered by hand instead, open as long as the child may need it.
        let mut door = None;
        if let Some(birthplace) = &launch.birthplace {
            if let Ok(born) = self.clone_into(plan, with_pidfd, birthplace.as_raw_fd()) {
                return Ok(born);
            }
            let procs =
                rustix::fs::openat(birthplace, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            plan.cgroups.push(door.insert(procs).as_raw_fd());
        }
        match self.clone(plan, with_pidfd) {
            Err(error) if want_pidfd && error.raw_os_error() == Some(libc::EINVAL) => self.clone(plan, flags),
            cloned => cloned,
        }
    }

    fn clone_into(&mut self, plan: &Plan, more: c_int, group: RawFd) -> io::Result<(i32, Option<OwnedFd>)> {
        let mut pidfd: c_int = -1;
        // SAFETY: all zero is nothing asked for.
        let mut args: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | more;
        args.flags = u64::from(flags.cast_unsigned()) | CLONE_INTO_CGROUP;
        args.pidfd = ptr::from_mut(&mut pidfd) as u64;
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        args.stack = self.stack as u64;
        args.stack_size = STACK as u64;
        args.cgroup = u64::from(group.cast_unsigned());
        let arg = ptr::from_ref(plan).cast_mut().cast::<c_void>();
        // SAFETY: as in `clone` below.
        let pid = unsafe { clone3::clone3(&mut args, child, arg) }?;
        // SAFETY: the kernel has just opened it for us, and nobody else knows it.
        let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
        Ok((pid, pidfd))
    }

    fn clone(&mut self, plan: &Plan, more: c_int) -> io::Result<(i32, Option<OwnedFd>)> {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | more;
        let mut pidfd: c_int = -1;
        let arg = ptr::from_ref(plan).cast_mut().cast::<c_void>();
        // SAFETY: the stack is ours, of STACK bytes, and grows down from its end; `plan` and what it points to outlive
        // the call, during which this thread sleeps; the child writes nothing but the atomic in it.
        let pid = unsafe {
            let top = self.stack.cast::<u8>().add(STACK).cast::<c_void>();
            libc::clone(child, top, flags, arg, ptr::from_mut(&mut pidfd))
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it for us, and nobody else knows it.
        let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
        Ok((pid, pidfd))
    }
}

// SAFETY: the stack belongs to the launcher alone, whichever thread uses it.
unsafe impl Send for Launcher {}

impl Drop for Launcher {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no child runs on it: launching borrows self mutably.
        unsafe { libc::munmap(self.stack, STACK) };
    }
}

impl Rlimit {
    fn raw(&self) -> (c_long, [u64; 2]) {
        (self.resource as c_long, [self.soft, self.hard])
    }
}

impl Namespaces {
    fn flags(&self) -> c_int {
        let always = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        if self.network { always | libc::CLONE_NEWNET } else { always }
    }

    /// What is to be written, in order: the kernel takes no map of groups from one who may still choose groups.
    fn maps(&self) -> [(*const c_char, *const c_char, usize); 3] {
        let of = |file: &'static CStr, text: &CStr| (file.as_ptr(), text.as_ptr(), text.count_bytes());
        [
            of(c"/proc/self/uid_map", &self.uid_map),
            of(c"/proc/self/setgroups", c"deny"),
            of(c"/proc/self/gid_map", &self.gid_map),
        ]
    }
}

fn no_namespaces(error: &io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("the system refuses namespaces: {error}"))
}

/// The descriptor that a [`Launch`] left for us as number 3, to the first who asks; its copies are closed on execution.
pub fn inherited() -> Option<OwnedFd> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    // SAFETY: no memory is involved; whether there is such a descriptor is looked at.
    if ASKED.swap(true, Ordering::Relaxed) || unsafe { libc::fcntl(3, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open. A launched program that looks for it does so before it opens anything, and takes it once.
    Some(unsafe { OwnedFd::from_raw_fd(3) })
}

/// An array as `execve` wants it, ended by a null pointer.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| CStr::as_ptr(string)).chain([ptr::null()]).collect()
}

fn reap(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `pid` is our child and not yet reaped.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 && errno() == libc::EINTR {}
}

fn errno() -> c_int {
    // SAFETY: the location is that of this thread. The child shares it with the sleeping parent.
    unsafe { *libc::__errno_location() }
}

extern "C" fn child(arg: *mut c_void) -> c_int {
    // SAFETY: `arg` is the plan, which outlives the child's use of it.
    let plan = unsafe { &*arg.cast::<Plan>() };
    // SAFETY: see `prepare` and `execute`; this is the child.
    let errno = unsafe {
        match prepare(plan) {
            0 => execute(plan),
            errno => errno,
        }
    };
    plan.error.store(errno, Ordering::Relaxed);
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Everything up to the execution; 0 or the errno of what failed.
///
/// # Safety
/// Only in the child, with all signals blocked.
unsafe fn prepare(plan: &Plan) -> c_int {
    // SAFETY: plain system calls on memory that outlives them; the descriptors are those of the child alone.
    unsafe {
        libc::setsid();
        match &plan.namespaces {
            Some(maps) => {
                let errno = settle(maps);
                if errno != 0 {
                    return errno | IN_NAMESPACES;
                }
            }
            None => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                if libc::getppid() != plan.parent {
                    libc::_exit(127);
                }
            }
        }
        for procs in &plan.cgroups {
            if libc::write(*procs, c"0".as_ptr().cast(), 1) < 0 {
                return errno();
            }
        }
        let [stdin, stdout, stderr] = plan.stdio;
        if libc::dup2(stdin, 0) < 0 || libc::dup2(stdout, 1) < 0 || libc::dup2(stderr, 2) < 0 {
            return errno();
        }
        if plan.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return errno();
        }
        let mut first: c_long = 3;
        if let Some(inherit) = plan.inherit {
            // Copying a descriptor onto itself leaves its flag as it was.
            if libc::dup2(inherit, 3) < 0 || libc::fcntl(3, libc::F_SETFD, 0) < 0 {
                return errno();
            }
            first = 4;
        }
        // Descriptors that we were born with, not opened, may lack the flag.
        let (last, flags) = (c_long::from(u32::MAX), c_long::from(libc::CLOSE_RANGE_CLOEXEC));
        libc::syscall(libc::SYS_close_range, first, last, flags);
        if libc::chdir(plan.cwd) < 0 {
            return errno();
        }
        // By number and not through the C library, which hides two of them. All zero is the default action.
        let action = [0_u64; 8];
        let mut signal = 1;
        while signal <= LAST_SIGNAL {
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null_mut::<u64>(), SIGNAL_SET);
            signal += 1;
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        for (resource, limit) in &plan.rlimits {
            if libc::syscall(libc::SYS_prlimit64, 0, *resource, limit.as_ptr(), ptr::null_mut::<u64>()) < 0 {
                return errno();
            }
        }
    }
    0
}

/// Makes the child who it is outside, and lets it keep what it needs of its rights over the execution; 0 or an errno.
/// Its parent's number cannot be seen from within: should that one be gone by now, the other end of `inherit` is.
///
/// # Safety
/// Only in the child, born into a user namespace.
unsafe fn settle(maps: &[(*const c_char, *const c_char, usize); 3]) -> c_int {
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        for (file, text, length) in maps {
            let fd = libc::open(*file, libc::O_WRONLY | libc::O_CLOEXEC);
            if fd < 0 || libc::write(fd, text.cast(), *length) < 0 {
                return errno();
            }
            libc::close(fd);
        }
        // Whoever is root keeps them anyway.
        let header: [u32; 2] = [CAPABILITY_VERSION, 0];
        let kept = CAPABILITIES.iter().fold(0_u32, |kept, capability| kept | 1 << capability);
        let sets: [u32; 6] = [kept, kept, kept, 0, 0, 0];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) < 0 {
            return errno();
        }
        for capability in CAPABILITIES {
            if libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0 {
                return errno();
            }
        }
    }
    0
}

/// Tries the candidates as `execvp` does; returns only if none could be executed.
///
/// # Safety
/// Only in the child.
unsafe fn execute(plan: &Plan) -> c_int {
    let mut refused = false;
    let mut last = libc::ENOENT;
    let mut candidate = plan.candidates;
    // SAFETY: the three arrays are ended by null pointers and live in the sleeping parent.
    unsafe {
        while !(*candidate).is_null() {
            libc::execve(*candidate, plan.argv, plan.env);
            last = errno();
            match last {
                libc::EACCES => refused = true,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => return last,
            }
            candidate = candidate.add(1);
        }
    }
    if refused { libc::EACCES } else { last }
}

#[cfg(test)]
pub mod tests;
