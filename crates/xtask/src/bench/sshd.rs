//! An ssh server of the run's own: loopback, a free port, keys and settings that are made for it and go with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::figures::READY;
use crate::child::{Running, Spawn};

/// Where the server's program may be; it insists on being called by its full path.
const PROGRAMS: &[&str] = &["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"];
/// For a key to be made.
const KEYGEN: Duration = Duration::from_secs(10);

/// A running server; it ends when dropped.
pub(super) struct Sshd {
    _process: Running,
    /// `ssh … true`, ready to run.
    pub(super) client: Spawn,
}

impl Sshd {
    /// Starts it; none where it is not installed.
    pub(super) async fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = PROGRAMS.iter().map(Path::new).find(|path| path.exists()) else { return Ok(None) };
        let host_key = key(dir, "ssh-host-key").await?;
        let client_key = key(dir, "ssh-client-key").await?;
        // The server wants a number; between this and its own bind the port is free for anybody.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // What this machine's user has in the start-up files of his shell is not what is measured.
        let home = dir.join("ssh-home");
        std::fs::create_dir_all(&home)?;
        let config = dir.join("sshd_config");
        std::fs::write(
            &config,
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}.pub\nPidFile none\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin yes\nSetEnv HOME={}\n",
                host_key.display(),
                client_key.display(),
                home.display()
            ),
        )?;
        if rustix::process::geteuid().is_root() {
            // It refuses to start as root without this folder.
            std::fs::create_dir_all("/run/sshd").context("cannot make /run/sshd")?;
        }
        let mut process = Spawn::new(program).args(["-D", "-e", "-f"]).arg(&config).start("sshd", dir)?;
        process.says("Server listening on", READY).await?;
        let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"];
        let client = Spawn::new(Path::new("ssh"))
            .args(["-F", "none", "-i"])
            .arg(&client_key)
            .args(options.iter().flat_map(|option| ["-o", option]))
            .args(["-p", &port.to_string(), "127.0.0.1", "true"]);
        Ok(Some(Self { _process: process, client }))
    }
}

async fn key(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    Spawn::new(Path::new("ssh-keygen")).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).text(KEYGEN).await?;
    Ok(path)
}
