//! Starts a command within a sandbox: through the launcher, which enters it first.
//!
//! In flow a [`Launch`] and what it is to be confined by, out flow the launcher that runs and, once [`Confined::confirm`] has
//! heard so, the certainty that the command runs within. Nothing runs wider than asked: what cannot be enforced is
//! refused, and the reason is logged.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exedra_proto::sandbox::SandboxContext;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tracing::warn;

use super::cgroup::{Bounds, Unavailable};
use super::host::Host;
use super::launch::{Launch, Launched, Namespaces};
use super::reap::{ExitWatch, Leader};
use crate::error::StartError;
use crate::policy::Policy;
use crate::sandbox::{self, Command, Draft, Job, Placeholders, Plan, Raw, Reply, Task, Wanted};

/// What the launcher is called, by which it knows itself.
pub const LAUNCHER: &str = "exedra-sandbox";
/// How long the launcher may take to enter a sandbox: a file system that hangs is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The variable that names the directory for temporary files.
const TMPDIR: &str = "TMPDIR";

/// A launcher that was started and has not said yet whether the sandbox holds.
#[derive(Debug)]
pub struct Confined {
    channel: UnixStream,
    job: Vec<u8>,
    places: Placeholders,
}

/// The descriptors that a launch takes.
struct Held {
    stdio: [OwnedFd; 3],
    birthplace: Option<OwnedFd>,
    cgroups: Vec<OwnedFd>,
    channel: OwnedFd,
}

/// What a command is to be confined by.
#[derive(Clone, Copy, Debug)]
pub struct Confinement<'a> {
    /// What its client asks for.
    pub client: Option<&'a SandboxContext>,
    /// What the owner of the machine asks for.
    pub owner: Option<&'a SandboxContext>,
    /// What the owner says; its file is hidden.
    pub policy: &'a Policy,
    /// What it and all that it starts may execute, where that is limited.
    pub execute: Option<&'a [PathBuf]>,
}

/// Starts the launcher for `launch`, whose end is that of all within.
///
/// # Errors
/// The sandbox cannot be enforced, or the system refuses to start the launcher.
pub async fn start(
    host: &Host,
    confinement: Confinement<'_>,
    launch: Launch,
) -> Result<(Launched, Confined), StartError> {
    let Some(launcher) = host.launcher() else { return Err(StartError::SandboxMissing) };
    host.make_own_directories();
    let wanted = Wanted {
        client: confinement.client.cloned(),
        client_tmpdir: environment(&launch, TMPDIR).map(Into::into),
        owner: confinement.owner.cloned(),
        // Not the command's, which its client may set.
        owner_tmpdir: host.environment().get(OsStr::new(TMPDIR)).map(Into::into),
        own: host.own_places(confinement.policy),
    };
    let (mut draft, places) = prepare(wanted).await?;
    // Landlock alone does not keep the loader, which must be executable, from taking a program from anywhere.
    draft.without_namespaces &= confinement.execute.is_none();
    draft.plan.execute = confinement.execute.map(|paths| paths.iter().map(|path| Raw::from(path.as_path())).collect());
    let task = Task::Run(Command {
        candidates: launch.candidates.iter().map(raw).collect(),
        argv: launch.argv.iter().map(raw).collect(),
        env: launch.env.iter().map(raw).collect(),
        cwd: Raw::from(std::path::absolute(of(&launch.cwd)).map_err(failed)?.as_path()),
    });
    begin((host, launcher), draft, places, task, launch).await
}

impl Confinement<'_> {
    /// Whether there is anything to enforce.
    pub fn is_needed(&self) -> bool {
        self.client.is_some() || self.owner.is_some() || self.execute.is_some()
    }

    /// The same failure, in words about whoever wanted it.
    pub fn failure(&self, error: StartError) -> StartError {
        if self.client.is_some() || !matches!(error, StartError::SandboxUnavailable | StartError::SandboxMissing) {
            return error;
        }
        let rule = if self.owner.is_some() { "sandbox" } else { "descendants" };
        let what = "what confines commands cannot be enforced on this executor, and nothing runs without it";
        StartError::Refused(format!("policy: {rule}: {what}"))
    }
}

/// Looks at the disk, and holds the places that are needed.
async fn prepare(wanted: Wanted) -> Result<(Draft, Placeholders), StartError> {
    let prepare = move || {
        let draft = sandbox::draft(&wanted).map_err(|why| why.to_string())?;
        let places = Placeholders::hold(draft.places.iter().map(|place| place.as_path()));
        Ok((draft, places.map_err(|error| error.to_string())?))
    };
    let prepared = tokio::task::spawn_blocking(prepare).await.unwrap_or_else(|error| Err(error.to_string()));
    prepared.map_err(|why: String| unenforced(&why))
}

async fn begin(
    (host, launcher): (&Host, &CString),
    draft: Draft,
    places: Placeholders,
    task: Task,
    launch: Launch,
) -> Result<(Launched, Confined), StartError> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(errno)?;
    let theirs = super::spawn::above_stdio(theirs).map_err(failed)?;
    let namespaces = Some(namespaces(!draft.plan.network).map_err(failed)?);
    let (terminal, rlimits) = (launch.terminal, launch.rlimits);
    let order = |held: Held, namespaces| Launch {
        terminal,
        rlimits: rlimits.clone(),
        birthplace: held.birthplace,
        cgroups: held.cgroups,
        ..launcher_alone(launcher, held.stdio, held.channel, namespaces)
    };
    let held = Held { stdio: launch.stdio, birthplace: launch.birthplace, cgroups: launch.cgroups, channel: theirs };
    let spare = if draft.without_namespaces { Some(held.copies().map_err(failed)?) } else { None };
    let mut with = true;
    let mut launched = host.spawner().launch(order(held, namespaces)).await;
    if let (Err(error), Some(spare)) = (&launched, spare)
        && error.kind() == io::ErrorKind::Unsupported
    {
        with = false;
        launched = host.spawner().launch(order(spare, None)).await;
    }
    let launched = launched.map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => unenforced(&error.to_string()),
        _ => failed(error),
    })?;
    let job = Job { plan: draft.plan, namespaces: with, task };
    Ok((launched, Confined::new(ours, &job, places).map_err(failed)?))
}

/// Whether `plan` holds here, found by a launcher that enters it and does nothing else; else why not.
///
/// # Errors
/// Why not.
pub async fn probe(host: &Host, plan: Plan, with: bool) -> Result<(), String> {
    let launcher = host.launcher().ok_or("there is no program here that enters sandboxes")?;
    let text = |error: io::Error| error.to_string();
    let pair = || -> io::Result<_> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let null = OwnedFd::from(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?);
        let copy = || rustix::io::fcntl_dupfd_cloexec(&null, 3);
        Ok((ours, super::spawn::above_stdio(theirs)?, [copy()?, copy()?, copy()?]))
    };
    let (ours, theirs, stdio) = pair().map_err(text)?;
    let namespaces = if with { Some(namespaces(!plan.network).map_err(text)?) } else { None };
    let order = launcher_alone(launcher, stdio, theirs, namespaces);
    let launched = host.spawner().launch(order).await.map_err(text)?;
    let group = host.site().make(Bounds::default()).map_err(|Unavailable(why)| why)?;
    let leader = Leader::new(launched.pid, None, group, host.spawner().clone());
    let mut exit = ExitWatch::new(launched.pid, launched.pidfd).map_err(text)?;
    let job = Job { plan, namespaces: with, task: Task::Probe };
    let confined = Confined::new(ours, &job, Placeholders::default()).map_err(text)?;
    confined.ask().await.map_err(|(Refusal::Unenforced(why) | Refusal::NotStarted(why))| why)?;
    let _ = leader.exit(&mut exit).await;
    Ok(())
}

/// The launch of the launcher, with nothing but what it needs.
fn launcher_alone(launcher: &CString, stdio: [OwnedFd; 3], channel: OwnedFd, namespaces: Option<Namespaces>) -> Launch {
    Launch {
        candidates: vec![launcher.clone()],
        argv: vec![CString::from_vec_with_nul(format!("{LAUNCHER}\0").into_bytes()).unwrap_or_default()],
        env: Vec::new(),
        cwd: c"/".into(),
        stdio,
        terminal: false,
        rlimits: Vec::new(),
        birthplace: None,
        cgroups: Vec::new(),
        inherit: Some(channel),
        namespaces,
    }
}

/// Why nothing runs.
enum Refusal {
    /// The sandbox does not hold.
    Unenforced(String),
    /// The command cannot be executed.
    NotStarted(String),
}

impl Confined {
    fn new(channel: OwnedFd, job: &Job, places: Placeholders) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&channel, true)?;
        let channel = UnixStream::from_std(std::os::unix::net::UnixStream::from(channel))?;
        Ok(Self { channel, job: sandbox::encode(job)?, places })
    }

    /// Gives the launcher its job and waits until the command runs; what is to be kept as long as anything does.
    ///
    /// # Errors
    /// The sandbox does not hold, or the command cannot be executed.
    pub async fn confirm(self) -> Result<Placeholders, StartError> {
        self.ask().await.map_err(|refusal| match refusal {
            Refusal::Unenforced(why) => unenforced(&why),
            Refusal::NotStarted(text) => StartError::Spawn(text),
        })
    }

    async fn ask(self) -> Result<Placeholders, Refusal> {
        let Self { channel, job, places } = self;
        let confirm = async {
            let (mut reader, mut writer) = channel.into_split();
            // It may end, with a reply, before it has read all.
            let _ = writer.write_all(&job).await;
            let mut shut = false;
            // Its end with the job unread is an error of the socket.
            while let Some(reply) =
                receive(&mut reader).await.map_err(|error| Refusal::Unenforced(error.to_string()))?
            {
                match reply {
                    Reply::Shut => shut = true,
                    Reply::Unenforced(why) => return Err(Refusal::Unenforced(why)),
                    Reply::NotStarted(text) => return Err(Refusal::NotStarted(text)),
                }
            }
            if shut { Ok(places) } else { Err(Refusal::Unenforced("the launcher ended without a word".to_owned())) }
        };
        let late = |_| Err(Refusal::Unenforced("it takes too long".to_owned()));
        tokio::time::timeout(PATIENCE, confirm).await.unwrap_or_else(late)
    }
}

async fn receive<T: DeserializeOwned>(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut bytes = vec![0; 4];
    match from.read(&mut bytes[..1]).await? {
        0 => return Ok(None),
        _ => _ = from.read_exact(&mut bytes[1..]).await?,
    }
    let length = sandbox::length([bytes[0], bytes[1], bytes[2], bytes[3]])?;
    from.take(length).read_to_end(&mut bytes).await?;
    sandbox::receive(&bytes[..])
}

/// This user is who it is outside; nobody else is anybody.
fn namespaces(network: bool) -> io::Result<Namespaces> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let map = |id: u32| CString::new(format!("{id} {id} 1\n")).map_err(io::Error::other);
    Ok(Namespaces { network, uid_map: map(uid)?, gid_map: map(gid)? })
}

impl Held {
    /// For a second try, since the first takes them.
    fn copies(&self) -> io::Result<Self> {
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3);
        let [stdin, stdout, stderr] = &self.stdio;
        let cgroups = self.cgroups.iter().map(copy).collect::<Result<_, _>>()?;
        let birthplace = self.birthplace.as_ref().map(copy).transpose()?;
        let stdio = [copy(stdin)?, copy(stdout)?, copy(stderr)?];
        Ok(Self { stdio, birthplace, cgroups, channel: copy(&self.channel)? })
    }
}

fn environment<'a>(launch: &'a Launch, name: &str) -> Option<&'a OsStr> {
    let value = |text: &'a CString| text.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    launch.env.iter().find_map(value).map(OsStr::from_bytes)
}

fn of(text: &CString) -> &Path {
    Path::new(OsStr::from_bytes(text.as_bytes()))
}

fn raw(text: &CString) -> Raw {
    Raw::from(OsStr::from_bytes(text.as_bytes()))
}

fn unenforced(why: &str) -> StartError {
    warn!(why, "a sandbox that was asked for cannot be enforced; nothing was started");
    StartError::SandboxUnavailable
}

fn failed(error: io::Error) -> StartError {
    StartError::Spawn(error.to_string())
}

fn errno(errno: rustix::io::Errno) -> StartError {
    failed(errno.into())
}
