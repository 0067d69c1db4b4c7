//! Binary messages of `exedra/1`: the same methods and events, without base64.

use bytes::Bytes;
use exedra_link::Message;
use exedra_proto::binary;
use serde_json::{Value, json};

use crate::bench::{Bench, Client, start, write};

/// The next message that is no text, as its header and its bytes; answers that are text in between are passed over.
async fn next_binary(client: &mut Client) -> (Value, Bytes) {
    loop {
        let message = client.message().await.unwrap();
        if let Message::Binary(bytes) = message {
            let parts = binary::split(bytes).unwrap();
            return (serde_json::from_str(parts.header()).unwrap(), parts.payload);
        }
    }
}

async fn post(client: &Client, message: Value, payload: &[u8]) {
    client.sender.send(Message::Binary(binary::join(&message.to_string(), payload))).await.unwrap();
}

async fn open(bench: &mut Bench) -> Client {
    let mut client = bench.connect();
    client.handshake_with(json!({"clientName": "x", "extensions": {"exedra/1": {"binary": true}}})).await;
    assert_eq!(client.seen[0]["result"]["extensions"]["exedra/1"]["binary"], true);
    client
}

#[tokio::test]
async fn stdin_and_output_are_raw_bytes() {
    let mut bench = Bench::new();
    let mut client = open(&mut bench).await;
    client.post("process/start", start("p", &["cat"])).await;
    let all: Vec<u8> = (0..=255).collect();
    let request = json!({"id": 70, "method": "process/write", "params": {"processId": "p", "writeId": "w"}});
    post(&client, request.clone(), &all).await;
    let (header, payload) = next_binary(&mut client).await;
    let params = json!({"processId": "p", "seq": 1, "stream": "stdout"});
    assert_eq!(header, json!({"method": "process/output", "params": params}));
    assert_eq!(payload, all);
    // As text it goes on working, and a repetition is known by its id whichever way it came.
    let mut again = write("p", &all);
    again["writeId"] = json!("w");
    let answer = client.call("process/write", again).await;
    assert_eq!(answer["result"]["status"], "accepted");
    let answer = client.call("process/read", json!({"processId": "p"})).await;
    assert_eq!(answer["result"]["nextSeq"], 2);
}

#[tokio::test]
async fn blocks_of_files_are_raw_bytes() {
    let mut bench = Bench::new();
    let mut client = open(&mut bench).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    client.call("fs/open", json!({"handleId": "w", "path": path, "mode": "replace"})).await;
    let request = json!({"id": 70, "method": "fs/writeBlock", "params": {"handleId": "w", "offset": 3}});
    post(&client, request, b"\x00\xffabc").await;
    assert_eq!(client.response(70).await["result"], json!({}));
    client.call("fs/close", json!({"handleId": "w"})).await;
    assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0\x00\xffabc");
    client.call("fs/open", json!({"handleId": "r", "path": path})).await;
    let id = client.post("fs/readBlock", json!({"handleId": "r", "offset": 3, "len": 9})).await;
    let (header, payload) = next_binary(&mut client).await;
    assert_eq!(header, json!({"id": id, "result": {"eof": true}}));
    assert_eq!(&payload[..], b"\x00\xffabc");
    let missing = client.call("fs/readBlock", json!({"handleId": "none", "offset": 0, "len": 9})).await;
    assert_eq!(missing["error"]["code"], -32004);
}

#[tokio::test]
async fn what_takes_no_bytes_and_what_cannot_be_read_is_answered() {
    let mut bench = Bench::new();
    let mut client = open(&mut bench).await;
    post(&client, json!({"id": 70, "method": "fs/getMetadata", "params": {"path": "/"}}), b"x").await;
    let refused = client.response(70).await;
    assert_eq!(refused["error"], json!({"code": -32600, "message": "`fs/getMetadata` takes no binary message"}));
    post(&client, json!({"id": 71, "method": "process/write", "params": {}}), b"x").await;
    assert_eq!(client.response(71).await["error"]["code"], -32602);
    for bad in [&b"\x01"[..], b"\x01\0\0\0\x09{}", b"\x01\0\0\0\x02{}", b"\x01\xff\xff\xff\xff"] {
        client.sender.send(Message::Binary(Bytes::from_static(bad))).await.unwrap();
        assert_eq!(client.response(-1).await["error"]["code"], -32600);
    }
    client.start("p", &["true"]).await;
    assert_eq!(client.follow("p").await.code, Some(0), "and the connection goes on");
}

#[tokio::test]
async fn who_did_not_agree_gets_none_and_cannot_send_any() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    client.start("p", &["echo", "text"]).await;
    assert_eq!(client.follow("p").await.stdout, b"text\n");
    post(&client, json!({"id": 70, "method": "process/write", "params": {"processId": "p"}}), b"x").await;
    let answer = client.response(-1).await;
    assert!(answer["error"]["message"].as_str().unwrap().starts_with("failed to parse"), "{answer}");
}
