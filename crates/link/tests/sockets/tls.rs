//! TLS, with a certificate of our own for `localhost`.

use std::sync::Arc;
use std::time::Duration;

use exedra_link::dial::registry::{Description, HttpOptions, Registration, RegistrationConfig};
use exedra_link::ws::{self, DialOptions, TcpView, WsOptions};
use exedra_link::{Connection, LinkError};
use exedra_proto::secret::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("../fixtures/localhost.cert.pem")).unwrap()
}

fn acceptor() -> TlsAcceptor {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/localhost.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate()], key).unwrap()))
}

fn trusting() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

async fn head(io: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn serve(listener: TcpListener) -> Option<Connection> {
    let (io, _) = listener.accept().await.unwrap();
    ws::prepare_tcp(&io).unwrap();
    let view = TcpView::of(&io);
    let mut io = acceptor().accept(io).await.ok()?;
    let head = head(&mut io).await;
    let accept = derive_accept_key(head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    io.write_all(answer.as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    Some(ws::accept(io, view, WsOptions::default()))
}

async fn dial(host: &str, tls: Option<Arc<ClientConfig>>) -> (Result<Connection, LinkError>, Option<Connection>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(format!("wss://{host}:{}/?sig=s3cret", listener.local_addr().unwrap().port()));
    let options = DialOptions { tls, ..DialOptions::default() };
    tokio::join!(ws::dial(&url, &options), serve(listener))
}

#[tokio::test]
async fn messages_of_all_sizes_pass_through_tls() {
    for host in ["localhost", "127.0.0.1"] {
        let (client, server) = dial(host, Some(trusting())).await;
        let (client, mut server) = (client.unwrap(), server.unwrap());
        for len in [0, 1, 70_000, 9 << 20] {
            let message = "x".repeat(len);
            let (sent, got) = tokio::join!(client.sender.send(message.clone()), server.receiver.recv());
            sent.unwrap();
            assert!(got.unwrap().as_text() == Ok(&message));
        }
        server.sender.send("back").await.unwrap();
        let mut receiver = client.receiver;
        assert_eq!(receiver.recv().await, Ok("back".into()));
    }
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_by_name() {
    // None: the platform's certificates.
    let (dialled, _) = dial("localhost", None).await;
    let error = dialled.unwrap_err();
    assert!(matches!(error, LinkError::Tls { .. }) && error.hint().is_some(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(format!("wss://localhost:{}/", listener.local_addr().unwrap().port()));
    let options = DialOptions { tls: Some(trusting()), timeout: Duration::from_secs(5), ..DialOptions::default() };
    let serve = async {
        let (mut io, _) = listener.accept().await.unwrap();
        io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        io
    };
    let (dialled, _io) = tokio::join!(ws::dial(&url, &options), serve);
    assert!(matches!(dialled, Err(LinkError::Tls { .. })));
}

#[tokio::test]
async fn a_registry_is_spoken_to_through_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = RegistrationConfig {
        base_url: format!("https://localhost:{}", listener.local_addr().unwrap().port()),
        executor_id: "exec-1".into(),
        name: None,
        bearer: Some(Secret::new("s3cret-token")),
        instance: Uuid::from_u128(1),
        about: Description::default(),
        http: HttpOptions { tls: Some(trusting()), ..HttpOptions::default() },
    };
    let registration = Registration::new(&config).unwrap();
    let serve = async {
        let (io, _) = listener.accept().await.unwrap();
        let mut io = acceptor().accept(io).await.unwrap();
        let head = head(&mut io).await;
        let body = r#"{"id":"r","executor_id":"exec-1","url":"wss://example.com/x"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        io.write_all(answer.as_bytes()).await.unwrap();
        io.flush().await.unwrap();
        (head, io)
    };
    let (reply, (head, _io)) = tokio::join!(registration.register(), serve);
    assert_eq!(reply.unwrap().id, "r");
    assert!(head.contains("authorization: Bearer s3cret-token\r\n"), "{head}");
}
