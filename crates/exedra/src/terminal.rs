//! The local terminal: in raw mode for as long as a remote one takes its place, and its size.
//!
//! In flows nothing but the request, out flow sizes, and a guard; whichever way the command ends, dropping it gives the
//! terminal back as it was.

use std::io::{self, IsTerminal as _};

use exedra_proto::process::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The terminal on stdin, raw. Restored on drop.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Makes stdin raw if it is a terminal, and says nothing otherwise.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

/// The size of the terminal on stdin or else stdout, if there is one that tells.
pub fn size() -> Option<TerminalSize> {
    let told = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout())).ok()?;
    (told.ws_row > 0 && told.ws_col > 0).then_some(TerminalSize { rows: told.ws_row, cols: told.ws_col })
}

/// The word that the size has changed.
#[derive(Debug)]
pub struct SizeChanges(Signal);

impl SizeChanges {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::window_change())?))
    }

    /// Waits for the next one. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
