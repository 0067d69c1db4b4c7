//! The host as such: the threads that start and reap processes, and what children inherit.
//!
//! In flows a [`HostConfig`], out flows one [`Host`] that any number of tables share. Knows no process.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::census;
use super::cgroup::Site;
use super::ledger::{Ledger, NAMES};
use super::mark::Maker;
use super::spawner::Spawner;
use super::spool::{CAPACITY, Spool};
use super::undertaker::Undertaker;
use crate::error::{HostError, StartError};
use crate::own::OwnState;
use crate::policy::{Current, Policy, WhenFull};

/// What a [`Host`] is made of.
#[derive(Clone)]
#[non_exhaustive]
pub struct HostConfig {
    /// What children inherit under an `envPolicy`; leave out what they must not see, such as our own token.
    pub environment: BTreeMap<OsString, OsString>,
    /// Watch exits through process descriptors; without, as on old kernels, a thread per process does.
    pub pidfd: bool,
    /// Make control groups where that is possible; without, as where it is not, descendants are found by other means.
    pub control_groups: bool,
    /// Undelivered output that all tables together keep, in bytes as JSON. When it is used up, the pipes of detached
    /// processes that have some already are not read and the commands wait, until a reader confirms what it read or a
    /// table goes. Each may keep one piece in any case, and output to attached peers has windows of its own.
    pub backlog: usize,
    /// Long ids and arguments of the processes that all tables together know, in bytes. When it is used up, only those with short
    /// ones are started.
    pub names: usize,
    /// A directory for this user alone where undelivered output goes beyond 1 MiB of each process. Without, all of it stays
    /// in memory.
    pub spool: Option<PathBuf>,
    /// What all tables together may have there, in bytes. Beyond it, as with a full disk, the commands wait.
    pub spool_bytes: u64,
    /// What happens when undelivered output fills what is kept of it, for one process or for all, where the policy does not say.
    pub when_full: WhenFull,
    /// What the owner of the machine allows, for as long as it is in force.
    pub policy: Current,
    /// Files and directories that are the executor's own: its key, its audit, its tokens. No file method and, as far as mounts
    /// can hide them, no sandboxed command reaches them. The spool and the file of the policy are among them anyway.
    pub own: Vec<PathBuf>,
    /// The same, of directories that are made, empty and for this user alone, before something in a sandbox could make them.
    pub own_directories: Vec<PathBuf>,
    /// Processes of all tables that may run, or have outputs that are open, at a time; one more is refused.
    pub max_processes: usize,
    /// The program that enters sandboxes: one that calls [`crate::launcher::take_over`] first of all, such as this very
    /// one. Without, whatever needs a sandbox is refused.
    pub launcher: Option<PathBuf>,
}

/// The default of [`HostConfig::max_processes`].
pub const MAX_PROCESSES: usize = 8_192;

/// The default of [`HostConfig::backlog`]: six processes with all that one may keep.
pub const BACKLOG: usize = 256 * 1024 * 1024;

impl HostConfig {
    /// Whether `dir` will do for [`Self::spool`]; it is made if it is missing.
    ///
    /// # Errors
    /// Why not.
    pub fn check_spool(dir: &Path) -> io::Result<()> {
        Spool::open(dir, 0).map(drop)
    }
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            environment: std::env::vars_os().collect(),
            pidfd: true,
            control_groups: true,
            backlog: BACKLOG,
            names: NAMES,
            spool: None,
            spool_bytes: CAPACITY,
            max_processes: MAX_PROCESSES,
            when_full: WhenFull::Wait,
            policy: Current::default(),
            own: Vec::new(),
            own_directories: Vec::new(),
            launcher: None,
        }
    }
}

/// A machine to run processes on. It owns the threads that start them.
pub struct Host {
    spawner: Spawner,
    maker: Option<Maker>,
    site: Arc<Site>,
    policy: Current,
    own: OwnState,
    ledger: Arc<Ledger>,
    spool: Option<Arc<Spool>>,
    slots: Arc<Semaphore>,
    max_processes: usize,
    when_full: WhenFull,
    environment: BTreeMap<OsString, OsString>,
    shell: String,
    launcher: Option<CString>,
}

impl Host {
    /// Makes the threads, and this program the one to which orphans of its children come. A child that another part of the
    /// program starts from its first thread, and that begins a session of its own, is taken for such an orphan: start it
    /// from another thread, or leave it in our session.
    ///
    /// # Errors
    /// [`HostError::Thread`] if the system refuses it, [`HostError::Spool`] if the directory cannot be used.
    pub fn start(config: HostConfig) -> Result<Arc<Self>, HostError> {
        let maker = census::maker();
        let undertaker = Undertaker::start(maker).map_err(HostError::Thread)?;
        let spawner = Spawner::start(config.pidfd, undertaker).map_err(HostError::Thread)?;
        let ledger = Arc::new(Ledger::new(config.backlog, config.names));
        let spool = config.spool.as_deref().map(|dir| Spool::open(dir, config.spool_bytes)).transpose();
        let spool = spool.map_err(HostError::Spool)?;
        let site = if config.control_groups { Site::find() } else { Site::nowhere() };
        let slots = Arc::new(Semaphore::new(config.max_processes));
        let own = OwnState::new(config.own.into_iter().chain(config.spool), config.own_directories);
        let HostConfig { environment, max_processes, when_full, policy, launcher, .. } = config;
        let shell = login_shell();
        let launcher = launcher.and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
        Ok(Arc::new(Self {
            spawner,
            maker,
            site,
            policy,
            own,
            ledger,
            spool,
            slots,
            max_processes,
            when_full,
            environment,
            shell,
            launcher,
        }))
    }

    /// The threads.
    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Whose marks children carry.
    pub(super) fn maker(&self) -> Option<Maker> {
        self.maker
    }

    /// Where control groups are made.
    pub(super) fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// What the owner allows now.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.get()
    }

    /// Where what is the executor's own is now, with the file of `policy` and what leads to it.
    pub(crate) fn own_places(&self, policy: &Policy) -> Vec<PathBuf> {
        let mut places = self.own.places();
        places.extend(policy.file.iter().chain(&policy.links).cloned());
        places
    }

    /// Makes those directories of the executor's own that are to be there before a sandbox is.
    pub(crate) fn make_own_directories(&self) {
        self.own.make_directories();
    }

    /// A place for one more process, until it is dropped.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, StartError> {
        let full = |_| StartError::TooManyProcesses(self.max_processes);
        Arc::clone(&self.slots).try_acquire_owned().map_err(full)
    }

    /// Where all tables account for what they keep.
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Where output goes that does not stay in memory.
    pub(super) fn spool(&self) -> Option<&Arc<Spool>> {
        self.spool.as_ref()
    }

    /// What happens when there is no room for more output.
    pub(super) fn when_full(&self) -> WhenFull {
        self.policy().when_full.unwrap_or(self.when_full)
    }

    /// What children may inherit.
    pub(crate) fn environment(&self) -> &BTreeMap<OsString, OsString> {
        &self.environment
    }

    /// Who enters sandboxes.
    pub(super) fn launcher(&self) -> Option<&CString> {
        self.launcher.as_ref()
    }

    /// The shell of our account; what a child on a PTY gets as `SHELL` if it has none.
    pub(crate) fn shell(&self) -> &str {
        &self.shell
    }
}

impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig").field("pidfd", &self.pidfd).field("backlog", &self.backlog).finish_non_exhaustive()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// The shell of our account.
fn login_shell() -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = rustix::process::getuid().as_raw().to_string();
    shell_of(&uid, &accounts).unwrap_or("/bin/sh").to_owned()
}

fn shell_of<'a>(uid: &str, accounts: &'a str) -> Option<&'a str> {
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let ours = fields.into_iter().find(|fields| fields.get(2) == Some(&uid))?;
    ours.get(6).copied().filter(|shell| !shell.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_of_an_account() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\nx:x:7:7::/:\n";
        assert_eq!(shell_of("0", accounts), Some("/bin/bash"));
        assert_eq!(shell_of("7", accounts), None);
        assert_eq!(shell_of("8", accounts), None);
    }
}
