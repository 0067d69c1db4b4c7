//! The files of a host as one connection has them: its open handles, its watch, and the roots that it is held to.
//!
//! In flow decoded params, out flow results. Every operation passes through one function, which decides what it may run
//! on and where it runs.

use std::path::Path;
use std::sync::Arc;

use exedra_proto::capability::{DiscoverParams, DiscoverResult, Root};
use exedra_proto::environment::{ConfigReadParams, ConfigReadResult, EnvironmentInfo};
use exedra_proto::fs::{
    CanonicalizeResult, CloseParams, CopyParams, CreateDirectoryParams, Done, Metadata, OpenParams, OpenResult,
    PathParams, ReadBlockParams, ReadDirectoryResult, ReadFileResult, RemoveParams, UploadDiscardParams,
    UploadFinishParams, UploadOpenParams, UploadOpenResult, WalkParams, WalkResult, WatchMissingParams,
    WriteBlockParams, WriteFileParams,
};
use exedra_proto::path::AbsolutePath;
use exedra_proto::sandbox::{Enforcement, SandboxContext};

use super::capability::{self, MAX_ROOTS};
use super::handles::Handles;
use super::own::{Own, PROCESSES, Processes};
use super::read::Content;
use super::resolve::Way;
use super::roots::{Access, Roots};
use super::settings::{self, Places};
use super::upload::Upload;
use super::watch::{self, Change, Latest};
use super::{copy, directory, metadata, read, remove, walk, write};
use crate::error::{FsError, FsErrorKind};
use crate::facts;
use crate::process::Host;
use crate::sandbox;

/// The files of a host for one connection. Whatever is open ends with it.
#[derive(Debug)]
pub struct Files {
    host: Arc<Host>,
    /// Instead of those of the policy.
    roots: Option<Arc<Roots>>,
    handles: Arc<Handles>,
    watch: Latest,
}

impl Files {
    /// For a new connection, held to what the host's policy allows at the time of each operation.
    pub fn new(host: Arc<Host>) -> Self {
        Self { host, roots: None, handles: Arc::default(), watch: Latest::default() }
    }

    /// For a new connection that is held to `roots`.
    pub fn beneath(host: Arc<Host>, roots: Roots) -> Self {
        Self { host, roots: Some(Arc::new(roots)), handles: Arc::default(), watch: Latest::default() }
    }

    /// `fs/readFile`: the whole file.
    ///
    /// # Errors
    /// Why not; also a file that no message could carry. What is out of bounds is refused, here and below.
    pub async fn read_file(&self, params: PathParams) -> Result<ReadFileResult, FsError> {
        let follow = params.follow_symlinks;
        self.run(params.sandbox, move |roots| read::read_file(Way::following(roots, follow), &params.path)).await
    }

    /// The same of a file that has at most `most` bytes.
    ///
    /// # Errors
    /// Why not.
    pub async fn read_file_up_to(&self, params: PathParams, most: u64) -> Result<Content, FsError> {
        let follow = params.follow_symlinks;
        let act = move |roots: &Roots| read::read_file_up_to(Way::following(roots, follow), &params.path, most);
        self.run(params.sandbox, act).await
    }

    /// `fs/writeFile`: creates or truncates.
    ///
    /// # Errors
    /// Why not.
    pub async fn write_file(&self, params: WriteFileParams) -> Result<Done, FsError> {
        let WriteFileParams { path, data_base64, follow_symlinks, sandbox } = params;
        let act = move |roots: &Roots| {
            write::write_file(Way::following(roots, follow_symlinks), path.as_path(), &data_base64)
        };
        self.run(sandbox, act).await
    }

    /// `fs/createDirectory`
    ///
    /// # Errors
    /// Why not.
    pub async fn create_directory(&self, params: CreateDirectoryParams) -> Result<Done, FsError> {
        let (recursive, follow) = (params.recursive(), params.follow_symlinks);
        let act =
            move |roots: &Roots| directory::create(Way::following(roots, follow), params.path.as_path(), recursive);
        self.run(params.sandbox, act).await
    }

    /// `fs/getMetadata`: of a link's target, and whether it is a link.
    ///
    /// # Errors
    /// Why not.
    pub async fn get_metadata(&self, params: PathParams) -> Result<Metadata, FsError> {
        let follow = params.follow_symlinks;
        self.run(params.sandbox, move |roots| metadata::get(Way::following(roots, follow), params.path.as_path())).await
    }

    /// `fs/canonicalize`
    ///
    /// # Errors
    /// Why not.
    pub async fn canonicalize(&self, params: PathParams) -> Result<CanonicalizeResult, FsError> {
        let PathParams { path, sandbox, .. } = params;
        let form = path.form();
        let real = self.run(sandbox, move |roots| metadata::canonicalize(Way::new(roots), path.as_path())).await?;
        let path = AbsolutePath::native(real).map_err(FsError::invalid)?.with_form(form);
        Ok(CanonicalizeResult { path })
    }

    /// `fs/readDirectory`: the entries that can be examined, links followed.
    ///
    /// # Errors
    /// Why not; also more entries than a message could carry.
    pub async fn read_directory(&self, params: PathParams) -> Result<ReadDirectoryResult, FsError> {
        self.run(params.sandbox, move |roots| directory::list(Way::new(roots), params.path.as_path())).await
    }

    /// `fs/remove`: a link itself, never its target.
    ///
    /// # Errors
    /// Why not.
    pub async fn remove(&self, params: RemoveParams) -> Result<Done, FsError> {
        let (recursive, force, follow) = (params.recursive(), params.force(), params.follow_symlinks);
        let act =
            move |roots: &Roots| remove::remove(Way::following(roots, follow), params.path.as_path(), recursive, force);
        self.run(params.sandbox, act).await
    }

    /// `fs/copy`: a file, a link as such, or a directory. A file onto itself is left as it is.
    ///
    /// # Errors
    /// Why not.
    pub async fn copy(&self, params: CopyParams) -> Result<Done, FsError> {
        let CopyParams { source_path, destination_path, recursive, follow_symlinks, sandbox } = params;
        let act = move |roots: &Roots| {
            let way = Way::following(roots, follow_symlinks);
            copy::copy(way, source_path.as_path(), destination_path.as_path(), recursive)
        };
        self.run(sandbox, act).await
    }

    /// `fs/open`
    ///
    /// # Errors
    /// Why not.
    pub async fn open(&self, params: OpenParams) -> Result<OpenResult, FsError> {
        let OpenParams { handle_id, path, mode, follow_symlinks, sandbox } = params;
        let handles = Arc::clone(&self.handles);
        let act = move |roots: &Roots| {
            handles.open(&handle_id, Way::following(roots, follow_symlinks), path.as_path(), mode)?;
            Ok(OpenResult { handle_id })
        };
        self.run(sandbox, act).await
    }

    /// `fs/readBlock`: appends the block as base64 to `text`, and tells how many bytes it has: fewer than were asked for at
    /// the end of the file.
    ///
    /// # Errors
    /// Why not.
    pub async fn read_block(&self, params: ReadBlockParams, mut text: String) -> Result<(String, usize), FsError> {
        let (handles, ReadBlockParams { handle_id, offset, len }) = (Arc::clone(&self.handles), params);
        self.run(None, move |_| {
            let read = handles.read(&handle_id, offset, len, &mut text)?;
            Ok((text, read))
        })
        .await
    }

    /// The same with the bytes themselves.
    ///
    /// # Errors
    /// Why not.
    pub async fn read_bytes(&self, params: ReadBlockParams, mut bytes: Vec<u8>) -> Result<(Vec<u8>, usize), FsError> {
        let (handles, ReadBlockParams { handle_id, offset, len }) = (Arc::clone(&self.handles), params);
        self.run(None, move |_| {
            let read = handles.read(&handle_id, offset, len, &mut bytes)?;
            Ok((bytes, read))
        })
        .await
    }

    /// `fs/writeBlock`
    ///
    /// # Errors
    /// Why not.
    pub async fn write_block(&self, params: WriteBlockParams) -> Result<Done, FsError> {
        let handles = Arc::clone(&self.handles);
        let act = move |_: &Roots| {
            let bad = |cause| FsError::invalid(format!("fs/writeBlock requires valid base64 chunk: {cause}"));
            let bytes = params.chunk.decode().map_err(bad)?;
            handles.write(&params.handle_id, params.offset, &bytes)?;
            Ok(Done {})
        };
        self.run(None, act).await
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Why not.
    pub async fn write_bytes<B>(&self, handle: String, offset: u64, bytes: B) -> Result<(), FsError>
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        let handles = Arc::clone(&self.handles);
        self.run(None, move |_| handles.write(&handle, offset, bytes.as_ref())).await
    }

    /// `fs/close`: also of a handle that there is not.
    ///
    /// # Errors
    /// What a file system that defers its refusals says only now.
    pub async fn close(&self, params: CloseParams) -> Result<Done, FsError> {
        let handles = Arc::clone(&self.handles);
        let act = move |_: &Roots| {
            if let Some(file) = handles.close(&params.handle_id) {
                write::settle(file.file())?;
            }
            Ok(Done {})
        };
        self.run(None, act).await
    }

    /// `fs/uploadOpen`
    ///
    /// # Errors
    /// Why not.
    pub async fn upload_open(&self, params: UploadOpenParams) -> Result<UploadOpenResult, FsError> {
        let UploadOpenParams { handle_id, path, upload_id, size, sandbox } = params;
        let handles = Arc::clone(&self.handles);
        let act = move |roots: &Roots| {
            let open = || Upload::open(Way::new(roots), path.as_path(), &upload_id, size);
            Ok(UploadOpenResult { offset: handles.upload(&handle_id, open)? })
        };
        self.run(sandbox, act).await
    }

    /// `fs/uploadFinish`
    ///
    /// # Errors
    /// Why not.
    pub async fn upload_finish(&self, params: UploadFinishParams) -> Result<Done, FsError> {
        let handles = Arc::clone(&self.handles);
        let act = move |roots: &Roots| {
            let UploadFinishParams { handle_id, size, sha256 } = params;
            handles.with_upload(&handle_id, |upload| upload.finish(Way::new(roots), size, &sha256))?;
            Ok(Done {})
        };
        self.run(None, act).await
    }

    /// `fs/uploadDiscard`
    ///
    /// # Errors
    /// There is no such upload.
    pub async fn upload_discard(&self, params: UploadDiscardParams) -> Result<Done, FsError> {
        let handles = Arc::clone(&self.handles);
        let act = move |_: &Roots| {
            handles.with_upload(&params.handle_id, |upload| {
                upload.discard();
                (Ok(()), true)
            })?;
            Ok(Done {})
        };
        self.run(None, act).await
    }

    /// `fs/walk`
    ///
    /// # Errors
    /// Why not.
    pub async fn walk(&self, params: WalkParams) -> Result<WalkResult, FsError> {
        self.run(params.sandbox, move |roots| walk::walk(Way::new(roots), &params.path, params.options)).await
    }

    /// `fs/watchMissing`: the change to wait for, or none if the client had better poll.
    ///
    /// # Errors
    /// Why not.
    pub async fn watch_missing(&self, params: WatchMissingParams) -> Result<Option<Change>, FsError> {
        let WatchMissingParams { watch_id, missing, present, sandbox } = params;
        let Some(replaced) = self.watch.begin(watch_id) else { return Ok(None) };
        let set = self.run(sandbox, move |roots| watch::set(Way::new(roots), &missing, present.as_ref())).await?;
        Ok(set.map(|watch| Change::new(watch, replaced)))
    }

    /// `environment/info`
    pub fn facts(&self) -> EnvironmentInfo {
        facts::info(&self.host)
    }

    /// `capabilityRoots/discoverV1`
    ///
    /// # Errors
    /// Too many roots, or a sandbox that cannot be enforced. What else is wrong with a root is said in its findings.
    pub async fn discover(&self, params: DiscoverParams) -> Result<DiscoverResult, FsError> {
        if params.roots.len() > MAX_ROOTS {
            return Err(FsError::invalid(format!("capability root discovery accepts at most {MAX_ROOTS} roots")));
        }
        let (mut left, mut roots) = (capability::MAX_TOTAL, Vec::with_capacity(params.roots.len()));
        for Root { id, path, sandbox } in params.roots {
            let mut may_take = left;
            let look = move |roots: &Roots| {
                let findings = capability::discover(Way::new(roots), id, &path, &mut may_take);
                Ok((findings, may_take))
            };
            let (findings, remains) = self.run(sandbox, look).await?;
            left = remains;
            roots.push(findings);
        }
        Ok(DiscoverResult { roots })
    }

    /// `environmentConfig/read`
    ///
    /// # Errors
    /// A file is there and cannot be read or understood.
    pub async fn read_settings(&self, params: ConfigReadParams) -> Result<ConfigReadResult, FsError> {
        let environment = self.host.environment();
        let places = Places::usual(facts::home(environment), facts::variable(environment, "CODEX_HOME"));
        self.run(None, move |roots| settings::read(Way::new(roots), &places, &params)).await
    }

    /// Every operation passes here.
    async fn run<R, A>(&self, sandbox: Option<SandboxContext>, act: A) -> Result<R, FsError>
    where
        R: Send + 'static,
        A: FnOnce(&Roots) -> Result<R, FsError> + Send + 'static,
    {
        let sandbox = match sandbox.as_ref().map_or(Enforcement::NotNeeded, SandboxContext::for_files) {
            Enforcement::NotNeeded => None,
            Enforcement::Needed => sandbox,
            Enforcement::MissingCwd => {
                return Err(FsError::invalid("file system sandbox context with dynamic permissions requires cwd"));
            }
        };
        let (held, host) = (self.roots.clone(), Arc::clone(&self.host));
        let act = move || {
            let roots = held.unwrap_or_else(|| Arc::new(of_policy(&host, sandbox.is_some())));
            match sandbox {
                None => act(&roots),
                Some(context) => act(&sandboxed(&context, roots)?),
            }
        };
        let failed = |error: tokio::task::JoinError| FsError { kind: FsErrorKind::Other, text: error.to_string() };
        tokio::task::spawn_blocking(act).await.map_err(failed)?
    }
}

/// Where the owner lets operations go, and never to what is the executor's own. Our own view of processes, with the
/// environment of the executor in it, is nobody's business: unless it is a root, and even then processes are left out.
/// Where nothing is asked for, whoever calls may run commands that look at all of it, and files are kept by their places alone.
fn of_policy(host: &Host, sandboxed: bool) -> Roots {
    let policy = host.policy();
    let processes = match (&policy.roots, policy.is_given() || sandboxed) {
        (Some(_), _) => Processes::Each,
        (None, true) => Processes::Whole,
        (None, false) => Processes::Secrets,
    };
    let own = Own::new(host.own_places(&policy), processes);
    let Some(rules) = &policy.roots else { return Roots::everything().without(own) };
    let mut rules: Vec<_> = rules.iter().map(|(path, allowed)| (path.clone(), access(*allowed))).collect();
    if rules.iter().all(|(path, _)| path != Path::new(PROCESSES)) {
        rules.push((PROCESSES.into(), Access::Deny));
    }
    Roots::only(rules).without(own)
}

fn access(access: sandbox::Access) -> Access {
    match access {
        sandbox::Access::Deny => Access::Deny,
        sandbox::Access::Read => Access::Read,
        sandbox::Access::Write => Access::Write,
    }
}

/// Where an operation of a sandboxed client may go, as far as `policy` lets it.
fn sandboxed(context: &SandboxContext, policy: Arc<Roots>) -> Result<Roots, FsError> {
    let tmpdir = std::env::var_os("TMPDIR");
    let rules = sandbox::rules(context, tmpdir.as_deref().map(Path::new))
        .map_err(|why| FsError::invalid(format!("sandbox intent cannot be enforced on this executor: {why}")))?;
    Ok(Roots::sandbox(rules.into_iter().map(|(path, allowed)| (path, access(allowed))), policy))
}
