//! A part of a client's message on its way to the executor, where the switch lets it.
//!
//! In flows the part, out flow frames for the executor, and what became of it: its sender, or another whose stream gave
//! way to it, may have to be told. It knows no socket.

use exedra_proto::frame::scan::Kind;
use exedra_proto::frame::{StreamId, reset};
use exedra_proto::introduction::Introduction;
use tokio::time::Instant;

use super::inbox::Part;
use super::outbox::Outbox;
use super::switch::{Route, Switch, Yielded};
use super::{Dropped, Passing, resetting};
use crate::frames::header::Opcode;
use crate::router::ConnectionId;

/// What became of a part of a client's message.
pub enum Outcome {
    /// It went to the executor, or waits for the rest.
    Passed,
    /// The same, and a stream of somebody gave way to it.
    Instead(Yielded),
    /// It went nowhere, and its sender is told why.
    Nowhere(StreamId, Option<&'static str>),
}

/// Passes a part of a client's message on to the executor, who is told first who begins a stream. How many bytes that took
/// beside the part.
pub fn pass_part(
    part: Part<'_>,
    (id, who): (ConnectionId, Option<&Introduction>),
    (switch, out): (&mut Switch, &mut Outbox),
    (passing, dropped): (&mut Option<Passing>, &mut Dropped),
    now: Instant,
) -> (usize, Outcome) {
    let (stream, kind, bytes, is_whole) = match part {
        Part::Wait => return (0, Outcome::Passed),
        Part::Dropped(fault) => {
            dropped.faulty += u64::from(fault.is_some());
            return (0, Outcome::Passed);
        }
        Part::More(bytes) => {
            out.push(bytes);
            return (0, Outcome::Passed);
        }
        Part::End(bytes, outcome) => {
            out.push(bytes);
            dropped.faulty += u64::from(outcome.is_err());
            if let Some(passing) = passing.take()
                && outcome == Ok(Kind::Reset)
            {
                switch.of_client(id, &passing.stream, Kind::Reset, now.into_std());
            }
            return (0, Outcome::Passed);
        }
        Part::Whole(stream, kind, bytes) => (stream, kind, bytes, true),
        Part::Begin(stream, bytes) => (stream, Kind::Other, bytes, false),
    };
    let (newcomer, outcome) = match switch.of_client(id, &stream, kind, now.into_std()) {
        Route::To(_) => (None, Outcome::Passed),
        Route::New(_, None) => (who, Outcome::Passed),
        Route::New(_, Some(yielded)) => {
            out.say(Opcode::Binary, &resetting(yielded.stream.clone(), reset::GAVE_WAY));
            (who, Outcome::Instead(yielded))
        }
        Route::Drop => {
            dropped.unrouted += 1;
            return (0, Outcome::Nowhere(stream, None));
        }
        Route::Refuse(reason) => {
            dropped.unrouted += 1;
            return (0, Outcome::Nowhere(stream, Some(reason)));
        }
    };
    let introduced = newcomer.map_or(0, |who| out.say(Opcode::Text, who.encode(Some(&stream)).as_bytes()));
    out.push(bytes);
    if !is_whole {
        *passing = Some(Passing { client: id, stream, stall: Default::default() });
    }
    (introduced, outcome)
}
