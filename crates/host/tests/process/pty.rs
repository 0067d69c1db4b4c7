//! The pseudo terminal: size, line discipline, end of file, job control.

use exedra_proto::process::WriteStatus;
use serde_json::json;

use crate::rig::{Rig, id};

fn tty(script: &str) -> serde_json::Value {
    json!({"argv": ["/bin/sh", "-c", script], "tty": true})
}

#[tokio::test]
async fn size_stream_and_exit_code() {
    let story = Rig::new().run(tty("stty size; exit 5")).await;
    assert_eq!((story.pty(), story.code), ("24 80\r\n", Some(5)));
    assert!(story.stdout.is_empty() && story.stderr.is_empty());
}

#[tokio::test]
async fn the_last_output_comes_before_the_exit() {
    let rig = Rig::new();
    for i in 0..50 {
        rig.start(&i.to_string(), tty("printf abc; exit 3")).await;
        let story = rig.story().await;
        story.assert_in_order();
        assert_eq!((story.pty(), story.code), ("abc", Some(3)));
    }
}

#[tokio::test]
async fn much_output_is_whole() {
    let story = Rig::new().run(json!({"argv": ["seq", "20000"], "tty": true})).await;
    let want: String = (1..=20_000).map(|i| format!("{i}\r\n")).collect();
    assert_eq!(story.pty(), want);
}

#[tokio::test]
async fn shell_is_set_unless_given() {
    let rig = Rig::new();
    rig.start("a", json!({"argv": ["/usr/bin/env"], "env": {}, "tty": true})).await;
    assert!(rig.story().await.pty().starts_with("SHELL=/"));
    rig.start("b", json!({"argv": ["/usr/bin/env"], "env": {"SHELL": "/x"}, "tty": true})).await;
    assert_eq!(rig.story().await.pty(), "SHELL=/x\r\n");
}

#[tokio::test]
async fn input_is_echoed_and_keys_make_signals() {
    let rig = Rig::new();
    rig.start("p", tty("trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done")).await;
    rig.until_output("ready").await;
    assert_eq!(rig.table.write(&id("p"), b"\x03".to_vec().into(), None).await, Ok(WriteStatus::Accepted));
    let story = rig.story().await;
    assert_eq!(story.code, Some(9));
    assert!(story.pty().contains("^C"));
}

#[tokio::test]
async fn closing_stdin_types_the_end_of_file() {
    let rig = Rig::new();
    for (name, input) in [("nothing", ""), ("line", "line\n"), ("begun", "begun")] {
        rig.start(name, json!({"argv": ["cat"], "tty": true})).await;
        rig.table.write(&id(name), input.into(), None).await.unwrap();
        assert_eq!(rig.table.close_stdin(&id(name)).await, WriteStatus::Accepted);
        assert_eq!(rig.table.write(&id(name), b"late".to_vec().into(), None).await, Ok(WriteStatus::StdinClosed));
        let story = rig.story().await;
        assert_eq!(story.code, Some(0));
        assert_eq!(story.pty().matches(input.trim()).count(), if input.is_empty() { 1 } else { 2 }, "echo and cat");
    }
}

#[tokio::test]
async fn a_raw_terminal_has_no_end_of_file() {
    let rig = Rig::new();
    rig.start("p", tty("stty raw -echo; printf ready; head -c 1 | od -An -tx1; printf done")).await;
    rig.until_output("ready").await;
    rig.table.write(&id("p"), b"z".to_vec().into(), None).await.unwrap();
    assert_eq!(rig.table.close_stdin(&id("p")).await, WriteStatus::Accepted);
    assert!(rig.story().await.pty().contains("7a"), "the byte itself and no end-of-file character");
}

#[tokio::test]
async fn death_by_signal() {
    let rig = Rig::new();
    rig.start("kill", tty("kill -9 $$")).await;
    assert_eq!(rig.story().await.code, Some(137));
    rig.start("terminate", json!({"argv": ["sleep", "60"], "tty": true})).await;
    assert!(rig.table.terminate(&id("terminate")));
    assert_eq!(rig.story().await.code, Some(137));
}

#[tokio::test]
async fn a_child_may_leave_its_terminal_and_come_back() {
    let rig = Rig::new();
    rig.start("p", tty("exec <&- >&- 2>&-; sleep 0.4; exec </dev/tty >/dev/tty 2>&1; seq 3000; exit 6")).await;
    let story = rig.story().await;
    story.assert_in_order();
    assert_eq!(story.code, Some(6));
    assert!(story.pty().ends_with("\r\n2999\r\n3000\r\n"));
}
