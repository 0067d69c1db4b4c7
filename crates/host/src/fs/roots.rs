//! Which places may be read and written: the plain rules.
//!
//! In flow real paths, without links; out flows what is allowed there and by which rule. The rule with the longest path
//! decides. Looks at no disk: how a path becomes a real place is for `resolve`.

use std::path::{Path, PathBuf};

use crate::error::FsError;

/// What may be done at a place; each includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    Deny,
    /// Reading.
    Read,
    /// Changing, too.
    Write,
}

/// Where file operations may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    rules: Option<Vec<(PathBuf, Access)>>,
}

impl Roots {
    /// Everywhere.
    pub fn everything() -> Self {
        Self { rules: None }
    }

    /// Only where a rule says so; paths are real ones, without links.
    pub fn only(rules: impl IntoIterator<Item = (PathBuf, Access)>) -> Self {
        Self { rules: Some(rules.into_iter().collect()) }
    }

    /// Whether there is no limit.
    pub fn is_everything(&self) -> bool {
        self.rules.is_none()
    }

    /// What may be done at `real`.
    pub fn access(&self, real: &Path) -> Access {
        match &self.rules {
            None => Access::Write,
            Some(_) => self.rule(real).map_or(Access::Deny, |(_, access)| *access),
        }
    }

    /// Refuses what needs more than is allowed at `real`. The text names `asked`, which is how the client put it.
    ///
    /// # Errors
    /// The refusal, with the rule.
    pub fn check(&self, asked: &Path, real: &Path, needed: Access) -> Result<(), FsError> {
        if self.access(real) >= needed {
            return Ok(());
        }
        Err(self.refusal(asked, real, needed))
    }

    /// The refusal to do at `real` what needs `needed`.
    pub fn refusal(&self, asked: &Path, real: &Path, needed: Access) -> FsError {
        let what = if needed == Access::Write { "written" } else { "read" };
        let why = match self.rule(real) {
            None => "no root holds it".to_owned(),
            Some((root, Access::Deny)) => format!("root `{}` is denied", root.display()),
            Some((root, _)) => format!("root `{}` is for reading", root.display()),
        };
        FsError::invalid(format!("policy: `{}` may not be {what}: {why}", asked.display()))
    }

    /// A rule for a place below `real` that allows less than writing.
    pub fn kept_below(&self, real: &Path) -> Option<&Path> {
        let below = |(path, access): &&(PathBuf, Access)| *access < Access::Write && path.starts_with(real);
        self.rules.iter().flatten().find(below).map(|(path, _)| path.as_path())
    }

    fn rule(&self, real: &Path) -> Option<&(PathBuf, Access)> {
        let holding = self.rules.iter().flatten().filter(|(root, _)| real.starts_with(root));
        // Of two rules for one path the stricter one counts.
        holding.max_by_key(|(root, access)| (root.as_os_str().len(), std::cmp::Reverse(*access)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Roots {
        let rule = |path: &str, access| (PathBuf::from(path), access);
        Roots::only([
            rule("/r", Access::Write),
            rule("/r/secret", Access::Deny),
            rule("/r/secret/open", Access::Read),
            rule("/lib", Access::Read),
            rule("/lib", Access::Write),
        ])
    }

    #[test]
    fn the_longest_rule_decides() {
        let access = |path: &str| roots().access(Path::new(path));
        assert_eq!(access("/r/a/b"), Access::Write);
        assert_eq!(access("/r/secret"), Access::Deny);
        assert_eq!(access("/r/secret/open/x"), Access::Read);
        assert_eq!(access("/r/secrets"), Access::Write, "another name");
        assert_eq!(access("/lib/x"), Access::Read, "the stricter of two");
        assert_eq!(access("/rr"), Access::Deny);
        assert_eq!(access("/"), Access::Deny);
        assert_eq!(Roots::everything().access(Path::new("/")), Access::Write);
    }

    #[test]
    fn refusals_name_the_rule() {
        let text = |path: &str, needed| roots().check(Path::new("/asked"), Path::new(path), needed).unwrap_err().text;
        assert_eq!(text("/etc/x", Access::Read), "policy: `/asked` may not be read: no root holds it");
        assert_eq!(text("/r/secret/x", Access::Read), "policy: `/asked` may not be read: root `/r/secret` is denied");
        assert_eq!(text("/lib/x", Access::Write), "policy: `/asked` may not be written: root `/lib` is for reading");
    }

    #[test]
    fn what_a_removal_would_take_along() {
        assert_eq!(roots().kept_below(Path::new("/r")), Some(Path::new("/r/secret")));
        assert_eq!(roots().kept_below(Path::new("/r/a")), None);
        assert_eq!(Roots::everything().kept_below(Path::new("/")), None);
    }
}
