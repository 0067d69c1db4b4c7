//! One direction of a pair: from the socket that is read to the socket that is written.
//!
//! It moves frames while it can, a bounded number of turns, and says why it stopped. What the sink does not take stays
//! in the source's one buffer and the source is not read: so a slow reader slows its sender, and nothing is lost. It
//! knows neither tasks nor reasons.

use std::io::Error;
use std::task::{Context, Poll};

use crate::socket::{Socket, SocketEnd};

/// Turns before the other direction gets its own, so that a busy one starves nobody.
const TURNS: usize = 16;

/// Why the pump stopped.
#[derive(Debug)]
pub enum Flow {
    /// There is nothing to read, or the sink takes no more: the task will be woken.
    Waits,
    /// There may be more at once.
    More,
    /// Nothing more comes from the source; what came last may still be [ready](Socket::ready).
    SourceEnded(SocketEnd),
    /// The sink cannot be written any more.
    SinkLost(Error),
}

/// Moves what can be moved now.
pub fn pump(cx: &mut Context<'_>, source: &mut Socket, sink: &mut Socket) -> Flow {
    for _ in 0..TURNS {
        while !source.ready().is_empty() {
            match sink.poll_write_frames(cx, source.ready()) {
                Poll::Ready(Ok(written)) => source.taken(written),
                Poll::Ready(Err(error)) => return Flow::SinkLost(error),
                Poll::Pending => {
                    source.pause();
                    return Flow::Waits;
                }
            }
        }
        source.pass_mark(sink);
        match source.poll_fill(cx) {
            Poll::Ready(Ok(())) => sink.answer_marks(source),
            Poll::Ready(Err(end)) => return Flow::SourceEnded(end),
            Poll::Pending => return Flow::Waits,
        }
    }
    Flow::More
}
