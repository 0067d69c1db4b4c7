//! The units in `packaging/`: what systemd says of them, and what they start, as it would start it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::plane::Server;
use crate::program::{Running, exedra, run};

const EXECUTOR: &str = "exedra-executor.service";

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

/// The values of a setting in these files, one after the other; an empty one forgets those before it.
fn values(files: &[PathBuf], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            match line.split_once('=') {
                Some((setting, "")) if setting == name => values.clear(),
                Some((setting, value)) if setting == name => values.push(value.to_owned()),
                _ => {}
            }
        }
    }
    values
}

/// The executor's unit with a drop-in, and the machine that it finds.
struct Unit {
    files: Vec<PathBuf>,
    dir: TempDir,
    options: String,
}

impl Unit {
    fn new(server: &Server, drop_in: Option<&str>) -> Self {
        let drop_in = drop_in.map(|name| packaging().join(format!("{EXECUTOR}.d")).join(name));
        let files = [packaging().join(EXECUTOR)].into_iter().chain(drop_in).collect();
        let options = format!("--remote {} --executor-id box", server.url);
        Self { files, dir: tempfile::tempdir().unwrap(), options }
    }

    /// A file below `/etc/exedra`.
    fn etc(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the unit starts, with the credentials that it loads; none, if one cannot be loaded.
    fn command(&self) -> Option<Command> {
        let credentials = self.dir.path().join("credentials");
        let _ = std::fs::remove_dir_all(&credentials);
        std::fs::create_dir(&credentials).unwrap();
        for value in values(&self.files, "LoadCredential") {
            let (id, path) = value.split_once(':').unwrap();
            let loaded =
                std::fs::read(self.etc(Path::new(path).strip_prefix("/etc/exedra").unwrap().to_str().unwrap()));
            let set = values(&self.files, "SetCredential");
            let set =
                set.iter().find_map(|set| set.strip_prefix(&format!("{id}:")).map(|text| text.as_bytes().to_vec()));
            std::fs::write(credentials.join(id), loaded.ok().or(set)?).unwrap();
            std::fs::set_permissions(credentials.join(id), Permissions::from_mode(0o400)).unwrap();
        }
        let start = values(&self.files, "ExecStart");
        assert_eq!(start.len(), 1, "{start:?}");
        let words = start[0].split(' ').flat_map(|word| match word {
            "$EXECUTOR_OPTIONS" => self.options.split(' ').map(str::to_owned).collect(),
            word => vec![word.replace("${CREDENTIALS_DIRECTORY}", credentials.to_str().unwrap())],
        });
        let words: Vec<_> = words.collect();
        assert_eq!(words[0], "/usr/bin/exedra");
        let mut command = exedra(&words.iter().skip(1).map(String::as_str).collect::<Vec<_>>());
        for value in values(&self.files, "Environment") {
            let (name, value) = value.split_once('=').unwrap();
            command.env(name, value.replace("%S", self.dir.path().to_str().unwrap()));
        }
        Some(command)
    }

    /// Starts, and ends once it has registered.
    fn comes_up(&self, signal: &str) {
        let executor = Running::start(&mut self.command().expect("the credentials are there"));
        executor.stderr_line("registered with executor_id box");
        executor.signal(signal);
        executor.finish();
    }
}

#[test]
fn an_executor_has_a_token_that_the_unit_loads() {
    let server = Server::start();
    let unit = Unit::new(&server, None);
    assert!(unit.command().is_none(), "without it systemd does not start it");
    std::fs::write(unit.etc("executor.token"), server.token(&["--role", "executor", "--executor", "box"])).unwrap();
    unit.comes_up("TERM");
    unit.comes_up("KILL");
}

#[test]
fn an_executor_that_joins_starts_before_the_trade_and_after_it() {
    let server = Server::start();
    let unit = Unit::new(&server, Some("join.conf"));
    let early = run(&mut unit.command().unwrap());
    assert!(early.code == 2 && early.stderr.contains("exedra token create --role join"), "{}", early.stderr);
    let join = unit.etc("executor.join");
    std::fs::write(&join, server.token(&["--role", "join", "--executor", "box"])).unwrap();
    unit.comes_up("TERM");
    unit.comes_up("KILL");
    std::fs::remove_file(&join).unwrap();
    unit.comes_up("KILL");
    unit.comes_up("TERM");
    std::fs::write(&join, "exedra_j_of_another_time").unwrap();
    unit.comes_up("TERM");
    let kept = unit.dir.path().join("exedra-executor/exedra/credentials");
    assert_eq!(std::fs::read_dir(kept).unwrap().count(), 1, "below its StateDirectory=");
}

#[test]
fn commands_of_an_executor_are_not_the_owner_of_the_servers_records() {
    let user = |unit: &str| values(&[packaging().join(unit)], "User");
    // With `DynamicUser=` and no name of its own, a user that exists by the unit's name would be taken.
    assert_eq!((user("exedra.service"), user(EXECUTOR)), (vec!["exedra-server".to_owned()], vec!["exedra".to_owned()]));
}

#[test]
fn systemd_understands_the_units() {
    let system = Path::new("/usr/lib/systemd/system");
    let has = Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has || !system.join("sysinit.target").exists() {
        eprintln!("not tested: there is no systemd here");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for dir in ["usr/bin", "bin", "usr/lib/systemd", "etc/systemd"] {
        std::fs::create_dir_all(at(dir)).unwrap();
    }
    for program in ["usr/bin/exedra", "bin/kill"] {
        std::fs::write(at(program), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at(program), Permissions::from_mode(0o755)).unwrap();
    }
    let copy = |from: &Path, to: PathBuf| {
        let copied = Command::new("cp").arg("-rT").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(system, at("usr/lib/systemd/system"));
    copy(&packaging(), at("etc/systemd/system"));
    let analyze = |args: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let done = command.args(args).arg(format!("--root={}", root.path().display())).output().unwrap();
        let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (done.status.success(), said)
    };
    let units = ["exedra.socket", "exedra.service", EXECUTOR];
    let (with, said) = analyze(&[&["verify", "--man=no"], &units[..]].concat());
    assert!(with && said.is_empty(), "with all that is there to drop in: {said}");
    // In tenths; a unit with no hardening at all has 9.6.
    let (holds, said) = analyze(&["security", "--offline=yes", "--no-pager", "--threshold=20", "exedra.service"]);
    assert!(holds, "{said}");
    std::fs::remove_dir_all(at("etc/systemd/system").join(format!("{EXECUTOR}.d"))).unwrap();
    let (without, said) = analyze(&["verify", "--man=no", EXECUTOR]);
    assert!(without && said.is_empty(), "{said}");
}
