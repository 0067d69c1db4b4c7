//! A pseudo terminal: the end that we keep and the end that the child gets.
//!
//! In flows nothing, out flow two descriptors, and for one of them how to say "end of file" on it. Knows no process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use exedra_proto::process::TerminalSize;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

/// Size of a new terminal; clients of the protocol count on it.
pub const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Both ends.
#[derive(Debug)]
pub struct Pty {
    /// Ours.
    pub controller: OwnedFd,
    /// The child's.
    pub terminal: OwnedFd,
}

impl Pty {
    /// Opens one.
    ///
    /// # Errors
    /// The system has none left, or none at all.
    pub fn open() -> io::Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = ioctl_tiocgptpeer(&controller, flags)?;
        tcsetwinsize(&terminal, SIZE)?;
        Ok(Self { controller, terminal })
    }
}

/// Gives the terminal behind `controller` another size; the programs on it are told by a signal.
///
/// # Errors
/// The system's.
pub fn resize(controller: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let TerminalSize { rows, cols } = size;
    tcsetwinsize(controller, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok(())
}

/// What to type on `controller` for an end of file after `last`, the last byte typed so far: the character once on an
/// empty line, twice on a begun one (the first only hands the line over). Nothing where the program reads raw: there
/// is no end of file then, and the character would be input.
pub fn end_of_file(controller: BorrowedFd<'_>, last: Option<u8>) -> Vec<u8> {
    let Ok(modes) = tcgetattr(controller) else { return Vec::new() };
    if !modes.local_modes.contains(LocalModes::ICANON) {
        return Vec::new();
    }
    let character = modes.special_codes[SpecialCodeIndex::VEOF];
    let line_is_empty = last.is_none_or(|last| matches!(last, b'\n' | b'\r') || last == character);
    vec![character; if line_is_empty { 1 } else { 2 }]
}
