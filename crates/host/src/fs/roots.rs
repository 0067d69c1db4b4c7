//! Which places may be read and written: the plain rules, of the owner's policy and of a client's sandbox.
//!
//! In flow real paths, without links; out flows what is allowed there and by which rule. The rule with the longest path
//! decides. Where a sandbox is held within a policy, both must allow it. A refusal of the policy names its rule; one of a
//! sandbox is what the system says where nothing is, where nobody may go, and where nothing is to be changed. Looks at no
//! disk: how a path becomes a real place is for `resolve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::own::Own;
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
    /// What else must allow it: then these rules are a sandbox's.
    policy: Option<Arc<Roots>>,
    /// What is kept whatever the rules say.
    own: Own,
}

impl Roots {
    /// Everywhere.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Only where a rule says so; paths are real ones, without links.
    pub fn only(rules: impl IntoIterator<Item = (PathBuf, Access)>) -> Self {
        Self { rules: Some(rules.into_iter().collect()), ..Self::default() }
    }

    /// Only where a rule of a sandbox says so, and `policy` does too.
    pub fn sandbox(rules: impl IntoIterator<Item = (PathBuf, Access)>, policy: Arc<Self>) -> Self {
        Self { rules: Some(rules.into_iter().collect()), policy: Some(policy), own: Own::default() }
    }

    /// The same, and never what is the executor's own.
    #[must_use]
    pub fn without(self, own: Own) -> Self {
        Self { own, ..self }
    }

    /// Whether there is no limit that has to hold against whoever swaps links meanwhile.
    pub fn is_everything(&self) -> bool {
        self.rules.is_none() && !self.own.is_strict() && self.policy.as_deref().is_none_or(Self::is_everything)
    }

    /// Whether rules hold some places and others not, so that one file with two names may be both.
    pub fn has_rules(&self) -> bool {
        self.rules.is_some() || self.policy.as_deref().is_some_and(Self::has_rules)
    }

    /// Whether something is the executor's own.
    pub fn keeps_own(&self) -> bool {
        !self.own.is_nothing() || self.policy.as_deref().is_some_and(Self::keeps_own)
    }

    /// Whether views of processes are kept wherever they are mounted.
    pub fn keeps_processes(&self) -> bool {
        self.own.is_strict() || self.policy.as_deref().is_some_and(Self::keeps_processes)
    }

    /// What may be done at `real`.
    pub fn access(&self, real: &Path) -> Access {
        if self.own.holds(real) {
            return Access::Deny;
        }
        let own = match &self.rules {
            None => Access::Write,
            Some(_) => self.rule(real).map_or(Access::Deny, |(_, access)| *access),
        };
        self.policy.as_ref().map_or(own, |policy| own.min(policy.access(real)))
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
    fn refusal(&self, asked: &Path, real: &Path, needed: Access) -> FsError {
        let what = if needed == Access::Write { "written" } else { "read" };
        if self.own.holds(real) {
            return self.kept(asked, what);
        }
        if let Some(policy) = &self.policy {
            return match self.rule(real) {
                None => Errno::NOENT.into(),
                Some((_, Access::Deny)) => Errno::ACCESS.into(),
                Some((_, access)) if *access < needed => Errno::ROFS.into(),
                Some(_) => policy.refusal(asked, real, needed),
            };
        }
        let why = match self.rule(real) {
            None => "no root holds it".to_owned(),
            Some((root, Access::Deny)) => format!("root `{}` is denied", root.display()),
            Some((root, _)) => format!("root `{}` is for reading", root.display()),
        };
        FsError::invalid(format!("policy: `{}` may not be {what}: {why}", asked.display()))
    }

    /// Refuses to take along what the rules keep below `real`, or to take a root from where it is.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_removal(&self, asked: &Path, real: &Path) -> Result<(), FsError> {
        let parent = real.parent().unwrap_or(Path::new("/"));
        if self.policy.is_some() && self.rule(parent).is_none() {
            // What is there is no secret, and must not pass for something that is gone.
            return Err(Errno::BUSY.into());
        }
        self.check(asked, parent, Access::Write)?;
        if self.own.below(real).is_some() {
            return Err(self.kept(asked, "removed"));
        }
        if let Some(policy) = &self.policy {
            policy.check_removal(asked, real)?;
        }
        match (self.kept_below(real), &self.policy) {
            (None, _) => Ok(()),
            (Some(_), Some(_)) => Err(Errno::BUSY.into()),
            (Some(kept), None) => {
                let (asked, kept) = (asked.display(), kept.display());
                Err(FsError::invalid(format!("policy: `{asked}` may not be removed: root `{kept}` is below it")))
            }
        }
    }

    /// The refusal of the executor's own. It names no place: who does not know learns nothing.
    pub fn kept(&self, asked: &Path, what: &str) -> FsError {
        let whose = if self.own.is_strict() { "policy" } else { "executor" };
        FsError::invalid(format!(
            "{whose}: `{}` may not be {what}: it is, or holds, what is the executor's own",
            asked.display()
        ))
    }

    /// The refusal of `asked` for what it is and not for where; none of the system's fits.
    pub fn refuse(&self, asked: &Path, why: &str) -> FsError {
        let whose = if self.policy.is_some() { "sandbox" } else { "policy" };
        FsError::invalid(format!("{whose}: `{}` {why}", asked.display()))
    }

    /// A rule for a place below `real` that allows less than writing.
    fn kept_below(&self, real: &Path) -> Option<&Path> {
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
    use super::super::own::Processes;
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
        let text = |path: &str| roots().check_removal(Path::new(path), Path::new(path)).err().map(|error| error.text);
        assert_eq!(text("/r").unwrap(), "policy: `/r` may not be written: no root holds it");
        assert_eq!(text("/r/secret").unwrap(), "policy: `/r/secret` may not be removed: root `/r/secret` is below it");
        assert_eq!(text("/r/a"), None);
        assert_eq!(Roots::everything().check_removal(Path::new("/"), Path::new("/")), Ok(()));
    }

    #[test]
    fn what_is_the_executors_own_is_no_rules_to_give() {
        let own = || Own::new(vec!["/r/state".into()], Processes::Each);
        for roots in [Roots::everything().without(own()), roots().without(own())] {
            assert!(!roots.is_everything());
            for roots in [roots.clone(), Roots::sandbox([("/".into(), Access::Write)], Arc::new(roots))] {
                for path in ["/r/state", "/r/state/identity"] {
                    for needed in [Access::Read, Access::Write] {
                        let text = roots.check(Path::new(path), Path::new(path), needed).unwrap_err().text;
                        assert!(text.starts_with("policy: ") && text.ends_with("the executor's own"), "{text}");
                    }
                }
                assert!(roots.check_removal(Path::new("/r"), Path::new("/r/state")).is_err());
                assert!(roots.check(Path::new("/r/x"), Path::new("/r/x"), Access::Write).is_ok());
            }
        }
        let all = Roots::everything().without(own());
        assert!(all.check_removal(Path::new("/r"), Path::new("/r")).is_err(), "it would be taken along");
        assert!(all.check(Path::new("/proc/1/mem"), Path::new("/proc/1/mem"), Access::Read).is_err());
        let lax = Roots::everything().without(Own::new(vec!["/s".into()], Processes::Secrets));
        assert!(lax.is_everything() && lax.keeps_own() && !lax.has_rules());
    }

    #[test]
    fn a_sandbox_speaks_as_the_system_does_and_never_allows_more_than_the_policy() {
        let rule = |path: &str, access| (PathBuf::from(path), access);
        let rules = [
            rule("/r", Access::Write),
            rule("/r/.git", Access::Read),
            rule("/r/secret/open", Access::Write),
            rule("/lib", Access::Write),
            rule("/lib/no", Access::Deny),
        ];
        let text = |policy: Roots, path: &str, needed| {
            let sandbox = Roots::sandbox(rules.clone(), Arc::new(policy));
            sandbox.check(Path::new(path), Path::new(path), needed).err().map(|error| error.text)
        };
        let alone = |path: &str, needed| text(Roots::everything(), path, needed).unwrap_or_default();
        assert_eq!(alone("/r/x", Access::Write), "");
        assert_eq!(alone("/r/.git/config", Access::Write), "Read-only file system (os error 30)");
        assert_eq!(alone("/lib/no/x", Access::Read), "Permission denied (os error 13)");
        assert_eq!(alone("/etc/x", Access::Read), "No such file or directory (os error 2)");
        let both = |path: &str, needed| text(roots(), path, needed).unwrap_or_default();
        assert_eq!(both("/r/x", Access::Write), "");
        assert_eq!(
            both("/r/secret/open/x", Access::Write),
            "policy: `/r/secret/open/x` may not be written: root `/r/secret/open` is for reading"
        );
        assert_eq!(both("/lib/x", Access::Write), "policy: `/lib/x` may not be written: root `/lib` is for reading");
        let sandbox = Roots::sandbox(rules.clone(), Arc::new(Roots::everything()));
        let removal = |path: &str| sandbox.check_removal(Path::new(path), Path::new(path)).map_err(|error| error.text);
        assert_eq!(removal("/r/x"), Ok(()));
        assert_eq!(removal("/r"), Err("Device or resource busy (os error 16)".to_owned()), "its parent has no rule");
        assert!(removal("/r/.git").is_err());
        assert!(!sandbox.is_everything());
    }
}
