//! An HTTP server that answers one request after the other from a list, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::raw::http_head;

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

pub struct Scripted {
    pub base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub connections: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

/// A whole answer; `Content-Length` is added.
pub fn answer(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl Scripted {
    /// Answers with `answers` in order; after them, it holds its tongue.
    pub async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let mut tasks = JoinSet::new();
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        let (log, count) = (Arc::clone(&asked), Arc::clone(&connections));
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
                clients.spawn(serve(io, log, answers));
            }
        });
        Self { base, asked, connections, _tasks: tasks }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(mut io: TcpStream, log: Arc<Mutex<Vec<Asked>>>, answers: Arc<Mutex<std::vec::IntoIter<String>>>) {
    loop {
        let mut first = [0; 1];
        if io.peek(&mut first).await.unwrap_or(0) == 0 {
            return;
        }
        let head = http_head(&mut io).await;
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut asked = Asked { line, headers, body: String::new() };
        let mut body = vec![0; asked.header("content-length").map_or(0, |len| len.parse().unwrap())];
        io.read_exact(&mut body).await.unwrap();
        asked.body = String::from_utf8(body).unwrap();
        log.lock().unwrap().push(asked);
        let next = answers.lock().unwrap().next();
        match next {
            Some(answer) => {
                let _ = io.write_all(answer.as_bytes()).await;
            }
            None => std::future::pending().await,
        }
    }
}
