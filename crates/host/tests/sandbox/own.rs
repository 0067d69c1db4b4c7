//! The executor's own state, and its view of processes: no file method and no sandboxed command reaches them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use exedra_host::HostConfig;
use exedra_host::fs::{Files, FsError};
use exedra_host::policy::{Current, Policy};
use serde_json::{Value, json};

use crate::rig::{Rig, special};

/// A rig, and a directory of the executor's own with a key in it, known to it by way of a link.
struct Owner {
    rig: Rig,
    state: tempfile::TempDir,
}

impl Owner {
    /// With `text` as the policy, read by way of the link `policy`, where `{dir}` is the rig's directory.
    fn new(text: Option<&str>) -> Self {
        let state = tempfile::Builder::new().prefix("exedra-own-").tempdir_in("/var/tmp").unwrap();
        let at = state.path();
        for name in ["above/own", "conf"] {
            std::fs::create_dir_all(at.join(name)).unwrap();
        }
        std::fs::write(at.join("above/own/identity"), "key").unwrap();
        symlink(at.join("above"), at.join("way")).unwrap();
        symlink(at.join("conf/policy.toml"), at.join("policy")).unwrap();
        let mut config = HostConfig::default();
        config.launcher = Some(env!("CARGO_BIN_EXE_exedra-launcher").into());
        config.own = vec![at.join("way/own")];
        let current = Current::default();
        config.policy = current.clone();
        let rig = Rig::with(config);
        if let Some(text) = text {
            std::fs::write(at.join("conf/policy.toml"), text.replace("{dir}", &rig.text(""))).unwrap();
            current.set(Policy::load(&at.join("policy")).unwrap());
        }
        std::fs::write(rig.path("w/file"), "file").unwrap();
        symlink(at.join("above/own/identity"), rig.path("w/key")).unwrap();
        Self { rig, state }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }
}

async fn read(files: &Files, path: &Path, sandbox: &Value) -> Result<Vec<u8>, FsError> {
    let params = serde_json::from_value(json!({"path": path, "sandbox": sandbox})).unwrap();
    files.read_file(params).await.map(|read| read.data_base64.decode().unwrap())
}

async fn write(files: &Files, path: &Path) -> Result<(), FsError> {
    files.write_file(serde_json::from_value(json!({"path": path, "dataBase64": "bmV3"})).unwrap()).await.map(drop)
}

async fn remove(files: &Files, path: &Path) -> Result<(), FsError> {
    let params = json!({"path": path, "recursive": true, "force": true});
    files.remove(serde_json::from_value(params).unwrap()).await.map(drop)
}

async fn open(files: &Files, path: &Path, mode: &str) -> Result<(), FsError> {
    let params = json!({"handleId": "h", "path": path, "mode": mode});
    files.open(serde_json::from_value(params).unwrap()).await.map(drop)
}

async fn upload(files: &Files, path: &Path) -> Result<(), FsError> {
    let params = json!({"handleId": "u", "path": path, "uploadId": "u", "size": 1});
    files.upload_open(serde_json::from_value(params).unwrap()).await.map(drop)
}

const LIST: &str =
    "[[commands]]\npath = \"/usr/bin/env\"\n[[commands]]\npath = \"/bin/cat\"\n[[commands]]\npath = \"/bin/cp\"\n";

#[tokio::test]
async fn under_a_policy_without_roots_no_file_method_reaches_it() {
    for text in [
        LIST,
        "[sandbox]\n",
        "read_only = false\n",
        "[[roots]]\npath = \"/\"\naccess = \"write\"\n[[roots]]\npath = \"/proc\"\naccess = \"write\"\n",
    ] {
        let owner = Owner::new(Some(text));
        let files = Files::new(owner.rig.host.clone());
        let pid = std::process::id();
        let mut kept: Vec<PathBuf> = ["above/own/identity", "way/own/identity", "conf/policy.toml", "policy"]
            .map(|name| owner.at(name))
            .to_vec();
        kept.push(owner.rig.path("w/key"));
        for name in ["self/mem", "self/environ", "thread-self/mem", "self/maps", "self/task/self/mem"] {
            kept.push(Path::new("/proc").join(name.replace("task/self", &format!("task/{pid}"))));
        }
        kept.push(format!("/proc/{pid}/mem").into());
        for path in &kept {
            let shown = path.display();
            let refused = read(&files, path, &Value::Null).await.unwrap_err();
            assert!(refused.text.starts_with("policy: "), "{shown}: {refused}");
            assert!(
                open(&files, path, "replace").await.is_err() && open(&files, path, "read").await.is_err(),
                "{shown}"
            );
            assert!(write(&files, path).await.is_err() && upload(&files, path).await.is_err(), "{shown}");
        }
        // What leads there is not taken away or replaced either.
        for name in ["above/own/identity", "above/own", "above", "conf", "policy", "conf/policy.toml"] {
            let refused = remove(&files, &owner.at(name)).await.unwrap_err();
            assert!(refused.text.starts_with("policy: "), "{name}: {refused}");
        }
        assert_eq!(std::fs::read_to_string(owner.at("policy")).unwrap(), text);
        assert_eq!(std::fs::read_to_string(owner.at("above/own/identity")).unwrap(), "key");
        // Everything else is as it was.
        let file = owner.rig.path("w/file");
        assert_eq!(read(&files, &file, &Value::Null).await.unwrap(), b"file");
        std::fs::hard_link(&file, owner.rig.path("w/other")).unwrap();
        let linked = write(&files, &file).await;
        assert_eq!(linked.is_ok(), !text.contains("roots"), "{linked:?}");
        assert_eq!(write(&files, &owner.rig.path("w/new")).await, Ok(()));
        assert_eq!(remove(&files, &owner.rig.path("w/new")).await, Ok(()));
    }
}

#[tokio::test]
async fn another_view_of_processes_is_none_either() {
    let owner = Owner::new(Some(LIST));
    let files = Files::new(owner.rig.host.clone());
    let at = owner.rig.path("w/proc");
    std::fs::create_dir(&at).unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "proc", "proc"]).arg(&at).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    let read = read(&files, &at.join("self/environ"), &Value::Null).await;
    let open = open(&files, &at.join("1/mem"), "replace").await;
    std::process::Command::new("umount").arg("-l").arg(&at).status().unwrap();
    assert!(read.unwrap_err().text.starts_with("policy: ") && open.unwrap_err().text.starts_with("policy: "));
}

#[tokio::test]
async fn without_a_policy_it_is_not_there_for_file_methods() {
    let owner = Owner::new(None);
    let files = Files::new(owner.rig.host.clone());
    let pid = std::process::id();
    let paths = [
        owner.at("above/own/identity"),
        owner.at("way/own/identity"),
        owner.rig.path("w/key"),
        "/proc/self/environ".into(),
        "/proc/self/mem".into(),
        format!("/proc/{pid}/task/{pid}/mem").into(),
    ];
    for path in &paths {
        let refused = read(&files, path, &Value::Null).await.unwrap_err();
        assert!(refused.text.starts_with("executor: "), "{}: {refused}", path.display());
        assert!(open(&files, path, "replace").await.is_err() && write(&files, path).await.is_err());
        assert!(upload(&files, path).await.is_err(), "{}", path.display());
    }
    assert!(remove(&files, &owner.at("way/own/identity")).await.is_err());
    assert_eq!(std::fs::read_to_string(owner.at("above/own/identity")).unwrap(), "key");
    assert!(read(&files, Path::new("/proc/self/status"), &Value::Null).await.is_ok(), "as stock does");
    let all = owner.rig.sandbox("enabled", &[special("root", "read")]);
    assert!(read(&files, &owner.at("above/own/identity"), &all).await.is_err());
    assert_eq!(read(&files, &owner.rig.path("out/secret"), &all).await.unwrap(), b"secret");
}

#[tokio::test]
async fn a_sandboxed_command_does_not_see_it() {
    let owner = Owner::new(None);
    for root in ["read", "write"] {
        let mut sandbox = owner.rig.sandbox("enabled", &[special("root", root)]);
        sandbox["permissions"]["network"] = json!("restricted");
        let script = format!(
            "cat {0}/above/own/identity {0}/way/own/identity key; echo x > {0}/above/own/identity; ls {0}/above/own; cat file",
            owner.state.path().display()
        );
        let story = owner.rig.run(&sandbox, &script).await;
        assert!(!story.output.contains("key\n") && story.output.contains("file"), "{root}: {story:?}");
        assert!(story.output.matches("ermission denied").count() >= 3, "{root}: {story:?}");
    }
    assert_eq!(std::fs::read_to_string(owner.at("above/own/identity")).unwrap(), "key");
    assert_eq!(owner.rig.run(&Value::Null, "cat key").await.output, "key", "the test can tell");
}

#[tokio::test]
async fn a_listed_command_does_not_see_it_nor_the_policy() {
    let owner = Owner::new(Some(LIST));
    for path in ["above/own/identity", "policy", "conf/policy.toml"] {
        let path = owner.at(path);
        let story = owner.rig.start(&Value::Null, json!({"argv": ["cat", path]})).await.unwrap();
        assert!(story.code != 0 && story.output.contains("ermission denied"), "{}: {story:?}", path.display());
        let story = owner.rig.start(&Value::Null, json!({"argv": ["cp", "file", path]})).await.unwrap();
        assert!(story.code != 0, "{}: {story:?}", path.display());
    }
    assert_eq!(std::fs::read_to_string(owner.at("policy")).unwrap(), LIST);
}

/// Not even for a moment: file methods and the next sandbox know it by its name.
#[tokio::test]
async fn nobody_in_a_sandbox_moves_what_holds_it() {
    for text in ["[sandbox]\n", "[[roots]]\npath = \"/\"\naccess = \"write\"\n"] {
        let owner = Owner::new(Some(text));
        let top = owner.state.path().display();
        for (from, to) in [(format!("{top}/above"), format!("{top}/moved")), (format!("{top}"), format!("{top}-moved"))]
        {
            let story = owner.rig.run(&Value::Null, &format!("mv {from} {to}")).await;
            assert!(story.code != 0 && story.output.contains("busy"), "{text}: {story:?}");
        }
        let beside = format!("mkdir {top}/other && mv {top}/other {top}/another && ls {top}");
        let story = owner.rig.run(&Value::Null, &beside).await;
        assert!(story.code == 0 && story.output.contains("another"), "what lies beside may be: {story:?}");
        assert!(owner.at("above/own/identity").exists());
    }
}

/// What is read there is believed, at the next start.
#[tokio::test]
async fn nobody_in_a_sandbox_makes_what_is_the_executors_own() {
    let home = tempfile::Builder::new().prefix("exedra-home-").tempdir_in("/var/tmp").unwrap();
    let mut config = HostConfig::default();
    config.launcher = Some(env!("CARGO_BIN_EXE_exedra-launcher").into());
    config.own_directories = vec![home.path().join(".config/exedra")];
    let rig = Rig::with(config);
    let sandbox = rig.sandbox("enabled", &[special("root", "read"), crate::rig::entry(home.path(), "write")]);
    let at = home.path().display();
    let story =
        rig.run(&sandbox, &format!("echo x > {at}/.config/exedra/config.toml; echo x > {at}/.config/other")).await;
    assert!(story.code == 0 && story.output.contains("ermission denied"), "{story:?}");
    assert_eq!(std::fs::read_dir(home.path().join(".config/exedra")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_the_owner_moves_stays_covered() {
    let owner = Owner::new(Some("[sandbox]\n"));
    std::fs::rename(owner.at("above"), owner.at("moved")).unwrap();
    let story = owner.rig.run(&Value::Null, &format!("cat {}/moved/own/identity", owner.state.path().display())).await;
    assert!(story.code != 0 && story.output.contains("ermission denied"), "{story:?}");
    let files = Files::new(owner.rig.host.clone());
    assert!(read(&files, &owner.at("moved/own/identity"), &Value::Null).await.is_err());
}

/// What cannot be made is not begun: an empty file there could be taken for a key.
#[tokio::test]
async fn nothing_is_made_there() {
    let owner = Owner::new(None);
    let files = Files::new(owner.rig.host.clone());
    symlink(owner.at("above/own/new"), owner.rig.path("w/ahead")).unwrap();
    for path in [owner.at("above/own/new"), owner.at("way/own/new"), owner.rig.path("w/ahead")] {
        let refused = write(&files, &path).await.unwrap_err();
        assert!(refused.text.starts_with("executor: "), "{}: {refused}", path.display());
        assert!(open(&files, &path, "replace").await.is_err());
        assert!(upload(&files, &path).await.is_err());
    }
    for recursive in [false, true] {
        let params = json!({"path": owner.at("way/own/new"), "recursive": recursive});
        assert!(files.create_directory(serde_json::from_value(params).unwrap()).await.is_err());
    }
    let params = json!({"sourcePath": owner.rig.path("w/key"), "destinationPath": owner.at("way/own/new"),
        "recursive": false});
    assert!(files.copy(serde_json::from_value(params).unwrap()).await.is_err());
    let names = std::fs::read_dir(owner.at("above/own")).unwrap();
    assert_eq!(names.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["identity"]);
    write(&files, &owner.rig.path("w/new")).await.unwrap();
}

#[tokio::test]
async fn the_variables_of_a_thread_are_those_of_the_executor() {
    let owner = Owner::new(None);
    let files = Files::new(owner.rig.host.clone());
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let number = thread.unwrap().file_name().into_string().unwrap();
        let refused = read(&files, &Path::new("/proc").join(number).join("environ"), &Value::Null).await.unwrap_err();
        assert!(refused.text.starts_with("executor: ") || refused.text.contains("No such"), "{refused}");
    }
}

/// Limits are held by control groups.
#[tokio::test]
async fn control_groups_are_not_changed_by_file_methods() {
    let root = "[[roots]]\npath = \"/\"\naccess = \"write\"\n";
    for text in ["[sandbox]\n", root] {
        let owner = Owner::new(Some(text));
        let files = Files::new(owner.rig.host.clone());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
            let group = Path::new(line.split(' ').nth(4).unwrap());
            let refused = write(&files, &group.join("cgroup.procs")).await.unwrap_err();
            assert!(refused.text.contains("control group"), "{text}: {refused}");
            assert!(open(&files, &group.join("cgroup.procs"), "replace").await.is_err());
            let params = json!({"path": group.join("exedra-made"), "recursive": false});
            assert!(files.create_directory(serde_json::from_value(params).unwrap()).await.is_err());
            read(&files, &group.join("cgroup.procs"), &Value::Null).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_directory_whose_parent_has_no_rule_is_not_removed_without_a_word() {
    let owner = Owner::new(None);
    let files = Files::new(owner.rig.host.clone());
    let sandbox = owner.rig.sandbox("enabled", &[special("project_roots", "write")]);
    let params = json!({"path": owner.rig.path("w"), "recursive": true, "force": true, "sandbox": sandbox});
    let refused = files.remove(serde_json::from_value(params).unwrap()).await.unwrap_err();
    assert_eq!(refused.text, "Device or resource busy (os error 16)");
    assert!(owner.rig.path("w/file").exists());
}

/// What was never given a name is nothing that Landlock could look at.
#[tokio::test]
async fn a_listed_interpreter_executes_nothing_that_it_made_in_memory() {
    let Ok(python) =
        std::fs::canonicalize("/usr/bin/python3").or_else(|_| std::fs::canonicalize("/usr/local/bin/python3"))
    else {
        return;
    };
    let policy = format!("[[commands]]\npath = {python:?}\n");
    let owner = Owner::new(Some(&policy));
    let script = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
data = open('/bin/cat', 'rb').read()
def memory(flags):
    fd = libc.memfd_create(b'x', flags)
    if fd < 0: print('refused', ctypes.get_errno()); return
    os.write(fd, data)
    for path in [f'/proc/self/fd/{fd}', fd]:
        if os.fork() == 0:
            try: os.execve(path, ['cat', '/etc/passwd'], {})
            except OSError as e: print('no', e.errno, flush=True)
            os._exit(0)
        os.wait()
def tmpfile(directory):
    try: fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o700)
    except OSError as e: print('none', e.errno); return
    os.write(fd, data)
    ro = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)
    os.close(fd)
    for path in [f'/proc/self/fd/{ro}', ro]:
        if os.fork() == 0:
            try: os.execve(path, ['cat', '/etc/passwd'], {})
            except OSError as e: print('no', e.errno, flush=True)
            os._exit(0)
        os.wait()
for flags in [0, 1, 2, 16]: memory(flags)
memory(8)
for directory in ['.', '/dev/shm', '/tmp']: tmpfile(directory)
print('end')
"#;
    std::fs::write(owner.rig.path("w/try.py"), script).unwrap();
    let story = owner.rig.start(&Value::Null, json!({"argv": [python, "try.py"]})).await.unwrap();
    assert!(!story.output.contains("root:") && story.output.ends_with("end\n"), "{story:?}");
    assert!(story.output.starts_with("refused 1\nrefused 1\nrefused 1\nrefused 1\n"), "{story:?}");
}

/// Whoever may write there moves itself out of the group that holds it to its limits.
#[tokio::test]
async fn control_groups_are_not_changed_from_within() {
    let owner = Owner::new(Some("[sandbox]\n"));
    let groups = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at: Vec<&str> =
        groups.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4)).collect();
    for group in at {
        let write = rustix::fs::access(Path::new(group).join("cgroup.procs").as_path(), rustix::fs::Access::WRITE_OK);
        if write.is_err() {
            continue;
        }
        let whole =
            owner.rig.sandbox("enabled", &[special("root", "write"), crate::rig::entry(Path::new(group), "write")]);
        for sandbox in [Value::Null, whole] {
            let story = owner.rig.run(&sandbox, &format!("echo $$ > {group}/cgroup.procs")).await;
            assert!(story.code != 0 && story.output.contains("ead-only"), "{group}: {story:?}");
        }
    }
}
