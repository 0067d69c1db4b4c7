//! Which access a path has: the rule with the most specific path decides.
//!
//! In flow real paths with what may be done there, out flows the access of any path, and the rules in an order in which
//! each comes after those above it. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use exedra_proto::sandbox::Access;

/// What is at the place of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else that is no link.
    File,
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What may be done there and below.
    pub access: Access,
    /// What is there.
    pub kind: Kind,
}

/// All rules, one for each path.
#[derive(Clone, Debug, Default)]
pub struct Rules(BTreeMap<PathBuf, Rule>);

impl Rules {
    /// One more rule; of two for one path deny beats write beats read.
    pub fn add(&mut self, path: PathBuf, rule: Rule) {
        let slot = self.0.entry(path).or_insert(rule);
        slot.access = slot.access.max(rule.access);
    }

    /// The least that these and `other` allow, everywhere.
    pub fn and(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (path, rule) in self.iter().chain(other.iter()) {
            let access = least(self.access(path), other.access(path));
            both.0.insert(path.to_owned(), Rule { access, kind: rule.kind });
        }
        both
    }

    /// Takes the rule for exactly this path out.
    pub fn remove(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// The rule for exactly this path.
    pub fn at(&self, path: &Path) -> Option<Rule> {
        self.0.get(path).copied()
    }

    /// What may be done at `path`.
    pub fn access(&self, path: &Path) -> Access {
        path.ancestors().find_map(|path| self.at(path)).map_or(Access::Deny, |rule| rule.access)
    }

    /// What could be done at `path` if it had no rule of its own.
    pub fn access_around(&self, path: &Path) -> Access {
        path.parent().map_or(Access::Deny, |parent| self.access(parent))
    }

    /// All, each after those above it.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, Rule)> {
        self.0.iter().map(|(path, rule)| (path.as_path(), *rule))
    }

    /// Whether a rule below `path` gives what is denied at it.
    pub fn opens_below(&self, path: &Path) -> bool {
        let below = |(at, rule): (&Path, Rule)| at != path && at.starts_with(path) && rule.access != Access::Deny;
        self.iter().any(below)
    }
}

fn least(one: Access, other: Access) -> Access {
    match (one, other) {
        (Access::Deny, _) | (_, Access::Deny) => Access::Deny,
        (Access::Read, _) | (_, Access::Read) => Access::Read,
        (Access::Write, Access::Write) => Access::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &[(&str, Access)]) -> Rules {
        let mut rules = Rules::default();
        for (path, access) in list {
            rules.add(PathBuf::from(path), Rule { access: *access, kind: Kind::Directory });
        }
        rules
    }

    #[test]
    fn the_most_specific_decides_and_equals_are_settled() {
        use Access::{Deny, Read, Write};
        let rules = rules(&[("/", Read), ("/a", Write), ("/a/b", Deny), ("/a", Read), ("/a/b/c", Read), ("/x", Deny)]);
        let of = |path: &str| rules.access(Path::new(path));
        assert_eq!([of("/"), of("/q"), of("/a"), of("/a/z")], [Read, Read, Write, Write]);
        assert_eq!([of("/a/b"), of("/a/b/x"), of("/a/b/c/d"), of("/ab")], [Deny, Deny, Read, Read]);
        assert_eq!(rules.access_around(Path::new("/a/b/c")), Deny);
        assert!(rules.opens_below(Path::new("/a/b")) && !rules.opens_below(Path::new("/x")));
        assert_eq!(Rules::default().access(Path::new("/a")), Deny);
    }
}
