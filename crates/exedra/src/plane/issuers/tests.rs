//! Issuers on loopback that answer, that say too much, that lead elsewhere, that show certificates, and that hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// An issuer that gives every request the answer of its path.
struct Server {
    url: Url,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{}", listener.local_addr().unwrap())).unwrap();
        let (asked, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let counted = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, counted) = (tls.clone(), Arc::clone(&counted));
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, &counted).await,
                        // Who does not trust it goes.
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => serve(socket, &counted).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        });
        Self { url, asked, _tasks: tasks }
    }

    async fn get(&self, path: &str, authorities: Option<&[u8]>) -> Result<usize, String> {
        get(&self.url.join(path).unwrap(), authorities, LONG).await.map(|document| document.len())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Who has heard enough goes, which is no matter.
async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let (kind, size) = path.split_once('/').unwrap_or((path, "0"));
    let (body, chunked) =
        (vec![b' '; size.parse().unwrap_or(0)], "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    match kind {
        "sized" => {
            socket.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes()).await?;
            socket.write_all(&body).await
        }
        "chunked" => {
            socket.write_all(format!("{chunked}{:x}\r\n", body.len()).as_bytes()).await?;
            socket.write_all(&body).await?;
            socket.write_all(b"\r\n0\r\n\r\n").await
        }
        "endless" => {
            socket.write_all(chunked.as_bytes()).await?;
            loop {
                socket.write_all(b"400\r\n").await?;
                socket.write_all(&[b' '; 1024]).await?;
                socket.write_all(b"\r\n").await?;
            }
        }
        "moved" => {
            let status = size;
            let head = format!("HTTP/1.1 {status} Elsewhere\r\nlocation: /sized/7\r\ncontent-length: 2\r\n\r\n{{}}");
            socket.write_all(head.as_bytes()).await
        }
        "halting" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await?;
            std::future::pending().await
        }
        _ => std::future::pending().await,
    }
}

/// An authority of the test's own, and the text by which it is trusted.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn text(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// With a certificate for `name`.
    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

#[tokio::test]
async fn a_document_has_so_many_bytes_and_no_more_however_it_comes() {
    let server = Server::start(None).await;
    for kind in ["sized", "chunked"] {
        assert_eq!(server.get(&format!("{kind}/{MAX_FETCHED}"), None).await, Ok(MAX_FETCHED), "{kind}");
        let error = server.get(&format!("{kind}/{}", MAX_FETCHED + 1), None).await.unwrap_err();
        assert_eq!(error, "it is larger than 262144 bytes", "{kind}");
    }
    assert_eq!(server.get("endless", None).await.unwrap_err(), "it is larger than 262144 bytes");
}

#[tokio::test]
async fn nobody_is_led_elsewhere() {
    let server = Server::start(None).await;
    for status in [301, 302, 303, 307, 308] {
        let error = server.get(&format!("moved/{status}"), None).await.unwrap_err();
        assert!(error.starts_with(&format!("the answer is {status}")), "{error}");
    }
    assert_eq!(server.asked(), 5, "and what it led to was not asked for");
}

#[tokio::test]
async fn the_authorities_of_the_file_are_trusted_and_no_others() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = Server::start(Some(ours.acceptor("127.0.0.1"))).await;
    assert_eq!(server.get("sized/5", Some(&ours.text())).await, Ok(5));
    for authorities in [None, Some(other.text())] {
        let error = server.get("sized/5", authorities.as_deref()).await.unwrap_err();
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
    let both = [other.text(), ours.text()].concat();
    assert_eq!(server.get("sized/5", Some(&both)).await, Ok(5));
    for text in ["", "not a certificate"] {
        let error = server.get("sized/5", Some(text.as_bytes())).await.unwrap_err();
        assert_eq!(error, "whom `ca_file` trusts: there is no certificate in it");
    }
    let elsewhere = Server::start(Some(ours.acceptor("issuer.example"))).await;
    let error = elsewhere.get("sized/5", Some(&ours.text())).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
    assert_eq!((server.asked(), elsewhere.asked()), (2, 0), "nothing was sent to whom is not trusted");
}

#[tokio::test]
async fn who_hangs_before_or_in_the_answer_is_given_up() {
    let server = Server::start(None).await;
    for path in ["hanging", "halting"] {
        let url = server.url.join(path).unwrap();
        let error = get(&url, None, Duration::from_millis(100)).await.unwrap_err();
        assert!(error.contains("timed out"), "{path}: {error}");
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}", silent.local_addr().unwrap())).unwrap();
    let error = get(&url, None, Duration::from_millis(100)).await.unwrap_err();
    assert!(error.contains("timed out"), "in the handshake: {error}");
}
