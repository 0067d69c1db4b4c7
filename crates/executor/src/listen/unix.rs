//! A socket file: made with mode 0600 before anybody can connect, listening from the moment it has its name, removed in
//! the end.
//!
//! In flows a path, out flow streams. What is no socket, and a socket on which somebody listens, is never replaced.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use uuid::Uuid;

use crate::error::ExecutorError;

/// Connections that wait to be accepted; above it the system makes clients wait.
const BACKLOG: u32 = 1_024;
/// A socket that takes longer to answer a connection is not stale.
const PROBE: Duration = Duration::from_secs(1);
/// How often a stale file is cleared away before somebody else is believed to be faster.
const ATTEMPTS: usize = 3;

/// A listening socket with a name in the file system.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

/// A name that goes when it is dropped.
struct Temporary(PathBuf);

impl SocketFile {
    /// Listens at `path`.
    ///
    /// # Errors
    /// Somebody listens there, or it is no socket, or the system refuses.
    pub async fn bind(path: &Path) -> Result<Self, ExecutorError> {
        let refused = |source| ExecutorError::Bind { url: format!("unix://{}", path.display()), source };
        // A longer path could be made, but no client could connect to it.
        std::os::unix::net::SocketAddr::from_pathname(path).map_err(refused)?;
        let temporary = Temporary::beside(path);
        let listener = listen(&temporary.0).map_err(refused)?;
        let metadata = fs::symlink_metadata(&temporary.0).map_err(refused)?;
        for _ in 0..ATTEMPTS {
            // A link, unlike a renaming, never replaces what is there.
            match fs::hard_link(&temporary.0, path) {
                Ok(()) => {
                    let identity = (metadata.dev(), metadata.ino());
                    return Ok(Self { listener, path: path.to_owned(), identity });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clear(path).await?,
                Err(error) => return Err(refused(error)),
            }
        }
        Err(in_use(path))
    }

    /// The next client.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |m: fs::Metadata| (m.dev(), m.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Temporary {
    fn beside(path: &Path) -> Self {
        let mut name = Uuid::new_v4().simple().to_string();
        name.truncate(8);
        Self(path.with_file_name(format!(".{name}")))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    // On Linux the file gets the mode of the socket, less the umask; elsewhere nobody can connect before `listen`.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)
}

/// Removes a socket on which nobody listens.
async fn clear(path: &Path) -> Result<(), ExecutorError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ExecutorError::NotASocket(path.to_owned())),
        Ok(_) => {}
        Err(_) => return Ok(()),
    }
    if is_live(path).await {
        return Err(in_use(path));
    }
    // Between the look and the removal somebody else may have begun to listen: take it away first, then look again.
    let taken = Temporary::beside(path);
    if fs::rename(path, &taken.0).is_ok() && is_live(&taken.0).await {
        let _ = fs::hard_link(&taken.0, path);
        return Err(in_use(path));
    }
    Ok(())
}

async fn is_live(path: &Path) -> bool {
    match tokio::time::timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) => !matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
        Ok(Ok(_)) | Err(_) => true,
    }
}

fn in_use(path: &Path) -> ExecutorError {
    ExecutorError::AddressInUse(format!("unix://{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn the_file_is_private_alone_and_gone_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let file = SocketFile::bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(dir.path()), ["s"]);
        let (_client, server) = tokio::join!(UnixStream::connect(&path), file.accept());
        server.unwrap();
        drop(file);
        assert!(names(dir.path()).is_empty());
    }

    #[tokio::test]
    async fn only_a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let file = SocketFile::bind(&path).await.unwrap();
        let second = SocketFile::bind(&path).await.unwrap_err().to_string();
        assert!(second.ends_with("address in use"), "{second}");
        UnixStream::connect(&path).await.unwrap();
        drop(file);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(SocketFile::bind(&path).await.unwrap_err(), ExecutorError::NotASocket(_)));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(names(dir.path()), ["s"]);
    }

    #[tokio::test]
    async fn a_successor_at_the_same_path_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = SocketFile::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _second = SocketFile::bind(&path).await.unwrap();
        drop(first);
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_had_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = SocketFile::bind(&dir.path().join("no/s")).await.unwrap_err();
        assert!(missing.to_string().contains("No such file or directory"), "{missing}");
        let long = SocketFile::bind(&dir.path().join("x".repeat(200))).await.unwrap_err();
        assert!(long.to_string().contains("path must be shorter"), "{long}");
        assert!(names(dir.path()).is_empty());
    }
}
