//! The limits of the rendezvous, as constants: how many, how large, how long.
//!
//! What waits and what happens at the limit stands with each. Sizes of HTTP headers are the server's affair
//! (hyper refuses a head that does not fit its buffer); of the request line only the query is limited here.

use std::time::Duration;

use crate::shares::Rate;

/// Connections in all, from the check of the ticket to the end; one that ended by itself counts no more while it
/// parts, within the close deadline. One more is refused with 503 and may come back.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Largest message, counted over its frames, in bytes. Its sender is closed with 1009.
pub const MAX_MESSAGE: u64 = 64 * 1024 * 1024;
/// Most payload read at once, and so the most that goes into one outgoing frame, in bytes. One such buffer for each
/// direction is all that a pair holds: while it is full the source is not read.
pub const MAX_PIECE: usize = 64 * 1024;
/// Size of the buffer of a connection that has not filled it yet, in bytes. One whose peer has sent no message for one
/// ping interval, or two, has none.
pub const FIRST_BUFFER: usize = 4 * 1024;
/// A data frame up to this size is passed on whole, in one frame and one write, even if it arrives in bits.
pub const SMALL_FRAME: u64 = 16 * 1024;
/// Commands to the task of one connection: joins of its clients, those included that gave way to others before, a close in
/// its time and a close at once are all there can be, so the queue is never full and nobody waits.
pub const MAILBOX: usize = 2 * MAX_CLIENTS + 4;
/// Clients of one executor of the shape *streams* at once, as many as it serves streams. One more is refused with 503, unless
/// its token has less than its share of them: then the newest client of the token that has most gives way.
pub const MAX_CLIENTS: usize = 128;
/// Tickets remembered as used: 60 s of clients at over 4,000 a second. When full, a client is refused with 503.
pub const MAX_USED_TICKETS: usize = 262_144;
/// Longest query of a request, in bytes; a longer one is malformed. A ticket has less than 5 KiB, most of it the name and the
/// labels of a client's token.
pub const MAX_QUERY: usize = 8 * 1024;
/// Longest time for a close handshake.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time from the answer 101 to a connection that is handed over.
pub const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// Over how long a drain spreads its closes, so that those who are sent away do not come back all at once.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(2);
/// Streams of one executor at once, as many as the executor itself takes. One more is reset, unless its token, or among those
/// of its token its client, has less than its share of them: then one of whoever has most gives way, and is reset.
pub const MAX_STREAMS: usize = 128;
/// Stream ids that one client may use up before it has to come anew.
pub const MAX_STREAMS_SEEN: usize = 256;
/// New streams of one executor: at a time, as after a restart of the server, when all its clients come back; and from then on.
/// One that comes sooner is reset, unless its token has its own share of such a rate left, which others cannot use up.
pub const NEW_STREAMS: Rate = Rate { burst: 128, pause: Duration::from_millis(25) };
/// New streams of one client, of those. Beyond the burst no client alone uses up what all have.
pub const CLIENTS_NEW_STREAMS: Rate = Rate { burst: 128, pause: Duration::from_millis(100) };
/// Bytes that wait for one client of a hall. At this the executor is not read; the piece that passes it is kept.
pub const CLIENT_QUEUE: usize = 512 * 1024;
/// The same for all clients of one executor together.
pub const EXECUTOR_QUEUE: usize = 2 * 1024 * 1024;
/// Bytes that wait in all halls together before each reads its executor only when nothing of its own waits, and collects no
/// messages. A hall that has work holds a piece more.
pub const HALLS_QUEUE: usize = 256 * 1024 * 1024;
/// Bytes that wait for an executor before its clients are not read any more.
pub const ASKED_QUEUE: usize = 256 * 1024;
/// Most of a client's message that is collected before it is passed on, so that a slow sender holds up nobody.
pub const COLLECTED: usize = 1024 * 1024;
/// The same for all clients of one executor together; beyond it messages are passed on as they come.
pub const COLLECTED_IN_ALL: usize = 3 * 1024 * 1024 / 2;
/// What one client may pass on before it is another's turn, in bytes.
pub const QUANTUM: usize = 64 * 1024;
/// How long a client has for a sign of life when another comes to the same executor: it may be the same one, back by
/// another way, and its session is held by the connection that it lost.
pub const CHALLENGE: Duration = Duration::from_secs(5);
/// How long one client of a hall may keep the others waiting without moving [`STALL_BYTES`]; then it is closed, and its
/// streams are reset. For a while its token is waited for less, and those of it who come have less room.
pub const STALL: Duration = Duration::from_secs(10);
/// What counts as moving, in bytes.
pub const STALL_BYTES: usize = 64 * 1024;
/// Tokens that have kept others waiting and of which that is remembered, for each executor on its own. When there are more,
/// the one with least to forget is forgotten.
pub const MAX_STANDINGS: usize = 4_096;
/// How long a task looks for the answer to what it has just passed on, before it sleeps: longer than a peer on the same machine
/// takes, and as long as it may be late for other connections of its thread.
pub const LINGER: Duration = Duration::from_micros(50);
/// The most that may have been passed on for a look for its answer, in bytes. Behind more comes more of the same, and whoever
/// is sent it needs the processor.
pub const LINGER_BYTES: u64 = 4 * 1024;
