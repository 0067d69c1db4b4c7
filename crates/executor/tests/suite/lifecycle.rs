//! `initialize`, `initialized`, what is refused before them, and the extensions they settle.

use exedra_executor::End;
use exedra_link::Disconnect;
use serde_json::{Value, json};

use crate::bench::{Bench, config, start};

fn refusal(answer: &Value) -> (i64, &str) {
    (answer["error"]["code"].as_i64().unwrap(), answer["error"]["message"].as_str().unwrap())
}

#[tokio::test]
async fn nothing_works_before_the_handshake_and_params_are_decoded_first() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    for (method, group, params) in [
        ("process/start", "exec", start("p", &["true"])),
        ("process/read", "exec", json!({"processId": "p"})),
        ("fs/readFile", "filesystem", json!({"path": "/x"})),
        ("http/request", "http", json!({"method": "GET", "url": "http://127.0.0.1:1/", "requestId": "r"})),
    ] {
        let answer = client.call(method, params.clone()).await;
        assert_eq!(refusal(&answer), (-32600, &*format!("client must call initialize before using {group} methods")));
    }
    assert_eq!(refusal(&client.call("process/start", json!({})).await), (-32602, "missing field `processId`"));
    let bad_chunk = json!({"processId": "p", "chunk": "!!!"});
    assert_eq!(refusal(&client.call("process/write", bad_chunk).await).0, -32602);
    let unknown = client.call("nope", json!({})).await;
    assert_eq!(refusal(&unknown), (-32601, "exec-server stub does not implement `nope` yet"));
    let opened = client.call("initialize", json!({"clientName": "x"})).await;
    assert_eq!(opened["result"].as_object().unwrap().keys().collect::<Vec<_>>(), ["environmentInfo", "sessionId"]);
    let answer = client.call("fs/getMetadata", json!({"path": "/"})).await;
    assert_eq!(refusal(&answer), (-32600, "client must send initialized before using filesystem methods"));
    client.text(r#"{"method":"initialized"}"#).await;
    client.text(r#"{"method":"initialized","params":[1]}"#).await;
    assert_eq!(client.call("fs/getMetadata", json!({"path": "/"})).await["result"]["isDirectory"], true);
}

#[tokio::test]
async fn a_failed_initialize_can_be_followed_by_another_and_a_success_cannot() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    let answer = client.call("initialize", json!({})).await;
    assert_eq!(refusal(&answer), (-32602, "missing field `clientName`"));
    let answer = client.resume("nope").await;
    assert_eq!(refusal(&answer), (-32600, "unknown session id nope"));
    // `initialized` came too early.
    client.response(-1).await;
    let opened = client.call("initialize", json!({"clientName": "x", "resumeSessionId": null, "new": 1})).await;
    let session = opened["result"]["sessionId"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(session).unwrap().get_version_num(), 4);
    let answer = client.call("initialize", json!({"clientName": "x"})).await;
    assert_eq!(refusal(&answer), (-32600, "initialize may only be sent once per connection"));
}

#[tokio::test]
async fn extensions_are_settled_only_if_they_are_offered() {
    let mut bench = Bench::new();
    for (offer, agreed) in [
        (json!(null), json!(null)),
        (json!({}), json!(null)),
        (json!({"other/7": {}}), json!(null)),
        (json!({"exedra/1": {}}), json!({"exedra/1": {"closeStdin": false}})),
        (json!({"exedra/1": {"closeStdin": true, "more": 1}}), json!({"exedra/1": {"closeStdin": true}})),
    ] {
        let mut client = bench.connect();
        let params = json!({"clientName": "x", "extensions": offer});
        let opened = client.call("initialize", params).await;
        assert_eq!(opened["result"]["extensions"], agreed, "{offer}");
        client.text(r#"{"method":"initialized"}"#).await;
        let answer = client.call("process/closeStdin", json!({"processId": "p"})).await;
        if agreed["exedra/1"]["closeStdin"] == true {
            assert_eq!(answer["result"]["status"], "unknownProcess");
        } else {
            let expected = (-32601, "exec-server stub does not implement `process/closeStdin` yet");
            assert_eq!(refusal(&answer), expected);
        }
    }
}

#[tokio::test]
async fn how_a_connection_went_is_told() {
    let mut bench = Bench::new();
    bench.connect().vanish();
    let served = bench.served().await;
    assert!(!served.spoke && !served.opened);
    let mut client = bench.connect();
    client.call("nope", json!({})).await;
    client.sender.close(exedra_proto::close::CloseReason::PeerDone);
    let served = bench.served().await;
    assert!(served.spoke && !served.opened);
    assert!(matches!(served.end, End::Disconnected(Disconnect::PeerClosed { .. })), "{:?}", served.end);
    bench.open().await.vanish();
    let served = bench.served().await;
    assert!(served.spoke && served.opened);
    assert_eq!(served.end, End::Disconnected(Disconnect::Lost));
}

#[tokio::test]
async fn a_shutdown_says_goodbye_and_takes_no_new_session() {
    let mut bench = Bench::with(config());
    let mut client = bench.open().await;
    bench.executor.shutdown().await;
    assert_eq!(bench.served().await.end, End::Shutdown);
    assert_eq!(client.ended().await.reason(), Some(exedra_proto::close::CloseReason::GoingAway));
    assert_eq!(bench.executor.sessions(), 0);
    bench.connect();
    assert_eq!(bench.served().await.end, End::Shutdown);
}
