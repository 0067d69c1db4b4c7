use std::io::Read as _;
use std::os::fd::AsRawFd as _;

use super::*;

/// A file held so that whoever executes it waits until this is dropped, or for the 45 s of the system.
pub struct Lease(std::fs::File);

/// Takes it.
pub fn leased(path: &std::path::Path) -> Lease {
    let file = std::fs::File::open(path).unwrap();
    const F_SETSIG: c_int = 10;
    // SAFETY: plain calls on a descriptor that is open. The signal of the breach is one that is ignored.
    let taken = unsafe {
        libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG);
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
    };
    assert_eq!(taken, 0, "{}", io::Error::last_os_error());
    Lease(file)
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Closing is not enough: a child that waits has a copy.
        // SAFETY: a plain call on a descriptor that is open.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

/// A shell that runs `script`; its output is to be read from the other end.
pub fn shell(script: &str) -> (Launch, std::fs::File) {
    let string = |text: &str| CString::new(text).unwrap();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let high = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).unwrap();
    let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let launch = Launch {
        candidates: vec![string("/bin/sh")],
        argv: vec![string("sh"), string("-c"), string(script)],
        env: vec![string("PATH=/usr/bin:/bin")],
        cwd: string("/"),
        stdio: [high(&null), high(&write), high(&write)],
        terminal: false,
        rlimits: Vec::new(),
        birthplace: None,
        cgroups: Vec::new(),
        inherit: None,
        namespaces: None,
    };
    (launch, read.into())
}

/// What the shell says, and whether it ended well.
fn said(launch: Launch, mut output: std::fs::File) -> String {
    let launched = Launcher::new().unwrap().launch(&launch, false).unwrap();
    drop(launch);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    reap(launched.pid);
    said
}

const OPEN: &str = "n=3; while [ $n -lt 64 ]; do [ -e /proc/$$/fd/$n ] && echo open $n; n=$((n+1)); done";

#[test]
fn one_descriptor_is_inherited_and_no_other() {
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, b"a plan").unwrap();
    // One that lacks the flag, as if we were born with it.
    let leak = rustix::io::dup(&file).unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    assert!(leak.as_raw_fd() < 64);
    let (launch, output) = shell(OPEN);
    assert_eq!(said(launch, output), "");
    for number in 3..20 {
        let (launch, output) = shell(&format!("cat /proc/$$/fd/3; echo; {OPEN}"));
        let inherit = rustix::io::fcntl_dupfd_cloexec(&file, number).unwrap();
        assert_eq!(said(Launch { inherit: Some(inherit), ..launch }, output), "a plan\nopen 3\n");
    }
    drop(leak);
}

#[test]
fn limits_are_the_childs_own() {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let (launch, output) = shell("ulimit -Sn; ulimit -Hn; ulimit -c");
    let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
    let rlimits = vec![limit(Resource::Nofile, 17, 19), limit(Resource::Core, 0, 0)];
    assert_eq!(said(Launch { rlimits, ..launch }, output), "17\n19\n0\n");
    assert_eq!(rustix::process::getrlimit(Resource::Nofile), before);
}

#[test]
fn what_cannot_be_set_or_entered_fails_the_launch() {
    let mut launcher = Launcher::new().unwrap();
    let (launch, _output) = shell("echo it must not run");
    let rlimits = vec![Rlimit { resource: Resource::Nofile, soft: 2, hard: 1 }];
    let refused = launcher.launch(&Launch { rlimits, ..launch }, false).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    let (launch, mut output) = shell("echo it must not run");
    let unwritable = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let refused = launcher.launch(&Launch { cgroups: vec![unwritable], ..launch }, false).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}
