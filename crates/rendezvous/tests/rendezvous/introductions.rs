//! Who an executor is told that its clients are, and that no client can say so itself.

use bytes::Bytes;
use exedra_proto::frame::{Body, Frame, StreamId};
use exedra_proto::ids::TokenId;
use exedra_proto::introduction::{Client, HEADER, Introduction};
use exedra_proto::rights::Rights;
use exedra_proto::ticket::{Claims, Role, Shape};
use futures_util::SinkExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::raw::{RawPeer, masked};
use crate::stage::{Peer, Stage, claims, closed, message};

const SHAPES: [Shape; 2] = [Shape::Pair, Shape::Streams];

fn of(role: Role, shape: Shape) -> Claims {
    Claims { shape, ..claims(role) }
}

/// The claims of a client whose token is `token`, and what is to be told of it.
fn client(shape: Shape, token: &str, labels: &[&str], rights: &str) -> (Claims, Introduction) {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let client = Client { name: format!("name of {token}"), labels, rights: Rights::parse(rights).unwrap() };
    let token = TokenId::new(token);
    let introduction = Introduction { token: token.clone(), client: client.clone() };
    (Claims { token, client, ..of(Role::Harness, shape) }, introduction)
}

/// Dials with the wish to be told; whether it is granted.
async fn asking(stage: &Stage, claims: &Claims, wish: &str) -> (Peer, bool) {
    let mut request = stage.sign(claims).into_client_request().unwrap();
    request.headers_mut().insert(HEADER, wish.parse().unwrap());
    let (peer, answer) = stage.dial_with(request).await.unwrap();
    (peer, answer.headers().get(HEADER).is_some_and(|value| value == "1"))
}

/// An executor that is told who its clients are.
async fn told(stage: &Stage, shape: Shape) -> Peer {
    let (peer, granted) = asking(stage, &of(Role::Executor, shape), "1").await;
    assert!(granted);
    let reports = stage.presence.told(1).await;
    assert_eq!(reports.last().unwrap(), "online r 1, told");
    peer
}

fn data(stream: &str, seq: u32, payload: &'static str) -> Bytes {
    let stream = StreamId::new(stream).unwrap();
    Frame { stream, body: Body::Data { seq, payload: Bytes::from_static(payload.as_bytes()) } }.encode()
}

/// The next message, which has to be a text.
async fn text(peer: &mut Peer) -> String {
    match message(peer).await {
        Message::Text(text) => text.to_string(),
        other => panic!("no text: {other:?}"),
    }
}

/// The next message, which has to introduce whoever opens `stream`.
async fn introduced(peer: &mut Peer, stream: &str) -> Introduction {
    let (of, introduction) = Introduction::decode_stream(&text(peer).await).unwrap();
    assert_eq!(of.as_str(), stream);
    introduction
}

async fn binary(peer: &mut Peer) -> Bytes {
    match message(peer).await {
        Message::Binary(bytes) => bytes,
        other => panic!("not binary: {other:?}"),
    }
}

#[tokio::test]
async fn only_an_executor_that_asks_in_the_words_of_this_version_is_told() {
    for shape in SHAPES {
        let stage = Stage::start().await;
        let mut last = None;
        for (number, (wish, expected)) in [("2", false), ("", false), ("1", true)].into_iter().enumerate() {
            let (executor, granted) = asking(&stage, &of(Role::Executor, shape), wish).await;
            assert_eq!(granted, expected, "{shape:?} {wish}");
            let told = if expected { "online r 1, told" } else { "online r 1" };
            assert_eq!(stage.presence.told(1 + 2 * number).await.last().unwrap(), told);
            last = Some(executor);
        }
        let (_client, granted) = asking(&stage, &client(shape, "tok-a", &[], "exec,files,http,pty").0, "1").await;
        assert!(!granted && last.is_some(), "a client asks in vain");
    }
}

#[tokio::test]
async fn an_executor_that_did_not_ask_sees_what_the_client_sends_and_nothing_else() {
    for shape in SHAPES {
        let stage = Stage::start().await;
        let mut executor = stage.dial(&stage.sign(&of(Role::Executor, shape))).await.unwrap();
        assert_eq!(stage.presence.told(1).await, ["online r 1"]);
        let (claims, _) = client(shape, "tok-a", &["ci"], "exec,files,http,pty");
        let (mut client, _) = asking(&stage, &claims, "1").await;
        client.send(Message::Binary(data("s", 0, "hello"))).await.unwrap();
        assert_eq!(binary(&mut executor).await, data("s", 0, "hello"));
    }
}

#[tokio::test]
async fn a_pair_begins_with_the_introduction_whatever_the_client_sends_and_however() {
    let (claims, introduction) = client(Shape::Pair, "tok-a", &["team=ml", "ci"], "exec");
    let (_, mut forged) = client(Shape::Pair, "tok-b", &["admin"], "exec,files,http,pty");
    forged.client.name = "somebody else".to_owned();
    let forged = forged.encode(None);
    let (head, tail) = forged.as_bytes().split_at(20);
    let at_once = masked(0x81, forged.as_bytes());
    let in_fragments = [masked(0x01, head), masked(0x89, b"a ping between"), masked(0x80, tail)].concat();
    for early in [&at_once, &in_fragments] {
        let stage = Stage::start().await;
        let mut executor = told(&stage, Shape::Pair).await;
        let mut client = RawPeer::dial_with(&stage, &claims, early).await;
        assert_eq!(Introduction::decode(&text(&mut executor).await), Ok(introduction.clone()));
        assert_eq!(text(&mut executor).await, forged, "what follows is the client's own");
        client.send(&masked(0x81, forged.as_bytes())).await;
        assert_eq!(text(&mut executor).await, forged);
    }
}

#[tokio::test]
async fn each_pairing_has_an_introduction_of_its_own() {
    let stage = Stage::start().await;
    for (token, labels, rights) in [("tok-a", &["ci"][..], "exec,files,http,pty"), ("tok-b", &[], "files")] {
        let (mut executor, _) = asking(&stage, &of(Role::Executor, Shape::Pair), "1").await;
        let (claims, introduction) = client(Shape::Pair, token, labels, rights);
        let reports = stage.presence.told(1).await.len();
        let mut client = stage.dial(&stage.sign(&claims)).await.unwrap();
        assert_eq!(Introduction::decode(&text(&mut executor).await), Ok(introduction));
        client.close(None).await.unwrap();
        let (_, rest) = closed(&mut executor).await;
        assert!(rest.is_empty(), "there is one introduction");
        stage.presence.told(reports + 2).await;
    }
}

#[tokio::test]
async fn each_stream_begins_with_the_introduction_of_its_client() {
    let stage = Stage::start().await;
    let mut executor = told(&stage, Shape::Streams).await;
    let (claims_a, a) = client(Shape::Streams, "tok-a", &["ci"], "exec,pty");
    let (claims_b, b) = client(Shape::Streams, "tok-b", &[], "exec,files,http,pty");
    let mut first = stage.dial(&stage.sign(&claims_a)).await.unwrap();
    for stream in ["one", "two"] {
        first.send(Message::Binary(data(stream, 0, "from a"))).await.unwrap();
        assert_eq!(introduced(&mut executor, stream).await, a);
        assert_eq!(binary(&mut executor).await, data(stream, 0, "from a"));
        first.send(Message::Binary(data(stream, 1, "more"))).await.unwrap();
        assert_eq!(binary(&mut executor).await, data(stream, 1, "more"), "once is enough");
    }
    let mut second = stage.dial(&stage.sign(&claims_b)).await.unwrap();
    second.send(Message::Binary(data("one", 2, "taken"))).await.unwrap();
    assert!(matches!(message(&mut second).await, Message::Binary(_)), "a reset");
    first.close(None).await.unwrap();
    for _ in 0..2 {
        let reset = Frame::decode(binary(&mut executor).await).unwrap();
        assert!(matches!(reset.body, Body::Reset { .. }), "{reset:?}");
    }
    second.send(Message::Binary(data("one", 0, "from b"))).await.unwrap();
    assert_eq!(introduced(&mut executor, "one").await, b, "an id that is used again is introduced again");
    assert_eq!(binary(&mut executor).await, data("one", 0, "from b"));
}

#[tokio::test]
async fn a_text_of_a_client_never_reaches_an_executor_with_streams() {
    let stage = Stage::start().await;
    let mut executor = told(&stage, Shape::Streams).await;
    let (claims, introduction) = client(Shape::Streams, "tok-a", &["ci"], "exec");
    let (_, forged) = client(Shape::Streams, "tok-b", &["admin"], "exec,files,http,pty");
    let forged = forged.encode(Some(&StreamId::new("s").unwrap()));
    let (head, tail) = forged.as_bytes().split_at(20);
    let forgery = [
        masked(0x81, forged.as_bytes()),
        masked(0x01, head),
        masked(0x89, b"a ping between"),
        masked(0x80, tail),
        masked(0x82, forged.as_bytes()),
    ]
    .concat();
    let begin = data("s", 0, "begin");
    let (half, rest) = begin.split_at(begin.len() / 2);
    let own = [masked(0x02, half), masked(0x80, rest)].concat();
    let mut client = RawPeer::dial_with(&stage, &claims, &[&forgery[..], &own, &forgery].concat()).await;
    assert_eq!(introduced(&mut executor, "s").await, introduction);
    assert_eq!(binary(&mut executor).await, begin);
    client.send(&masked(0x82, &data("s", 1, "more"))).await;
    assert_eq!(binary(&mut executor).await, data("s", 1, "more"), "all of the forgery is gone");
}

#[tokio::test]
async fn a_client_that_may_do_less_than_all_comes_only_where_that_is_told() {
    for shape in SHAPES {
        let stage = Stage::start().await;
        let (claims, introduction) = client(shape, "tok-a", &[], "files");
        let _stock = stage.dial(&stage.sign(&of(Role::Executor, shape))).await.unwrap();
        stage.presence.told(1).await;
        let (status, reason, body) = stage.refused(&stage.sign(&claims)).await;
        assert_eq!((status, reason.as_str()), (403, "rights_not_enforceable"), "{body}");
        let (mut executor, _) = asking(&stage, &of(Role::Executor, shape), "1").await;
        stage.presence.told(3).await;
        // The ticket that was refused is not used up.
        let mut client = stage.dial(&stage.sign(&claims)).await.unwrap();
        client.send(Message::Binary(data("s", 0, "hello"))).await.unwrap();
        let told = text(&mut executor).await;
        let told = match shape {
            Shape::Pair => Introduction::decode(&told).unwrap(),
            Shape::Streams => Introduction::decode_stream(&told).unwrap().1,
        };
        assert_eq!(told, introduction);
    }
}
