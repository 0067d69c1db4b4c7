//! What plans come of what entries, on a disk that is only thought up.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::{Value, json};

use super::super::plan::{Plan, Root, What};
use super::*;

/// A disk that is only thought up: each path with what is there; a link names where it leads.
#[derive(Default)]
struct Thought(BTreeMap<PathBuf, Thing>);

#[derive(Clone)]
enum Thing {
    Directory,
    File,
    Link(PathBuf),
}

impl Thought {
    fn new(paths: &[&str]) -> Self {
        let mut all = BTreeMap::from([(PathBuf::from("/"), Thing::Directory)]);
        for text in paths {
            let (path, thing) = match text.split_once(" -> ") {
                Some((path, target)) => (path, Thing::Link(target.into())),
                None => match text.strip_suffix('/') {
                    Some(path) => (path, Thing::Directory),
                    None => (*text, Thing::File),
                },
            };
            for above in Path::new(path).ancestors().skip(1) {
                all.entry(above.to_owned()).or_insert(Thing::Directory);
            }
            all.insert(path.into(), thing);
        }
        Self(all)
    }
}

impl Disk for Thought {
    fn resolve(&self, path: &Path) -> Option<(PathBuf, Kind)> {
        let mut real = PathBuf::from("/");
        for part in path.components().skip(1) {
            real.push(part);
            while let Some(Thing::Link(target)) = self.0.get(&real) {
                real.clone_from(target);
            }
        }
        match self.0.get(&real)? {
            Thing::Directory => Some((real, Kind::Directory)),
            _ => Some((real, Kind::File)),
        }
    }

    fn look(&self, path: &Path) -> Option<Found> {
        Some(match self.0.get(path)? {
            Thing::Directory => Found::Real(Kind::Directory),
            Thing::File => Found::Real(Kind::File),
            Thing::Link(_) => Found::Link,
        })
    }

    fn names(&self, directory: &Path) -> Vec<(OsString, Found)> {
        let below = self.0.keys().filter(|path| path.parent() == Some(directory));
        below.filter_map(|path| Some((path.file_name()?.to_owned(), self.look(path)?))).collect()
    }
}

fn context(entries: Value, more: Value) -> SandboxContext {
    let mut context = json!({
        "permissions": {"type": "managed", "network": "restricted",
            "file_system": {"type": "restricted", "entries": entries}},
        "cwd": "/w", "windowsSandboxLevel": "disabled",
    });
    context.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(context).unwrap()
}

fn special(kind: &str, access: &str) -> Value {
    json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access})
}

fn path(path: &str, access: &str) -> Value {
    json!({"path": {"type": "path", "path": path}, "access": access})
}

fn glob(pattern: &str, access: &str) -> Value {
    json!({"path": {"type": "glob_pattern", "pattern": pattern}, "access": access})
}

fn drafted(disk: &Thought, entries: Value) -> Draft {
    draft_on(disk, &context(entries, json!({})), Some(Path::new("/t"))).unwrap()
}

fn mounts(plan: &Plan) -> Vec<(String, What)> {
    plan.mounts.iter().map(|mount| (mount.at.as_path().display().to_string(), mount.what)).collect()
}

const READ: What = What::Shown { writable: false, in_hidden: false };
const WRITE: What = What::Shown { writable: true, in_hidden: false };

fn hidden(passable: bool) -> What {
    What::HiddenDirectory { passable, in_hidden: false }
}

/// What stock clients send in `workspace-write` mode (0.155 to 0.169).
#[test]
fn a_workspace_to_write_in() {
    let disk = Thought::new(&["/w/.git/HEAD", "/tmp/.git/", "/tmp/.codex/", "/tmp/.agents/", "/usr/"]);
    let below = |subpath: &str| {
        json!({"path": {"type": "special", "value": {"kind": "project_roots", "subpath": subpath}}, "access": "read",
            "missing_path_behavior": "skip"})
    };
    let entries = json!([
        special("root", "read"),
        special("project_roots", "write"),
        special("slash_tmp", "write"),
        special("tmpdir", "write"),
        below(".git"),
        below(".agents"),
        below(".codex"),
        below(".aws")
    ]);
    let draft = drafted(&disk, entries);
    assert_eq!(draft.plan.root, Root::ReadOnly);
    assert_eq!(draft.places, [Path::new("/w/.agents"), Path::new("/w/.codex")]);
    let expected = [
        ("/tmp", WRITE),
        ("/tmp/.agents", READ),
        ("/tmp/.codex", READ),
        ("/tmp/.git", READ),
        ("/w", WRITE),
        ("/w/.agents", READ),
        ("/w/.codex", READ),
        ("/w/.git", READ),
    ];
    assert_eq!(mounts(&draft.plan), expected.map(|(at, what)| (at.to_owned(), what)));
    assert!(!draft.plan.network && !draft.without_namespaces);
}

#[test]
fn what_landlock_alone_can_enforce() {
    let disk = Thought::new(&["/w/f", "/d"]);
    let alone = |entries: Value| drafted(&disk, entries).without_namespaces;
    assert!(alone(json!([special("root", "read")])));
    assert!(alone(json!([special("root", "read"), path("/d", "write")])));
    assert!(!alone(json!([special("root", "read"), path("/w", "write")])), "what is absent has to be kept so");
    assert!(!alone(json!([special("root", "read"), path("/d", "deny")])));
    assert!(!alone(json!([special("minimal", "read")])), "what is hidden could be looked at");
    assert!(!alone(json!([])));
}

#[test]
fn denied_and_opened_again() {
    let disk = Thought::new(&["/w/a/b/c", "/w/key", "/w/.git/", "/w/.codex/", "/w/.agents/"]);
    let draft = drafted(
        &disk,
        json!([special("root", "write"), path("/w/a", "deny"), path("/w/a/b", "read"), path("/w/key", "none")]),
    );
    assert_eq!(draft.plan.root, Root::Writable);
    let again = What::Shown { writable: false, in_hidden: true };
    let expected = [("/w/a", hidden(true)), ("/w/a/b", again), ("/w/key", What::HiddenFile)];
    assert_eq!(mounts(&draft.plan), expected.map(|(at, what)| (at.to_owned(), what)));
}

#[test]
fn absent_and_denied_is_kept_absent_where_it_could_be_made() {
    let disk = Thought::new(&["/w/.git/", "/w/.codex/", "/w/.agents/"]);
    let draft = drafted(
        &disk,
        json!([special("root", "read"), path("/w", "write"), path("/w/x/y", "deny"), path("/q", "deny")]),
    );
    assert_eq!(draft.places, [Path::new("/w/x")]);
    assert_eq!(mounts(&draft.plan).last().unwrap(), &("/w/x".to_owned(), hidden(false)));
}

#[test]
fn links_are_followed_and_what_protects_by_name_is_none() {
    let disk = Thought::new(&["/l -> /real", "/real/f", "/w/.git -> /elsewhere", "/w/.codex/", "/w/.agents/"]);
    let refused = draft_on(&disk, &context(json!([special("project_roots", "write")]), json!({})), None);
    assert_eq!(refused, Err(Refused::Link("/w/.git".into())));
    let draft = drafted(&disk, json!([special("root", "read"), path("/l", "deny")]));
    assert_eq!(mounts(&draft.plan), [("/real".to_owned(), hidden(false))]);
}

#[test]
fn what_is_granted_is_found_by_its_other_name() {
    let disk = Thought::new(&["/bin -> /usr/bin", "/usr/bin/sh", "/w/"]);
    let links = |entries| {
        let names = |(at, to): &(super::super::job::Raw, super::super::job::Raw)| {
            (at.as_path().to_owned(), to.as_path().to_owned())
        };
        drafted(&disk, entries).plan.links.iter().map(names).collect::<Vec<_>>()
    };
    assert_eq!(links(json!([special("minimal", "read")])), [("/bin".into(), "/usr/bin".into())]);
    assert!(links(json!([special("root", "read"), special("minimal", "read")])).is_empty(), "it is there");
}

#[test]
fn globs_are_resolved_below_the_project_roots() {
    let disk =
        Thought::new(&["/w/a.pem", "/w/d/b.pem", "/w/d/b.txt", "/x/c.pem", "/w/.git/", "/w/.codex/", "/w/.agents/"]);
    let draft = drafted(&disk, json!([special("root", "read"), glob("**/*.pem", "deny"), glob("/x/*.pem", "deny")]));
    let all: Vec<String> = mounts(&draft.plan).into_iter().map(|(at, _)| at).collect();
    assert_eq!(all, ["/w/a.pem", "/w/d/b.pem", "/x/c.pem"]);
    let bad = context(json!([glob("*.{a,b}", "deny")]), json!({}));
    assert_eq!(draft_on(&disk, &bad, None), Err(Refused::Pattern("*.{a,b}".into())));
}

#[test]
fn unknown_places_and_roots_that_lead_out() {
    let disk = Thought::new(&["/w/", "/secret"]);
    let unknown = |access: &str| json!([{"path": {"type": "special", "value": {"kind": "unknown", "path": ":x"}}, "access": access}]);
    let of = |entries| draft_on(&disk, &context(entries, json!({})), None);
    assert_eq!(of(unknown("deny")), Err(Refused::UnknownPlace(":x".into())));
    assert!(of(unknown("write")).unwrap().plan.mounts.is_empty());
    let out = json!([{"path": {"type": "special", "value": {"kind": "project_roots", "subpath": "../secret"}}, "access": "read"}]);
    assert!(of(out).unwrap().plan.mounts.is_empty());
    let none =
        draft_on(&disk, &context(json!([special("project_roots", "write")]), json!({"workspaceRoots": []})), None);
    assert!(none.unwrap().plan.mounts.is_empty());
}

/// Whatever the entries, following the mounts in their order gives each path what the most specific entry says.
#[test]
fn the_mounts_mean_what_the_entries_say() {
    let places = ["/a", "/a/b", "/a/b/c", "/a/b/c/f", "/a/d", "/e", "/e/g", "/e/g/h", "/"];
    let every: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
    let disk = {
        let mut paths: Vec<String> = every[..8].iter().map(|path| format!("{path}/")).collect();
        paths.extend(every[..8].iter().flat_map(|path| PROTECTED.map(|name| format!("{path}/{name}/"))));
        Thought::new(&paths.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let cases = std::env::var("EXEDRA_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300_u64);
    for seed in 0..cases {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below).unwrap()
        };
        let entries: Vec<(String, &str)> =
            (0..next(8)).map(|_| (every[next(9)].clone(), ["read", "write", "deny"][next(3)])).collect();
        let json: Vec<Value> = entries.iter().map(|(at, access)| path(at, access)).collect();
        let draft = draft_on(&disk, &context(json!(json), json!({})), None).unwrap();
        for at in disk.0.keys() {
            assert_eq!(followed(&draft.plan, at), naive(&entries, at), "seed {seed}: {entries:?} at {}", at.display());
        }
    }
}

/// As a reader of the protocol would say it.
fn naive(entries: &[(String, &str)], at: &Path) -> Access {
    let of = |place: &Path| {
        let all = entries.iter().filter(|(path, _)| Path::new(path) == place);
        all.map(|(_, access)| serde_json::from_value::<Access>(json!(access)).unwrap()).max()
    };
    for place in at.ancestors() {
        if let Some(access) = of(place) {
            return access;
        }
        let below_root = place.parent().filter(|parent| *parent != Path::new("/"));
        let protected = PROTECTED.iter().any(|name| place.file_name().is_some_and(|file| file == *name));
        if protected && below_root.is_some_and(|parent| of(parent) == Some(Access::Write)) {
            return Access::Read;
        }
    }
    Access::Deny
}

/// As the mounts have it.
fn followed(plan: &Plan, at: &Path) -> Access {
    let mut access = match plan.root {
        Root::Whole | Root::Writable => Access::Write,
        Root::ReadOnly => Access::Read,
        Root::Empty => Access::Deny,
    };
    for mount in &plan.mounts {
        if at.starts_with(mount.at.as_path()) {
            access = match mount.what {
                What::Shown { writable: true, .. } => Access::Write,
                What::Shown { .. } => Access::Read,
                What::HiddenDirectory { .. } | What::HiddenFile => Access::Deny,
                What::Pinned => access,
            };
        }
    }
    access
}
