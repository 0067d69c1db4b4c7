//! nginx and haproxy in front of a backend, as their packages come, each as one process that works on one thread.
//!
//! In flows the backend's port, out flows a running proxy, or why there is none.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::bench::figures::READY;
use crate::child::{Running, Spawn};

/// Where programs for administrators are; not every path has it.
const ADMINISTRATORS: &str = "/usr/sbin";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A proxy as a process.
pub(super) struct Proxy {
    /// Where it listens, `IP:PORT`.
    pub(super) address: String,
    _process: Running,
}

impl Proxy {
    /// nginx, which passes websockets on.
    pub(super) async fn nginx(backend: u16, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", dir.join(format!("nginx-{kind}")).display()))
            .concat();
        let config = format!(
            // A worker of its own would outlive a master that is killed.
            "daemon off; master_process off; error_log stderr warn; pid {pid};\n{user}\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off;\n{paths}server {{ listen 127.0.0.1:{port}; location / {{\n\
             proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }} }}\n",
            pid = dir.join("nginx.pid").display(),
            user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" },
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config)?;
        let program = program("nginx")?;
        Self::start(Spawn::new(&program).arg("-p").arg(dir).arg("-c").arg(&file), "nginx", port, dir).await
    }

    /// haproxy, which passes TCP on.
    pub(super) async fn haproxy(backend: u16, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let config = format!(
            "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen between\n  bind 127.0.0.1:{port}\n  server backend 127.0.0.1:{backend}\n"
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, config)?;
        let program = program("haproxy")?;
        Self::start(Spawn::new(&program).arg("-db").arg("-f").arg(&file), "haproxy", port, dir).await
    }

    async fn start(spawn: Spawn, name: &str, port: u16, dir: &Path) -> Result<Self> {
        let mut process = spawn.start(name, dir)?;
        let (address, deadline) = (format!("127.0.0.1:{port}"), Instant::now() + READY);
        // Not by a connect: that would be passed on to the backend.
        while !listens(port)? {
            ensure!(!process.has_ended()?, "{name} has ended; {}", process.tail());
            ensure!(Instant::now() < deadline, "{name} does not listen; {}", process.tail());
            sleep(LOOK).await;
        }
        Ok(Self { address, _process: process })
    }
}

/// Whether somebody listens at `port`.
fn listens(port: u16) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let suffix = format!(":{port:04X}");
    Ok(table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        // 0A is the state of a listener.
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some("0A")
    }))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path).chain([PathBuf::from(ADMINISTRATORS)]);
    dirs.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file())).with_context(|| format!("no {name} here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_of_a_proxy_is_left_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        for proxy in [Proxy::nginx(9, dir.path()).await, Proxy::haproxy(9, dir.path()).await] {
            let Ok(Proxy { address, _process }) = proxy else { continue };
            drop(_process);
            let port = address.rsplit(':').next().unwrap().parse().unwrap();
            let deadline = Instant::now() + READY;
            while listens(port).unwrap() {
                assert!(Instant::now() < deadline, "somebody still listens at {address}");
                sleep(LOOK).await;
            }
        }
    }
}
