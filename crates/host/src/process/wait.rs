//! The two system calls on a child that may have ended: looking, and taking its exit.
//!
//! In flow numbers of children, out flow exit codes. Each call names one child, so that nobody's exit is taken by somebody
//! else. Knows no table.

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tracing::warn;

/// Reaps `pid` if it has ended: 0 to 255, or 128 + n after signal n.
pub fn reap(pid: i32) -> Option<i32> {
    let status = match waitid(WaitId::Pid(Pid::from_raw(pid)?), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(status) => status?,
        Err(Errno::CHILD) => {
            warn!(pid, "a child was reaped by somebody else, its exit code is lost");
            return Some(-1);
        }
        Err(_) => return None,
    };
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Waits until `pid` has ended, and leaves it to be reaped.
pub fn ended(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let wait = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    while matches!(wait(), Err(Errno::INTR)) {}
}
