//! Two sandboxes at once: what both allow, and nothing else.
//!
//! In flow what the client and the owner ask for, each resolved on the disk; out flows one [`Draft`]. Pure. Access depends on
//! paths by their most specific rule, so that the least of both at every path that either has a rule for is the least of both
//! everywhere.

use std::path::PathBuf;

use exedra_proto::sandbox::Access;

use super::own::Hidden;
use super::plan::Draft;
use super::rules::Rules;

/// What one side asks for.
#[derive(Clone, Debug)]
pub struct Side {
    /// About files; none: nothing.
    pub files: Option<Files>,
    /// Whether it allows the network.
    pub network: bool,
}

/// What one side asks for about files.
#[derive(Clone, Debug)]
pub struct Files {
    /// What may be done where.
    pub rules: Rules,
    /// Absent places that are to stay as they are.
    pub places: Vec<PathBuf>,
    /// Names of what is granted that are links: where, and where to.
    pub links: Vec<(PathBuf, PathBuf)>,
}

impl Side {
    /// What this and `other` both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let files = match (self.files, other.files) {
            (Some(own), Some(others)) => Some(own.and(others)),
            (own, others) => own.or(others),
        };
        Self { files, network: self.network && other.network }
    }

    /// What makes it hold, with what is `hidden` from it whatever it allows.
    pub fn draft(self, hidden: &Hidden) -> Draft {
        match self.files {
            None => hidden.unrestricted(self.network),
            Some(files) => hidden.draft(files, self.network),
        }
    }
}

impl Files {
    fn and(self, other: Self) -> Self {
        let mut rules = self.rules.and(&other.rules);
        let mut places = [self.places, other.places].concat();
        places.sort();
        places.dedup();
        // Where nothing can be made, nothing has to stand so that nothing else is made.
        places.retain(|place| {
            let needed = rules.access_around(place) == Access::Write;
            if !needed {
                rules.remove(place);
            }
            needed
        });
        Self { rules, places, links: [self.links, other.links].concat() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::plan;
    use super::super::rules::{Kind, Rule};
    use super::*;

    fn files(list: &[(&str, Access)], places: &[&str]) -> Files {
        let mut rules = Rules::default();
        for (path, access) in list {
            rules.add(PathBuf::from(path), Rule { access: *access, kind: Kind::Directory });
        }
        Files { rules, places: places.iter().map(PathBuf::from).collect(), links: Vec::new() }
    }

    #[test]
    fn the_least_of_both_everywhere() {
        use Access::{Deny, Read, Write};
        let client = files(&[("/", Read), ("/w", Write), ("/w/.git", Read), ("/o/x", Write)], &[]);
        let owner = files(&[("/w", Write), ("/w/secret", Deny), ("/o", Read), ("/usr", Read)], &[]);
        let both = client.clone().and(owner.clone());
        for path in
            ["/", "/a", "/w", "/w/a", "/w/.git", "/w/.git/x", "/w/secret", "/w/secret/x", "/o", "/o/x", "/usr/bin"]
        {
            let path = Path::new(path);
            let rank = |access| [Deny, Read, Write].iter().position(|other| *other == access);
            let least = std::cmp::min_by_key(client.rules.access(path), owner.rules.access(path), |a| rank(*a));
            assert_eq!(both.rules.access(path), least, "{}", path.display());
        }
        assert_eq!(both.rules.access(Path::new("/o/x")), Read);
    }

    #[test]
    fn places_only_where_something_could_be_made() {
        use Access::{Read, Write};
        let client = files(
            &[("/", Read), ("/w", Write), ("/w/.git", Read), ("/v", Write), ("/v/.git", Read)],
            &["/w/.git", "/v/.git"],
        );
        let owner = files(&[("/", Write), ("/v", Read)], &[]);
        let both = client.and(owner);
        assert_eq!(both.places, [PathBuf::from("/w/.git")]);
        assert!(both.rules.at(Path::new("/v/.git")).is_none());
    }

    #[test]
    fn who_asks_for_nothing_narrows_nothing() {
        let side = |files: Option<Files>, network| Side { files, network };
        let some = files(&[("/", Access::Read)], &[]);
        let both = side(None, true).and(side(Some(some.clone()), false));
        assert!(!both.network && both.files.is_some());
        let draft = |side: Side| side.draft(&Hidden::default());
        assert_eq!(draft(both), draft(side(Some(some), false)));
        assert_eq!(draft(side(None, true).and(side(None, true))), plan::unrestricted(true));
    }
}
