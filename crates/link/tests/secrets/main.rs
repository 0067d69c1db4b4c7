//! Nothing that is logged, at the finest level, by us or by the libraries beneath, holds a token or a ticket.

#![cfg(test)]

#[path = "../sockets/raw.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod raw;
#[path = "../sockets/scripted.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod scripted;

use std::io;
use std::sync::{Arc, Mutex};

use exedra_link::dial::registry::{Description, HttpOptions, Registration, RegistrationConfig, RegistryClient};
use exedra_link::dial::rendezvous;
use exedra_link::ws::DialOptions;
use exedra_proto::close::CloseReason;
use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::ConnectRequest;
use exedra_proto::secret::Secret;
use scripted::{Scripted, answer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use uuid::Uuid;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_run_at_trace_level_shows_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();

    let rendezvous = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ticket = format!("ws://{}/r?sig=s3cret-ticket", rendezvous.local_addr().unwrap());
    let register = format!(r#"{{"id":"reg-1","executor_id":"box","url":"{ticket}"}}"#);
    let connect = format!(
        r#"{{"executor_id":"box","registration_id":"reg-1","transport":"direct","url":"{ticket}","expires_at":1}}"#
    );
    let refused = r#"{"error":{"message":"no such token: s3cret-token"}}"#;
    let answers = [("200 OK", register.as_str()), ("200 OK", &connect), ("401 x", refused), ("500 x", refused)];
    let server = Scripted::start(answers.iter().map(|(status, body)| answer(status, &[], body)).collect()).await;

    let bearer = Some(Secret::new("s3cret-token"));
    let config = RegistrationConfig {
        base_url: server.base.clone(),
        executor_id: "box".into(),
        name: None,
        bearer: bearer.clone(),
        instance: Uuid::from_u128(1),
        about: Description::default(),
        http: HttpOptions::default(),
    };
    let registration = Registration::new(&config).unwrap();
    let reply = registration.register().await.unwrap();
    let client = RegistryClient::new(&server.base, bearer.as_ref(), &config.http).unwrap();
    let request = ConnectRequest { public_key: None, transports: vec![], wait_ms: 0 };
    client.connect(&ExecutorId::parse("box").unwrap(), &request).await.unwrap();
    tracing::info!(error = %registration.register().await.unwrap_err(), "401");
    tracing::info!(error = ?registration.register().await.unwrap_err(), "500");
    tracing::info!(?registration, ?client, ?config, ?reply, "all that can be printed");

    let options = DialOptions::default();
    let serve = async {
        let (mut io, _) = rendezvous.accept().await.unwrap();
        raw::answer_upgrade(&mut io, b"").await;
        let (mut refused, _) = rendezvous.accept().await.unwrap();
        raw::http_head(&mut refused).await;
        refused.write_all(b"HTTP/1.1 401 x\r\nx: s3cret-ticket\r\n\r\n").await.unwrap();
        (io, refused)
    };
    let dial = async {
        let connection = rendezvous::join(&reply.url, &options).await.unwrap();
        connection.sender.send("s3cret-payload").await.unwrap();
        connection.sender.close(CloseReason::PeerDone);
        tracing::info!(error = ?rendezvous::join(&reply.url, &options).await.unwrap_err(), "refused");
        connection
    };
    let (connection, io) = tokio::join!(dial, serve);
    drop(io);
    tracing::info!(end = %connection.shutdown(CloseReason::PeerDone).await, "ended");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("all that can be printed") && log.contains("TRACE"), "the log is empty: {log}");
    let leaks: Vec<&str> = log.lines().filter(|line| line.contains("s3cret")).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
