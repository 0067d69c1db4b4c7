//! The owner's file: read strictly, and only if nobody but its owner or root can write it.
//!
//! In flows a path, out flows a [`Policy`] or what is wrong. Roots are resolved here, programs where they are started.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use exedra_proto::limits::ResourceLimits;
use exedra_proto::sandbox::{Access, Network, SandboxContext};
use rustix::fs::OFlags;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::commands::{Args, Command, Commands};
use super::pattern::Pattern;
use super::words::{Sandbox, Words};
use super::{Egress, Policy, Variables};
use crate::sandbox::MINIMAL;

/// Largest file, in bytes; anything larger is some other file.
const LARGEST: u64 = 1024 * 1024;
/// Links that are followed, as many as the system follows.
const LINKS: usize = 40;
/// Of a mode: others, and whoever is in the group, may write.
const WRITABLE: u32 = 0o022;
/// Of a mode: in such a directory one moves only what is one's own.
const STICKY: u32 = 0o1000;

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy {path} cannot be used: {why}", path = .path.display())]
pub struct PolicyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
}

impl PolicyError {
    /// What the owner can do.
    pub fn hint(&self) -> Option<&'static str> {
        self.why.contains("others may write").then_some("chmod go-w it, and what holds it")
    }
}

impl Policy {
    /// From the owner's file.
    ///
    /// # Errors
    /// It cannot be read, makes no sense, or others could have written it.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |why: String| PolicyError { path: path.to_owned(), why };
        let (Way { real, links }, text) = read(path).map_err(failed)?;
        let policy = Self::parse(&text, Some(&real)).map_err(failed)?;
        let digest = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { digest: Some(digest), links, ..policy })
    }

    /// From the text of a file, which is at `at` and stays as it is.
    pub(super) fn parse(text: &str, at: Option<&Path>) -> Result<Self, String> {
        let words: Words = toml::from_str(text).map_err(|error| match error.span() {
            Some(span) => format!("line {}: {}", line_of(text, span.start), error.message()),
            None => error.message().to_owned(),
        })?;
        let roots = roots(&words, at)?;
        let sandbox = confinement(words.sandbox.as_ref(), roots.as_deref())?;
        let commands = commands(words.commands, words.descendants)?;
        let limits = ResourceLimits::from(words.limits);
        if limits.needed_to_start().iter().any(|(_, limit)| *limit == Some(0)) {
            let all = "`open_files`, `memory_bytes` and `processes` are at least 1";
            return Err(format!("limits: {all}: a command with none cannot be started"));
        }
        let patterns = |list: Vec<String>| list.into_iter().map(Pattern::new).collect::<Vec<_>>();
        let variables = Variables {
            pass: words.env.pass.map(patterns),
            hide: patterns(words.env.hide),
            set: words.env.set.map(patterns),
        };
        let (egress, proxied) = match words.egress {
            None => (Egress::unlimited(), false),
            Some(words) => (Egress::only(&words.allow).map_err(|why| format!("egress: {why}"))?, words.proxy),
        };
        Ok(Self {
            read_only: words.read_only,
            when_full: words.when_full.map(Into::into),
            roots,
            sandbox,
            commands,
            variables,
            limits,
            egress,
            proxied,
            labels: words.clients.map(|clients| clients.labels),
            file: at.map(Path::to_owned),
            links: Vec::new(),
            digest: None,
        })
    }
}

/// Where a path leads.
struct Way {
    real: PathBuf,
    /// The links on the way, by their real places.
    links: Vec<PathBuf>,
}

/// The text of the file, and where it really is. It is judged by the open file, and by all that was walked through.
fn read(path: &Path) -> Result<(Way, String), String> {
    let uid = rustix::process::geteuid().as_raw();
    let way = walk(path, uid)?;
    let real = &way.real;
    // What is no file may have nothing to read as long as nobody writes.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(real);
    let mut file = file.map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    judge(&metadata, uid, false).map_err(|why| format!("{why}: it would not be the owner's"))?;
    let now = std::fs::symlink_metadata(real).map_err(|error| error.to_string())?;
    if (now.dev(), now.ino()) != (metadata.dev(), metadata.ino()) {
        return Err("it was replaced while it was read".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok((way, text))
}

/// Follows `path` step by step and judges each directory that is walked through, those that hold links too: whoever may
/// write one of them decides where it leads. What was judged cannot be changed by others while this goes on.
fn walk(path: &Path, uid: u32) -> Result<Way, String> {
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    let parts = |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
    let (mut at, mut left, mut links) = (PathBuf::from("/"), parts(&path), Vec::new());
    let held = |directory: &Path, why: String| {
        format!("the directory {} holds it, and {why}: another file could be put in its place", directory.display())
    };
    while let Some(part) = left.pop() {
        match part.as_encoded_bytes() {
            b"/" => at = PathBuf::from("/"),
            b".." => _ = at.pop(),
            _ => at.push(&part),
        }
        let metadata = std::fs::symlink_metadata(&at).map_err(|error| error.to_string())?;
        if metadata.is_dir() {
            judge(&metadata, uid, true).map_err(|why| held(&at, why))?;
        } else if metadata.is_symlink() {
            if links.len() == LINKS {
                return Err("too many links lead to it".to_owned());
            }
            // Its mode means nothing; in a directory with the sticky bit its owner may put another in its place.
            if metadata.uid() != 0 && metadata.uid() != uid {
                return Err(format!("the link {} leads to it, and user {} owns that", at.display(), metadata.uid()));
            }
            let target = std::fs::read_link(&at).map_err(|error| error.to_string())?;
            left.extend(parts(&target));
            links.push(at.clone());
            at.pop();
        } else if !left.is_empty() {
            return Err(format!("{} is no directory", at.display()));
        }
    }
    Ok(Way { real: at, links })
}

/// Refuses what somebody else than we, or root, owns or may write.
fn judge(metadata: &Metadata, uid: u32, directory: bool) -> Result<(), String> {
    if metadata.uid() != 0 && metadata.uid() != uid {
        return Err(format!("user {} owns it", metadata.uid()));
    }
    // Lists of access rights show in the bits of the group.
    let writable = metadata.mode() & WRITABLE != 0;
    if writable && !(directory && metadata.mode() & STICKY != 0) {
        return Err(format!("others may write it (mode {:o})", metadata.mode() & 0o7777));
    }
    Ok(())
}

fn roots(words: &Words, at: Option<&Path>) -> Result<Option<Vec<(PathBuf, Access)>>, String> {
    let Some(roots) = &words.roots else { return Ok(None) };
    let mut all: Vec<(PathBuf, Access)> = Vec::new();
    for root in roots {
        let shown = root.path.display();
        if !root.path.is_absolute() {
            return Err(format!("roots: `{shown}` is not absolute"));
        }
        let access = Access::from(root.access);
        let real = match std::fs::canonicalize(&root.path) {
            Ok(real) => real,
            // What is not there can be denied all the same.
            Err(_) if access == Access::Deny => root.path.clone(),
            Err(error) => return Err(format!("roots: `{shown}`: {error}")),
        };
        if all.iter().any(|(other, _)| *other == real) {
            return Err(format!("roots: `{shown}` is named twice"));
        }
        all.push((real, access));
    }
    if let Some(at) = at.filter(|at| all.iter().all(|(root, _)| root != at)) {
        let around = all.iter().filter(|(root, _)| at.starts_with(root)).max_by_key(|(root, _)| root.as_os_str().len());
        if around.is_some_and(|(_, access)| *access == Access::Write) {
            all.push((at.to_owned(), Access::Read));
        }
    }
    Ok(Some(all))
}

/// What every command is confined by: the roots, and what `[sandbox]` says.
fn confinement(words: Option<&Sandbox>, roots: Option<&[(PathBuf, Access)]>) -> Result<Option<SandboxContext>, String> {
    let default = Sandbox::default();
    let sandbox = match (words, roots) {
        (None, None) => return Ok(None),
        (Some(sandbox), _) if !sandbox.always => {
            return match sandbox.network {
                Network::Enabled => Ok(None),
                Network::Restricted => Err("sandbox: `network = \"restricted\"` needs `always = true`".to_owned()),
            };
        }
        (Some(sandbox), _) => sandbox,
        (None, Some(_)) => &default,
    };
    let special =
        |kind: &str, access: &str| json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access});
    let files = match roots {
        None => json!({"type": "unrestricted"}),
        Some(roots) => {
            let mut entries: Vec<Value> = Vec::new();
            for (path, access) in roots {
                let path = path.to_str().ok_or_else(|| format!("roots: `{}` is no UTF-8", path.display()))?;
                entries.push(json!({"path": {"type": "path", "path": path}, "access": access}));
            }
            let minimal = MINIMAL.iter().filter(|path| sandbox.minimal && adds(roots, Path::new(path)));
            entries.extend(minimal.map(|path| {
                json!({"path": {"type": "path", "path": path}, "access": "read", "missing_path_behavior": "skip"})
            }));
            if sandbox.tmp {
                entries.extend([special("slash_tmp", "write"), special("tmpdir", "write")]);
            }
            json!({"type": "restricted", "entries": entries})
        }
    };
    let permissions = json!({"type": "managed", "network": sandbox.network, "file_system": files});
    let context = json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
    serde_json::from_value(context).map(Some).map_err(|error| format!("sandbox: {error}"))
}

/// Whether reading at `path` is more than the roots allow there, and not what one of them is about.
fn adds(roots: &[(PathBuf, Access)], path: &Path) -> bool {
    let Ok(real) = std::fs::canonicalize(path) else { return false };
    let around = roots.iter().filter(|(root, _)| real.starts_with(root)).max_by_key(|(root, _)| root.as_os_str().len());
    around.is_none_or(|(root, access)| *access == Access::Deny && *root != real)
}

fn commands(
    list: Option<Vec<super::words::Command>>,
    descendants: Option<super::words::Descendants>,
) -> Result<Option<Commands>, String> {
    let Some(list) = list else {
        return match descendants {
            None => Ok(None),
            Some(_) => Err("descendants: there is no list of commands to hold them to".to_owned()),
        };
    };
    let absolute = |path: PathBuf, what: &str| {
        let shown = path.display();
        if !path.is_absolute() {
            return Err(format!("{what}: `{shown}` is not absolute"));
        }
        std::fs::metadata(&path).map_err(|error| format!("{what}: `{shown}`: {error}"))?;
        Ok(path)
    };
    let command = |words: super::words::Command| {
        let path = absolute(words.path, "commands")?;
        let args = words.args.map(Args::new).transpose().map_err(|why| format!("commands: {why}"))?;
        Ok(Command { path, args })
    };
    let descendants = descendants.unwrap_or_default();
    Ok(Some(Commands {
        list: list.into_iter().map(command).collect::<Result<_, String>>()?,
        bound: descendants.bound,
        execute: descendants.execute.into_iter().map(|path| absolute(path, "descendants")).collect::<Result<_, _>>()?,
    }))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
