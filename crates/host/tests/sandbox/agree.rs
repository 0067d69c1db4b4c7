//! A command in a sandbox and the `fs` methods under the same one: what the one may, the others may, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use exedra_host::fs::Files;
use exedra_proto::fs::{PathParams, WriteFileParams};
use serde_json::{Value, json};

use crate::rig::{Rig, entry, special};

/// Below the directory of the rig.
const DIRECTORIES: [&str; 6] = ["w", "w/a", "w/a/b", "w/a/b/c", "w/d", "out"];

/// Sandboxes to try; all of them under `cargo xtask soak`.
fn cases() -> u64 {
    std::env::var("EXEDRA_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// Some entries: programs can be run, and the rest is chance.
fn entries(rig: &Rig, dice: &mut Dice) -> Vec<Value> {
    let mut entries = vec![special("minimal", "read")];
    match dice.one_of(&["nothing", "read", "read", "write"]) {
        "nothing" => {}
        access => entries.push(special("root", access)),
    }
    for _ in 0..dice.below(5) {
        let directory = dice.one_of(&DIRECTORIES);
        let file = format!("{directory}/f");
        let path = dice.one_of(&[directory, directory, &file]).to_owned();
        entries.push(entry(&rig.path(&path), dice.one_of(&["read", "write", "deny"])));
    }
    if dice.below(3) == 0 {
        entries.push(special("project_roots", "write"));
    }
    entries
}

/// What a shell may: `r` and `w` for each file, `n` for a new one in each directory.
async fn of_command(rig: &Rig, sandbox: &Value) -> BTreeSet<String> {
    let script = "for d in $DIRECTORIES; do \
        cat \"$AT/$d/f\" >/dev/null 2>&1 && echo \"r $d\"; \
        (printf f > \"$AT/$d/f\") 2>/dev/null && echo \"w $d\"; \
        (: > \"$AT/$d/new\") 2>/dev/null && rm \"$AT/$d/new\" && echo \"n $d\"; \
        done; true";
    let env = json!({"PATH": "/usr/bin:/bin", "AT": rig.text(""), "DIRECTORIES": DIRECTORIES.join(" ")});
    let over = json!({"argv": ["/bin/sh", "-c", script], "cwd": "/", "env": env});
    let story = rig.start(sandbox, over).await.unwrap();
    story.output.lines().map(str::to_owned).collect()
}

/// The same for the methods.
async fn of_methods(rig: &Rig, sandbox: &Value) -> BTreeSet<String> {
    let files = Files::new(Arc::clone(&rig.host));
    let mut may = BTreeSet::new();
    for directory in DIRECTORIES {
        let at = |name: &str| rig.path(&format!("{directory}/{name}"));
        let look =
            |name| -> PathParams { serde_json::from_value(json!({"path": at(name), "sandbox": sandbox})).unwrap() };
        let write = |name, text: &str| -> WriteFileParams {
            serde_json::from_value(json!({"path": at(name), "dataBase64": text, "sandbox": sandbox})).unwrap()
        };
        if files.read_file(look("f")).await.is_ok() {
            may.insert(format!("r {directory}"));
        }
        if files.write_file(write("f", "Zg==")).await.is_ok() {
            may.insert(format!("w {directory}"));
        }
        if files.write_file(write("new", "")).await.is_ok() {
            let remove = json!({"path": at("new"), "force": false, "sandbox": sandbox});
            files.remove(serde_json::from_value(remove).unwrap()).await.unwrap();
            may.insert(format!("n {directory}"));
        }
    }
    may
}

#[tokio::test]
async fn commands_and_methods_may_the_same() {
    let rig = Rig::new();
    for directory in DIRECTORIES {
        fs::create_dir_all(rig.path(directory)).unwrap();
        fs::write(rig.path(directory).join("f"), "f").unwrap();
    }
    let (mut some, mut all) = (BTreeSet::new(), None);
    for case in 0..cases() {
        let entries = entries(&rig, &mut Dice(case));
        let sandbox = rig.sandbox("restricted", &entries);
        let (command, methods) = (of_command(&rig, &sandbox).await, of_methods(&rig, &sandbox).await);
        assert_eq!(command, methods, "case {case}: {entries:#?}");
        all = Some(all.map_or_else(|| command.clone(), |all: BTreeSet<_>| &all & &command));
        some.extend(command);
    }
    // Everything was allowed at some time, and nothing always: the cases tell something.
    assert_eq!((some.len(), all.map(|all| all.len())), (3 * DIRECTORIES.len(), Some(0)));
}
