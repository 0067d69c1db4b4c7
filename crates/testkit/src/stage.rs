//! What recorded exchanges expect to find: a directory with certain files, and an HTTP server with certain answers.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Empties `dir` and fills it with the recorded files.
///
/// # Errors
/// What the disk says.
pub fn fill(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    let at = |name: &str| dir.join(name);
    fs::write(at("f.txt"), "hello")?;
    fs::set_permissions(at("f.txt"), fs::Permissions::from_mode(0o644))?;
    let touched = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(at("f.txt"))?.set_modified(touched)?;
    fs::write(at("bytes"), (0..16).collect::<Vec<u8>>())?;
    fs::create_dir_all(at("full/sub"))?;
    fs::write(at("full/a.txt"), "A")?;
    fs::create_dir(at("empty"))?;
    symlink("f.txt", at("lnk"))?;
    symlink("nowhere", at("dangling"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )?;
    fs::File::create(at("big"))?.set_len(512 * 1024 * 1024 + 1)?;
    fs::create_dir_all(at("walk/b/c"))?;
    fs::create_dir(at("walk/.hid"))?;
    for file in ["walk/a", "walk/b/x", "walk/.hid/h"] {
        fs::write(at(file), "")?;
    }
    Ok(())
}

/// The recorded HTTP server; it stops when dropped.
#[derive(Debug)]
pub struct HttpServer {
    /// `127.0.0.1:PORT`
    pub address: String,
    _task: JoinSet<()>,
}

impl HttpServer {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> io::Result<Self> {
        let twice = || AppendHeaders([("x-dup", "1"), ("x-dup", "2")].map(header_pair));
        let hello = move || async move { (twice(), "hello") };
        let echo = |body: axum::body::Bytes| async move {
            (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
        };
        let router = Router::new()
            .route("/redir", get(async || (StatusCode::FOUND, [(header::LOCATION, "/ok")])))
            .fallback(get(hello).post(echo));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let listener = listener.tap_io(|socket| {
            // A test server without it would only be slower.
            let _ = socket.set_nodelay(true);
        });
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, _task: task })
    }
}

fn header_pair((name, value): (&'static str, &'static str)) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}
