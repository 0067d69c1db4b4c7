//! HTTP requests from over there: whole and streamed.

use exedra_client::Error;
use exedra_client::fetch::Request;
use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};

use crate::peer::{Peer, open};

async fn delta(peer: &Peer, request: &Value, seq: u64, bytes: &[u8], done: bool, error: Option<&str>) {
    let data = Base64Text::encode(bytes);
    let params = json!({"requestId": request, "seq": seq, "deltaBase64": data, "done": done, "error": error});
    peer.say(json!({"method": "http/request/bodyDelta", "params": params})).await;
}

#[tokio::test]
async fn a_whole_response() {
    let (executor, mut peer) = open(true).await;
    let mut request = Request::get("http://x/");
    request.timeout = Some(std::time::Duration::from_millis(1_500));
    let (response, ()) = tokio::join!(executor.fetch(&request), async {
        let call = peer.call("http/request").await;
        let expected = json!({"requestId": "1", "method": "GET", "url": "http://x/", "headers": [], "timeoutMs": 1500,
            "streamResponse": false});
        assert_eq!(call.params, expected);
        let headers = json!([{"name": "a", "value": "b"}]);
        peer.answer(&call, json!({"status": 404, "headers": headers, "bodyBase64": "aGk="})).await;
    });
    let response = response.unwrap();
    assert_eq!((response.status, &response.body[..]), (404, b"hi".as_slice()));
    assert_eq!(response.headers[0].name, "a");
}

#[tokio::test]
async fn a_streamed_body_comes_in_order_and_whole() {
    let (executor, mut peer) = open(true).await;
    let request = Request::get("http://x/");
    let script = async {
        let call = peer.call("http/request").await;
        assert_eq!(call.params["streamResponse"], true);
        let id = call.params["requestId"].clone();
        peer.answer(&call, json!({"status": 200, "headers": [], "bodyBase64": ""})).await;
        delta(&peer, &id, 2, b"b", false, None).await;
        delta(&peer, &id, 1, b"a", false, None).await;
        delta(&peer, &id, 3, b"", true, None).await;
    };
    let (streaming, ()) = tokio::join!(executor.fetch_streaming(&request), script);
    let mut streaming = streaming.unwrap();
    let mut body = Vec::new();
    while let Some(piece) = streaming.body.next().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    assert_eq!(body, b"ab");
    assert_eq!(streaming.body.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_whole_body() {
    let (executor, mut peer) = open(true).await;
    let request = Request::get("http://x/");
    let script = async {
        let call = peer.call("http/request").await;
        let id = call.params["requestId"].clone();
        peer.answer(&call, json!({"status": 200, "headers": [], "bodyBase64": ""})).await;
        delta(&peer, &id, 1, b"a", false, None).await;
        delta(&peer, &id, 2, b"", true, Some("connection reset")).await;
        let call = peer.call("http/request").await;
        peer.answer(&call, json!({"status": 200, "headers": [], "bodyBase64": ""})).await;
        peer
    };
    let ours = async {
        let mut cut = executor.fetch_streaming(&request).await.unwrap().body;
        assert_eq!(cut.next().await.unwrap().as_deref(), Some(b"a".as_slice()));
        assert!(matches!(cut.next().await, Err(Error::BodyCut(text)) if text == "connection reset"));
        executor.fetch_streaming(&request).await.unwrap().body
    };
    let (mut lost, peer) = tokio::join!(ours, script);
    peer.vanish();
    assert!(matches!(lost.next().await, Err(Error::LostWhileFetching(_))));
}
