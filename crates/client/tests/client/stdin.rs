//! Stdin: order, ids, its end, and executors that know no end.

use bytes::Bytes;
use exedra_client::Error;
use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::peer::{open, start};

#[tokio::test]
async fn pieces_are_written_in_order_each_with_its_own_id() {
    let (executor, mut peer) = open(true).await;
    let (process, id) = start(&executor, &mut peer).await;
    let (queue, source) = mpsc::channel(100);
    for n in 0..100u8 {
        queue.try_send(Bytes::from(vec![n; 10])).unwrap();
    }
    drop(queue);
    let controls = process.controls();
    let script = async {
        let (mut bytes, mut ids) = (Vec::new(), Vec::<Value>::new());
        for _ in 0..100 {
            let call = peer.call("process/write").await;
            assert_eq!(call.params["processId"], id);
            let chunk = Base64Text(call.params["chunk"].as_str().unwrap().to_owned());
            bytes.extend(chunk.decode().unwrap());
            assert!(!ids.contains(&call.params["writeId"]), "{ids:?}");
            ids.push(call.params["writeId"].clone());
            peer.answer(&call, json!({"status": "accepted"})).await;
        }
        let call = peer.call("process/closeStdin").await;
        peer.answer(&call, json!({"status": "accepted"})).await;
        bytes
    };
    let ours = async {
        controls.feed(source).await.unwrap();
        controls.close_stdin().await.unwrap();
    };
    let ((), bytes) = tokio::join!(ours, script);
    let expected: Vec<u8> = (0..100u8).flat_map(|n| vec![n; 10]).collect();
    assert_eq!(bytes, expected);
}

#[tokio::test]
async fn several_writes_are_under_way_and_no_more_than_agreed() {
    let (executor, mut peer) = open(true).await;
    let (process, _id) = start(&executor, &mut peer).await;
    let (queue, source) = mpsc::channel(100);
    for _ in 0..100 {
        queue.try_send(Bytes::from_static(b"x")).unwrap();
    }
    let controls = process.controls();
    let script = async {
        for _ in 0..16 {
            peer.call("process/write").await;
        }
        tokio::time::timeout(std::time::Duration::from_millis(100), peer.message()).await
    };
    tokio::select! {
        fed = controls.feed(source) => panic!("it ended without answers: {fed:?}"),
        next = script => assert!(next.is_err(), "a seventeenth write: {next:?}"),
    }
}

#[tokio::test]
async fn an_executor_without_the_extension_cannot_be_told_the_end() {
    let (executor, mut peer) = open(false).await;
    assert!(!executor.extension().close_stdin);
    let (process, _id) = start(&executor, &mut peer).await;
    assert!(matches!(process.controls().close_stdin().await, Err(Error::StdinCannotBeClosed)));
    let controls = process.controls();
    let (_, call) = tokio::join!(controls.terminate(), async {
        let call = peer.call("process/terminate").await;
        peer.answer(&call, json!({"running": false})).await;
        call
    });
    assert_eq!(call.method, "process/terminate", "and nothing of the extension was sent");
}

#[tokio::test]
async fn a_child_that_reads_no_more_is_told_in_one_way() {
    let (executor, mut peer) = open(true).await;
    let (process, _id) = start(&executor, &mut peer).await;
    let controls = process.controls();
    let answers = async {
        let call = peer.call("process/write").await;
        peer.answer(&call, json!({"status": "stdinClosed"})).await;
        let call = peer.call("process/write").await;
        peer.answer(&call, json!({"status": "unknownProcess"})).await;
        let call = peer.call("process/write").await;
        peer.refuse(&call, -32603, "failed to write to process stdin").await;
    };
    let ours = async {
        for _ in 0..3 {
            assert!(matches!(controls.write(b"x").await, Err(Error::StdinClosed)));
        }
    };
    tokio::join!(ours, answers);
}
