use std::process::{Child, Command};

use super::*;

/// Says so and is false where no such group can be made.
fn possible(made: &Result<Group, Unavailable>, tree: bool) -> bool {
    match made {
        Ok(group) if !tree || group.tree.is_some() => true,
        Ok(_) => {
            eprintln!("skipped: no control groups of version 2 can be made here");
            false
        }
        Err(Unavailable(why)) => {
            eprintln!("skipped: {why}");
            false
        }
    }
}

/// A process in all directories of `group`.
fn sleeper(group: &Group) -> Child {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    for directory in group.directories() {
        write(&directory.path, "cgroup.procs", &child.id().to_string()).unwrap();
    }
    child
}

#[test]
fn an_empty_group_is_used_again_and_goes_with_the_site() {
    let site = Site::find();
    let made = site.make(Bounds::default());
    if !possible(&made, true) {
        return;
    }
    let path = made.unwrap().tree.as_ref().unwrap().path.clone();
    assert!(path.exists(), "kept");
    assert_eq!(site.make(Bounds::default()).unwrap().tree.as_ref().unwrap().path, path);
    drop(site);
    assert!(!path.exists());
}

#[test]
fn what_is_in_a_group_is_killed_with_it() {
    let site = Site::find();
    for bounds in [Bounds::default(), Bounds { memory: Some(64 << 20), processes: Some(10), cpu: true }] {
        let made = site.make(bounds);
        if !possible(&made, true) {
            return;
        }
        let group = made.unwrap();
        let directories: Vec<Directory> = group.directories().cloned().collect();
        let mut child = sleeper(&group);
        assert!(group.is_populated());
        assert!(!group.ran_out_of_memory() && !group.ran_out_of_processes());
        assert_eq!(group.cpu_time().is_some(), bounds.cpu);
        drop(group);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
        // The next that is taken back takes the emptied ones along.
        drop(site.make(Bounds { processes: Some(10), ..Bounds::default() }));
        assert!(directories.iter().all(|directory| !directory.path.exists()));
    }
}

#[test]
fn the_groups_of_the_dead_are_swept() {
    let site = Site::find();
    let made = site.make(Bounds::default());
    if !possible(&made, true) {
        return;
    }
    // Below a directory of the test's own: whoever starts meanwhile sweeps too.
    let own = site.own.unified.as_ref().unwrap().join(format!("sweep-test-{}", std::process::id()));
    let space = namespace();
    // Number 1 lives, but started at another time.
    let (dead, foreign) = (own.join(format!("{PREFIX}-{space}-1-999")), own.join(format!("{PREFIX}-{space}9-1-999")));
    for path in [&dead, &foreign] {
        fs::create_dir_all(path.join("7")).unwrap();
    }
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    write(&dead.join("7"), "cgroup.procs", &child.id().to_string()).unwrap();
    sweep(Version::Two, &own, &space);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
    sweep(Version::Two, &own, &space);
    assert!(!dead.exists());
    assert!(foreign.exists(), "of another number space");
    assert!(made.unwrap().tree.as_ref().unwrap().path.exists(), "ours");
    fs::remove_dir(foreign.join("7")).unwrap();
    fs::remove_dir(foreign).unwrap();
    fs::remove_dir(own).unwrap();
}

#[test]
fn a_limit_that_cannot_be_held_is_refused() {
    let nowhere = Site {
        own: find::Own::default(),
        home: "x".into(),
        unified: AtomicBool::new(false),
        controllers: false,
        spare: Mutex::default(),
        leftover: Mutex::default(),
    };
    let nowhere = Arc::new(nowhere);
    let made = |bounds| nowhere.make(bounds).map(drop);
    let plain = Bounds::default();
    assert_eq!(made(plain), Ok(()));
    assert_eq!(made(Bounds { cpu: true, ..plain }), Ok(()));
    let why = |what: &str| {
        let text = "cannot be held here: no control group that could has been delegated to the executor";
        Err(Unavailable(format!("the limit on {what} {text}")))
    };
    assert_eq!(made(Bounds { memory: Some(1 << 20), ..plain }), why("memory"));
    assert_eq!(made(Bounds { processes: Some(1), ..plain }), why("processes"));
}

#[test]
fn the_group_from_before_stepping_aside() {
    let before = |own: &str, home| before_stepping_aside(own.into(), home);
    assert_eq!(before("/c/unit/exedra-1-2-3/executor", Some("exedra-1-2-3")), Path::new("/c/unit"));
    for (own, home) in [("/c/exedra-9-9-9/executor", Some("exedra-1-2-3")), ("/c/unit", Some("unit")), ("/", None)] {
        assert_eq!(before(own, home), Path::new(own));
    }
}
