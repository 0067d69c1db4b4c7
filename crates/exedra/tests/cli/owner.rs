//! Root, and the data directory of a server that runs as somebody else, as under a unit with `DynamicUser=`.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Finished, Running, exedra, exedra_at, run};

const USER: u32 = 61_234;

/// A directory that root alone may enter, and in it one of that user, with a link to it, as systemd has it.
struct Machine {
    dir: TempDir,
    data: PathBuf,
}

impl Machine {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root works on what is another's");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("private");
        DirBuilder::new().mode(0o700).create(&private).unwrap();
        DirBuilder::new().mode(0o700).create(private.join("exedra")).unwrap();
        chown(private.join("exedra"), Some(USER), Some(USER)).unwrap();
        let data = dir.path().join("exedra");
        symlink("private/exedra", &data).unwrap();
        Some(Self { dir, data })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Finished {
        let done = run(exedra(args).arg("--data-dir").arg(&self.data));
        self.all_are_theirs(&self.data);
        done
    }

    fn all_are_theirs(&self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().uid(), USER, "{}", entry.path().display());
        }
    }

    /// `serve` as the unit's user, in a place that it can reach.
    fn serve(&self) -> (Running, String) {
        std::fs::set_permissions(self.dir.path(), Permissions::from_mode(0o711)).unwrap();
        std::fs::set_permissions(self.at("private"), Permissions::from_mode(0o711)).unwrap();
        let (here, program) = (env!("CARGO_BIN_EXE_exedra"), self.at("program"));
        if !program.exists() && std::fs::hard_link(here, &program).is_err() {
            std::fs::copy(here, &program).unwrap();
        }
        let mut command = exedra_at(&program, &["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        let server = Running::start(command.arg(&self.data).uid(USER).gid(USER).current_dir("/"));
        let url = server.line();
        std::fs::set_permissions(self.at("private"), Permissions::from_mode(0o700)).unwrap();
        (server, url)
    }
}

fn token(done: &Finished) -> String {
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.out().trim_end().to_owned()
}

#[test]
fn root_works_on_the_directory_of_a_server_that_is_somebody_elses() {
    let Some(machine) = Machine::new() else { return };
    let (server, url) = machine.serve();
    let admin = token(&machine.run(&["token", "create", "--role", "admin"]));
    let keys = run(exedra(&["keys", "list", "--server", &url]).env("EXEDRA_TOKEN", &admin));
    assert_eq!(keys.code, 0, "{}", keys.stderr);
    let list: Value = serde_json::from_str(machine.run(&["token", "list", "--json"]).out()).unwrap();
    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(machine.run(&["token", "show", id]).code, 0);
    let doctor = machine.run(&["doctor", "--json"]);
    let found: Vec<Value> = serde_json::from_str(doctor.out()).unwrap();
    let bad = found.iter().filter(|found| found["works"] == false && found["name"] != "disk");
    assert_eq!(bad.count(), 0, "{}", doctor.out());

    let backups = machine.at("backups");
    DirBuilder::new().mode(0o700).create(&backups).unwrap();
    let backup = backups.join("one");
    let target = backup.to_str().unwrap();
    let saved = machine.run(&["backup", target]);
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    assert_eq!(std::fs::read_dir(&backups).unwrap().count(), 1, "nothing is left beside it");
    let metadata = std::fs::metadata(&backup).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o700), "a backup is of whoever took it");
    for entry in std::fs::read_dir(&backup).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), 0);
    }
    let again = machine.run(&["backup", target]);
    assert!(again.code == 255 && again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(server.stop().code, 0);

    let theirs = machine.at("private/exedra");
    std::fs::rename(&theirs, machine.at("private/before")).unwrap();
    DirBuilder::new().mode(0o700).create(&theirs).unwrap();
    chown(&theirs, Some(USER), Some(USER)).unwrap();
    let restored = machine.run(&["restore", target]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let (server, url) = machine.serve();
    let keys = run(exedra(&["keys", "list", "--server", &url]).env("EXEDRA_TOKEN", &admin));
    assert_eq!(keys.code, 0, "{}", keys.stderr);
    assert_eq!(machine.run(&["token", "revoke", id]).code, 0);
    assert_eq!(server.stop().code, 0);
}

#[test]
fn what_is_in_their_directory_leads_root_nowhere() {
    let Some(machine) = Machine::new() else { return };
    let precious = machine.at("precious");
    std::fs::write(&precious, "as it was").unwrap();
    for name in ["setup.lock", "registry.db"] {
        let link = machine.data.join(name);
        symlink(&precious, &link).unwrap();
        let refused = run(exedra(&["token", "create", "--role", "admin", "--data-dir"]).arg(&machine.data));
        assert_eq!((refused.code, refused.out()), (255, ""), "{name}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "as it was", "{name}");
        std::fs::remove_file(link).unwrap();
    }
}

#[test]
fn nobody_else_becomes_another() {
    let Some(machine) = Machine::new() else { return };
    let done = run(exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&machine.data));
    assert!(done.code == 255 && done.stderr.contains("belongs to another user"), "{}", done.stderr);
}
