//! Output in order and whole, whatever the order in which it comes; the end of a run; its loss.

use exedra_client::Error;
use exedra_client::process::{Command, Event};
use serde_json::json;

use crate::peer::{drain, open, start};

#[tokio::test]
async fn what_is_started_is_what_was_asked_for() {
    let (executor, mut peer) = open(true).await;
    let mut command = Command::new(["prog", "arg"]);
    command.env.insert("A".into(), "b".into());
    command.stdin = true;
    let (_started, call) = tokio::join!(executor.start(&command), async {
        let call = peer.call("process/start").await;
        peer.answer(&call, json!({"processId": "1"})).await;
        call
    });
    let policy = json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {}, "includeOnly": []});
    let expected = json!({"processId": "1", "argv": ["prog", "arg"], "cwd": ".", "env": {"A": "b"},
        "envPolicy": policy, "tty": false, "pipeStdin": true, "arg0": null});
    assert_eq!(call.params, expected);
}

#[tokio::test]
async fn events_before_the_answer_output_after_the_exit_and_copies() {
    let (executor, mut peer) = open(true).await;
    let command = Command::new(["prog"]);
    let script = async {
        let call = peer.call("process/start").await;
        let id = call.params["processId"].clone();
        peer.output(&id, 1, "stdout", b"a").await;
        peer.output(&id, 3, "stdout", b"c").await;
        peer.output(&id, 2, "stderr", b"b").await;
        peer.output(&id, 2, "stderr", b"again").await;
        peer.answer(&call, json!({"processId": id})).await;
        peer.exited(&id, 4, 7).await;
        peer.output(&id, 5, "stdout", b"late").await;
        peer.closed(&id, 6).await;
    };
    let (process, ()) = tokio::join!(executor.start(&command), script);
    let mut process = process.unwrap();
    let (output, code) = drain(&mut process).await;
    let expected = [("stdout", "a"), ("stderr", "b"), ("stdout", "c"), ("stdout", "late")];
    assert_eq!(output, expected.map(|(stream, text)| (stream, text.to_owned())));
    assert_eq!(code, 7);
    assert_eq!(process.next().await.unwrap(), None, "the end stays the end");
}

/// More events before the answer than any queue holds: a client that waited for the answer first would wait for ever.
#[tokio::test]
async fn thousands_of_events_before_the_answer_to_the_start() {
    let (executor, mut peer) = open(true).await;
    let command = Command::new(["prog"]);
    let script = async {
        let call = peer.call("process/start").await;
        let id = call.params["processId"].clone();
        for seq in 1..=5_000 {
            peer.output(&id, seq, "stdout", &[b'x'; 1_000]).await;
        }
        peer.answer(&call, json!({"processId": id})).await;
        peer.exited(&id, 5_001, 0).await;
        peer.closed(&id, 5_002).await;
    };
    let reader = async {
        let mut process = executor.start(&command).await.unwrap();
        drain(&mut process).await.0.iter().map(|(_, text)| text.len()).sum::<usize>()
    };
    let (bytes, ()) = tokio::join!(reader, script);
    assert_eq!(bytes, 5_000_000);
}

#[tokio::test]
async fn an_exit_alone_does_not_end_a_run() {
    let (executor, mut peer) = open(true).await;
    let (mut process, id) = start(&executor, &mut peer).await;
    peer.exited(&id, 1, 0).await;
    assert_eq!(process.next().await.unwrap(), Some(Event::Exited { code: 0 }));
    peer.vanish();
    assert!(matches!(process.next().await, Err(Error::LostWhileRunning(_))));
}

#[tokio::test]
async fn a_connection_lost_meanwhile_gives_what_came_and_then_says_so() {
    let (executor, mut peer) = open(true).await;
    let (mut process, id) = start(&executor, &mut peer).await;
    peer.output(&id, 1, "stdout", b"partial").await;
    let Some(Event::Output { bytes, .. }) = process.next().await.unwrap() else { panic!("output") };
    assert_eq!(&bytes[..], b"partial");
    peer.vanish();
    let error = process.next().await.unwrap_err();
    assert!(matches!(error, Error::LostWhileRunning(_)), "{error}");
    assert!(error.to_string().contains("may still be running"), "{error}");
    assert!(!error.is_retryable());
    let late = executor.start(&Command::new(["prog"])).await.unwrap_err();
    assert!(matches!(late, Error::NotSent { .. }), "{late}");
}

#[tokio::test]
async fn a_start_without_an_answer_is_not_told_as_not_done() {
    let (executor, mut peer) = open(true).await;
    let command = Command::new(["prog"]);
    let (started, ()) = tokio::join!(executor.start(&command), async {
        peer.call("process/start").await;
        peer.vanish();
    });
    let error = started.unwrap_err();
    assert!(matches!(error, Error::Unanswered { method: "process/start", .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_refused_start_is_told_in_the_words_of_the_executor() {
    let (executor, mut peer) = open(true).await;
    let command = Command::new(["nope"]);
    let (started, ()) = tokio::join!(executor.start(&command), async {
        let call = peer.call("process/start").await;
        peer.refuse(&call, -32603, "No such file or directory (os error 2)").await;
    });
    let Err(Error::Refused { source, .. }) = started else { panic!("a refusal") };
    assert_eq!((source.code, source.message.as_str()), (-32603, "No such file or directory (os error 2)"));
}

#[tokio::test]
async fn a_close_without_an_exit_code_is_no_success() {
    let (executor, mut peer) = open(true).await;
    let (mut process, id) = start(&executor, &mut peer).await;
    peer.closed(&id, 1).await;
    assert!(matches!(process.next().await, Err(Error::Protocol(_))));
}

/// While nobody takes the output, the executor has to wait; nothing is dropped.
#[tokio::test]
async fn a_reader_that_pauses_makes_the_executor_wait() {
    let (executor, mut peer) = open(true).await;
    let (mut process, id) = start(&executor, &mut peer).await;
    let piece = vec![b'x'; 8 * 1024];
    let mut sent = 0;
    let far_too_many = 10_000;
    while sent < far_too_many {
        let output = peer.output(&id, sent + 1, "stdout", &piece);
        if tokio::time::timeout(std::time::Duration::from_millis(300), output).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < far_too_many, "{sent} pieces went to a reader that takes none");
    let rest = async {
        // Cancelling queued nothing: the same number again.
        for seq in sent + 1..=sent + 100 {
            peer.output(&id, seq, "stdout", &piece).await;
        }
        peer.exited(&id, sent + 101, 0).await;
        peer.closed(&id, sent + 102).await;
    };
    let ((output, _), ()) = tokio::join!(drain(&mut process), rest);
    let bytes: usize = output.iter().map(|(_, text)| text.len()).sum();
    assert_eq!(bytes, usize::try_from(sent + 100).unwrap() * piece.len());
}

#[tokio::test]
async fn events_of_a_dropped_process_bother_nobody() {
    let (executor, mut peer) = open(true).await;
    let (dropped, id) = start(&executor, &mut peer).await;
    drop(dropped);
    for seq in 1..=1_000 {
        peer.output(&id, seq, "stdout", &[b'x'; 1_000]).await;
    }
    let (mut other, other_id) = start(&executor, &mut peer).await;
    assert_ne!(id, other_id, "ids are not used twice");
    peer.exited(&other_id, 1, 3).await;
    peer.closed(&other_id, 2).await;
    assert_eq!(drain(&mut other).await.1, 3);
}

#[tokio::test]
async fn terminate_says_whether_it_was_running() {
    let (executor, mut peer) = open(true).await;
    let (process, id) = start(&executor, &mut peer).await;
    let controls = process.controls();
    let (running, ()) = tokio::join!(controls.terminate(), async {
        let call = peer.call("process/terminate").await;
        assert_eq!(call.params, json!({"processId": id}));
        peer.answer(&call, json!({"running": true})).await;
    });
    assert!(running.unwrap());
}
