//! One block of a file, read to where it will be sent from.
//!
//! In flow an open file, an offset and a length, out flow bytes or base64 behind what is in a buffer already. A block that
//! ends early, at the end of the file, takes little more room than it needs.

use std::fs::File;
use std::io;

use exedra_proto::base64;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

/// Read at a time where it is encoded, in bytes: a multiple of 3, and what the processor keeps near.
const PIECE: usize = 48 * 1024;
/// Room for what whoever gets a text may put behind it, in bytes: without it a large one would be moved for that.
const FOLLOWS: usize = 64;
/// Room for a block of a file that does not tell its size, in bytes, to begin with.
const UNKNOWN: u64 = 4096;

/// Where a block is appended.
pub trait Onto {
    /// Appends up to `len` bytes from `offset` on; how many there were.
    ///
    /// # Errors
    /// The system's.
    fn read(self, file: &File, offset: u64, len: usize) -> io::Result<usize>;
}

/// As bytes.
impl Onto for &mut Vec<u8> {
    fn read(self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        self.reserve_exact(expected(file, offset, len));
        fill(self, file, offset, len)
    }
}

/// As base64.
impl Onto for &mut String {
    fn read(self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        self.reserve_exact(expected(file, offset, len).div_ceil(3) * 4 + FOLLOWS);
        let mut piece = Vec::with_capacity(PIECE.min(len));
        let mut read = 0;
        loop {
            piece.clear();
            let wanted = PIECE.min(len - read);
            let more = fill(&mut piece, file, offset.saturating_add(read as u64), wanted)?;
            base64::append(self, &piece);
            read += more;
            if more < wanted || read == len {
                return Ok(read);
            }
        }
    }
}

/// Appends up to `len` bytes; how many there were.
fn fill(onto: &mut Vec<u8>, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    let start = onto.len();
    let read = loop {
        let read = onto.len() - start;
        if read >= len {
            break len;
        }
        if onto.len() == onto.capacity() {
            onto.reserve(1);
        }
        match pread(file, spare_capacity(onto), offset.saturating_add(read as u64)) {
            Ok(0) => break read,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    // The room may have been larger than what was asked for.
    onto.truncate(start + read);
    Ok(read)
}

/// How many bytes there probably are.
fn expected(file: &File, offset: u64, len: usize) -> usize {
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let left = size.saturating_sub(offset).max(UNKNOWN);
    usize::try_from(left).map_or(len, |left| left.min(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(file: &File, offset: u64, len: usize) -> Vec<u8> {
        let (mut bytes, mut text) = (b"head".to_vec(), "head".to_owned());
        let read = bytes.read(file, offset, len).unwrap();
        assert_eq!(text.read(file, offset, len).unwrap(), read);
        let bytes = bytes.split_off(4);
        assert_eq!((bytes.len(), text.split_off(4)), (read, base64::Base64Text::encode(&bytes).0));
        bytes
    }

    #[test]
    fn a_block_is_what_is_there_up_to_its_length() {
        let content: Vec<u8> = (0..PIECE * 3 + 5).map(|at| (at / 3).to_le_bytes()[0]).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), &content).unwrap();
        let file = File::open(dir.path().join("f")).unwrap();
        for offset in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 7, content.len() - 1, content.len(), content.len() + 9] {
            for len in [1, 2, 3, 4097, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, content.len(), content.len() + 1] {
                let end = content.len().min(offset + len);
                let expected = content.get(offset..end).unwrap_or_default();
                assert!(both(&file, offset as u64, len) == expected, "{len} bytes from {offset}");
            }
        }
        assert!(Vec::new().read(&file, u64::MAX - 1, 9).is_err(), "no file is that long");
    }

    #[test]
    fn a_file_that_tells_no_size_is_read_and_a_small_one_takes_little_room() {
        let version = both(&File::open("/proc/version").unwrap(), 0, 1 << 20);
        assert_eq!(version, std::fs::read("/proc/version").unwrap());
        let mounts = both(&File::open("/proc/kallsyms").unwrap(), 0, 3 * UNKNOWN as usize + 1);
        assert_eq!(mounts.len(), 3 * UNKNOWN as usize + 1);
        let mut bytes = Vec::new();
        bytes.read(&File::open("/proc/version").unwrap(), 0, 1 << 20).unwrap();
        assert!(bytes.capacity() < 4 * UNKNOWN as usize);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let directory = File::open("/").unwrap();
        assert!(Vec::new().read(&directory, 0, 10).is_err());
        assert!(String::new().read(&directory, 0, 10).is_err());
    }
}
