//! Odd input: each is answered in clear words, and the connection goes on.

use bytes::Bytes;
use exedra_link::Message;
use serde_json::json;

use crate::bench::Bench;

const LABEL: &str = "failed to parse websocket JSON-RPC message from remote exec-server websocket: ";

#[tokio::test]
async fn odd_input_is_answered_with_id_minus_one_and_the_connection_goes_on() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let no_object = "expected a JSON-RPC object";
    let no_id = "data did not match any variant of untagged enum RequestId";
    for (text, cause) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{bad", "key must be a string at line 1 column 2"),
        ("5", no_object),
        (r#"[{"id":1,"method":"initialize"}]"#, no_object),
        (r#"{"foo":1}"#, "missing field `error`"),
        (r#"{"id":null,"method":"process/read"}"#, no_id),
        (r#"{"id":1.5,"method":"process/read"}"#, no_id),
        (r#"{"id":9223372036854775808,"method":"process/read"}"#, no_id),
        (r#"{"id":1,"id":2,"method":"process/read"}"#, "duplicate JSON object key `id`"),
    ] {
        client.text(text).await;
        let answer = client.response(-1).await;
        assert_eq!(
            answer,
            json!({"error": {"code": -32600, "message": format!("{LABEL}{cause}")}, "id": -1}),
            "{text}"
        );
    }
    for text in [
        r#"{"method":"nope"}"#,
        r#"{"method":"initialize","params":{"clientName":"x"}}"#,
        r#"{"id":7,"result":{}}"#,
        r#"{"id":7,"error":{"code":1,"message":"x"}}"#,
    ] {
        client.text(text).await;
        assert_eq!(client.response(-1).await["error"]["code"], -32600, "{text}");
    }
    // An answer to one of the answers above is not answered.
    client.text(r#"{"id":-1,"error":{"code":-32600,"message":"x"}}"#).await;
    let answer = client.call("process/terminate", json!({"processId": "none"})).await;
    assert_eq!(answer["result"], json!({"running": false}));
    assert_eq!(client.seen.iter().filter(|m| m["id"] == -1).count(), 13);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_answered() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    client.sender.send(Message::Binary(Bytes::from_static(b"{\"id\":\xff}"))).await.unwrap();
    let answer = client.response(-1).await;
    assert!(answer["error"]["message"].as_str().unwrap().starts_with(LABEL), "{answer}");
    client.sender.send(Message::Binary(Bytes::from_static(b"{\"id\":5,\"method\":\"nope\"}"))).await.unwrap();
    assert_eq!(client.response(5).await["error"]["code"], -32601);
}

#[tokio::test]
async fn ids_come_back_as_they_were() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    for id in ["-5", "9223372036854775807", "\"abc\"", "\"\"", "\"7\""] {
        client.text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"nope","trace":{{}},"x":1}}"#)).await;
        let id: serde_json::Value = serde_json::from_str(id).unwrap();
        assert_eq!(client.response(id.clone()).await["id"], id);
    }
}

#[tokio::test]
async fn deep_nesting_is_refused() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    client.text(&deep).await;
    assert_eq!(client.response(-1).await["error"]["code"], -32600);
    client.text(&format!(r#"{{"id":1000,"method":"process/read","params":{deep}}}"#)).await;
    assert_eq!(client.response(1000).await["error"]["code"], -32602);
    client.text(&format!(r#"{{"id":1001,"method":"process/read","params":{{"processId":"p","x":{deep}}}}}"#)).await;
    assert!(client.response(1001).await["error"]["code"].is_i64());
}

#[tokio::test]
async fn wrong_types_are_named() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    for (method, params, text) in [
        ("process/read", json!({"processId": 5}), "invalid type: integer `5`, expected a string"),
        ("process/read", json!(null), "invalid type: null, expected struct ReadParams"),
        ("fs/readFile", json!({"path": "relative"}), "invalid URI: relative URL without a base"),
        ("fs/copy", json!({"sourcePath": "/a", "destinationPath": "/b"}), "missing field `recursive`"),
    ] {
        let answer = client.call(method, params).await;
        assert_eq!(answer["error"], json!({"code": -32602, "message": text}));
    }
}
