//! What works within a sandbox: commands run, with their exit codes, and may do what is allowed.

use exedra_host::HostConfig;
use exedra_host::process::StartError;
use serde_json::json;

use crate::rig::{Rig, entry, special};

#[tokio::test]
async fn a_workspace_is_written_to_and_nothing_else() {
    let rig = Rig::new();
    let sandbox = rig.workspace(&[]);
    let story = rig.run(&sandbox, "echo hi > f && cat f && touch $OUT/f; cat $OUT/secret; exit 3").await;
    assert_eq!(story.code, 3, "{}", story.output);
    assert!(story.output.contains("hi\n") && story.output.contains("Read-only file system"), "{}", story.output);
    assert!(story.output.contains("secret"), "it may be read: {}", story.output);
    assert_eq!(std::fs::read_to_string(rig.path("w/f")).unwrap(), "hi\n");
    assert!(!rig.path("out/f").exists());
}

#[tokio::test]
async fn exit_codes_signals_and_failed_starts_are_those_of_the_command() {
    let rig = Rig::new();
    let sandbox = rig.workspace(&[]);
    assert_eq!(rig.run(&sandbox, "exit 0").await.code, 0);
    assert_eq!(rig.run(&sandbox, "kill -TERM $$").await.code, 128 + 15);
    assert_eq!(rig.run(&sandbox, "kill -KILL $$").await.code, 128 + 9);
    let fails = |over| rig.start(&sandbox, over);
    let text = |text: &str| StartError::Spawn(text.to_owned());
    let missing = fails(json!({"argv": ["/nonexistent"]})).await.unwrap_err();
    assert_eq!(missing, text("No such file or directory (os error 2)"));
    assert_eq!(fails(json!({"argv": ["nonesuch"]})).await.unwrap_err(), missing);
    assert_eq!(fails(json!({"cwd": "/nonexistent"})).await.unwrap_err(), missing);
    assert_eq!(fails(json!({"argv": ["/etc/passwd"]})).await.unwrap_err(), text("Permission denied (os error 13)"));
    assert_eq!(fails(json!({"argv": ["/bin/echo", "a"], "arg0": "x"})).await.unwrap().output, "a\n");
}

#[tokio::test]
async fn a_terminal_works_within() {
    let rig = Rig::new();
    let sandbox = rig.workspace(&[]);
    let script = "test -t 0 && test -t 1 && stty size && echo to > /dev/tty && touch $OUT/f";
    let story = rig.start(&sandbox, json!({"argv": ["/bin/sh", "-c", script], "tty": true})).await.unwrap();
    assert!(story.output.contains("24 80") && story.output.contains("to\r\n"), "{}", story.output);
    assert!(story.output.contains("Read-only file system"), "{}", story.output);
}

#[tokio::test]
async fn only_what_is_named_is_there_without_the_root() {
    let rig = Rig::new();
    let sandbox = rig.sandbox("restricted", &[special("minimal", "read"), special("project_roots", "write")]);
    let story = rig.run(&sandbox, "touch f; ls /usr; ls / $OUT /home /root; cat $OUT/secret; echo x > /y").await;
    assert!(story.output.contains("bin\n") && story.output.contains("cannot open directory '/'"), "{}", story.output);
    assert_eq!(story.output.matches("No such file or directory").count(), 4, "{}", story.output);
    assert!(rig.path("w/f").exists() && !std::path::Path::new("/y").exists());
}

#[tokio::test]
async fn the_network_is_there_if_it_is_asked_for() {
    let rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected'");
    let open = rig.sandbox("enabled", &[special("root", "read")]);
    let story = rig.run(&open, &script).await;
    assert!(story.output.contains("connected"), "{}", story.output);
    let shut = rig.sandbox("restricted", &[special("root", "read")]);
    let story = rig.run(&shut, &script).await;
    assert!(story.output.contains("Connection refused"), "{}", story.output);
}

#[tokio::test]
async fn a_write_root_within_a_denied_one() {
    let rig = Rig::new();
    std::fs::create_dir(rig.path("out/in")).unwrap();
    let more = [entry(&rig.path("out"), "deny"), entry(&rig.path("out/in"), "write")];
    let story = rig.run(&rig.workspace(&more), "echo x > $OUT/in/f; cat $OUT/secret; ls $OUT").await;
    assert_eq!(std::fs::read_to_string(rig.path("out/in/f")).unwrap(), "x\n");
    assert!(story.output.contains("secret: No such file") || story.output.contains("Permission denied"));
}

#[tokio::test]
async fn without_a_launcher_it_is_refused() {
    let rig = Rig::with(HostConfig::default());
    let refused = rig.start(&rig.workspace(&[]), json!({})).await.unwrap_err();
    assert_eq!(refused, StartError::SandboxMissing);
    let mut config = HostConfig::default();
    config.launcher = Some("/bin/true".into());
    let rig = Rig::with(config);
    let refused = rig.start(&rig.workspace(&[]), json!({})).await.unwrap_err();
    assert_eq!(refused, StartError::SandboxUnavailable, "what does not say that the sandbox holds runs nothing");
}

#[tokio::test]
async fn what_stands_in_for_the_absent_goes_with_the_command() {
    let rig = Rig::new();
    let story = rig.run(&rig.workspace(&[]), "ls -A; mkdir .git/x .codex; echo y > .agents").await;
    for name in [".git", ".codex", ".agents"] {
        assert!(story.output.contains(name), "{}", story.output);
    }
    assert_eq!(std::fs::read_dir(rig.path("w")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn a_failure_by_the_sandbox_is_told_from_any_other() {
    let rig = Rig::new();
    let sandbox = rig.workspace(&[]);
    for (script, denied) in [
        ("touch $OUT/x", true),
        ("touch $OUT/x; true", false),
        ("touch none/x", false),
        ("mount -t tmpfs x . 2>/dev/null || exit 1", false),
        ("unshare -U true", true),
        ("kill -SYS $$", true),
        ("kill -KILL $$", false),
    ] {
        let story = rig.run(&sandbox, script).await;
        assert_eq!(story.denied, denied, "{script}: {story:?}");
    }
    let free = rig.run(&serde_json::Value::Null, "echo Permission denied; exit 1").await;
    assert!(free.code == 1 && !free.denied, "{free:?}");
}
