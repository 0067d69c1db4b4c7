//! The `fs/*` methods, one each on [`Files`], run on the blocking pool.
//!
//! In flow params, out flow results or an [`FsError`] with the text of the wire. Knows no JSON-RPC code. A sandbox
//! becomes rules over real places, and what cannot is refused. Nothing here waits for a FIFO, a socket or a terminal.
//!
//! `fs/writeFile` and `fs/copy` write in place: an existing file keeps its inode, owner, mode and hard links, and a link
//! is followed, all of which clients of the protocol can see and a renamed temporary file would change. The price is that
//! a failure half-way, a full disk for instance, leaves the file short; it is reported as that failure. An upload replaces
//! the file as a whole.

mod block;
mod capability;
mod copy;
mod directory;
mod files;
mod handles;
mod metadata;
mod own;
mod read;
mod regular;
mod remove;
mod resolve;
mod roots;
mod settings;
mod upload;
mod walk;
mod watch;
mod write;

pub use crate::error::{FsError, FsErrorKind};
pub use capability::MAX_TOTAL as DISCOVERY_BUDGET;
pub use files::Files;
pub use handles::MAX_BLOCK;
pub use read::{Content, STOCK_LIMIT, WHOLE_FILE_LIMIT};
pub use roots::{Access, Roots};
pub use walk::BUDGET as WALK_BUDGET;
pub use watch::Change;
