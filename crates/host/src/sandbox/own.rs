//! The executor's own state is in nobody's sandbox: it is hidden, and without mounts left out of what is granted.
//!
//! In flow a draft's rules and the places, out flow narrower rules and what Landlock has to leave out. Pure.

use std::path::{Path, PathBuf};

use exedra_proto::sandbox::Access;

use super::job::Raw;
use super::narrow::Files;
use super::plan::{self, Draft, Mount, Root, What};
use super::rules::{Kind, Rule};

/// Places with what is there, real paths; none is below another.
#[derive(Clone, Debug, Default)]
pub struct Hidden(Vec<(PathBuf, Kind)>);

impl Hidden {
    /// These, without those that are in others, or where a sandbox has something of its own.
    pub fn new(mut places: Vec<(PathBuf, Kind)>) -> Self {
        places.sort_by(|a, b| a.0.cmp(&b.0));
        let mut all: Vec<(PathBuf, Kind)> = Vec::new();
        for (place, kind) in places {
            let outermost = all.iter().all(|(above, _)| !place.starts_with(above));
            if outermost && !plan::is_own(&place) && place != Path::new("/") {
                all.push((place, kind));
            }
        }
        Self(all)
    }

    /// What makes a sandbox without rules for files hold. Without mounts nothing is hidden from whoever may have all files.
    pub fn unrestricted(&self, network: bool) -> Draft {
        self.within(plan::unrestricted(network))
    }

    /// What makes `files` hold without these.
    pub fn draft(&self, mut files: Files, network: bool) -> Draft {
        let whole = plan::draft(&files.rules, files.places.clone(), &files.links, network);
        if whole.plan.root == Root::Whole {
            return self.within(whole);
        }
        let access = |path: &Path| files.rules.access(path);
        let masked: Vec<Raw> = self
            .0
            .iter()
            .filter(|(place, _)| access(place) == Access::Read)
            .map(|(place, _)| Raw::from(place.as_path()))
            .collect();
        let writable = self.0.iter().any(|(place, _)| access(place) == Access::Write);
        for (place, kind) in &self.0 {
            let inside: Vec<PathBuf> =
                files.rules.iter().map(|(path, _)| path.to_owned()).filter(|path| path.starts_with(place)).collect();
            inside.iter().for_each(|path| files.rules.remove(path));
            files.places.retain(|path| !path.starts_with(place));
            files.links.retain(|(at, _)| !at.starts_with(place));
            files.rules.add(place.clone(), Rule { access: Access::Deny, kind: *kind });
        }
        let mut draft = plan::draft(&files.rules, files.places, &files.links, network);
        draft.without_namespaces = whole.without_namespaces && !writable;
        draft.plan.masked = masked;
        draft
    }

    fn within(&self, mut draft: Draft) -> Draft {
        let hide = |(place, kind): &(PathBuf, Kind)| {
            let what = match kind {
                Kind::Directory => What::HiddenDirectory { passable: false, in_hidden: false },
                Kind::File => What::HiddenFile,
            };
            Mount { at: Raw::from(place.as_path()), what }
        };
        draft.plan.mounts.extend(self.0.iter().map(hide));
        draft
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Rules;
    use super::*;

    fn files(list: &[(&str, Access)]) -> Files {
        let mut rules = Rules::default();
        for (path, access) in list {
            rules.add(PathBuf::from(path), Rule { access: *access, kind: Kind::Directory });
        }
        Files { rules, places: Vec::new(), links: Vec::new() }
    }

    fn hidden() -> Hidden {
        let of = |path: &str, kind| (PathBuf::from(path), kind);
        Hidden::new(vec![
            of("/s/e", Kind::Directory),
            of("/s/e/key", Kind::File),
            of("/t", Kind::File),
            of("/proc/1", Kind::File),
        ])
    }

    #[test]
    fn whoever_reads_everything_does_not_read_these() {
        let draft =
            hidden().draft(files(&[("/", Access::Read), ("/w", Access::Write), ("/s/e/key", Access::Read)]), true);
        let at: Vec<_> = draft.plan.mounts.iter().map(|mount| (mount.at.as_path(), mount.what)).collect();
        assert!(at.contains(&(Path::new("/s/e"), What::HiddenDirectory { passable: false, in_hidden: false })));
        assert!(at.contains(&(Path::new("/t"), What::HiddenFile)) && at.len() == 3, "{at:?}");
        assert!(draft.without_namespaces && draft.plan.masked.len() == 2, "left out of what is granted");
    }

    #[test]
    fn what_cannot_be_left_out_needs_mounts() {
        let draft = hidden().draft(files(&[("/", Access::Read), ("/s", Access::Write)]), true);
        assert!(!draft.without_namespaces);
        let none = hidden().draft(files(&[("/w", Access::Write)]), true);
        assert!(none.plan.masked.is_empty() && none.plan.mounts.len() == 1, "it is not there anyway");
    }

    #[test]
    fn everything_is_everything_else() {
        for draft in [hidden().unrestricted(true), hidden().draft(files(&[("/", Access::Write)]), true)] {
            assert_eq!((draft.plan.root, draft.plan.mounts.len()), (Root::Whole, 2));
        }
        assert_eq!(Hidden::default().unrestricted(true), plan::unrestricted(true));
    }
}
