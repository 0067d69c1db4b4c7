//! Where the control groups of this process are, as directories.
//!
//! In flow the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`, out flow paths. Pure: whether anything can be made
//! there shows when it is tried.

use std::path::{Path, PathBuf};

/// The directories of our own groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// In the one tree of version 2.
    pub unified: Option<PathBuf>,
    /// In the tree of version 1 that limits memory.
    pub memory: Option<PathBuf>,
    /// In the tree of version 1 that limits the number of processes.
    pub processes: Option<PathBuf>,
    /// In the tree of version 1 that counts CPU time.
    pub cpu: Option<PathBuf>,
}

/// Finds them.
pub fn own(mounts: &str, groups: &str) -> Own {
    let v1 = |controller: &str| {
        let group = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            names.split(',').any(|name| name == controller).then_some(path)
        })?;
        directory(mounts, group, |kind, options| kind == "cgroup" && options.split(',').any(|name| name == controller))
    };
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::"));
    Own {
        unified: unified.and_then(|group| directory(mounts, group, |kind, _| kind == "cgroup2")),
        memory: v1("memory"),
        processes: v1("pids"),
        cpu: v1("cpuacct"),
    }
}

/// `id parent major:minor root mountpoint options [tags] - kind source options`
fn directory(mounts: &str, group: &str, fits: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let (mut head, mut tail) = (head.split(' ').skip(3), tail.split(' '));
        let (root, point) = (unescaped(head.next()?), unescaped(head.next()?));
        let (kind, options) = (tail.next()?, tail.nth(1)?);
        // A mount may show a part of the tree only, and not ours.
        let below = Path::new(group).strip_prefix(&root).ok()?;
        fits(kind, options).then(|| Path::new(&point).join(below))
    })
}

/// `\040` is a space.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_beside_each_other() {
        let mounts = "14 35 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            12 33 0:30 / /sys/fs/cgroup/cpu\\040x rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
            20 41 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let groups = "8:pids:/p\n4:memory:/a/b\n2:cpu,cpuacct:/\n0::/\n";
        let own = own(mounts, groups);
        assert_eq!(own.unified, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(own.memory, Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(own.processes, None, "it is mounted nowhere");
        assert_eq!(own.cpu, Some("/sys/fs/cgroup/cpu x".into()));
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree() {
        let mounts = "1 2 0:3 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(own(mounts, "0::/docker/abc/x\n").unified, Some("/sys/fs/cgroup/x".into()));
        assert_eq!(own(mounts, "0::/elsewhere\n").unified, None);
        assert_eq!(own("", ""), Own::default());
    }
}
