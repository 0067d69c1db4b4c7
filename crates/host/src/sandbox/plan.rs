//! What has to be done so that rules hold: mounts in their order, grants of Landlock, and the network.
//!
//! In flow rules, out flows a [`Draft`]. Pure: it looks at no disk and does nothing.

use std::path::{Path, PathBuf};

use exedra_proto::sandbox::Access;
use serde::{Deserialize, Serialize};

use super::job::Raw;
use super::rules::{Kind, Rule, Rules};

/// A plan, and what must be there before it is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The plan.
    pub plan: Plan,
    /// Directories to be made for as long as the sandbox lives, so that something can be mounted there.
    pub places: Vec<PathBuf>,
    /// Whether Landlock and the filter of system calls alone can enforce it, without namespaces.
    pub without_namespaces: bool,
}

/// What a process does to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What its root directory is.
    pub root: Root,
    /// What is mounted over that, in this order.
    pub mounts: Vec<Mount>,
    /// Links to be made in what is hidden, so that what is shown is found by the names it was given: where, and where to.
    pub links: Vec<(Raw, Raw)>,
    /// What Landlock grants; without, everything.
    pub grants: Option<Grants>,
    /// What may be executed, and below; without, whatever may be read.
    #[serde(default)]
    pub execute: Option<Vec<Raw>>,
    /// What is not among what Landlock grants to be read, though it is below some of it.
    #[serde(default)]
    pub masked: Vec<Raw>,
    /// Whether it has the network.
    pub network: bool,
}

/// What the root directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// The machine's as it is, its devices included.
    Whole,
    /// The machine's, devices and settings of the kernel left out.
    Writable,
    /// The same, read-only.
    ReadOnly,
    /// An empty one.
    Empty,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, a real path.
    pub at: Raw,
    /// What.
    pub what: What,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What the machine has there.
    Shown {
        /// To be changed.
        writable: bool,
        /// In the midst of what is hidden, so that the way there has to be made.
        in_hidden: bool,
    },
    /// An empty directory that nobody may look at; one may pass through it if something is shown below.
    HiddenDirectory {
        /// Something is.
        passable: bool,
        /// In the midst of what is hidden.
        in_hidden: bool,
    },
    /// An empty file that nobody may open.
    HiddenFile,
    /// What is there already, as a mount of its own: from within it can be neither moved nor replaced.
    Pinned,
}

/// What Landlock grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// To read and to execute, and below.
    pub read: Vec<Raw>,
    /// To change, and below.
    pub write: Vec<Raw>,
}

/// Places that a sandbox has of its own whatever the rules say: they may only be denied.
pub const OWN: [&str; 2] = ["/proc", "/dev"];
/// What the kernel can be told through: not to be changed only because all of the file system may be.
pub const SETTINGS: &str = "/sys";

/// Whether a place is the sandbox's own, or in it.
pub fn is_own(path: &Path) -> bool {
    OWN.iter().any(|own| path.starts_with(own))
}

/// All files, and the network or not.
pub fn unrestricted(network: bool) -> Draft {
    let plan = Plan {
        root: Root::Whole,
        mounts: Vec::new(),
        links: Vec::new(),
        grants: None,
        execute: None,
        masked: Vec::new(),
        network,
    };
    Draft { plan, places: Vec::new(), without_namespaces: true }
}

/// Two plans by which to find out what holds here: one for namespaces and all within them, one for the filter alone.
pub fn trials() -> (Plan, Plan) {
    let hidden = What::HiddenDirectory { passable: false, in_hidden: false };
    let view = Plan {
        root: Root::ReadOnly,
        mounts: vec![Mount { at: Raw::from(Path::new("/etc")), what: hidden }],
        links: Vec::new(),
        execute: None,
        masked: Vec::new(),
        grants: Some(Grants { read: vec![Raw::from(Path::new("/"))], write: Vec::new() }),
        network: false,
    };
    (view, unrestricted(false).plan)
}

/// What makes `rules` hold, once there is a directory at each of `places`. The `links` are names of what they lead to.
pub fn draft(rules: &Rules, places: Vec<PathBuf>, links: &[(PathBuf, PathBuf)], network: bool) -> Draft {
    let root = match rules.access(Path::new("/")) {
        Access::Write if rules.iter().all(|(_, rule)| rule.access == Access::Write) => return unrestricted(network),
        Access::Write => Root::Writable,
        Access::Read => Root::ReadOnly,
        Access::Deny => Root::Empty,
    };
    let wanted =
        |(path, rule): &(&Path, Rule)| *path != Path::new("/") && (!is_own(path) || rule.access == Access::Deny);
    let mounts: Vec<Mount> = rules.iter().filter(wanted).filter_map(|(path, rule)| mount(rules, path, rule)).collect();
    let granted = |access| {
        let of = |(path, rule): (&Path, Rule)| (rule.access == access && !is_own(path)).then(|| Raw::from(path));
        rules.iter().filter_map(of).collect()
    };
    let grants = Grants { read: granted(Access::Read), write: granted(Access::Write) };
    let wider_only = |mount: &Mount| matches!(mount.what, What::Shown { writable: true, in_hidden: false });
    let without_namespaces = root == Root::ReadOnly && mounts.iter().all(wider_only);
    let in_hidden = |(at, _): &&(PathBuf, PathBuf)| rules.access(at) == Access::Deny;
    let links =
        links.iter().filter(in_hidden).map(|(at, to)| (Raw::from(at.as_path()), Raw::from(to.as_path()))).collect();
    Draft {
        plan: Plan { root, mounts, links, grants: Some(grants), execute: None, masked: Vec::new(), network },
        places,
        without_namespaces,
    }
}

fn mount(rules: &Rules, path: &Path, rule: Rule) -> Option<Mount> {
    let around = rules.access_around(path);
    if around == rule.access {
        return None;
    }
    let in_hidden = around == Access::Deny;
    let what = match (rule.access, rule.kind) {
        (Access::Deny, Kind::File) => What::HiddenFile,
        (Access::Deny, Kind::Directory) => What::HiddenDirectory { passable: rules.opens_below(path), in_hidden },
        (access, _) => What::Shown { writable: access == Access::Write, in_hidden },
    };
    Some(Mount { at: Raw::from(path), what })
}
