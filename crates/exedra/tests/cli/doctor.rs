//! What the real binary tells about the machine that it is on, about servers, and about data directories, good and bad.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use serde_json::Value;

use crate::plane::Server;
use crate::program::{exedra, run};

/// Status and text of each finding, and how the program ended.
fn doctor(args: &[&str]) -> (Vec<(String, String, String)>, i32) {
    let mut all = vec!["doctor", "--json"];
    all.extend(args);
    let done = run(&mut exedra(&all));
    let findings: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", done.stderr));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings: Vec<_> =
        findings.iter().map(|found| (text(found, "name"), text(found, "status"), text(found, "text"))).collect();
    let fails = findings.iter().any(|(_, status, _)| status == "fail");
    assert_eq!(done.code, i32::from(fails), "{findings:?}");
    (findings, done.code)
}

fn found<'a>(findings: &'a [(String, String, String)], name: &str) -> (&'a str, &'a str) {
    let found = findings.iter().find(|(found, ..)| found == name);
    found.map(|(_, status, text)| (status.as_str(), text.as_str())).unwrap_or_else(|| panic!("{name}: {findings:?}"))
}

/// A server that answers each request with the same text.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut head = [0; 4096];
            // Who only connects is one of the checks.
            if socket.read(&mut head).is_ok_and(|read| read > 0) {
                let _ = socket.write_all(answer.as_bytes());
            }
        }
    });
    url
}

#[test]
fn the_machine_is_described_for_people_and_for_scripts() {
    let json = run(&mut exedra(&["doctor", "--json"]));
    let findings: Vec<Value> = serde_json::from_slice(&json.stdout).unwrap();
    let found = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    assert!(found("kernel")["text"].as_str().unwrap().starts_with("Linux "), "{findings:?}");
    let sound = findings.iter().all(|finding| finding["works"] == true);
    assert_eq!(json.code, i32::from(!sound), "{findings:?}");
    assert_eq!(found("sandbox: filter of system calls")["works"], true, "{findings:?}");
    for finding in &findings {
        assert_ne!(finding["text"], "", "{findings:?}");
    }
    let table = run(&mut exedra(&["doctor"]));
    assert_eq!((table.code, table.out().lines().count()), (json.code, findings.len()), "{}", table.out());
}

#[test]
fn a_good_server_is_found_good_on_each_step() {
    let server = Server::start();
    let (findings, code) = doctor(&["--server", &server.url]);
    assert_eq!(code, 0);
    let names: Vec<_> = findings.iter().map(|(name, status, _)| (name.as_str(), status.as_str())).collect();
    let ok = |name| (name, "ok");
    assert_eq!(
        names,
        ["url", "connection", "clock", "ready", "version", "tickets", "websocket"].map(ok),
        "{findings:?}"
    );
    assert_eq!(found(&findings, "version").1, env!("CARGO_PKG_VERSION"));
    let table = run(&mut exedra(&["doctor", "--server", &server.url]));
    assert!(table.out().lines().all(|line| line.starts_with("ok")), "{}", table.out());
}

#[test]
fn a_server_that_sends_others_to_themselves_is_found_out() {
    let server = Server::start();
    // The unspecified address leads here as well, and is not that of loopback.
    let (findings, code) = doctor(&["--server", &server.url.replace("127.0.0.1", "0.0.0.0")]);
    let (status, text) = found(&findings, "tickets");
    assert_eq!((status, code), ("fail", 1), "{findings:?}");
    assert!(text.contains(&server.url) && text.contains("--public-url http://0.0.0.0"), "{text}");
}

#[test]
fn what_is_wrong_with_a_server_is_told_at_its_step() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let (findings, _) = doctor(&["--server", &nobody]);
    assert_eq!(found(&findings, "connection").0, "fail", "{findings:?}");
    let (findings, _) = doctor(&["--server", "http://no-such-host.invalid:1"]);
    assert_eq!(found(&findings, "name").0, "fail", "{findings:?}");
    for text in ["ftp://h", "h:1", ""] {
        let (findings, _) = doctor(&["--server", text]);
        assert_eq!(found(&findings, "url").0, "fail", "{text}: {findings:?}");
    }
    let other =
        "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    let (findings, _) = doctor(&["--server", &answering(other)]);
    assert_eq!(found(&findings, "ready"), ("fail", "200: this is no server of Exedra"));
    assert_eq!(found(&findings, "clock").0, "warn", "{findings:?}");
    assert!(found(&findings, "clock").1.contains("s behind ours"), "{findings:?}");
    assert_eq!(found(&findings, "websocket").0, "fail", "{findings:?}");
    let gateway = "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let (findings, _) = doctor(&["--server", &answering(gateway)]);
    assert!(found(&findings, "ready").1.contains("a proxy is there"), "{findings:?}");
    let stripped = "HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let (findings, _) = doctor(&["--server", &answering(stripped)]);
    assert!(found(&findings, "websocket").1.contains("does not pass on"), "{findings:?}");
}

#[test]
fn a_data_directory_is_looked_at_beside_its_server_and_without() {
    let mut server = Server::start();
    let data = server.data_dir();
    let dir = data.to_str().unwrap();
    let (findings, code) = doctor(&["--data-dir", dir]);
    assert_eq!(code, 0, "{findings:?}");
    assert!(found(&findings, "server").1.contains("(exedra serve) works on it"), "{findings:?}");
    for name in ["directory", "files", "records", "signing keys", "server's own key"] {
        assert_eq!(found(&findings, name).0, "ok", "{findings:?}");
    }
    server.stop();
    let before = listing(&data);
    let (findings, code) = doctor(&["--data-dir", dir]);
    assert_eq!((code, found(&findings, "server").1), (0, "none works on it"), "{findings:?}");
    assert_eq!(listing(&data), before, "nothing is made or changed");
}

fn listing(dir: &Path) -> Vec<(String, u64, u32)> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut all: Vec<_> = entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            (entry.file_name().display().to_string(), metadata.len(), metadata.permissions().mode())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_wrong_with_a_data_directory_is_told() {
    let mut server = Server::start();
    server.stop();
    let data = server.data_dir();
    let set = |name: &str, mode| {
        std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let look = |name: &str| {
        let (findings, _) = doctor(&["--data-dir", data.to_str().unwrap()]);
        let (status, text) = found(&findings, name);
        (status.to_owned(), text.to_owned())
    };
    set("signing-keys.json", 0o644);
    let (status, text) = look("files");
    assert!(status == "fail" && text.contains("signing-keys.json is open to others (mode 644)"), "{text}");
    set("signing-keys.json", 0o600);
    set("", 0o755);
    assert_eq!(look("directory").0, "warn");
    set("", 0o700);
    let keys = std::fs::read(data.join("signing-keys.json")).unwrap();
    std::fs::write(data.join("signing-keys.json"), &keys[..keys.len() / 2]).unwrap();
    assert_eq!(look("signing keys").0, "fail");
    std::fs::write(data.join("server-key"), "nonsense").unwrap();
    assert_eq!(look("server's own key").0, "fail");
    let mut records = std::fs::read(data.join("registry.db")).unwrap();
    // The user version, big-endian, at 60.
    let version = records[63];
    records[63] = 200;
    std::fs::write(data.join("registry.db"), &records).unwrap();
    let (status, text) = look("records");
    assert!(status == "fail" && text.contains("schema 200"), "{text}");
    records[63] = version - 1;
    std::fs::write(data.join("registry.db"), &records).unwrap();
    assert_eq!(look("records").0, "warn");
    records[63] = version;
    let middle = 4096..records.len();
    records[middle].fill(0x5a);
    std::fs::write(data.join("registry.db"), &records).unwrap();
    assert_eq!(look("records").0, "fail");
    std::fs::remove_file(data.join("registry.db")).unwrap();
    assert_eq!(look("records").0, "warn");
    for absent in ["/nowhere/at/all", "/dev/null"] {
        let (findings, code) = doctor(&["--data-dir", absent]);
        assert_eq!((code, found(&findings, "directory").0), (1, "fail"));
    }
}
