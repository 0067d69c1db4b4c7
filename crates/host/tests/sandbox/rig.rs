//! A table with a launcher, a workspace, and a sandbox to run things in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use exedra_host::process::{Delivery, EventKind, Limits, StartError, Table};
use exedra_host::{Host, HostConfig};
use exedra_proto::dialect::NextSeq;
use exedra_proto::process::{ReadParams, StartParams};
use serde_json::{Value, json};

/// Far beyond what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub host: Arc<Host>,
    _dir: tempfile::TempDir,
    dir: PathBuf,
}

/// What became of a command.
#[derive(Debug)]
pub struct Story {
    pub output: String,
    pub code: i32,
    pub denied: bool,
}

impl Rig {
    /// A directory with `w`, to be written to, and `out`, beside it.
    pub fn new() -> Self {
        let mut config = HostConfig::default();
        config.launcher = Some(env!("CARGO_BIN_EXE_exedra-launcher").into());
        Self::with(config)
    }

    pub fn with(config: HostConfig) -> Self {
        let host = Host::start(config).unwrap();
        // Not in `/tmp`, which sandboxes may write to, nor in what every user may not enter.
        let dir = tempfile::Builder::new().prefix("exedra-sandbox-").tempdir_in("/var/tmp").unwrap();
        let at = dir.path().canonicalize().unwrap();
        for name in ["w", "out"] {
            std::fs::create_dir(at.join(name)).unwrap();
        }
        std::fs::write(at.join("out/secret"), "secret").unwrap();
        Self { host, _dir: dir, dir: at }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// What stock clients ask for in `workspace-write` mode, for `w`; temporary directories left out.
    pub fn workspace(&self, more: &[Value]) -> Value {
        let mut entries = vec![special("root", "read"), special("project_roots", "write")];
        entries.extend_from_slice(more);
        self.sandbox("restricted", &entries)
    }

    pub fn sandbox(&self, network: &str, entries: &[Value]) -> Value {
        let root = self.text("w");
        json!({
            "permissions": {"type": "managed", "network": network,
                "file_system": {"type": "restricted", "entries": entries}},
            "cwd": root, "workspaceRoots": [root], "windowsSandboxLevel": "disabled",
        })
    }

    /// Runs `script` in `w`, confined by `sandbox`.
    pub async fn run(&self, sandbox: &Value, script: &str) -> Story {
        self.start(sandbox, json!({"argv": ["/bin/sh", "-c", script]})).await.unwrap()
    }

    /// Runs what `over` says, to its end.
    pub async fn start(&self, sandbox: &Value, over: Value) -> Result<Story, StartError> {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut params = json!({
            "processId": "p", "argv": ["true"], "cwd": self.text("w"), "tty": false, "sandbox": sandbox,
            "env": {"PATH": path, "OUT": self.text("out"), "W": self.text("w")},
        });
        params.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        let params: StartParams = serde_json::from_value(params).unwrap();
        // Each in a table of its own, so that the id is free.
        let table = Table::new(self.host.clone(), Limits::default());
        table.attach(Delivery::Sent);
        table.start(params).await?;
        let (mut output, mut end) = (Vec::new(), None);
        let whole = async {
            loop {
                for event in table.next_events(1 << 20).await {
                    match event.kind {
                        EventKind::Output { bytes, .. } => output.extend_from_slice(&bytes),
                        EventKind::Exited { code, denied, .. } => end = Some((code, denied)),
                        EventKind::Closed => return,
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.unwrap();
        let read: ReadParams = serde_json::from_value(json!({"processId": "p"})).unwrap();
        let read = table.read(read, NextSeq::NextEvent).await.unwrap();
        let (code, denied) = end.unwrap();
        assert_eq!(read.sandbox_denied, denied, "both ways to ask agree");
        Ok(Story { output: String::from_utf8_lossy(&output).into_owned(), code, denied })
    }
}

pub fn special(kind: &str, access: &str) -> Value {
    json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access})
}

pub fn entry(path: &Path, access: &str) -> Value {
    json!({"path": {"type": "path", "path": path}, "access": access})
}

pub fn glob(pattern: &str, access: &str) -> Value {
    json!({"path": {"type": "glob_pattern", "pattern": pattern}, "access": access})
}
