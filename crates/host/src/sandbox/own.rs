//! The executor's own state is in nobody's sandbox: it is hidden, and without mounts left out of what is granted.
//!
//! In flow a draft's rules and the places, out flow narrower rules and what Landlock has to leave out. Pure.

use std::collections::BTreeSet;
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
        let rules = files.rules.clone();
        let access = |path: &Path| rules.access(path);
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
        self.pin(&mut draft.plan.mounts, |way| access(way) == Access::Write);
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
        self.pin(&mut draft.plan.mounts, |_| true);
        draft
    }

    /// Keeps the way to these where it is, as far as it is `writable`: whoever could move what holds one could show it to the
    /// next sandbox under another name, and put something else in its place.
    fn pin(&self, mounts: &mut Vec<Mount>, writable: impl Fn(&Path) -> bool) {
        let ways: BTreeSet<&Path> = self.0.iter().flat_map(|(place, _)| place.ancestors().skip(1)).collect();
        for way in ways.into_iter().filter(|way| *way != Path::new("/") && writable(way)) {
            if mounts.iter().any(|mount| mount.at.as_path() == way) {
                continue;
            }
            // Before what is mounted below it.
            let before = mounts.iter().position(|mount| mount.at.as_path().starts_with(way)).unwrap_or(mounts.len());
            mounts.insert(before, Mount { at: Raw::from(way), what: What::Pinned });
        }
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
    fn the_way_to_these_stays_where_it_is() {
        let hidden = Hidden::new(vec![(PathBuf::from("/h/u/l/s/e"), Kind::Directory)]);
        let pinned = |list: &[(&str, Access)]| {
            let mounts = hidden.draft(files(list), true).plan.mounts;
            let at: Vec<_> = mounts.iter().map(|mount| mount.at.as_path().to_owned()).collect();
            assert!(at.is_sorted(), "{at:?}");
            let pinned = mounts.iter().filter(|mount| mount.what == What::Pinned);
            pinned.map(|mount| mount.at.as_path().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(pinned(&[("/", Access::Write)]), ["/h", "/h/u", "/h/u/l", "/h/u/l/s"]);
        assert_eq!(pinned(&[("/", Access::Read), ("/h/u", Access::Write)]), ["/h/u/l", "/h/u/l/s"]);
        assert_eq!(pinned(&[("/", Access::Write), ("/h/u", Access::Read)]), ["/h"]);
        assert!(pinned(&[("/", Access::Read), ("/w", Access::Write)]).is_empty());
    }

    #[test]
    fn everything_is_everything_else() {
        for draft in [hidden().unrestricted(true), hidden().draft(files(&[("/", Access::Write)]), true)] {
            assert_eq!(draft.plan.root, Root::Whole);
            let at: Vec<_> = draft.plan.mounts.iter().map(|mount| mount.at.as_path()).collect();
            assert_eq!(at, ["/s", "/s/e", "/t"].map(Path::new));
        }
        assert_eq!(Hidden::default().unrestricted(true), plan::unrestricted(true));
    }
}
