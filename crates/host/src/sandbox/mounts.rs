//! The mounts of this process as `/proc` lists them, and narrowing the flags of copies of them.
//!
//! In flows the text of `mountinfo`, out flow places with their flags. In a user namespace of one's own flags may be added
//! and not taken away, so a remount names what is there already.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};

/// The mount at each place, those below others after them. Where one hides another it is the one that is seen.
#[derive(Clone, Debug)]
pub struct Mounts(Vec<(PathBuf, MountFlags, Type)>);

/// What is mounted, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    /// Control groups: who may write there decides about limits.
    Groups,
    /// Anything else.
    Other,
}

/// One line of the list.
#[derive(Debug)]
struct Line {
    id: u64,
    /// The mount that it is on.
    on: u64,
    at: PathBuf,
    flags: MountFlags,
    kind: Type,
}

impl Mounts {
    /// Those of this process.
    ///
    /// # Errors
    /// There is no such list.
    pub fn read() -> io::Result<Self> {
        Self::read_in(Path::new("/proc"))
    }

    /// Those of this process, where `proc` is a view of processes.
    ///
    /// # Errors
    /// There is no such list.
    pub fn read_in(proc: &Path) -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read(proc.join("self/mountinfo"))?))
    }

    fn parse(text: &[u8]) -> Self {
        let lines: Vec<Line> = text.split(|byte| *byte == b'\n').filter_map(Line::parse).collect();
        let below: HashSet<(&Path, u64)> = lines.iter().map(|line| (line.at.as_path(), line.on)).collect();
        let seen = lines.iter().filter(|line| !below.contains(&(line.at.as_path(), line.id)));
        let mut all: Vec<_> = seen.map(|line| (line.at.clone(), line.flags, line.kind)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Self(all)
    }

    /// Adds `flags` to the mount at `to`, a copy of what is at `from` with all below it.
    ///
    /// # Errors
    /// The system refuses it for one that can be reached.
    pub fn narrow(&self, from: &Path, to: &Path, flags: MountFlags) -> io::Result<()> {
        let around = self.0.iter().rfind(|(at, ..)| from.starts_with(at));
        remount(to, around.map_or(MountFlags::empty(), |(_, flags, _)| *flags) | flags)?;
        for (at, own, _) in self.0.iter().filter(|(at, ..)| at != from && at.starts_with(from)) {
            let Ok(below) = at.strip_prefix(from) else { continue };
            match remount(&to.join(below), *own | flags) {
                // Hidden by a mount above it, gone, or where we may not go: then nobody within goes there.
                Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Where control groups are.
    pub fn groups(&self) -> Vec<PathBuf> {
        self.0.iter().filter(|(.., kind)| *kind == Type::Groups).map(|(at, ..)| at.clone()).collect()
    }

    /// Leaves no control group below `root` that could be changed.
    ///
    /// # Errors
    /// The system refuses it for one that can be reached.
    pub fn keep_groups(&self, root: &Path) -> io::Result<()> {
        for (at, own, _) in self.0.iter().filter(|(at, _, kind)| at.starts_with(root) && *kind == Type::Groups) {
            match remount(at, *own | MountFlags::RDONLY) {
                Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

fn remount(at: &Path, flags: MountFlags) -> Result<(), Errno> {
    mount_remount(at, MountFlags::BIND | flags, "")
}

impl Line {
    /// `36 35 98:0 /root /at options [tags] - type source options`, the place with octal escapes.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (id, on) = (number()?, number()?);
        let at = PathBuf::from(OsString::from_vec(unescape(fields.nth(2)?)));
        let options = fields.next()?.split(|byte| *byte == b',');
        let flags = options.map(flag).fold(MountFlags::empty(), |all, flag| all | flag);
        let kind = match fields.skip_while(|field| *field != b"-").nth(1) {
            Some(b"cgroup" | b"cgroup2") => Type::Groups,
            _ => Type::Other,
        };
        Some(Self { id, on, at, flags, kind })
    }
}

fn flag(option: &[u8]) -> MountFlags {
    match option {
        b"ro" => MountFlags::RDONLY,
        b"nosuid" => MountFlags::NOSUID,
        b"nodev" => MountFlags::NODEV,
        b"noexec" => MountFlags::NOEXEC,
        b"noatime" => MountFlags::NOATIME,
        b"nodiratime" => MountFlags::NODIRATIME,
        b"relatime" => MountFlags::RELATIME,
        b"nosymfollow" => MountFlags::NOSYMFOLLOW,
        _ => MountFlags::empty(),
    }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let octal = text.get(at + 1..at + 4).filter(|_| text[at] == b'\\');
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 4 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let text = b"29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            40 29 0:9 / /z ro,nosuid master:1 - cgroup2 cgroup2 rw\n\
            30 29 0:5 / /a\\040b ro,nosuid,nodev,noexec - tmpfs tmpfs rw\nbroken\n";
        let Mounts(all) = Mounts::parse(text);
        assert_eq!(all[0], (PathBuf::from("/"), MountFlags::RELATIME, Type::Other));
        assert_eq!(all[1].0, PathBuf::from("/a b"));
        let strict = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        assert_eq!(all[1].1, strict);
        assert_eq!(all[2].2, Type::Groups);
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn of_those_at_one_place_the_last_is_seen() {
        let text = b"29 1 8:1 / / rw - ext4 /dev/sda1 rw\n85 30 0:40 / /proc rw,noexec - proc proc rw\n\
            30 29 0:21 / /proc rw,nosuid - proc proc rw\n";
        let Mounts(all) = Mounts::parse(text);
        assert_eq!(all[1], (PathBuf::from("/proc"), MountFlags::NOEXEC, Type::Other));
        assert_eq!(all.len(), 2);
    }
}
