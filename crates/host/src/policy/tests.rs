use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use exedra_proto::method::TABLE;
use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(text, None)
}

#[test]
fn the_whole_file() {
    let policy = parse(
        r#"
        read_only = true
        when_full = "drop-oldest"
        [[roots]]
        path = "/usr"
        access = "read"
        [[roots]]
        path = "/nowhere/at/all"
        access = "none"
        [[commands]]
        path = "/bin/sh"
        args = ["-c", "true"]
        [descendants]
        bound = false
        execute = ["/usr"]
        [env]
        pass = ["PATH"]
        hide = ["*KEY*"]
        set = ["LANG"]
        [limits]
        wall_ms = 5
        best_effort = true
        [egress]
        allow = ["a.test:1"]
        proxy = true
        [clients]
        labels = ["ci"]
        [sandbox]
        network = "restricted"
        "#,
    )
    .unwrap();
    assert!(policy.read_only && policy.proxied && policy.egress.is_limited());
    assert_eq!(policy.when_full, Some(WhenFull::DropOldest));
    let roots = [(PathBuf::from("/usr"), Access::Read), ("/nowhere/at/all".into(), Access::Deny)];
    assert_eq!(policy.roots.as_deref(), Some(&roots[..]));
    let commands = policy.commands.unwrap();
    assert_eq!((commands.list.len(), commands.bound, commands.execute), (1, false, vec!["/usr".into()]));
    assert_eq!((policy.limits.wall_ms, policy.limits.best_effort), (Some(5), true));
    let sandbox = policy.sandbox.unwrap();
    assert!(sandbox.entries().unwrap().len() > 2, "with what programs need");
    assert_eq!(sandbox.network(), exedra_proto::sandbox::Network::Restricted);
}

#[test]
fn an_absent_part_restricts_nothing_and_an_empty_list_everything() {
    let none = parse("").unwrap();
    assert!(none.roots.is_none() && none.commands.is_none() && none.sandbox.is_none() && none.labels.is_none());
    assert!(!none.egress.is_limited() && !none.read_only);
    let empty = parse("commands = []\n[egress]\nallow = []\n[clients]\nlabels = []\n").unwrap();
    assert!(empty.commands.unwrap().list.is_empty() && empty.egress.is_limited());
    assert_eq!(empty.labels, Some(vec![]));
}

/// A list that is there and empty allows nothing, as any other.
#[test]
fn no_roots_at_all_are_not_all_roots() {
    let policy = Policy::parse("roots = []\n", None).unwrap();
    assert_eq!(policy.roots, Some(Vec::new()));
    assert!(policy.sandbox.is_some() && policy.is_given());
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(Policy::load(&pipe).unwrap_err().to_string().contains("it is no file"));
}

#[test]
fn roots_confine_commands_unless_the_owner_says_otherwise() {
    let root = "[[roots]]\npath = \"/usr\"\naccess = \"read\"\n";
    assert!(parse(root).unwrap().sandbox.is_some());
    assert!(parse(&format!("{root}[sandbox]\nalways = false\n")).unwrap().sandbox.is_none());
    assert!(parse("[sandbox]\n").unwrap().sandbox.unwrap().entries().is_none());
    let refused = parse("[sandbox]\nalways = false\nnetwork = \"restricted\"\n").unwrap_err();
    assert!(refused.contains("needs `always = true`"), "{refused}");
}

#[test]
fn what_programs_need_takes_nothing_from_a_root() {
    let root = |path: &str, access: &str| format!("[[roots]]\npath = \"{path}\"\naccess = \"{access}\"\n");
    let entries = |text: &str| parse(text).unwrap().sandbox.unwrap().entries().unwrap().len();
    assert_eq!(entries(&root("/", "write")), 1);
    let without = root("/var", "read") + "[sandbox]\nminimal = false\n";
    assert_eq!(entries(&without), 1);
    assert!(entries(&root("/var", "read")) > 1);
    assert_eq!(entries(&(root("/", "read") + &root("/etc", "none"))), 2, "nor gives it what a root denies");
}

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    for (text, told) in [
        ("read_only = true\nreadonly = true\n", "line 2: unknown field `readonly`"),
        ("[limits]\nwall = 1\n", "line 2: unknown field `wall`"),
        ("[[roots]]\npath = \"/\"\naccess = \"rw\"\n", "line 3: unknown variant `rw`"),
        ("[[roots]]\npath = \"usr\"\naccess = \"read\"\n", "roots: `usr` is not absolute"),
        ("[[roots]]\npath = \"/nope\"\naccess = \"read\"\n", "roots: `/nope`: No such file"),
        ("[[commands]]\npath = \"sh\"\n", "commands: `sh` is not absolute"),
        ("[[commands]]\npath = \"/nope\"\n", "commands: `/nope`: No such file"),
        ("[[commands]]\npath = \"/bin/sh\"\nargs = [\"**\", \"x\"]\n", "may only be the last"),
        ("[descendants]\nbound = false\n", "no list of commands"),
        ("[egress]\nallow = [\"a:b:c\"]\n", "egress: `a:b:c`"),
        ("[limits]\nopen_files = 0\n", "limits: `open_files`, `memory_bytes` and `processes` are at least 1"),
        ("[limits]\nmemory_bytes = 0\n", "limits: `open_files`"),
        ("[egress]\n", "line 1: missing field `allow`"),
        ("when_full = \"never\"\n", "unknown variant"),
        ("read_only = yes\n", "line 1: "),
    ] {
        let why = parse(text).unwrap_err();
        assert!(why.contains(told), "{text}: {why}");
    }
    let twice = "[[roots]]\npath = \"/usr\"\naccess = \"read\"\n".repeat(2);
    assert!(parse(&twice).unwrap_err().contains("named twice"));
}

fn at(dir: &Path, name: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    if !path.exists() {
        std::fs::write(&path, "read_only = true\n").unwrap();
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = at(dir.path(), "policy.toml", 0o644);
    assert!(Policy::load(&file).unwrap().read_only);
    for mode in [0o664, 0o646, 0o666, 0o622] {
        let refused = Policy::load(&at(dir.path(), "policy.toml", mode)).unwrap_err().to_string();
        assert!(refused.contains("others may write it"), "{refused}");
    }
    at(dir.path(), "policy.toml", 0o600);
    for mode in [0o777, 0o775] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = Policy::load(&file).unwrap_err().to_string();
        assert!(refused.contains("the directory ") && refused.contains("could be put in its place"), "{refused}");
    }
    // In such a directory nobody moves what is not theirs.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(Policy::load(&file).is_ok());
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        chown(&file, Some(65_534), None).unwrap();
        assert!(Policy::load(&file).unwrap_err().to_string().contains("user 65534 owns it"));
        chown(&file, Some(0), None).unwrap();
        chown(dir.path(), Some(65_534), None).unwrap();
        assert!(Policy::load(&file).unwrap_err().to_string().contains("user 65534 owns it"));
        chown(dir.path(), Some(0), None).unwrap();
    }
    assert!(Policy::load(dir.path()).unwrap_err().to_string().contains("is no file"));
    assert!(Policy::load(Path::new("/nope")).is_err());
}

#[test]
fn a_link_that_others_could_swap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    for name in ["safe", "open"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let file = at(&dir.join("safe"), "policy.toml", 0o644);
    let link = |name: &str, to: &Path| {
        std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        dir.join(name)
    };
    let (whole, relative, up) =
        (link("whole", &file), link("relative", Path::new("safe/policy.toml")), link("up", Path::new("safe/../safe")));
    for path in [&whole, &relative, &up.join("policy.toml"), &dir.join("open/../whole")] {
        let policy = Policy::load(path).unwrap();
        assert_eq!((policy.file.as_ref(), policy.links.len()), (Some(&file), 1), "{}", path.display());
    }
    let (inside, _) = (link("open/p", &file), link("open/d", &dir.join("safe")));
    let (twice, loops) = (link("twice", &inside), link("loop", Path::new("loop")));
    let open = |mode| std::fs::set_permissions(dir.join("open"), std::fs::Permissions::from_mode(mode)).unwrap();
    open(0o777);
    for path in [&inside, &dir.join("open/d/policy.toml"), &twice, &dir.join("open/../whole")] {
        let refused = Policy::load(path).unwrap_err().to_string();
        assert!(refused.contains("/open holds it, and others may write it"), "{refused}");
    }
    assert!(Policy::load(&file).is_ok() && Policy::load(&loops).is_err());
    open(0o1777);
    assert!(Policy::load(&inside).is_ok(), "nobody else moves our link there");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(&inside, Some(65_534), None).unwrap();
        assert!(Policy::load(&inside).unwrap_err().to_string().contains("user 65534 owns that"));
    }
    open(0o755);
    assert!(Policy::load(&file.join("x")).is_err());
}

#[test]
fn the_file_itself_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().canonicalize().unwrap().join("policy.toml");
    std::fs::write(&file, format!("[[roots]]\npath = {:?}\naccess = \"write\"\n", dir.path())).unwrap();
    let roots = Policy::load(&file).unwrap().roots.unwrap();
    assert_eq!(roots[1], (file, Access::Read));
}

/// Params that decode, for every method.
fn request(method: &str) -> Request {
    let sandbox = json!(null);
    // A file's in bytes, a terminal's in rows and columns.
    let size = if method.starts_with("fs/") { json!(1) } else { json!({"rows": 1, "cols": 1}) };
    let params = json!({
        "clientName": "c", "processId": "p", "argv": ["a"], "cwd": "/", "env": {}, "tty": false, "chunk": "",
        "signal": "interrupt", "path": "/a", "dataBase64": "", "recursive": false, "sourcePath": "/a",
        "destinationPath": "/b", "handleId": "h", "offset": 0, "len": 1, "mode": "replace", "options": {"maxDepth": 1, "maxDirectories": 1, "maxEntries": 1, "followDirectorySymlinks": false}, "watchId": 1,
        "missing": [], "requestId": "r", "method": "POST", "url": "http://h/", "size": size, "uploadId": "u", "sha256": "",
        "sandbox": sandbox, "roots": [], "configPaths": [["a"]], "requirementsPaths": [],
        "requirements_paths": [],
    });
    let raw = serde_json::value::to_raw_value(&params).unwrap();
    // Some take no params at all.
    let decoded = Request::decode(method, Some(&raw)).or_else(|error| Request::decode(method, None).map_err(|_| error));
    decoded.unwrap_or_else(|error| panic!("{method}: {error:?}"))
}

#[test]
fn read_only_refuses_every_method_that_changes_something() {
    let policy = parse("read_only = true\n").unwrap();
    let refused: Vec<&str> =
        TABLE.iter().filter(|row| policy.judge(&request(row.name), None).is_err()).map(|row| row.name).collect();
    let changing = [
        "process/start",
        "process/write",
        "fs/writeFile",
        "fs/createDirectory",
        "fs/remove",
        "fs/copy",
        "fs/open",
        "fs/writeBlock",
        "fs/uploadOpen",
        "fs/uploadFinish",
        "fs/uploadDiscard",
        "http/request",
    ];
    assert_eq!(refused, changing);
    let text = policy.judge(&request("fs/remove"), None).unwrap_err();
    assert_eq!(text, "policy: read_only: fs/remove could change something");
    for (method, params) in [
        ("fs/open", json!({"handleId": "h", "path": "/a", "mode": "read"})),
        ("http/request", json!({"requestId": "r", "method": "GET", "url": "http://h/"})),
    ] {
        let raw = serde_json::value::to_raw_value(&params).unwrap();
        assert_eq!(policy.judge(&Request::decode(method, Some(&raw)).unwrap(), None), Ok(()), "{method}");
    }
}

#[test]
fn clients_come_by_the_labels_of_their_tokens() {
    let policy = parse("[clients]\nlabels = [\"ci\", \"ops\"]\n").unwrap();
    let admit = |labels: Option<&[&str]>| {
        let labels = labels.map(|labels| labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>());
        policy.admit(labels.as_deref())
    };
    assert_eq!(admit(Some(&["x", "ops"])), Ok(()));
    for labels in [None, Some(&[][..]), Some(&["x"][..])] {
        assert!(admit(labels).unwrap_err().starts_with("policy: clients: "));
    }
    assert_eq!(Policy::default().admit(None), Ok(()));
}
