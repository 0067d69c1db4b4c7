//! A sandbox asked of the real binary, and what a command and the methods for files try in it.

use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Stdio};

use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};

use crate::program::{Running, exedra};

/// An executor on stdio, as the launcher of its own sandboxes.
pub struct Executor {
    running: Running,
    stdin: ChildStdin,
    id: u64,
}

impl Executor {
    fn start() -> Self {
        Self::with(&[])
    }

    /// With more arguments.
    pub fn with(args: &[&str]) -> Self {
        let args = [&["exec-server", "--listen", "stdio"], args].concat();
        let mut running = Running::start(exedra(&args).stdin(Stdio::piped()));
        let stdin = running.stdin();
        let mut executor = Self { running, stdin, id: 0 };
        executor.call("initialize", json!({"clientName": "test"}));
        executor.send(&json!({"method": "initialized"}));
        executor
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.stdin, "{message}").unwrap();
    }

    fn next(&self) -> Value {
        serde_json::from_str(&self.running.line()).unwrap()
    }

    /// Calls, and waits for the answer.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.send(&json!({"id": id, "method": method, "params": params}));
        loop {
            let message = self.next();
            if message["id"] == id {
                return message;
            }
        }
    }

    /// What a script writes, and its exit.
    fn run(&mut self, cwd: &Path, sandbox: &Value, script: &str) -> (String, Value) {
        self.follow(cwd, json!({"argv": ["/bin/sh", "-c", script], "sandbox": sandbox}))
    }

    fn follow(&mut self, cwd: &Path, over: Value) -> (String, Value) {
        let process = format!("p{}", self.id);
        let mut params = json!({
            "processId": process, "cwd": cwd, "tty": false, "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
        });
        params.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        let started = self.call("process/start", params);
        assert_eq!(started["result"]["sandboxType"], "linuxSeccomp", "{started}");
        let read = |executor: &mut Self| {
            executor.call("process/read", json!({"processId": process, "afterSeq": 0, "waitMs": 30_000}))
        };
        let mut answer = read(self);
        while answer["result"]["closed"] != true {
            answer = read(self);
        }
        let chunks = answer["result"]["chunks"].as_array().unwrap();
        let bytes = |chunk: &Value| serde_json::from_value::<Base64Text>(chunk["chunk"].clone()).unwrap().decode();
        let output: Vec<u8> = chunks.iter().flat_map(|chunk| bytes(chunk).unwrap()).collect();
        (String::from_utf8(output).unwrap(), answer["result"].clone())
    }
}

#[test]
fn what_is_outside_the_workspace_stays_as_it_is() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let (work, out) = (dir.join("work"), dir.join("out"));
    std::fs::create_dir(&work).unwrap();
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("kept"), "kept").unwrap();
    std::os::unix::fs::symlink(&out, work.join("link")).unwrap();
    let special =
        |kind: &str, access: &str| json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access});
    let entries = [special("root", "read"), special("project_roots", "write")];
    let sandbox = json!({
        "permissions": {"type": "managed", "network": "restricted",
            "file_system": {"type": "restricted", "entries": entries}},
        "cwd": work, "workspaceRoots": [work], "windowsSandboxLevel": "disabled",
    });
    let mut executor = Executor::start();
    let (_, inside) = executor.run(&work, &sandbox, "echo made > made");
    assert_eq!((&inside["exitCode"], &inside["sandboxDenied"]), (&json!(0), &json!(false)));
    assert_eq!(std::fs::read_to_string(work.join("made")).unwrap(), "made\n");
    for script in [
        "echo x > link/new",
        "echo x > ../out/kept",
        "rm link/kept",
        "echo x > .git/config",
        "echo x > /proc/self/root/$PWD/../out/new",
        "mv ../out/kept .",
    ] {
        let (output, outside) = executor.run(&work, &sandbox, script);
        assert_ne!(outside["exitCode"], 0, "{script}: {output}");
        assert_eq!(outside["sandboxDenied"], true, "{script}: {output}");
    }
    let data = |path: &Path| json!({"path": path, "dataBase64": "eA==", "sandbox": sandbox});
    let answer = executor.call("fs/writeFile", data(&work.join("made")));
    assert_eq!(answer["result"], json!({}), "{answer}");
    for path in ["link/kept", "link/new", "../out/kept", ".git"] {
        let answer = executor.call("fs/writeFile", data(&work.join(path)));
        assert_eq!(answer["error"]["message"], "Read-only file system (os error 30)", "{path}");
    }
    assert_eq!(std::fs::read_to_string(out.join("kept")).unwrap(), "kept");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
    assert!(!work.join(".git").exists());
}

/// As clients of 0.130 ask for it: a program of their own, which is not here, with the sandbox as its arguments.
#[test]
fn a_sandbox_in_the_arguments_is_enforced_or_refused() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let work = dir.path().canonicalize().unwrap();
    let entries = json!([{"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"}]);
    let profile = json!({
        "type": "managed", "network": "restricted", "file_system": {"type": "restricted", "entries": entries},
    });
    let wrapped = |flag: &str| {
        let argv = [
            "/not/here/codex",
            "--sandbox-policy-cwd",
            work.to_str().unwrap(),
            flag,
            &profile.to_string(),
            "--",
            "/bin/sh",
            "-c",
            "echo said; echo x > made",
        ];
        json!({"argv": argv, "arg0": "codex-linux-sandbox"})
    };
    let mut executor = Executor::start();
    let (output, end) = executor.follow(&work, wrapped("--permission-profile"));
    assert!(output.starts_with("said\n") && output.contains("Read-only file system"), "{output}");
    assert_eq!(end["sandboxDenied"], true);
    let mut params = wrapped("--sandbox-policy");
    params.as_object_mut().unwrap().extend([
        ("processId".to_owned(), json!("odd")),
        ("cwd".to_owned(), json!(work)),
        ("tty".to_owned(), json!(false)),
        ("env".to_owned(), json!({})),
    ]);
    let refusal = executor.call("process/start", params);
    assert_eq!(refusal["error"]["message"], "sandbox intent cannot be enforced on this executor", "{refusal}");
    assert_eq!(refusal["error"]["code"], -32602);
}
