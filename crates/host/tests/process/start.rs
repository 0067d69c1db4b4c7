//! Starting: program, directory, environment, descriptors, signals; and every refusal.

use std::os::unix::fs::PermissionsExt as _;

use exedra_host::HostConfig;
use exedra_host::process::{Limits, StartError};
use serde_json::{Value, json};

use crate::rig::{Rig, id, sh};

fn spawn_text(error: &StartError) -> &str {
    match error {
        StartError::Spawn(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn echo_with_both_streams_and_an_exit_code() {
    let story = Rig::new().run(sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!((story.stdout(), story.stderr.as_slice(), story.code), ("out\n", b"err\n".as_slice(), Some(7)));
}

#[tokio::test]
async fn without_process_descriptors_too() {
    let mut config = HostConfig::default();
    config.pidfd = false;
    let rig = Rig::with(config, Limits::default());
    for code in [0, 3] {
        rig.start(&code.to_string(), sh(&format!("echo x; exit {code}"))).await;
        let story = rig.story().await;
        story.assert_in_order();
        assert_eq!((story.stdout(), story.code), ("x\n", Some(code)));
    }
    rig.start("killed", sh("kill -9 $$")).await;
    assert_eq!(rig.story().await.code, Some(137));
}

#[tokio::test]
async fn programs_are_found_by_the_path_of_the_child() {
    let rig = Rig::new();
    let bin = rig.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("hello"), "#!/bin/sh\necho hello from $0\n").unwrap();
    std::fs::set_permissions(bin.join("hello"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let want = format!("hello from {}\n", bin.join("hello").display());
    for tty in [false, true] {
        rig.start(
            &tty.to_string(),
            json!({"argv": ["hello"], "env": {"PATH": format!("/nope:{}", bin.display())}, "tty": tty}),
        )
        .await;
        let story = rig.story().await;
        let got = if tty { story.pty().replace("\r\n", "\n") } else { story.stdout().to_owned() };
        assert_eq!(got, want);
    }
    rig.start("relative", json!({"argv": ["bin/hello"]})).await;
    assert_eq!(rig.story().await.stdout(), "hello from bin/hello\n");
    rig.start("default", json!({"argv": ["true"], "env": {}})).await;
    assert_eq!(rig.story().await.code, Some(0));
}

#[tokio::test]
async fn refusals_have_the_texts_of_stock() {
    let rig = Rig::new();
    std::fs::write(rig.path().join("plain"), "hello").unwrap();
    std::fs::write(rig.path().join("script"), "echo no shell must run this\n").unwrap();
    std::fs::set_permissions(rig.path().join("script"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let dir = rig.path().display().to_string();
    let missing = "No such file or directory (os error 2)";
    let no_directory = "Not a directory (os error 20)";
    for (over, text) in [
        (json!({"argv": ["/nonexistent/x"]}), missing),
        (json!({"argv": ["nonesuch"]}), missing),
        (json!({"argv": ["./plain"]}), "Permission denied (os error 13)"),
        (json!({"argv": ["plain"], "env": {"PATH": format!("{dir}:/bin")}}), "Permission denied (os error 13)"),
        (json!({"argv": ["./script"]}), "Exec format error (os error 8)"),
        (json!({"argv": ["./script"], "tty": true}), "Exec format error (os error 8)"),
        (json!({"cwd": format!("{dir}/nope")}), missing),
        (json!({"cwd": format!("{dir}/plain")}), no_directory),
        (json!({"cwd": format!("{dir}/nope"), "tty": true}), missing),
        (json!({"cwd": format!("{dir}/plain"), "tty": true}), no_directory),
        (json!({"cwd": ""}), missing),
        (
            json!({"argv": ["true"], "env": {}, "tty": true}),
            "Unable to spawn true because:\nUnable to resolve the PATH",
        ),
        (
            json!({"argv": ["nonesuch"], "tty": true}),
            "Unable to spawn nonesuch because:\nNo viable candidates found in PATH \"/usr/bin:/bin\"",
        ),
    ] {
        assert_eq!(spawn_text(&rig.refusal(over.clone()).await), text, "{over}");
    }
    let nul = "nul byte found in provided data";
    for tty in [false, true] {
        for over in [
            json!({"argv": ["/bin/echo", "a\0b"], "tty": tty}),
            json!({"env": {"PATH": "/bin", "X": "a\0b"}, "tty": tty}),
            json!({"cwd": "/a\0b", "tty": tty}),
        ] {
            assert_eq!(spawn_text(&rig.refusal(over.clone()).await), nul, "{over}");
        }
        assert_eq!(rig.refusal(json!({"argv": [""], "tty": tty})).await, StartError::MissingProgram { pty: tty });
    }
    assert_eq!(rig.refusal(json!({"argv": []})).await, StartError::EmptyArgv);
    let set = |name: &str| json!({"inherit": "none", "ignoreDefaultExcludes": true, "exclude": [], "includeOnly": [], "set": {name: "v"}});
    for name in ["LD_PRELOAD=/x/FOO", "", "=", "A\0B"] {
        for over in [json!({"env": {name: "evil"}}), json!({"env": {}, "envPolicy": set(name)})] {
            assert_eq!(rig.refusal(over).await, StartError::VariableName);
        }
    }
    let none = rig.refusal(json!({"limits": {"openFiles": 0}})).await;
    assert!(matches!(&none, StartError::LimitUnavailable(text) if text.contains("openFiles")), "{none:?}");
    rig.start("refused", json!({})).await;
    assert_eq!(rig.refusal(json!({})).await, StartError::AlreadyExists(id("refused")));
}

#[tokio::test]
async fn what_cannot_be_enforced_is_refused() {
    let rig = Rig::new();
    let sandbox = |permissions: Value| json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
    let restricted = |entries: Value| {
        let file_system = json!({"type": "restricted", "entries": entries});
        sandbox(json!({"type": "managed", "network": "enabled", "file_system": file_system}))
    };
    let project = json!([{"path": {"type": "special", "value": {"kind": "project_roots"}}, "access": "read"}]);
    for (over, error) in [
        (json!({"sandbox": restricted(json!([]))}), StartError::SandboxMissing),
        (json!({"sandbox": sandbox(json!({"type": "external", "network": "restricted"}))}), StartError::SandboxMissing),
        (json!({"sandbox": restricted(project)}), StartError::SandboxMissingCwd),
        (json!({"enforceManagedNetwork": true}), StartError::SandboxUnavailable),
        (json!({"networkProxy": {"proxy": {}}}), StartError::SandboxUnavailable),
    ] {
        assert_eq!(rig.refusal(over.clone()).await, error, "{over}");
    }
    rig.start("free", json!({"sandbox": sandbox(json!({"type": "disabled"}))})).await;
    assert_eq!(rig.story().await.code, Some(0));
}

#[tokio::test]
async fn arg0_renames_and_no_more() {
    let rig = Rig::new();
    for tty in [false, true] {
        let over = json!({"argv": ["/bin/sh", "-c", "echo $0"], "arg0": "renamed", "tty": tty});
        rig.start(&tty.to_string(), over).await;
        let story = rig.story().await;
        let got = if tty { story.pty() } else { story.stdout() };
        assert_eq!(got.trim_end(), "renamed");
    }
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for() {
    let mut config = HostConfig::default();
    config.environment = [("HOME", "/h"), ("MY_TOKEN", "t"), ("OTHER", "o")].map(|(n, v)| (n.into(), v.into())).into();
    let rig = Rig::with(config, Limits::default());
    rig.start("exact", json!({"argv": ["/usr/bin/env"], "env": {"A": "1"}})).await;
    assert_eq!(rig.story().await.stdout(), "A=1\n");
    let policy = json!({"inherit": "all", "ignoreDefaultExcludes": false, "exclude": ["oth*"], "set": {"S": "2"}, "includeOnly": []});
    rig.start("policy", json!({"argv": ["/usr/bin/env"], "env": {"A": "1"}, "envPolicy": policy})).await;
    assert_eq!(rig.story().await.stdout(), "A=1\nHOME=/h\nS=2\n");
}

#[tokio::test]
async fn the_working_directory_may_be_relative_to_ours() {
    let rig = Rig::new();
    let own = std::env::current_dir().unwrap();
    for (cwd, want) in [
        (rig.path().to_str().unwrap(), rig.path().canonicalize().unwrap()),
        (".", own.clone()),
        ("src", own.join("src")),
    ] {
        for tty in [false, true] {
            rig.start(&format!("{cwd}{tty}"), json!({"argv": ["pwd", "-P"], "cwd": cwd, "tty": tty})).await;
            let story = rig.story().await;
            let got = if tty { story.pty() } else { story.stdout() };
            assert_eq!(got.trim_end(), want.to_str().unwrap());
        }
    }
}

/// Opened without the close-on-exec flag on purpose, as an inherited descriptor would be.
#[tokio::test]
async fn a_child_gets_three_descriptors_and_no_more() {
    let rig = Rig::new();
    let leaky = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    rig.start("busy", json!({"argv": ["sleep", "60"], "pipeStdin": true})).await;
    for tty in [false, true] {
        let said = async |argv: serde_json::Value| {
            rig.start(&format!("{argv}{tty}"), json!({"argv": argv, "tty": tty})).await;
            let story = rig.story().await;
            if tty { story.pty().replace("\r\n", "\n") } else { story.stdout().to_owned() }
        };
        let descriptors = said(json!(["ls", "-1", "/proc/self/fd"])).await;
        assert_eq!(descriptors, "0\n1\n2\n3\n", "three, and the directory that ls reads");
        let stat = said(json!(["cat", "/proc/self/stat"])).await;
        let stat = stat.rsplit(')').next().unwrap();
        let stat: Vec<i32> = stat.split_whitespace().skip(1).take(5).map(|field| field.parse().unwrap()).collect();
        let [parent, group, session, terminal, _] = stat[..] else { panic!("{stat:?}") };
        assert_eq!((parent, group), (std::process::id() as i32, session));
        assert_eq!(terminal != 0, tty);
    }
    drop(leaky);
}

#[tokio::test]
async fn a_child_starts_with_default_signals() {
    let story = Rig::new().run(json!({"argv": ["cat", "/proc/self/status"]})).await;
    let lines: Vec<&str> = story.stdout().lines().filter(|line| line.starts_with("Sig")).collect();
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        assert!(lines.contains(&format!("{set}:\t0000000000000000").as_str()), "{set} in {lines:?}");
    }
}

#[tokio::test]
async fn many_start_at_once_and_none_is_left() {
    let rig = Rig::new();
    let starts = (0..100).map(|i| rig.table.start(rig.params(&i.to_string(), json!({}))));
    for start in starts {
        start.await.unwrap();
    }
    let mut open = 100;
    rig.take_until(|event| {
        open -= i32::from(event.kind == exedra_host::process::EventKind::Closed);
        open == 0
    })
    .await;
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process_and_no_id() {
    let rig = Rig::new();
    let mark = format!("marker-{}", std::process::id());
    let mut given_up = Vec::new();
    for i in 0.. {
        let name = i.to_string();
        let start = rig.table.start(rig.params(&name, json!({"argv": ["/bin/sh", "-c", "sleep 60", mark]})));
        let mut start = std::pin::pin!(start);
        let done = std::future::poll_fn(|cx| std::task::Poll::Ready(start.as_mut().poll(cx).is_ready())).await;
        if done {
            assert!(rig.table.terminate(&id(&name)), "too quick to be given up");
            continue;
        }
        given_up.push(name);
        if given_up.len() == 20 {
            break;
        }
    }
    let running = || {
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&mark)).count()
    };
    rig.start("after", json!({})).await;
    crate::rig::eventually("none of them runs", || running() == 0).await;
    for name in given_up {
        rig.start(&name, json!({})).await;
    }
}
