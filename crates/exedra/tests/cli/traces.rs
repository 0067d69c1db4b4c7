//! `serve --otlp`: a collector on loopback gets the spans of requests, and one that is away holds nobody up.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::program::{LIMIT, Running, exedra, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector that takes everything: heads and bodies of its requests.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (taken, requests) = channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, taken) = (socket.unwrap(), taken.clone());
            thread::spawn(move || {
                while let Some(request) = request(&mut socket) {
                    let _ = taken.send(request);
                    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    (url, requests)
}

fn request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap().trim().parse().unwrap();
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn serve(dir: &std::path::Path, collector: &str) -> (Running, String, String) {
    let data = dir.join("data");
    let args = ["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--otlp", collector, "--data-dir"];
    let serve = Running::start(exedra(&args).arg(data));
    let line = serve.stderr_line("metrics are to be had");
    let metrics = line.rsplit_once("address=").unwrap().1.trim().to_owned();
    let url = serve.line();
    (serve, url.trim_start_matches("http://").to_owned(), metrics)
}

/// The answer to a request.
fn ask(address: &str, request: &str, headers: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_collector_gets_the_spans_of_requests_in_the_trace_that_the_client_named() {
    let (collector, requests) = collector();
    let dir = tempfile::tempdir().unwrap();
    let (serve, url, metrics) = serve(dir.path(), &collector);
    let headers = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-00\r\nauthorization: Bearer sEcReT-7\r\n");
    assert!(ask(&url, "POST /v1/executors/pRiVaTe/connect?q=HiDdEn", &headers).starts_with("HTTP/1.1 401"));
    ask(&url, "GET /healthz", "");
    let (head, body) = requests.recv_timeout(LIMIT).unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1") && head.contains("application/x-protobuf"), "{head}");
    let trace: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap()).collect();
    for part in ["POST /v1/executors/{id}/connect", "service.name", "exedra", "http.response.status_code"] {
        assert!(holds(&body, part.as_bytes()), "{part}");
    }
    assert!(holds(&body, &trace) && holds(&body, &[0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]));
    for hidden in ["sEcReT-7", "pRiVaTe", "HiDdEn", "healthz"] {
        assert!(!holds(&body, hidden.as_bytes()), "{hidden}");
    }
    until("the spans are counted", || {
        ask(&metrics, "GET /metrics", "").contains("exedra_spans_total{fate=\"sent\"} 1")
    });
    // What waits at the end is sent.
    ask(&url, "GET /v1/openapi.json", "");
    assert_eq!(serve.stop().code, 0);
    let (_, last) = requests.recv_timeout(LIMIT).unwrap();
    assert!(holds(&last, b"GET /v1/openapi.json"));
}

#[test]
fn a_collector_that_is_away_or_silent_holds_nobody_up() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let dir = tempfile::tempdir().unwrap();
    let (serve, url, metrics) = self::serve(dir.path(), &nobody);
    assert!(ask(&url, "GET /v1/openapi.json", "").starts_with("HTTP/1.1 200"));
    serve.stderr_line("traces cannot be sent");
    until("it is counted", || ask(&metrics, "GET /metrics", "").contains("exedra_spans_total{fate=\"failed\"} 1"));
    assert_eq!(serve.stop().code, 0);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (serve, url, _) = self::serve(dir.path(), &format!("http://{}", silent.local_addr().unwrap()));
    for _ in 0..50 {
        assert!(ask(&url, "GET /nothing", "").starts_with("HTTP/1.1 404"));
    }
    assert!(ask(&url, "GET /v1/openapi.json", "").starts_with("HTTP/1.1 200"));
    assert_eq!(serve.stop().code, 0);
    drop(silent);
}
