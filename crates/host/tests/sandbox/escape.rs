//! What must not work within a sandbox, each tried for real.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exedra_host::process::StartError;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::rig::{Rig, entry, glob, special};

#[tokio::test]
async fn links_and_dots_do_not_lead_out() {
    let rig = Rig::new();
    std::os::unix::fs::symlink(rig.path("out"), rig.path("w/link")).unwrap();
    let script = "echo x > link/f; echo x > ../out/f; ln -s $OUT l && echo x > l/f; ln $OUT/secret hard && echo x > hard; \
        ln f2 $OUT/f3; mv $OUT/secret stolen; true";
    let story = rig.run(&rig.workspace(&[]), script).await;
    assert_eq!(std::fs::read_to_string(rig.path("out/secret")).unwrap(), "secret", "{}", story.output);
    assert_eq!(std::fs::read_dir(rig.path("out")).unwrap().count(), 1, "{}", story.output);
}

#[tokio::test]
async fn the_roots_of_other_processes_are_out_of_reach() {
    let rig = Rig::new();
    let pid = std::process::id();
    let script = format!(
        "exec 2> /dev/null; echo x > /proc/self/root$OUT/f; echo x > /proc/{pid}/root$OUT/f; ls /proc/{pid}/root; \
        for p in /proc/[0-9]*; do echo x > $p/root$OUT/f; done; ls -d /proc/[0-9]* | wc -l; kill -9 {pid}"
    );
    let story = rig.run(&rig.workspace(&[]), &script).await;
    assert!(!rig.path("out/f").exists(), "{}", story.output);
    let seen: usize = story.output.lines().find_map(|line| line.trim().parse().ok()).unwrap();
    assert!(seen < 8, "{}", story.output);
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    let rig = Rig::new();
    let _open = std::fs::File::open(rig.path("out")).unwrap();
    let story = rig.run(&rig.workspace(&[]), "ls /proc/self/fd").await;
    let numbers: Vec<u32> = story.output.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    assert!(!numbers.is_empty() && numbers.iter().all(|number| *number <= 3), "{}", story.output);
}

#[tokio::test]
async fn what_is_protected_stays_as_it_is_present_or_absent() {
    let rig = Rig::new();
    std::fs::create_dir(rig.path("w/.git")).unwrap();
    std::fs::write(rig.path("w/.git/HEAD"), "ref").unwrap();
    let script = "echo x > .git/HEAD; echo x > .git/new; rm -rf .git; mv .git .git2; mkdir .codex; mkdir -p .codex/x; \
        echo x > .codex/config.toml; rmdir .codex; mv .codex y; ln -s /tmp .agents; true";
    let story = rig.run(&rig.workspace(&[]), script).await;
    assert_eq!(std::fs::read_to_string(rig.path("w/.git/HEAD")).unwrap(), "ref", "{}", story.output);
    assert_eq!(std::fs::read_dir(rig.path("w/.git")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(rig.path("w")).unwrap().count(), 1, "{}", story.output);
}

#[tokio::test]
async fn what_is_denied_below_what_is_readable_is_not_read() {
    let rig = Rig::new();
    for name in ["w/a.pem", "w/d/b.pem", "out/dir/f"] {
        std::fs::create_dir_all(rig.path(name).parent().unwrap()).unwrap();
        std::fs::write(rig.path(name), "hidden").unwrap();
    }
    let more = [entry(&rig.path("out/secret"), "deny"), entry(&rig.path("out/dir"), "none"), glob("**/*.pem", "deny")];
    let script = "cat $OUT/secret $OUT/dir/f a.pem d/b.pem; ls $OUT/dir; mv d e && cat e/b.pem; ln a.pem c; cp a.pem c2; \
        umount $OUT/dir; echo done";
    let story = rig.run(&rig.workspace(&more), script).await;
    assert!(story.output.contains("done") && story.output.contains("Permission denied"), "{}", story.output);
    assert!(!story.output.contains("hidden") && !story.output.contains("secret\n"), "{}", story.output);
}

#[tokio::test]
async fn no_right_is_to_be_had() {
    let rig = Rig::new();
    let story = rig.run(&rig.workspace(&[]), "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").await;
    for line in story.output.lines() {
        let (name, value) = line.split_once(':').unwrap();
        let expected = match name {
            "NoNewPrivs" => "1",
            "Seccomp" => "2",
            _ => "0000000000000000",
        };
        assert_eq!(value.trim(), expected, "{name}");
    }
    assert_eq!(story.output.lines().count(), 7, "{}", story.output);
    let script = "unshare -U true; unshare -m true; unshare -r mount -t tmpfs none /mnt; mount -t tmpfs none /mnt; \
        nsenter -t 1 -m true; chroot / true; mknod n b 8 0; echo x > /proc/sys/kernel/hostname; echo done";
    let story = rig.run(&rig.workspace(&[]), script).await;
    let no = ["not permitted", "ermission denied", "Read-only", "must be superuser", "cannot change root"];
    let refused = story.output.lines().filter(|line| no.iter().any(|no| line.contains(no))).count();
    assert!((8..=9).contains(&refused) && story.output.contains("done"), "{}", story.output);
}

#[tokio::test]
async fn nothing_outlives_the_command() {
    let rig = Rig::new();
    let script = "(setsid sh -c '(sleep 1000 & echo $! > pid; exec sleep 1000) &' &) ; \
        while ! test -s pid; do sleep 0.01; done; readlink /proc/self/ns/pid";
    let story = rig.run(&rig.workspace(&[]), script).await;
    let namespace = story.output.trim().to_owned();
    assert!(namespace.starts_with("pid:["), "{namespace}");
    let left = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|entry| {
        std::fs::read_link(entry.path().join("ns/pid")).is_ok_and(|link| link.as_os_str() == namespace.as_str())
    });
    assert_eq!(left.count(), 0);
}

/// System calls that no shell makes; without Python there is nothing to try them with.
#[tokio::test]
async fn system_calls_that_widen_rights_are_refused() {
    let script = r#"
import ctypes, errno, socket, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    print(name, errno.errorcode.get(ctypes.get_errno(), 'OK') if result == -1 else 'OK')
call('io_uring_setup', 425, 1, 0)
call('bpf', 321, 0, 0, 0)
call('userfaultfd', 323, 0)
call('keyctl', 250, 0, 0)
call('ptrace', 101, 16, 1, 0, 0)
call('process_vm_readv', 310, 1, 0, 0, 0, 0, 0)
call('open_by_handle_at', 304, 0, 0, 0)
call('setns', 308, 0, 0)
call('unshare_user', 272, 0x10000000)
call('clone_user', 56, 0x10000000 | 17, 0, 0, 0, 0)
call('clone3', 435, 0, 0)
call('x32_getpid', 0x40000000 | 39)
call('tiocsti', 16, 0, 0x5412, 0)
call('tiocsti_high', 16, 0, 0x100005412, 0)
def sock(name, *args):
    try:
        socket.socket(*args); print(name, 'OK')
    except OSError as e:
        print(name, errno.errorcode[e.errno])
sock('unix', socket.AF_UNIX, socket.SOCK_STREAM)
sock('unix_dgram', socket.AF_UNIX, socket.SOCK_DGRAM)
sock('vsock', 40, socket.SOCK_STREAM)
sock('packet', socket.AF_PACKET, socket.SOCK_RAW)
sock('alg', 38, 5)
sock('inet', socket.AF_INET, socket.SOCK_STREAM)
def pair(name, kind):
    try:
        socket.socketpair(socket.AF_UNIX, kind); print(name, 'OK')
    except OSError as e:
        print(name, errno.errorcode[e.errno])
pair('pair_stream', socket.SOCK_STREAM)
pair('pair_dgram', socket.SOCK_DGRAM)
pair('pair_raw', socket.SOCK_RAW)
t = threading.Thread(target=lambda: print('thread OK')); t.start(); t.join()
"#;
    if !cfg!(target_arch = "x86_64") || std::process::Command::new("python3").arg("-c").arg("").status().is_err() {
        return;
    }
    let rig = Rig::new();
    std::fs::write(rig.path("w/try.py"), script).unwrap();
    let story = rig.run(&rig.workspace(&[]), "python3 try.py").await;
    let said = |name: &str| {
        let line = story.output.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("{name}: {}", story.output)).split(' ').nth(1).unwrap().to_owned()
    };
    for name in [
        "io_uring_setup",
        "bpf",
        "userfaultfd",
        "keyctl",
        "ptrace",
        "process_vm_readv",
        "open_by_handle_at",
        "setns",
        "unshare_user",
        "clone_user",
        "tiocsti",
        "tiocsti_high",
        "unix",
        "unix_dgram",
        "vsock",
        "packet",
        "alg",
        "pair_dgram",
        "pair_raw",
    ] {
        assert_eq!(said(name), "EPERM", "{name}");
    }
    assert_eq!([said("clone3"), said("x32_getpid")], ["ENOSYS", "ENOSYS"]);
    for name in ["inet", "pair_stream", "thread"] {
        assert_eq!(said(name), "OK", "{name}");
    }
}

#[tokio::test]
async fn sockets_outside_are_not_reached() {
    if std::process::Command::new("python3").arg("-c").arg("").status().is_err() {
        return;
    }
    let rig = Rig::new();
    let file = rig.path("w/docker.sock");
    let _named = std::os::unix::net::UnixListener::bind(&file).unwrap();
    let name = format!("exedra-sandbox-{}", std::process::id());
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let script = format!(
        "import socket\nfor a in ['docker.sock', '\\0{name}']:\n  try:\n    s = socket.socket(socket.AF_UNIX); s.connect(a); \
        print('reached', a)\n  except OSError as e: print('refused', e.errno)\n"
    );
    std::fs::write(rig.path("w/try.py"), script).unwrap();
    let story = rig.run(&rig.workspace(&[]), "python3 try.py").await;
    assert_eq!(story.output, "refused 1\nrefused 1\n");
    let open = rig.sandbox("enabled", &[special("root", "read")]);
    assert_eq!(rig.run(&open, "python3 try.py").await.output.matches("reached").count(), 2, "the test can tell");
}

/// The calls of i386 by `int 0x80`, from a program of 64 bits. A kernel that has none ends the program by itself.
#[tokio::test]
async fn system_calls_of_another_machine_type_end_the_process() {
    let script = "import ctypes, mmap, os\n\
        m = mmap.mmap(-1, 4096, prot=7)\n\
        m.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n\
        f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n\
        print('began', flush=True)\n\
        print(f() == os.getpid())\n";
    let python = std::process::Command::new("python3").args(["-c", script]).output();
    let Ok(outside) = python else { return };
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let known = outside.stdout == b"began\nTrue\n";
    let rig = Rig::new();
    std::fs::write(rig.path("w/try.py"), script).unwrap();
    let story = rig.run(&rig.workspace(&[]), "exec python3 try.py").await;
    assert_eq!(story.output, "began\n");
    // SIGSYS of the filter, or SIGSEGV where the kernel does not know the instruction.
    assert_eq!(story.code, if known { 159 } else { 139 }, "known: {known}");
}

/// Rounds of the race; all of them under `cargo xtask soak`.
fn rounds() -> usize {
    std::env::var("EXEDRA_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

#[tokio::test]
async fn a_link_that_takes_the_place_of_something_protected_during_a_start_opens_nothing() {
    let rig = Rig::new();
    let (git, other) = (rig.path("w/.git"), rig.path("w/other"));
    std::fs::create_dir(&git).unwrap();
    std::fs::write(git.join("HEAD"), "ref").unwrap();
    std::os::unix::fs::symlink(rig.path("w"), &other).unwrap();
    let swapping = Arc::new(AtomicBool::new(true));
    let swapper = std::thread::spawn({
        let swapping = Arc::clone(&swapping);
        move || {
            let swap = || renameat_with(CWD, &git, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            while swapping.load(Ordering::Relaxed) {
                swap();
                swap();
            }
        }
    });
    // Whatever is at the name when the command begins, it is not written through.
    let script = "test -L .git || echo x > .git/HEAD; test -L .git || echo x > .git/new; true";
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..rounds() {
        match rig.start(&rig.workspace(&[]), json!({"argv": ["/bin/sh", "-c", script]})).await {
            Ok(_) => ran += 1,
            Err(StartError::SandboxUnavailable) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    swapping.store(false, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(ran + refused, rounds());
    assert_eq!(std::fs::read_to_string(rig.path("w/.git/HEAD")).unwrap(), "ref", "{ran} ran, {refused} were refused");
    assert_eq!(std::fs::read_dir(rig.path("w/.git")).unwrap().count(), 1);
}
