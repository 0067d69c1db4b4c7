//! The `fs/*` methods: params to the host, its answers back, and what each touches.
//!
//! In flow decoded params, out flow results or refusals, and the class by which requests are put in order. It knows no
//! message and no connection.

use std::path::{Path, PathBuf};

use exedra_host::fs::{Change, Content, DISCOVERY_BUDGET, Files, MAX_BLOCK, WALK_BUDGET};
use exedra_link::{Message, Sender};
use exedra_proto::capability::{DiscoverParams, DiscoverResult, FileText, Findings, Plugin, Skill};
use exedra_proto::envelope::{RequestId, RpcError, notification};
use exedra_proto::fs::{
    BlockAnswer, MissingChangedParams, OpenMode, OpenParams, PathParams, ReadBlockParams, ReadDirectoryResult,
    ReadFileResult, UploadOpenParams, WalkParams, WalkResult, WatchMissingParams, WatchMissingResult,
};
use exedra_proto::method::{FsMissingChanged, Notification as _};
use exedra_proto::path::AbsolutePath;

use super::budget::{Budget, FREE, Share};
use super::errors;
use super::order::Class;

/// A watch that was promised; its notification follows the answer.
#[derive(Debug)]
pub struct Watching {
    id: u64,
    change: Change,
}

/// What a method that only looks at `path` touches.
pub fn reads(path: &AbsolutePath) -> Class {
    Class::FileRead(path.as_path().to_owned())
}

/// What a method that changes something at or below `path` touches.
pub fn changes(path: &AbsolutePath) -> Class {
    Class::FileChange(path.as_path().to_owned())
}

/// What `fs/open` touches: the handle, and what it does to the file.
pub fn opens(params: &OpenParams) -> Class {
    let (handle, path) = (params.handle_id.clone(), params.path.as_path().to_owned());
    Class::Open { handle, path, changes: params.mode == OpenMode::Replace }
}

/// What `fs/uploadOpen` touches: the handle, and the directory of the path.
pub fn uploads(params: &UploadOpenParams) -> Class {
    let path = params.path.as_path();
    let path = path.parent().unwrap_or(path).to_owned();
    Class::Open { handle: params.handle_id.clone(), path, changes: true }
}

/// What `capabilityRoots/discoverV1` looks at: whatever is below what its roots have in common.
pub fn reads_roots(params: &DiscoverParams) -> Class {
    let common =
        |a: PathBuf, b: &Path| a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let mut paths = params.roots.iter().map(|root| root.path.as_path());
    let first = paths.next().unwrap_or(Path::new("/")).to_owned();
    Class::FileRead(paths.fold(first, common))
}

/// `fs/readFile`, and the room that its answer takes.
pub async fn read_file(
    files: &Files,
    params: PathParams,
    budget: &Budget,
) -> Result<(ReadFileResult, Share), RpcError> {
    let turn = budget.turn().await;
    let size = match files.read_file_up_to(params.clone(), FREE).await.map_err(errors::from_fs)? {
        Content::Whole(result) => return Ok((result, Share::default())),
        Content::Larger(size) => size,
    };
    drop(turn);
    let share = budget.share(size).await;
    let _turn = budget.turn().await;
    let result = files.read_file(params).await.map_err(errors::from_fs)?;
    Ok((result, share))
}

/// `fs/readBlock`: the answer to request `id`, and the room that it takes.
pub async fn read_block(
    files: &Files,
    id: &RequestId,
    params: ReadBlockParams,
    budget: &Budget,
) -> Result<(String, Share), RpcError> {
    let len = params.len;
    let mut share = budget.share(len.min(MAX_BLOCK)).await;
    let _turn = budget.turn().await;
    let read = files.read_block(params, BlockAnswer::begin(id)).await;
    let (mut answer, read) = read.map_err(errors::from_fs)?;
    share.shrink(read);
    BlockAnswer::end(&mut answer, (read as u64) < len);
    Ok((answer, share))
}

/// `fs/readBlock`: the answer as a binary message, and the room that it takes.
pub async fn read_bytes(
    files: &Files,
    id: &RequestId,
    params: ReadBlockParams,
    budget: &Budget,
) -> Result<(Vec<u8>, Share), RpcError> {
    let len = params.len;
    let mut share = budget.share(len.min(MAX_BLOCK)).await;
    let _turn = budget.turn().await;
    let (message, end) = BlockAnswer::begin_binary(id);
    let (mut message, read) = files.read_bytes(params, message).await.map_err(errors::from_fs)?;
    share.shrink(read);
    BlockAnswer::end_binary(&mut message, end, (read as u64) < len);
    Ok((message, share))
}

/// `fs/readDirectory`, and the room that its answer takes.
pub async fn read_directory(
    files: &Files,
    params: PathParams,
    budget: &Budget,
) -> Result<(ReadDirectoryResult, Share), RpcError> {
    let _place = budget.list().await;
    let turn = budget.turn().await;
    let result = files.read_directory(params).await.map_err(errors::from_fs)?;
    drop(turn);
    let share = budget.share_text(list_size(&result)).await;
    Ok((result, share))
}

/// About what the answer of `fs/readDirectory` takes, in bytes.
pub fn list_size(result: &ReadDirectoryResult) -> usize {
    result.entries.iter().map(|entry| entry.file_name.len() + 64).sum()
}

/// `fs/walk`, and the room that its answer takes.
pub async fn walk(files: &Files, params: WalkParams, budget: &Budget) -> Result<(WalkResult, Share), RpcError> {
    let mut share = budget.share(WALK_BUDGET as u64).await;
    let _turn = budget.turn().await;
    let result = files.walk(params).await.map_err(errors::from_fs)?;
    share.shrink(walk_size(&result));
    Ok((result, share))
}

/// About what the answer of a walk takes, in bytes.
pub fn walk_size(result: &WalkResult) -> usize {
    let path = |path: &AbsolutePath| path.as_path().as_os_str().len() + 64;
    let entries = result.entries.iter().map(|entry| path(&entry.path));
    entries.chain(result.errors.iter().map(|error| path(&error.path) + error.message.len())).sum()
}

/// `capabilityRoots/discoverV1`, and the room that its answer takes.
pub async fn discover(
    files: &Files,
    params: DiscoverParams,
    budget: &Budget,
) -> Result<(DiscoverResult, Share), RpcError> {
    let mut share = budget.share(DISCOVERY_BUDGET as u64).await;
    let result = files.discover(params).await.map_err(errors::from_fs)?;
    share.shrink(discovery_size(&result));
    Ok((result, share))
}

/// About what the answer of a discovery takes, in bytes.
pub fn discovery_size(result: &DiscoverResult) -> usize {
    let text = |file: &FileText| file.path.as_path().as_os_str().len() + file.contents.len() + 64;
    let skill = |skill: &Skill| text(&skill.instructions) + skill.metadata.as_ref().map_or(0, text);
    let plugin = |plugin: &Plugin| {
        let named = [&plugin.mcp_config, &plugin.apps_config];
        text(&plugin.manifest) + named.into_iter().flatten().map(text).sum::<usize>()
    };
    let of_root = |root: &Findings| {
        let skills = root.skills.iter().map(skill).sum::<usize>();
        let manifests = root.namespace_manifests.iter().map(text).sum::<usize>();
        let warnings = root.warnings.iter().map(String::len).sum::<usize>();
        256 + root.plugin.as_ref().map_or(0, plugin) + skills + manifests + warnings
    };
    result.roots.iter().map(of_root).sum()
}

/// `fs/watchMissing`, and what follows the answer.
pub async fn watch_missing(
    files: &Files,
    params: WatchMissingParams,
    budget: &Budget,
) -> Result<(WatchMissingResult, Option<Watching>), RpcError> {
    let id = params.watch_id;
    let _turn = budget.turn().await;
    let change = files.watch_missing(params).await.map_err(errors::from_fs)?;
    let watching = change.map(|change| Watching { id, change });
    Ok((WatchMissingResult { watching: watching.is_some() }, watching))
}

impl Watching {
    /// Sends the notification when the time has come.
    pub async fn pump(self, sender: Sender) {
        if self.change.wait().await
            && let Ok(text) = notification(FsMissingChanged::NAME, &MissingChangedParams { watch_id: self.id })
        {
            // The receiver learns why there is nobody to send to.
            let _ = sender.send(Message::text(text)).await;
        }
    }
}
