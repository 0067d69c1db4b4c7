//! The limits of the rendezvous, as constants: how many, how large, how long.
//!
//! What waits and what happens at the limit stands with each. Sizes of HTTP headers are the server's affair
//! (hyper refuses a head that does not fit its buffer); of the request line only the query is limited here.

use std::time::Duration;

/// Connections in all, from the check of the ticket to the end; one that ended by itself counts no more while it
/// parts, within the close deadline. One more is refused with 503 and may come back.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Largest message, counted over its frames, in bytes. Its sender is closed with 1009.
pub const MAX_MESSAGE: u64 = 64 * 1024 * 1024;
/// Most payload read at once, and so the most that goes into one outgoing frame, in bytes. One such buffer for each
/// direction is all that a pair holds: while it is full the source is not read.
pub const MAX_PIECE: usize = 64 * 1024;
/// Size of the buffer of a connection that has not filled it yet, in bytes.
pub const FIRST_BUFFER: usize = 4 * 1024;
/// A data frame up to this size is passed on whole, in one frame and one write, even if it arrives in bits.
pub const SMALL_FRAME: u64 = 16 * 1024;
/// Commands to the task of one connection: a join, a close in its time and a close at once are all there can be, so
/// the queue is never full and nobody waits.
pub const MAILBOX: usize = 4;
/// Tickets remembered as used: 60 s of clients at over 4,000 a second. When full, a client is refused with 503.
pub const MAX_USED_TICKETS: usize = 262_144;
/// Longest query of a request, in bytes; a longer one is malformed.
pub const MAX_QUERY: usize = 4 * 1024;
/// Longest time for a close handshake.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time from the answer 101 to a connection that is handed over.
pub const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// Over how long a drain spreads its closes, so that those who are sent away do not come back all at once.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(2);
