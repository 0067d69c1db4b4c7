//! `serve --workloads`: an executor and a client that have no secret of ours, an issuer on loopback, and files that change.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::plane::Server;
use crate::program::{Running, exedra, run};

const RULES: &str = r#"
[[issuer]]
url = "ISSUER"
audience = "exedra"
skew_seconds = 0

[[rule]]
name = "jobs"
issuer = "ISSUER"
claims = { sub = "job:*" }
role = "executor"
executor = "ci-{run}"

[[rule]]
name = "agents"
issuer = "ISSUER"
claims = { sub = "agent" }
role = "client"
executor = "ci-*"
"#;

/// An issuer that answers until the tests end.
struct Issuer {
    url: String,
    key: KeyPair,
    key_id: &'static str,
    published: Arc<Mutex<Vec<Value>>>,
}

/// A key, and how it is published.
fn key(id: &str) -> (KeyPair, Value) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (x, y) = key.der_bytes()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let public = json!({"kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y});
    (key, public)
}

/// Answers whoever asks.
fn answer(mut socket: impl Read + Write, configuration: &str, keys: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let body = if head.starts_with(b"GET /keys") { keys } else { configuration };
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all(format!("{head}{body}").as_bytes())?;
    socket.flush()
}

impl Issuer {
    fn start() -> Self {
        Self::over(None)
    }

    /// Over TLS, if it has a certificate.
    fn over(tls: Option<Arc<ServerConfig>>) -> Self {
        let (key, public) = key("k");
        let published = Arc::new(Mutex::new(vec![public]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let keys = Arc::clone(&published);
        let configuration = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let socket = socket.unwrap();
                let keys = json!({"keys": *keys.lock().unwrap()}).to_string();
                // Who does not trust it goes without an answer.
                let _ = match &tls {
                    None => answer(socket, &configuration, &keys),
                    Some(tls) => {
                        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                        answer(StreamOwned::new(connection, socket), &configuration, &keys)
                    }
                };
            }
        });
        Self { url, key, key_id: "k", published }
    }

    /// From now on it signs with another key, which it publishes beside the one from before.
    fn rotate(&mut self, id: &'static str) {
        let (key, public) = key(id);
        self.published.lock().unwrap().push(public);
        (self.key, self.key_id) = (key, id);
    }

    /// A token for so many seconds.
    fn token(&self, subject: &str, seconds: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims: Value = json!({"iss": self.url, "aud": "exedra", "sub": subject, "exp": now + seconds, "run": 7});
        let header = Header { kid: Some(self.key_id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &EncodingKey::from_ec_der(&self.key.serialize_der())).unwrap()
    }
}

struct Stage {
    issuer: Issuer,
    dir: TempDir,
    serve: Running,
    url: String,
}

impl Stage {
    fn start() -> Self {
        Self::by(Issuer::start(), RULES)
    }

    fn by(issuer: Issuer, text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("workloads.toml");
        std::fs::write(&rules, text.replace("ISSUER", &issuer.url)).unwrap();
        let (data, rules) = (dir.path().join("data"), rules.to_str().unwrap().to_owned());
        let data = data.to_str().unwrap();
        let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--workloads", &rules];
        let serve = Running::start(&mut exedra(&args));
        let url = serve.line();
        Self { issuer, dir, serve, url }
    }

    /// A file with a token, as a cluster projects it: another file takes its place.
    fn file(&self, name: &str, token: &str) -> PathBuf {
        let (file, next) = (self.dir.path().join(name), self.dir.path().join("next"));
        std::fs::write(&next, format!("{token}\n")).unwrap();
        std::fs::rename(&next, &file).unwrap();
        file
    }

    fn executor(&self, token: &Path) -> Running {
        let mut command = exedra(&["exec-server", "--remote", &self.url, "--executor-id", "ci-7"]);
        Running::start(command.env("EXEDRA_TOKEN_FILE", token))
    }

    fn exec(&self, token: &Path) -> crate::program::Finished {
        let mut command = exedra(&["exec", "ci-7", "--", "echo", "here"]);
        run(command.env("EXEDRA_SERVER", &self.url).env("EXEDRA_TOKEN_FILE", token))
    }
}

#[test]
fn neither_end_needs_a_secret_of_ours_and_a_new_token_in_the_file_is_taken() {
    let stage = Stage::start();
    let job = stage.file("job", &stage.issuer.token("job:1", 4));
    let agent = stage.file("agent", &stage.issuer.token("agent", 3_600));
    let executor = stage.executor(&job);
    executor.stderr_line("registered with executor_id ci-7");
    let done = stage.exec(&agent);
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    // The first token's end cuts the connection; the executor comes back with the second.
    stage.file("job", &stage.issuer.token("job:1", 3_600));
    stage.serve.stderr_line("is no longer good, and what was opened with it is cut");
    executor.stderr_line("registered with executor_id ci-7");
    let done = stage.exec(&agent);
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    let list =
        run(&mut exedra(&["token", "list", "--json", "--data-dir", stage.dir.path().join("data").to_str().unwrap()]));
    let list: Value = serde_json::from_str(list.out()).unwrap();
    let rules: Vec<_> =
        list.as_array().unwrap().iter().map(|token| token["workload"]["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["jobs", "agents"], "{list}");
    let stranger = Issuer::start();
    let refused = stage.exec(&stage.file("stranger", &stranger.token("agent", 60)));
    assert_eq!(refused.code, 255);
    assert!(refused.stderr.contains("issuer is not one of this server's"), "{}", refused.stderr);
    let unmatched = stage.exec(&stage.file("unmatched", &stage.issuer.token("somebody", 60)));
    assert_eq!(unmatched.code, 255);
    assert!(unmatched.stderr.contains("no workload rule is for"), "{}", unmatched.stderr);
    let log = stage.serve.stop();
    for secret in [stage.issuer.token("agent", 1), std::fs::read_to_string(&job).unwrap()] {
        let signature = secret.trim().rsplit('.').next().unwrap();
        assert!(!log.stderr.contains(signature));
    }
}

#[test]
fn an_issuers_own_authority_is_trusted_where_the_file_names_it() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], secret).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.pem");
    std::fs::write(&authority, certificate.pem()).unwrap();
    let stage = Stage::by(Issuer::over(Some(Arc::new(config))), RULES);
    let (job, agent) = (stage.issuer.token("job:7", 600), stage.issuer.token("agent", 600));
    let (job, agent) = (stage.file("job", &job), stage.file("agent", &agent));
    let executor = stage.executor(&job);
    let said = stage.serve.stderr_line("the issuer's keys cannot be had");
    assert!(said.contains("UnknownIssuer"), "{said}");
    let named = format!("skew_seconds = 0\nca_file = \"{}\"", authority.display());
    let rules = RULES.replacen("skew_seconds = 0", &named, 1).replace("ISSUER", &stage.issuer.url);
    std::fs::write(stage.dir.path().join("workloads.toml"), rules).unwrap();
    stage.serve.signal("HUP");
    executor.stderr_line("registered with executor_id ci-7");
    assert_eq!(stage.exec(&agent).out(), "here\n");
    assert_eq!(executor.stop().code, 0);
}

#[test]
fn a_key_that_was_published_since_the_last_fetch_is_waited_for_at_either_end() {
    let mut stage = Stage::start();
    let before = stage.executor(&stage.file("job", &stage.issuer.token("job:1", 3_600)));
    before.stderr_line("registered with executor_id ci-7");
    assert_eq!(before.stop().code, 0);
    stage.issuer.rotate("next");
    let executor = stage.executor(&stage.file("job", &stage.issuer.token("job:1", 3_600)));
    let agent = stage.file("agent", &stage.issuer.token("agent", 3_600));
    let mut command = exedra(&["exec", "--wait", "60s", "ci-7", "--", "echo", "here"]);
    let done = run(command.env("EXEDRA_SERVER", &stage.url).env("EXEDRA_TOKEN_FILE", &agent));
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    let executor = executor.stop();
    assert!(!executor.stderr.contains("401") && !executor.stderr.contains("503"), "{}", executor.stderr);
}

#[test]
fn a_hangup_reads_the_rules_again_and_bad_ones_change_nothing() {
    let stage = Stage::start();
    let agent = stage.file("agent", &stage.issuer.token("agent", 3_600));
    let rules = stage.dir.path().join("workloads.toml");
    let good = std::fs::read_to_string(&rules).unwrap();
    let executor = stage.executor(&stage.file("job", &stage.issuer.token("job:1", 3_600)));
    executor.stderr_line("registered with executor_id ci-7");
    std::fs::write(&rules, good.replace("role = \"client\"", "role = \"clown\"")).unwrap();
    stage.serve.signal("HUP");
    let line = stage.serve.stderr_line("until now stay in force");
    assert!(line.contains("line 18: field `role`"), "{line}");
    assert_eq!(stage.exec(&agent).code, 0);
    std::fs::write(&rules, good.replace("sub = \"agent\"", "sub = \"agents\"")).unwrap();
    stage.serve.signal("HUP");
    stage.serve.stderr_line("the workload rules were read again");
    let refused = stage.exec(&agent);
    assert_eq!(refused.code, 255, "{}", refused.stderr);
    assert!(refused.stderr.contains("no workload rule is for"), "{}", refused.stderr);
}

#[test]
fn a_server_with_bad_rules_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let (data, rules) = (dir.path().join("data"), dir.path().join("workloads.toml"));
    std::fs::write(&rules, "[[issuer]]\nurl = \"http://issuer.example\"\naudience = \"a\"\n").unwrap();
    let args = ["serve", "--data-dir", data.to_str().unwrap(), "--workloads", rules.to_str().unwrap()];
    let failed = run(&mut exedra(&args));
    assert_eq!(failed.code, 255);
    assert!(failed.stderr.contains("line 2: field `url`") && failed.stderr.contains("not https"), "{}", failed.stderr);
}

#[test]
fn who_waits_for_news_goes_on_with_the_token_that_is_in_the_file_then() {
    let server = Server::start();
    let file = server.dir.path().join("token");
    std::fs::write(&file, server.token(&["--role", "admin"])).unwrap();
    let mut command = exedra(&["events", "--follow", "--json"]);
    let events = Running::start(command.env("EXEDRA_SERVER", &server.url).env("EXEDRA_TOKEN_FILE", &file));
    let old = loop {
        let event: Value = serde_json::from_str(&events.line()).unwrap();
        if event["detail"]["role"] == "admin" {
            break event["detail"]["token_id"].as_str().unwrap().to_owned();
        }
    };
    let next = server.dir.path().join("next");
    std::fs::write(&next, server.token(&["--role", "admin"])).unwrap();
    std::fs::rename(&next, &file).unwrap();
    let data = server.data_dir();
    assert_eq!(run(&mut exedra(&["token", "revoke", &old, "--data-dir", data.to_str().unwrap()])).code, 0);
    loop {
        let event: Value = serde_json::from_str(&events.line()).unwrap();
        if event["kind"] == "token_revoked" {
            break;
        }
    }
    let marker = server.token(&["--role", "client", "--name", "later"]);
    assert!(!marker.is_empty());
    while serde_json::from_str::<Value>(&events.line()).unwrap()["kind"] != "token_created" {}
}
