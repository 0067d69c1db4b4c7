//! Calls and events, against a server made of plain messages.

use std::time::Duration;

use exedra_link::peer::{CallError, Client, Event, Events, MAX_CALLS};
use exedra_link::{Connection, Disconnect, memory};
use exedra_proto::close::CloseReason;
use exedra_proto::envelope::RpcError;
use exedra_proto::ids::ProcessId;
use exedra_proto::method::{FsReadFile, Initialize, ProcessTerminate, ServerEvent};
use exedra_proto::process::ProcessParams;
use exedra_proto::session::InitializeParams;
use serde_json::{Value, json};
use tokio::time::timeout;

struct Server(Connection);

impl Server {
    async fn next(&mut self) -> Value {
        serde_json::from_str(self.0.receiver.recv().await.unwrap().as_text().unwrap()).unwrap()
    }

    async fn say(&self, message: &Value) {
        self.0.sender.send(message.to_string()).await.unwrap();
    }

    async fn say_text(&self, text: &str) {
        self.0.sender.send(text).await.unwrap();
    }
}

fn start() -> (Client, Events, Server) {
    let (ours, theirs) = memory::pair();
    let (client, events) = Client::start(ours);
    (client, events, Server(theirs))
}

fn hello() -> InitializeParams {
    InitializeParams { client_name: "t".into(), resume_session_id: None, extensions: None }
}

fn process(id: &str) -> ProcessParams {
    ProcessParams { process_id: ProcessId::new(id) }
}

fn exited(id: &str) -> Value {
    json!({"method": "process/exited", "params": {"processId": id, "seq": 1, "exitCode": 0}})
}

#[tokio::test]
async fn a_call_is_asked_with_an_id_and_answered() {
    let (client, _events, mut server) = start();
    let params = hello();
    let serve = async {
        let request = server.next().await;
        assert_eq!((&request["id"], &request["method"]), (&json!(1), &json!("initialize")));
        assert_eq!(request["params"]["clientName"], "t");
        server.say(&json!({"id": 1, "result": {"sessionId": "s-1"}})).await;
        assert_eq!(server.next().await, json!({"method": "initialized", "params": {}}));
    };
    let calls = async {
        let result = client.call::<Initialize>(&params).await.unwrap();
        assert_eq!(result.session_id.as_str(), "s-1");
        client.notify("initialized").await.unwrap();
    };
    tokio::join!(serve, calls);
}

#[tokio::test]
async fn answers_may_come_in_any_order_and_errors_are_told() {
    let (client, _events, mut server) = start();
    let (a, b, c) = (process("a"), process("b"), process("c"));
    let serve = async {
        for _ in 0..3 {
            server.next().await;
        }
        server.say(&json!({"id": 3, "result": {"running": true}})).await;
        server.say(&json!({"id": 2, "error": {"code": -32600, "message": "no"}})).await;
        server.say(&json!({"id": 1, "result": {"running": "what"}})).await;
    };
    let (first, second, third, ()) = tokio::join!(
        client.call::<ProcessTerminate>(&a),
        client.call::<ProcessTerminate>(&b),
        client.call::<ProcessTerminate>(&c),
        serve
    );
    assert!(matches!(first, Err(CallError::BadResult { method: "process/terminate", .. })), "{first:?}");
    assert!(matches!(second, Err(CallError::Rpc(error)) if error == RpcError::new(-32600, "no")));
    assert!(third.unwrap().running);
}

#[tokio::test]
async fn odd_messages_are_passed_over_and_events_come_in_order() {
    let (client, mut events, mut server) = start();
    let params = process("p");
    let serve = async {
        server.say(&exited("early")).await;
        server.say(&json!({"method": "process/unheardOf", "params": {"x": 1}})).await;
        server.say(&json!({"method": "process/exited", "params": {"no": 1}})).await;
        for text in [
            "",
            "not json",
            "[1]",
            "{}",
            "{\"id\":77,\"result\":1}",
            "{\"id\":\"x\",\"error\":{\"code\":1,\"message\":\"\"}}",
        ] {
            server.say_text(text).await;
        }
        server.say(&json!({"id": -1, "error": {"code": -32600, "message": "failed to parse"}})).await;
        server.say(&json!({"id": "ask", "method": "please/do", "params": {}})).await;
        server.say(&exited("late")).await;
        let request = server.next().await;
        // The refusal may come before or after the call.
        let (refusal, request) =
            if request["id"] == "ask" { (request, server.next().await) } else { (server.next().await, request) };
        assert_eq!(refusal["error"]["code"], -32601);
        server.say(&json!({"id": request["id"], "result": {"running": false}})).await;
    };
    let (result, ()) = tokio::join!(client.call::<ProcessTerminate>(&params), serve);
    assert!(!result.unwrap().running);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match events.next().await.unwrap() {
            Event::Server(ServerEvent::ProcessExited(exited)) => exited.process_id.as_str().to_owned(),
            Event::Complaint(error) => error.message,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["early", "failed to parse", "late"]);
}

#[tokio::test]
async fn the_end_fails_all_open_calls_with_the_reason() {
    let (client, mut events, mut server) = start();
    let params = process("p");
    let serve = async {
        server.next().await;
        server.say(&exited("last")).await;
        server.0.sender.close(CloseReason::Replaced);
        server.0.receiver.finished().await;
    };
    let (call, ()) = tokio::join!(client.call::<ProcessTerminate>(&params), serve);
    let error = call.unwrap_err();
    let CallError::Disconnected { reason, was_sent: true } = &error else { panic!("{error:?}") };
    assert_eq!(reason.reason(), Some(CloseReason::Replaced));
    assert!(!error.is_retryable(), "it may have been done");

    assert!(matches!(events.next().await, Some(Event::Server(_))));
    assert!(events.next().await.is_none());
    let late = client.call::<ProcessTerminate>(&params).await.unwrap_err();
    assert!(matches!(&late, CallError::Disconnected { was_sent: false, .. }) && late.is_retryable(), "{late:?}");
    assert_eq!(client.finished().await.reason(), Some(CloseReason::Replaced));
    assert!(client.notify("initialized").await.is_err());
}

#[tokio::test]
async fn a_forgotten_call_leaves_its_slot_and_its_answer_is_ignored() {
    let (client, _events, mut server) = start();
    let params = process("p");
    for id in 1..=3 {
        assert!(timeout(Duration::from_millis(20), client.call::<ProcessTerminate>(&params)).await.is_err());
        assert_eq!(server.next().await["id"], id);
        server.say(&json!({"id": id, "result": {"running": true}})).await;
    }
    let serve = async {
        assert_eq!(server.next().await["id"], 4);
        server.say(&json!({"id": 4, "result": {"running": false}})).await;
    };
    let (result, ()) = tokio::join!(client.call::<ProcessTerminate>(&params), serve);
    assert!(!result.unwrap().running);
}

#[tokio::test]
async fn at_most_1024_calls_are_in_flight() {
    let (client, _events, mut server) = start();
    let params = process("p");
    let calls = futures_util::future::join_all((0..MAX_CALLS + 5).map(|_| client.call::<ProcessTerminate>(&params)));
    let serve = async {
        for _ in 0..MAX_CALLS {
            server.next().await;
        }
        assert!(timeout(Duration::from_millis(50), server.next()).await.is_err(), "one more is in flight");
        for id in 1..=MAX_CALLS + 5 {
            server.say(&json!({"id": id, "result": {"running": true}})).await;
            if id <= 5 {
                server.next().await;
            }
        }
    };
    let (results, ()) = tokio::join!(calls, serve);
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test]
async fn unread_events_stop_the_socket_and_reading_them_frees_the_calls() {
    let (client, mut events, mut server) = start();
    let params = process("p");
    let total = 20_000;
    let serve = async {
        for n in 0..total {
            server.say(&exited(&n.to_string())).await;
        }
        let request = server.next().await;
        server.say(&json!({"id": request["id"], "result": {"running": true}})).await;
    };
    let read = async {
        let call = client.call::<ProcessTerminate>(&params);
        tokio::pin!(call);
        assert!(timeout(Duration::from_millis(200), &mut call).await.is_err(), "20,000 events were held in memory");
        let drain = async {
            for _ in 0..total {
                events.next().await.unwrap();
            }
        };
        let (result, ()) = tokio::join!(call, drain);
        assert!(result.unwrap().running);
    };
    tokio::join!(serve, read);
}

#[tokio::test]
async fn dropped_events_block_nobody() {
    let (client, events, mut server) = start();
    drop(events);
    let params = process("p");
    let serve = async {
        for n in 0..5_000 {
            server.say(&exited(&n.to_string())).await;
        }
        let request = server.next().await;
        server.say(&json!({"id": request["id"], "result": {"running": true}})).await;
    };
    let (result, ()) = tokio::join!(client.call::<ProcessTerminate>(&params), serve);
    assert!(result.unwrap().running);
}

#[tokio::test]
async fn large_answers_arrive_whole() {
    let (client, _events, mut server) = start();
    let params = serde_json::from_value(json!({"path": "/x"})).unwrap();
    let data = "QUJD".repeat(1_000_000);
    let serve = async {
        server.next().await;
        server.say(&json!({"id": 1, "result": {"dataBase64": data}})).await;
    };
    let (result, ()) = tokio::join!(client.call::<FsReadFile>(&params), serve);
    assert_eq!(serde_json::to_value(result.unwrap()).unwrap()["dataBase64"], data);
}

#[tokio::test]
async fn the_last_client_takes_the_connection_with_it() {
    let (client, mut events, mut server) = start();
    let clone = client.clone();
    drop(client);
    server.say(&exited("x")).await;
    assert!(events.next().await.is_some());
    drop(clone);
    assert!(events.next().await.is_none());
    assert_eq!(server.0.receiver.recv().await, Err(Disconnect::Lost));
}
