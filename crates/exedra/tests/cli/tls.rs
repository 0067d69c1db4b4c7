//! `serve` with a certificate: executors and clients trust the CA that made it, and no other; a new one is taken while
//! the server runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::program::{Running, exedra, run, until};

/// A certificate authority of the test's own, and the files of one server.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a new certificate with `name` in it into the files, and a new key.
    fn issue(&self, name: &str) {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        replace(&self.file("key.pem"), &key.serialize_pem());
        replace(&self.file("cert.pem"), &certificate.pem());
    }

    /// `exedra` that trusts it.
    fn exedra(&self, args: &[&str]) -> Command {
        let mut command = exedra(args);
        command.args(["--ca-file", self.file("ca.pem").to_str().unwrap()]);
        command
    }

    /// `serve` with the certificate.
    fn serve(&self) -> Running {
        let path = |name: &str| self.file(name).to_str().unwrap().to_owned();
        let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &path("data"), "--tls-cert", &path("cert.pem")];
        Running::start(exedra(&args).args(["--tls-key", &path("key.pem")]))
    }

    fn token(&self, role: &str) -> String {
        let data = self.file("data");
        let made = run(&mut exedra(&["token", "create", "--role", role, "--data-dir", data.to_str().unwrap()]));
        assert_eq!(made.code, 0, "{}", made.stderr);
        made.out().trim_end().to_owned()
    }

    /// What `openssl s_client` says of the server at `url`.
    fn look(&self, url: &str, args: &[&str]) -> String {
        let address = url.trim_start_matches("https://");
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", address, "-CAfile", self.file("ca.pem").to_str().unwrap()]).args(args);
        let said = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
    }
}

/// As renewing programs do: a new file in the place of the old.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn the_whole_way_round_goes_over_tls_for_those_who_trust_the_authority() {
    let authority = Authority::new();
    authority.issue("first");
    let serve = authority.serve();
    let url = serve.line();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let (executor_token, client_token) = (authority.token("executor"), authority.token("client"));
    let executor = |transport: &str, id: &str| {
        let mut command = authority.exedra(&["exec-server", "--remote", &url, "--executor-id", id]);
        let running = Running::start(command.args(["--transport", transport]).env("EXEDRA_TOKEN", &executor_token));
        running.stderr_line("registered with executor_id");
        running
    };
    let _executors = [executor("relay", "many"), executor("direct", "one")];
    let exec = |command: &mut Command, id: &str| {
        command.args([id, "--", "sh", "-c", "head -c 3000000 /dev/zero; exit 7"]);
        run(command.env("EXEDRA_SERVER", &url).env("EXEDRA_TOKEN", &client_token))
    };
    for id in ["many", "one"] {
        let done = exec(&mut authority.exedra(&["exec"]), id);
        assert_eq!((done.code, done.stdout.len()), (7, 3_000_000), "{}", done.stderr);
    }
    let stranger = exec(&mut exedra(&["exec", "--wait", "1s"]), "many");
    assert_eq!(stranger.code, 255);
    assert!(stranger.stderr.contains("certificate"), "{}", stranger.stderr);
    let by_variable = exec(exedra(&["exec"]).env("EXEDRA_CA_FILE", authority.file("ca.pem")), "many");
    assert_eq!(by_variable.code, 7, "{}", by_variable.stderr);
    assert_eq!(serve.stop().code, 0);
}

#[test]
fn old_versions_and_other_protocols_are_not_spoken() {
    let authority = Authority::new();
    authority.issue("first");
    let serve = authority.serve();
    let url = serve.line();
    let new = authority.look(&url, &["-alpn", "h2,http/1.1"]);
    assert!(new.contains("TLSv1.3") && new.contains("ALPN protocol: http/1.1"), "{new}");
    assert!(new.contains("Verify return code: 0 (ok)"), "{new}");
    assert!(authority.look(&url, &["-tls1_2"]).contains("Verify return code: 0 (ok)"));
    let old = authority.look(&url, &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]);
    assert!(!old.contains("BEGIN CERTIFICATE"), "{old}");
    let other = authority.look(&url, &["-alpn", "h2"]);
    assert!(other.contains("no application protocol"), "{other}");
    let mut plain = TcpStream::connect(url.trim_start_matches("https://")).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "nothing is answered in the clear");
}

#[test]
fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let authority = Authority::new();
    authority.issue("first");
    let serve = authority.serve();
    let url = serve.line();
    let shown = || authority.look(&url, &[]);
    assert!(shown().contains("CN = first") || shown().contains("CN=first"), "{}", shown());
    authority.issue("second");
    until("the second certificate", || shown().contains("second"));
    replace(&authority.file("cert.pem"), "nonsense");
    serve.signal("HUP");
    let told = serve.stderr_line("the old one stays");
    assert!(told.contains("cert.pem"), "{told}");
    assert!(shown().contains("second"), "the old one stays in force");
    authority.issue("third");
    serve.signal("HUP");
    until("the third certificate", || shown().contains("third"));
    assert_eq!(serve.stop().code, 0, "SIGHUP ends nothing");
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start() {
    let authority = Authority::new();
    authority.issue("first");
    let path = |name: &str| authority.file(name).to_str().unwrap().to_owned();
    let serve =
        |args: &[&str]| run(exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &path("data")]).args(args));
    let alone = serve(&["--tls-cert", &path("cert.pem")]);
    assert_eq!(alone.code, 2, "{}", alone.stderr);
    let pem = |what: &str, text: &str| format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n");
    let (certificate, secret) = ("CERTIFICATE", "PRIVATE KEY");
    for (name, text) in [
        ("nothing", String::new()),
        ("text", "nonsense".to_owned()),
        ("cut", "-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned()),
        ("marks", pem(certificate, "!!!!")),
        ("odd", pem(certificate, "AAAA")),
        ("odd.key", pem(secret, "AAAA")),
        ("locked.key", pem("ENCRYPTED PRIVATE KEY", "AAAA")),
    ] {
        std::fs::write(authority.file(name), text).unwrap();
    }
    for (certificate, key, said) in [
        ("ca.pem", "key.pem", "key.pem: it is not the key of the certificate in "),
        ("none", "key.pem", "none: No such file or directory"),
        ("nothing", "key.pem", "nothing: there is no certificate in it"),
        ("text", "key.pem", "text: there is no certificate in it"),
        ("key.pem", "key.pem", "key.pem: there is no certificate in it"),
        ("cut", "key.pem", "cut: the certificate in it has no end"),
        ("marks", "key.pem", "marks: the certificate in it is no base64"),
        ("odd", "key.pem", "odd: the certificate cannot be read"),
        ("cert.pem", "none", "none: No such file or directory"),
        ("cert.pem", "text", "text: there is no private key in it"),
        ("cert.pem", "cert.pem", "cert.pem: there is no private key in it"),
        ("cert.pem", "locked.key", "locked.key: there is no private key in it that is not encrypted"),
        ("cert.pem", "odd.key", "odd.key: the private key cannot be used"),
    ] {
        let refused = serve(&["--tls-cert", &path(certificate), "--tls-key", &path(key)]);
        assert_eq!(refused.code, 255, "{certificate} {key}");
        let lines: Vec<_> = refused.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "one line, and what to do: {lines:?}");
        let whole = lines[0].starts_with("Error: cannot use the certificate: ") && lines[0].contains(said);
        assert!(whole && lines[1].starts_with("hint: "), "{lines:?}");
    }
    assert!(!authority.file("data").exists(), "nothing was made");
    let url = "http://h.example";
    let past = serve(&["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem"), "--public-url", url]);
    assert_eq!(past.code, 2);
    assert!(past.stderr.contains("https://"), "{}", past.stderr);
    let nothing = run(&mut exedra(&["--ca-file", &path("none.pem"), "exec", "box", "--", "true"]));
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains("none.pem"), "{}", nothing.stderr);
}

#[test]
fn the_doctor_tells_whether_a_certificate_is_good_and_for_how_long() {
    let authority = Authority::new();
    authority.issue("first");
    let serve = authority.serve();
    let url = serve.line();
    let look = |mut command: Command| {
        let done = run(&mut command);
        let findings: serde_json::Value = serde_json::from_str(done.out()).unwrap();
        let found = findings.as_array().unwrap().iter().find(|found| found["name"] == "certificate").unwrap();
        (found["status"].as_str().unwrap().to_owned(), found["text"].as_str().unwrap().to_owned(), done.code)
    };
    let args = ["doctor", "--server", &url, "--json"];
    let (status, text, code) = look(authority.exedra(&args));
    assert!(status == "ok" && text.starts_with("good for ") && code == 0, "{text}");
    let (status, text, code) = look(exedra(&args));
    assert!(status == "fail" && text.contains("certificate") && code == 1, "{text}");
}
