//! `process/*` from end to end.

use serde_json::json;

use crate::bench::{Bench, start, write};

#[tokio::test]
async fn output_streams_and_exit_code() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let answer = client.start("p", &["sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!(answer["result"], json!({"processId": "p", "sandboxType": "none"}));
    let output = client.follow("p").await;
    assert_eq!((output.stdout, output.stderr, output.code), (b"out\n".into(), b"err\n".into(), Some(7)));
    let read = client.call("process/read", json!({"processId": "p"})).await;
    assert_eq!(read["result"]["closed"], true);
    assert_eq!(read["result"]["nextSeq"], 3);
}

#[tokio::test]
async fn failures_to_start_have_the_codes_of_stock() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let mut tty = start("t", &["true"]);
    tty["argv"] = json!([""]);
    tty["tty"] = json!(true);
    client.start("used", &["sleep", "600"]).await;
    let enforced = {
        let mut params = start("s", &["true"]);
        params["enforceManagedNetwork"] = json!(true);
        params
    };
    for (params, code, text) in [
        (start("p", &[]), -32602, "argv must not be empty"),
        (start("p", &[""]), -32603, "missing program for pipe spawn"),
        (tty, -32603, "missing program for PTY spawn"),
        (start("p", &["/no/such/program"]), -32603, "No such file or directory (os error 2)"),
        (start("used", &["true"]), -32600, "process used already exists"),
        (enforced, -32602, "sandbox intent cannot be enforced on this executor"),
    ] {
        let answer = client.call("process/start", params).await;
        assert_eq!(answer["error"], json!({"code": code, "message": text}));
    }
}

#[tokio::test]
async fn close_stdin_ends_a_filter() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.handshake_with(json!({"clientName": "x", "extensions": {"exedra/1": {"closeStdin": true}}})).await;
    client.post("process/start", start("p", &["cat"])).await;
    client.post("process/write", write("p", b"all of it")).await;
    client.post("process/closeStdin", json!({"processId": "p"})).await;
    let output = client.follow("p").await;
    assert_eq!((output.stdout.as_slice(), output.code), (&b"all of it"[..], Some(0)));
}

#[tokio::test]
async fn a_terminal_has_the_size_that_it_is_given() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    let offer = json!({"clientName": "x", "extensions": {"exedra/1": {"resize": true}}});
    client.handshake_with(offer).await;
    let resize = |process: &str, rows, cols| json!({"processId": process, "size": {"rows": rows, "cols": cols}});
    let status = |answer: serde_json::Value| answer["result"]["status"].as_str().unwrap().to_owned();
    client.start("pipes", &["sleep", "600"]).await;
    let mut params = start("p", &["sh", "-c", "read line; stty size"]);
    params["tty"] = json!(true);
    client.call("process/start", params).await;
    assert_eq!(status(client.call("process/resize", resize("p", 50, 132)).await), "resized");
    assert_eq!(status(client.call("process/resize", resize("pipes", 50, 132)).await), "noTerminal");
    assert_eq!(status(client.call("process/resize", resize("none", 50, 132)).await), "unknownProcess");
    assert_eq!(client.call("process/resize", resize("p", 0, 132)).await["error"]["code"], -32602);
    client.call("process/write", write("p", b"\n")).await;
    let mut said = Vec::new();
    loop {
        let event = client.event().await;
        match event["params"]["chunk"].as_str() {
            Some(chunk) => said.extend(exedra_proto::base64::Base64Text(chunk.to_owned()).decode().unwrap()),
            None if event["method"] == "process/closed" => break,
            None => {}
        }
    }
    assert!(String::from_utf8_lossy(&said).contains("50 132"), "{said:?}");
    assert_eq!(status(client.call("process/resize", resize("p", 50, 132)).await), "noTerminal");
}

#[tokio::test]
async fn a_list_has_the_processes_of_the_session_and_no_others() {
    let mut bench = Bench::new();
    let mut other = bench.open().await;
    other.start("other", &["sleep", "600"]).await;
    let mut client = bench.connect();
    client.handshake_with(json!({"clientName": "x", "extensions": {"exedra/1": {"list": true}}})).await;
    client.start("a", &["sh", "-c", "echo x; exit 3"]).await;
    client.follow("a").await;
    client.start("b", &["sleep", "600"]).await;
    let answer = client.call("process/list", json!({})).await;
    let listed = answer["result"]["processes"].as_array().unwrap();
    let ids: Vec<_> = listed.iter().map(|process| process["processId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(
        (&listed[0]["exitCode"], &listed[0]["closed"], &listed[0]["lastSeq"]),
        (&json!(3), &json!(true), &json!(3))
    );
    let b = &listed[1];
    assert_eq!((&b["argv"], &b["tty"], &b["closed"]), (&json!(["sleep", "600"]), &json!(false), &json!(false)));
    assert!(b.get("exitCode").is_none() && b["pid"].as_u64().unwrap() > 1 && b["ageMs"].is_u64(), "{b}");
}

#[tokio::test]
async fn processes_of_another_session_are_invisible() {
    let mut bench = Bench::new();
    let (mut one, mut two) = (bench.open().await, bench.open().await);
    one.start("p", &["sleep", "600"]).await;
    let read = two.call("process/read", json!({"processId": "p"})).await;
    assert_eq!(read["error"], json!({"code": -32600, "message": "unknown process id p"}));
    assert_eq!(two.call("process/write", write("p", b"x")).await["result"]["status"], "unknownProcess");
    assert_eq!(two.call("process/terminate", json!({"processId": "p"})).await["result"]["running"], false);
    two.start("p", &["true"]).await;
    assert_eq!(two.follow("p").await.code, Some(0));
}

#[tokio::test]
async fn a_limit_that_was_passed_is_named() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    let offer = json!({"clientName": "x", "extensions": {"exedra/1": {"limits": true}}});
    client.handshake_with(offer).await;
    assert_eq!(client.seen[0]["result"]["extensions"]["exedra/1"]["limits"], true);
    let mut params = start("p", &["sh", "-c", "setsid sleep 600 & sleep 600"]);
    params["limits"] = json!({"wallMs": 100});
    client.call("process/start", params).await;
    let exited = client.event().await;
    assert_eq!(exited["method"], "process/exited");
    assert_eq!(exited["params"]["limit"], "wallTime");
    assert_eq!(exited["params"]["exitCode"], 137);
    let read = client.call("process/read", json!({"processId": "p"})).await;
    assert_eq!(read["result"]["limit"], "wallTime");
    let mut params = start("q", &["true"]);
    params["limits"] = json!({"wallMS": 100});
    assert_eq!(client.call("process/start", params).await["error"]["code"], -32602);
}
