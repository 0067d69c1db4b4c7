//! What a program needs others for: the loader of an ELF file, the interpreter of a script.
//!
//! In flows a path, out flow paths. It reads the beginning of files and understands no more of them than that.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Type of a program header that names the loader.
const INTERPRETER: u32 = 3;
/// No path is longer, nor is the first line of a script.
const LONGEST: usize = 4096;
/// Program headers that are looked at; no program has as many.
const MOST_HEADERS: u64 = 256;

/// What the kernel needs to execute beside a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Helper {
    /// The loader of a program that has libraries.
    Loader(PathBuf),
    /// The interpreter of a script.
    Interpreter(PathBuf),
}

/// What the kernel needs beside the program at `path`; none if nothing, or if it is no program.
pub fn helper(path: &Path) -> Option<Helper> {
    let mut file = File::open(path).ok()?;
    let mut start = Vec::new();
    (&mut file).take(LONGEST as u64).read_to_end(&mut start).ok()?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
        let word = line.split(|byte| byte.is_ascii_whitespace()).next().filter(|word| !word.is_empty())?;
        return Some(Helper::Interpreter(path_of(word)));
    }
    loader(&mut file, &start).ok().flatten().map(Helper::Loader)
}

fn loader(file: &mut File, start: &[u8]) -> io::Result<Option<PathBuf>> {
    let number = |bytes: &[u8], at: usize, len: usize| -> Option<u64> {
        let bytes = bytes.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    // ELF, 64 bits, little end first: what this program itself is.
    if !start.starts_with(b"\x7fELF\x02\x01") {
        return Ok(None);
    }
    let (Some(table), Some(size), Some(count)) = (number(start, 32, 8), number(start, 54, 2), number(start, 56, 2))
    else {
        return Ok(None);
    };
    for index in 0..count.min(MOST_HEADERS) {
        let mut header = vec![0; 56];
        file.seek(SeekFrom::Start(table.saturating_add(index * size)))?;
        file.read_exact(&mut header)?;
        if number(&header, 0, 4) == Some(INTERPRETER.into())
            && let (Some(at), Some(length)) = (number(&header, 8, 8), number(&header, 32, 8))
        {
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(at))?;
            file.take(length.min(LONGEST as u64)).read_to_end(&mut text)?;
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            return Ok((!text.is_empty()).then(|| path_of(text)));
        }
    }
    Ok(None)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_and_interpreters() {
        let Some(Helper::Loader(loader)) = helper(Path::new("/bin/sh")) else { panic!("a shell with libraries") };
        assert!(loader.is_absolute() && loader.exists(), "{}", loader.display());
        let dir = tempfile::tempdir().unwrap();
        let of = |content: &[u8]| {
            let path = dir.path().join("f");
            std::fs::write(&path, content).unwrap();
            helper(&path)
        };
        assert_eq!(of(b"#! /usr/bin/env  python3\nx"), Some(Helper::Interpreter("/usr/bin/env".into())));
        for nothing in [
            &b""[..],
            b"#!",
            b"#!\n/bin/sh",
            b"text",
            b"\x7fELF\x02\x01",
            &[b"\x7fELF\x02\x01", &[0xff; 60][..]].concat(),
        ] {
            assert_eq!(of(nothing), None);
        }
        assert_eq!(helper(Path::new("/nope")), None);
    }
}
