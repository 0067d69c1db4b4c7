//! What the executor and the process that enters a sandbox tell each other, over one socket.
//!
//! In flow a [`Job`] one way and [`Reply`]s the other, each a length and JSON. Whoever sends a job is trusted by whoever
//! takes it; replies come from before the sandbox is shut, or from our own code within. Knows no process.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::plan::Plan;

/// The largest job or reply, in bytes: the arguments and environment of a process, or a whole file.
const LARGEST: usize = 256 * 1024 * 1024;

/// Text of the system as it is: valid UTF-8 is written as such, anything else as NUL and hexadecimal digits. It holds no
/// NUL itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub OsString);

/// What a process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The sandbox.
    pub plan: Plan,
    /// Whether the process was born into namespaces of its own.
    pub namespaces: bool,
    /// What to do within.
    pub task: Task,
}

/// What to do within a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Nothing: does it hold?
    Probe,
    /// Run a command.
    Run(Command),
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Paths to try in order.
    pub candidates: Vec<Raw>,
    /// What it sees as its arguments.
    pub argv: Vec<Raw>,
    /// `NAME=value` each.
    pub env: Vec<Raw>,
    /// Where to run it.
    pub cwd: Raw,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The sandbox holds; what it is for begins.
    Shut,
    /// The sandbox does not hold, and nothing was done.
    Unenforced(String),
    /// The command did not start: the text for it.
    NotStarted(String),
}

impl Raw {
    /// As a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<&Path> for Raw {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().to_owned())
    }
}

impl From<&OsStr> for Raw {
    fn from(text: &OsStr) -> Self {
        Self(text.to_owned())
    }
}

impl From<Raw> for PathBuf {
    fn from(raw: Raw) -> Self {
        raw.0.into()
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.0.to_str() {
            return serializer.serialize_str(text);
        }
        let digits: String = self.0.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&format!("\0{digits}"))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(digits) = text.strip_prefix('\0') else { return Ok(Self(text.into())) };
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.ok_or_else(|| serde::de::Error::custom("bad digits"))?;
        Ok(Self(OsString::from_vec(bytes)))
    }
}

/// A message as it is sent.
///
/// # Errors
/// It is too large.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(bytes)
}

/// How many bytes follow the first four of a message.
///
/// # Errors
/// More than there may be.
pub fn length(head: [u8; 4]) -> io::Result<u64> {
    match u32::from_le_bytes(head) {
        length if length as usize > LARGEST => Err(io::ErrorKind::InvalidData.into()),
        length => Ok(length.into()),
    }
}

/// Sends a message.
///
/// # Errors
/// The other end is gone, or the message is too large.
pub fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Receives a message; none if the other end has closed before it.
///
/// # Errors
/// It ends early or is no such message.
pub fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut length[1..])?,
    }
    let mut bytes = Vec::new();
    from.take(self::length(length)?).read_to_end(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_bytes_survive() {
        for bytes in [&b"/a b"[..], b"/\xff\xfe", "é".as_bytes(), b""] {
            let raw = Raw(OsStr::from_bytes(bytes).to_owned());
            let mut sent = Vec::new();
            send(&mut sent, &raw).unwrap();
            assert_eq!(receive::<Raw>(&sent[..]).unwrap(), Some(raw));
        }
        assert_eq!(receive::<Raw>(&b""[..]).unwrap(), None);
        assert!(receive::<Raw>(&b"\x09\0\0\0\"a"[..]).is_err());
    }
}
