//! Where the bytes of a piece are: in memory, or on disk until somebody wants them.

use std::io;

use bytes::Bytes;

use super::super::spool::Place;

/// The bytes of a piece.
#[derive(Clone, Debug)]
pub enum Body {
    /// In memory.
    Memory(Bytes),
    /// On disk.
    Disk(Place),
}

impl Body {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Disk(place) => place.len(),
        }
    }

    /// Whether it has to be read from disk.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    /// The bytes. Blocks if they are on disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn load(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::Disk(place) => place.read(),
        }
    }
}
