//! A local terminal: raw while a remote one takes its place, and as before afterwards, whatever the end.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::plane::Listener;
use crate::program::{Running, kill, until};

/// A terminal, both ends of it.
struct Terminal {
    keyboard_and_screen: File,
    line: File,
}

impl Terminal {
    fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let line = OpenOptions::new().read(true).write(true).open(path).unwrap();
        Self { keyboard_and_screen: master.into(), line }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Runs `command` on it.
    fn run(&self, command: &mut Command) -> Running {
        let end = || self.line.try_clone().unwrap();
        Running::start(command.stdin(end()).stdout(end()).stderr(end()))
    }

    fn typed(&mut self, text: &[u8]) {
        self.keyboard_and_screen.write_all(text).unwrap();
    }

    /// Reads the screen until `text` is on it.
    fn shows(&mut self, text: &str) {
        let mut screen = Vec::new();
        until(text, || {
            let mut piece = [0; 1024];
            let read = self.keyboard_and_screen.read(&mut piece).unwrap();
            screen.extend_from_slice(&piece[..read]);
            String::from_utf8_lossy(&screen).contains(text)
        });
    }
}

#[test]
fn keys_go_there_one_by_one_and_the_terminal_comes_back() {
    let (listener, mut terminal) = (Listener::start(), Terminal::open());
    let script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut running = terminal.run(&mut listener.exec(&["-t", "--", "sh", "-c", script]));
    terminal.shows("ready");
    assert!(terminal.is_raw());
    // Ctrl-C is a key for the remote terminal, and no signal for us.
    terminal.typed(b"\x03");
    terminal.shows("interrupted");
    assert_eq!(running.wait(), 9);
    assert!(!terminal.is_raw());
}

#[test]
fn the_remote_terminal_has_the_size_of_ours_and_follows_it() {
    let (listener, mut terminal) = (Listener::start(), Terminal::open());
    let size = |ws_row, ws_col| Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal.line, size(40, 111)).unwrap();
    let script = "until [ \"$(stty size)\" = '40 111' ]; do sleep 0.02; done; echo first; \
                  until [ \"$(stty size)\" = '33 99' ]; do sleep 0.02; done; echo second";
    let mut running = terminal.run(&mut listener.exec(&["-t", "--", "sh", "-c", script]));
    terminal.shows("first");
    tcsetwinsize(&terminal.line, size(33, 99)).unwrap();
    // It is not the terminal of a session of ours, so nobody tells.
    kill(running.pid(), "WINCH");
    terminal.shows("second");
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let (listener, mut terminal) = (Listener::start(), Terminal::open());
    let mut running = terminal.run(&mut listener.exec(&["-t", "--", "sh", "-c", "echo ready; sleep 1000"]));
    terminal.shows("ready");
    assert!(terminal.is_raw());
    kill(running.pid(), "TERM");
    assert_eq!(running.wait(), 143);
    assert!(!terminal.is_raw());
}

#[test]
fn a_lost_connection_gives_the_terminal_back_before_it_says_so() {
    let (listener, mut terminal) = (Listener::start(), Terminal::open());
    let args = ["-t", "--reconnect", "0s", "--", "sh", "-c", "echo ready; sleep 1000"];
    let mut running = terminal.run(&mut listener.exec(&args));
    terminal.shows("ready");
    kill(listener.running.pid(), "KILL");
    // With the line discipline back, a line end is two characters again.
    terminal.shows("the connection was lost while the command was running; it may still be running there\r\n");
    assert_eq!(running.wait(), 255);
    assert!(!terminal.is_raw());
}

#[test]
fn without_t_the_terminal_is_left_alone() {
    let (listener, mut terminal) = (Listener::start(), Terminal::open());
    let mut running = terminal.run(&mut listener.exec(&["-i", "--", "sh", "-c", "echo ready; cat"]));
    terminal.shows("ready");
    assert!(!terminal.is_raw());
    terminal.typed(b"typed\n\x04");
    assert_eq!(running.wait(), 0);
}
