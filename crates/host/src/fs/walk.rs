//! `fs/walk`: a tree, breadth first, within limits.
//!
//! In flow a root and limits, out flow entries, sorted inside a directory, and what could not be looked at.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use exedra_proto::fs::{WalkEntry, WalkError, WalkKind, WalkOptions, WalkResult};
use exedra_proto::path::{AbsolutePath, PathForm, to_uri};

use super::resolve::Way;
use super::roots::Access;
use crate::error::FsError;

/// Largest limits.
const DEPTH: u64 = 64;
const DIRECTORIES: u64 = 10_000;
const ENTRIES: u64 = 50_000;
/// What an answer may take: per item its texts and [`ITEM`].
pub const BUDGET: usize = 4 * 1024 * 1024;
const ITEM: usize = 64;

struct Walk<'a> {
    way: Way<'a>,
    options: WalkOptions,
    form: PathForm,
    queue: VecDeque<Directory>,
    seen: HashSet<Identity>,
    directories: u64,
    examined: u64,
    left: usize,
    result: WalkResult,
}

struct Directory {
    path: PathBuf,
    depth: u64,
}

/// Device and number: which one it is, by whatever path.
type Identity = (u64, u64);

/// The answer is full.
struct Full;

/// Everything below `root`, as far as `options` go.
///
/// # Errors
/// There is nothing at `root`, or the limits will not do.
pub fn walk(way: Way<'_>, root: &AbsolutePath, options: WalkOptions) -> Result<WalkResult, FsError> {
    if options.max_directories == 0 || options.max_entries == 0 {
        return Err(FsError::invalid("filesystem walk limits must be greater than zero"));
    }
    if options.max_depth > DEPTH || options.max_directories > DIRECTORIES || options.max_entries > ENTRIES {
        let text = "filesystem walk limits exceed maximums: depth=64, directories=10000, entries=50000";
        return Err(FsError::invalid(text));
    }
    let held = way.target(root.as_path(), Access::Read)?;
    let metadata = std::fs::metadata(held.path())?;
    let linked = || Ok::<_, FsError>(std::fs::symlink_metadata(root.as_path())?.is_symlink());
    if !metadata.is_dir() || (!options.follow_directory_symlinks && linked()?) {
        return Ok(WalkResult::default());
    }
    let mut walk = Walk {
        way,
        options,
        form: root.form(),
        queue: VecDeque::from([Directory { path: root.as_path().to_owned(), depth: 0 }]),
        seen: HashSet::from([(metadata.dev(), metadata.ino())]),
        directories: 1,
        examined: 0,
        left: BUDGET,
        result: WalkResult::default(),
    };
    if let Err(Full) = walk.run() {
        walk.result.truncated = true;
    }
    Ok(walk.result)
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Full> {
        while let Some(directory) = self.queue.pop_front() {
            match self.names(&directory.path) {
                Err(error) => self.error(&directory.path, error)?,
                Ok(names) => {
                    for name in names {
                        self.examine(&directory, &name)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sorted by bytes. Of a directory with more names than may still be examined not all need be kept, but which ones
    /// come first is only known when all were seen.
    fn names(&self, directory: &Path) -> Result<Vec<OsString>, FsError> {
        let held = self.way.target(directory, Access::Read)?;
        let names = std::fs::read_dir(held.path())?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn examine(&mut self, directory: &Directory, name: &OsString) -> Result<(), Full> {
        if self.examined == self.options.max_entries {
            return Err(Full);
        }
        self.examined += 1;
        let path = directory.path.join(name);
        match self.look(&path) {
            Err(error) => self.error(&path, error),
            Ok(Some((WalkKind::Directory, identity))) => {
                self.entry(&path, WalkKind::Directory)?;
                let hidden = name.as_bytes().starts_with(b".") && self.options.prune_hidden_directories;
                if !hidden && directory.depth < self.options.max_depth && self.seen.insert(identity) {
                    self.enqueue(Directory { path, depth: directory.depth + 1 });
                }
                Ok(())
            }
            Ok(Some((kind, _))) => self.entry(&path, kind),
            Ok(None) => Ok(()),
        }
    }

    /// What is there and which one it is; none for what is not listed.
    fn look(&self, path: &Path) -> Result<Option<(WalkKind, Identity)>, FsError> {
        let own = std::fs::symlink_metadata(self.way.entry(path, Access::Read)?.path())?;
        let identity = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
        if own.is_dir() {
            return Ok(Some((WalkKind::Directory, identity(&own))));
        }
        if own.is_symlink() && self.options.follow_directory_symlinks {
            // A link that leads nowhere, or out of bounds, is no error.
            let Ok(held) = self.way.target(path, Access::Read) else { return Ok(None) };
            let target = std::fs::metadata(held.path()).ok().filter(std::fs::Metadata::is_dir);
            return Ok(target.map(|target| (WalkKind::Directory, identity(&target))));
        }
        Ok(own.is_file().then(|| (WalkKind::File, identity(&own))))
    }

    fn enqueue(&mut self, directory: Directory) {
        if self.directories == self.options.max_directories {
            self.result.truncated = true;
            return;
        }
        self.directories += 1;
        self.queue.push_back(directory);
    }

    fn entry(&mut self, path: &Path, kind: WalkKind) -> Result<(), Full> {
        if self.form == PathForm::Native && path.to_str().is_none() {
            let text = "a name here is not UTF-8 and cannot be written in the native form";
            return self.error(path.parent().unwrap_or(path), FsError::invalid(text));
        }
        if let Some(path) = self.take(path, 0)? {
            self.result.entries.push(WalkEntry { path, kind });
        }
        Ok(())
    }

    fn error(&mut self, path: &Path, error: FsError) -> Result<(), Full> {
        if let Some(path) = self.take(path, error.text.len())? {
            self.result.errors.push(WalkError { path, message: error.text });
        }
        Ok(())
    }

    /// The path as it is answered, with what it and `more` bytes take of the budget.
    fn take(&mut self, path: &Path, more: usize) -> Result<Option<AbsolutePath>, Full> {
        let length = match self.form {
            PathForm::Uri => to_uri(path).len(),
            PathForm::Native => path.as_os_str().len(),
        };
        self.left = self.left.checked_sub(length + more + ITEM).ok_or(Full)?;
        Ok(AbsolutePath::native(path).ok().map(|path| path.with_form(self.form)))
    }
}
