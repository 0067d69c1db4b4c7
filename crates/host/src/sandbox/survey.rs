//! From the entries of a client to rules over real paths, and from these to a plan.
//!
//! In flow a sandbox context and a disk, out flows a [`Draft`], or why what is asked for cannot be enforced. All links are
//! resolved here and globs expanded: what appears later is not covered. Starts nothing and changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use exedra_proto::sandbox::{Access, Entry, EntryPath, MissingPath, Network, SandboxContext, Special};

use super::disk::{Disk, Found, Machine};
use super::glob::{self, Unresolved};
use super::narrow::{Files, Side};
use super::own::Hidden;
use super::plan::{self, Draft};
use super::rules::{Kind, Rule, Rules};

/// Names directly below a writable directory that stay read-only unless an entry says otherwise.
pub const PROTECTED: [&str; 3] = [".git", ".codex", ".agents"];
/// What programs need to run at all.
pub const MINIMAL: [&str; 11] = [
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr",
    "/etc",
    "/nix/store",
    "/gnu/store",
    "/run/current-system/sw",
];

/// Why a sandbox cannot be made as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It denies a place that this version does not know.
    UnknownPlace(String),
    /// It has a pattern that is not understood.
    Pattern(String),
    /// It has a pattern that takes too long.
    LargePattern(String),
    /// It has to be kept from changing a link, which cannot be done.
    Link(PathBuf),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPlace(place) => write!(f, "it denies `{place}`, a place that this version does not know"),
            Self::Pattern(pattern) => write!(f, "the pattern `{pattern}` is not understood"),
            Self::LargePattern(pattern) => write!(f, "the pattern `{pattern}` has too much to look at"),
            Self::Link(path) => write!(f, "{} is a link, and must not be changed", path.display()),
        }
    }
}

/// What a command is to be confined by.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What its client asks for.
    pub client: Option<SandboxContext>,
    /// What `TMPDIR` names for it.
    pub client_tmpdir: Option<PathBuf>,
    /// What the owner of the machine asks for, of every command.
    pub owner: Option<SandboxContext>,
    /// What `TMPDIR` names for the owner.
    pub owner_tmpdir: Option<PathBuf>,
    /// What is the executor's own, real paths: hidden from everybody.
    pub own: Vec<PathBuf>,
}

/// The plan on this machine for what is wanted: what both sides allow.
///
/// # Errors
/// It cannot be enforced.
pub fn draft(wanted: &Wanted) -> Result<Draft, Refused> {
    let mut all = Side { files: None, network: true };
    if let Some(client) = &wanted.client {
        all = all.and(side(&Machine, client, wanted.client_tmpdir.as_deref(), true)?);
    }
    if let Some(owner) = &wanted.owner {
        all = all.and(side(&Machine, owner, wanted.owner_tmpdir.as_deref(), false)?);
    }
    let there = wanted.own.iter().filter_map(|place| Machine.resolve(place)).collect();
    Ok(all.draft(&Hidden::new(there)))
}

/// The plan for `context` on some disk.
#[cfg(test)]
pub(super) fn draft_on(disk: &impl Disk, context: &SandboxContext, tmpdir: Option<&Path>) -> Result<Draft, Refused> {
    Ok(side(disk, context, tmpdir, true)?.draft(&Hidden::default()))
}

/// What `context` asks for on some disk, with or without what is protected where nothing is said.
fn side(disk: &impl Disk, context: &SandboxContext, tmpdir: Option<&Path>, protect: bool) -> Result<Side, Refused> {
    let network = context.network() == Network::Enabled;
    let Some(entries) = context.entries() else { return Ok(Side { files: None, network }) };
    let (survey, places) = Survey::of(disk, context, tmpdir, entries, protect)?;
    let Survey { rules, links, .. } = survey;
    Ok(Side { files: Some(Files { rules, places, links }), network })
}

/// What may be done where by an operation of ours that is held to `context`, the longest path deciding. Nothing is mounted
/// for it: what a process would find its own, our view of processes and devices, is denied.
///
/// # Errors
/// It cannot be enforced.
pub fn rules(context: &SandboxContext, tmpdir: Option<&Path>) -> Result<Vec<(PathBuf, Access)>, Refused> {
    rules_on(&Machine, context, tmpdir)
}

/// The same on some disk.
pub(super) fn rules_on(
    disk: &impl Disk,
    context: &SandboxContext,
    tmpdir: Option<&Path>,
) -> Result<Vec<(PathBuf, Access)>, Refused> {
    let Some(entries) = context.entries() else { return Ok(vec![("/".into(), Access::Write)]) };
    let (survey, _) = Survey::of(disk, context, tmpdir, entries, true)?;
    let given = survey.rules.iter().map(|(path, rule)| (path.to_owned(), rule.access));
    let mut all: Vec<_> = given.filter(|(path, _)| !plan::is_own(path)).collect();
    all.extend(plan::OWN.map(|own| (own.into(), Access::Deny)));
    let settings = Path::new(plan::SETTINGS);
    if survey.rules.at(settings).is_none() && survey.rules.access(settings) == Access::Write {
        all.push((settings.to_owned(), Access::Read));
    }
    Ok(all)
}

struct Survey<'a, D> {
    disk: &'a D,
    context: &'a SandboxContext,
    tmpdir: Option<&'a Path>,
    rules: Rules,
    /// What is denied or not to be changed, and is not there.
    absent: Vec<(PathBuf, Access)>,
    /// Names of what is granted that are links.
    links: Vec<(PathBuf, PathBuf)>,
}

impl<'a, D: Disk> Survey<'a, D> {
    /// All rules, and where something must be for them to hold within mounts.
    fn of(
        disk: &'a D,
        context: &'a SandboxContext,
        tmpdir: Option<&'a Path>,
        entries: &[Entry],
        protect: bool,
    ) -> Result<(Self, Vec<PathBuf>), Refused> {
        let mut survey = Self { disk, context, tmpdir, rules: Rules::default(), absent: Vec::new(), links: Vec::new() };
        for entry in entries {
            survey.entry(entry)?;
        }
        let mut places = survey.keep_absent()?;
        if protect {
            places.extend(survey.protect()?);
        }
        places.sort();
        places.dedup();
        Ok((survey, places))
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Refused> {
        let paths = match &entry.path {
            EntryPath::Path { path } => vec![path.as_path().to_owned()],
            EntryPath::GlobPattern { pattern } => self.matching(pattern)?,
            EntryPath::Special { value } => self.special(value, entry.access)?,
        };
        for path in paths {
            match self.disk.resolve(&path) {
                Some((real, kind)) => {
                    self.rules.add(real.clone(), Rule { access: entry.access, kind });
                    let above_is_real = path.parent().is_some_and(|above| real_path(self.disk, above));
                    if real != path && entry.access != Access::Deny && above_is_real {
                        self.links.push((path, real));
                    }
                }
                // Were it made later, it would not be covered.
                None if entry.access == Access::Write => {}
                None if entry.missing_path_behavior == Some(MissingPath::Skip) && entry.access == Access::Read => {}
                None => self.absent.push((path, entry.access)),
            }
        }
        Ok(())
    }

    fn special(&self, value: &Special, access: Access) -> Result<Vec<PathBuf>, Refused> {
        Ok(match value {
            Special::Root => vec![PathBuf::from("/")],
            Special::Minimal => MINIMAL.iter().map(PathBuf::from).collect(),
            Special::ProjectRoots { subpath } => {
                let below = |root: &Path| match subpath {
                    Some(subpath) => below(root, subpath),
                    None => Some(root.to_owned()),
                };
                self.context.project_roots().iter().filter_map(|root| below(root.as_path())).collect()
            }
            Special::Tmpdir => self.tmpdir.filter(|path| path.is_absolute()).map(Path::to_owned).into_iter().collect(),
            Special::SlashTmp => vec![PathBuf::from("/tmp")],
            Special::Unknown { path, .. } if access == Access::Deny => return Err(Refused::UnknownPlace(path.clone())),
            Special::Unknown { .. } => Vec::new(),
        })
    }

    fn matching(&self, pattern: &str) -> Result<Vec<PathBuf>, Refused> {
        let depth = self.context.glob_depth();
        let bases: Vec<(PathBuf, &str)> = match pattern.strip_prefix('/') {
            Some(rest) => vec![fixed_part(rest)],
            None => self.context.project_roots().iter().map(|root| (root.as_path().to_owned(), pattern)).collect(),
        };
        let mut all = Vec::new();
        for (base, rest) in bases {
            if !glob::is_special(rest) {
                all.push(base.join(rest));
                continue;
            }
            let Some((base, _)) = self.disk.resolve(&base) else { continue };
            all.extend(glob::expand(self.disk, &base, rest, depth).map_err(|why| match why {
                Unresolved::Syntax => Refused::Pattern(pattern.to_owned()),
                Unresolved::TooMuch => Refused::LargePattern(pattern.to_owned()),
            })?);
        }
        Ok(all)
    }

    /// Makes read-only what is to stay so below what may be written; what of it is not there.
    fn protect(&mut self) -> Result<Vec<PathBuf>, Refused> {
        let writable = |(path, rule): (&Path, Rule)| {
            let directory = rule.access == Access::Write && rule.kind == Kind::Directory && path != Path::new("/");
            directory.then(|| path.to_owned())
        };
        let roots: Vec<PathBuf> = self.rules.iter().filter_map(writable).collect();
        let mut places = Vec::new();
        for path in roots.iter().flat_map(|root| PROTECTED.map(|name| root.join(name))) {
            if self.rules.at(&path).is_some() {
                continue;
            }
            let kind = match self.disk.look(&path) {
                Some(Found::Real(kind)) => kind,
                Some(Found::Link) if self.rules.access(&path) == Access::Write => return Err(Refused::Link(path)),
                Some(Found::Link) => continue,
                None => {
                    places.push(path.clone());
                    Kind::Directory
                }
            };
            self.rules.add(path, Rule { access: Access::Read, kind });
        }
        Ok(places)
    }

    /// Keeps absent the first thing on the way to each absent place that could be made from within; these.
    fn keep_absent(&mut self) -> Result<Vec<PathBuf>, Refused> {
        let mut places = Vec::new();
        for (path, access) in std::mem::take(&mut self.absent) {
            let Some((first, there)) = self.first_missing(&path) else { continue };
            if there {
                // A link that leads nowhere: who may change what is around it may change it.
                if self.rules.access_around(&first) == Access::Write {
                    return Err(Refused::Link(first));
                }
                continue;
            }
            if self.rules.access(&first) == Access::Write {
                self.rules.add(first.clone(), Rule { access, kind: Kind::Directory });
                places.push(first);
            }
        }
        Ok(places)
    }

    /// The first part of a path that is not there, below a real directory, and whether a link is in its place.
    fn first_missing(&self, path: &Path) -> Option<(PathBuf, bool)> {
        let above: Vec<&Path> = path.ancestors().collect();
        for pair in above.windows(2) {
            if let Some((real, Kind::Directory)) = self.disk.resolve(pair[1]) {
                let first = real.join(pair[0].file_name()?);
                let there = self.disk.look(&first).is_some();
                return Some((first, there));
            }
        }
        None
    }
}

/// Whether no part of a path is a link.
fn real_path(disk: &impl Disk, path: &Path) -> bool {
    disk.resolve(path).is_some_and(|(real, _)| real == path)
}

/// A place below a root by its text, which must not lead out of it.
fn below(root: &Path, subpath: &str) -> Option<PathBuf> {
    let inside = Path::new(subpath)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    inside.then(|| root.join(subpath))
}

/// Splits an absolute pattern, its first slash gone, where its first special part begins.
fn fixed_part(pattern: &str) -> (PathBuf, &str) {
    let mut base = PathBuf::from("/");
    let mut rest = pattern;
    while let Some((first, after)) = rest.split_once('/') {
        if glob::is_special(first) {
            break;
        }
        base.push(first);
        rest = after;
    }
    (base, rest)
}

#[cfg(test)]
mod tests;
