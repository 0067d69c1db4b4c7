//! Where there are no user namespaces: what Landlock and the filter alone must hold, tried in a process that has none.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{Rig, special};

/// Runs one test of this program, chosen by `args`, by a command that begins with `unshare`; nothing where that is not to be
/// arranged.
fn again(unshare: &[&str], args: &[&str]) {
    let within = |args: &[&OsStr]| Command::new("unshare").args(unshare).args(args).output();
    if !within(&["true".as_ref()]).is_ok_and(|output| output.status.success()) {
        return;
    }
    let test = std::env::current_exe().unwrap();
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let output = within(&[&[test.as_os_str()], &args[..]].concat()).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the ignored test `name` of this file where namespaces are not to be had.
fn without_namespaces(name: &str) {
    let without = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let name = format!("partial::{name}");
    again(&["-Ur", "sh", "-c", without, "sh"], &["--ignored", "--exact", "--nocapture", &name]);
}

/// A mount that hides another at its place, with flags of its own that may not be taken off.
#[test]
fn one_mount_above_another() {
    let namespaces = if rustix::process::geteuid().is_root() { "-pf" } else { "-rpf" };
    let unshare = [namespaces, "--mount-proc", "sh", "-c", "\"$@\"; exit $?", "sh"];
    again(&unshare, &["--exact", "run::a_workspace_is_written_to_and_nothing_else"]);
}

#[test]
fn what_landlock_does_not_know_is_refused() {
    without_namespaces("files_outside_keep_their_modes_times_and_attributes");
}

#[test]
fn nothing_outside_is_reached_by_number_or_by_signal() {
    without_namespaces("no_shared_memory_and_no_signal");
}

#[test]
fn the_executors_own_is_left_out_of_what_is_granted() {
    without_namespaces("own_state_is_not_read");
}

#[test]
fn control_groups_stay_as_they_are() {
    without_namespaces("no_control_group_is_written");
}

/// Each line of `script` in Python, with what it came to.
async fn python(rig: &Rig, sandbox: &Value, script: &str) -> Option<String> {
    Command::new("python3").arg("-c").arg("").status().ok().filter(|status| status.success())?;
    std::fs::write(rig.path("w/try.py"), script).unwrap();
    let story = rig.run(sandbox, "python3 try.py").await;
    assert_eq!(story.code, 0, "{story:?}");
    Some(story.output)
}

#[tokio::test]
#[ignore = "run by another one, without namespaces"]
async fn files_outside_keep_their_modes_times_and_attributes() {
    let rig = Rig::new();
    let script = r#"
import ctypes, os, fcntl
libc = ctypes.CDLL(None, use_errno=True)
f = os.environ['OUT'] + '/secret'
fd = os.open(f, os.O_RDONLY)
def attempt(name, act):
    try: act(); print(name, 'OK')
    except OSError as e: print(name, e.errno)
def call(number, *args):
    if libc.syscall(number, *args) == -1: raise OSError(ctypes.get_errno(), '')
attempt('chmod', lambda: os.chmod(f, 0o777))
attempt('fchmod', lambda: os.fchmod(fd, 0o777))
attempt('fchmodat2', lambda: call(452, -100, f.encode(), 0o777, 0))
attempt('chown', lambda: os.chown(f, 0, 0))
attempt('fchown', lambda: os.fchown(fd, 0, 0))
attempt('lchown', lambda: os.lchown(f, 0, 0))
attempt('utime', lambda: os.utime(f, (1, 1)))
attempt('futimens', lambda: os.utime(fd, (1, 1)))
attempt('utimes', lambda: call(235, f.encode(), 0))
attempt('setxattr', lambda: os.setxattr(f, b'user.x', b'y'))
attempt('fsetxattr', lambda: os.setxattr(fd, b'user.x', b'y'))
attempt('setxattrat', lambda: call(463, -100, f.encode(), 0, b'user.x', 0, 0))
attempt('removexattr', lambda: os.removexattr(f, b'user.z'))
attempt('chattr', lambda: fcntl.ioctl(fd, 0x40086602, b'\0' * 8))
attempt('write', lambda: open('new', 'w').write('x'))
attempt('mkdir', lambda: os.mkdir('dir', 0o755))
"#;
    let before = std::fs::metadata(rig.path("out/secret")).unwrap();
    for network in ["enabled", "restricted"] {
        let sandbox = rig.sandbox(network, &[special("root", "read")]);
        let Some(said) = python(&rig, &sandbox, script).await else { return };
        for line in said.lines() {
            let (name, what) = line.split_once(' ').unwrap();
            // What Landlock knows, it refuses in its own way.
            let known = ["write", "mkdir"].contains(&name);
            assert_eq!(what, if known { "13" } else { "1" }, "{name}: {said}");
        }
        assert_eq!(said.lines().count(), 16, "{said}");
    }
    use std::os::unix::fs::MetadataExt as _;
    let after = std::fs::metadata(rig.path("out/secret")).unwrap();
    let of =
        |metadata: &std::fs::Metadata| (metadata.mode(), metadata.mtime(), metadata.ctime(), metadata.ctime_nsec());
    assert_eq!(of(&before), of(&after));
}

#[tokio::test]
#[ignore = "run by another one, without namespaces"]
async fn no_shared_memory_and_no_signal() {
    let rig = Rig::new();
    let script = format!(
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        for n, args in [(29, (0, 4096, 0o1777)), (30, (0, 0, 0)), (68, (0, 0o1777)), (64, (0, 1, 0o1777)), (240, (b'x', 66, 0o600, 0))]:\n\
        \x20 print(libc.syscall(n, *args), ctypes.get_errno())\n\
        try: os.kill({}, 0); print('reached')\nexcept OSError as e: print('signal', e.errno)\n",
        std::process::id()
    );
    let mut free = rig.sandbox("restricted", &[]);
    free["permissions"]["file_system"] = serde_json::json!({"type": "unrestricted"});
    for sandbox in [free, rig.sandbox("restricted", &[special("root", "read")])] {
        let Some(said) = python(&rig, &sandbox, &script).await else { return };
        assert_eq!(said, "-1 1\n".repeat(5) + "signal 1\n");
    }
}

#[tokio::test]
#[ignore = "run by another one, without namespaces"]
async fn own_state_is_not_read() {
    let state = tempfile::Builder::new().prefix("exedra-own-").tempdir_in("/var/tmp").unwrap();
    for name in ["own", "other"] {
        std::fs::create_dir(state.path().join(name)).unwrap();
        std::fs::write(state.path().join(name).join("f"), name).unwrap();
    }
    let mut config = exedra_host::HostConfig::default();
    config.launcher = Some(env!("CARGO_BIN_EXE_exedra-launcher").into());
    config.own = vec![state.path().join("own")];
    let rig = Rig::with(config);
    let script = format!(
        "exec 2>&1; cd {}; cat other/f; ls; cat own/f; cat other/../own/f; cat /etc/hostname > /dev/null && echo end",
        state.path().display()
    );
    let story = rig.run(&rig.sandbox("restricted", &[special("root", "read")]), &script).await;
    assert!(story.output.starts_with("otherother\nown\n") && story.output.contains("\nend\n"), "{story:?}");
    assert_eq!(story.output.matches("ermission denied").count(), 2, "{story:?}");
}

#[tokio::test]
#[ignore = "run by another one, without namespaces"]
async fn no_control_group_is_written() {
    let rig = Rig::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        let group = line.split(' ').nth(4).unwrap();
        let alone = json!({"permissions": {"type": "external", "network": "restricted"}, "cwd": rig.text("w"),
            "workspaceRoots": [rig.text("w")], "windowsSandboxLevel": "disabled"});
        for sandbox in [alone, rig.sandbox("restricted", &[special("root", "write")])] {
            let script = format!("echo $$ > {group}/cgroup.procs; echo x > $W/x && cat $W/x");
            let story = rig.run(&sandbox, &script).await;
            assert!(story.output.contains("ermission denied") && story.output.contains("x\n"), "{sandbox}: {story:?}");
        }
    }
}
