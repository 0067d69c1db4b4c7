//! Whether a client may begin a stream: how many there may be, how fast, and who gives way.
//!
//! Shares are those of tokens, and among the clients of one token theirs. Whoever has less than its share has a place of
//! whoever has most, the newest that the executor has not answered in yet, or else the newest. What all may begin in a
//! time is for everybody; a share of as much again is each token's own, whatever the others do.

use std::time::Instant;

use exedra_proto::frame::{StreamId, reset};

use super::{Client, Route, Stream, Switch, Yielded};
use crate::limits::{CLIENTS_NEW_STREAMS, MAX_STREAMS_SEEN, NEW_STREAMS};
use crate::router::ConnectionId;
use crate::shares::{Rate, is_below_share};

impl Switch {
    /// Begins a stream of `client`, or says why not.
    pub(super) fn begin(&mut self, client: ConnectionId, id: &StreamId, now: Instant) -> Result<Route, &'static str> {
        let used = self.clients.get(&client).map_or(0, |from| from.streams.len());
        if used >= MAX_STREAMS_SEEN {
            return Err(reset::TOO_MANY_STREAMS);
        }
        let yielded = match self.open < self.room {
            true => None,
            false => Some(self.yields_to(client).ok_or(reset::TOO_MANY_STREAMS)?),
        };
        if !self.is_in_time(client, now) {
            return Err(reset::TOO_FAST);
        }
        if let Some(yielded) = &yielded {
            self.close(&yielded.stream);
        }
        self.streams.insert(id.clone(), Stream { owner: client, open: true, answered: false });
        self.open += 1;
        if let Some(from) = self.clients.get_mut(&client) {
            from.streams.push(id.clone());
            from.open += 1;
            self.tokens.entry(from.token.clone()).or_default().open += 1;
        }
        Ok(Route::New(self.executor, yielded))
    }

    /// The stream that gives way to one of `client`, if that has less than its share.
    fn yields_to(&self, client: ConnectionId) -> Option<Yielded> {
        let from = self.clients.get(&client)?;
        let own = self.tokens.get(&from.token)?.open;
        let others = self.tokens.iter().filter(|(token, holder)| **token != from.token && holder.open > 0).count();
        let token = if is_below_share(own, self.room, others) {
            self.tokens.iter().max_by_key(|(_, holder)| holder.open)?.0
        } else {
            let siblings = self.clients.iter().filter(|(id, one)| **id != client && one.token == from.token);
            let others = siblings.filter(|(_, one)| one.open > 0).count();
            is_below_share(from.open, own, others).then_some(&from.token)?
        };
        let of_token = self.clients.iter().filter(|(_, one)| one.token == *token);
        let (owner, greediest) = of_token.max_by_key(|(id, one)| (one.open, **id))?;
        let stream = self.newest(greediest)?.clone();
        Some(Yielded { owner: *owner, stream })
    }

    /// The stream of a client that is missed least.
    fn newest<'a>(&self, client: &'a Client) -> Option<&'a StreamId> {
        let newest_first = client.streams.iter().rev();
        let mut open = newest_first.filter_map(|id| Some((id, self.streams.get(id).filter(|stream| stream.open)?)));
        let newest = open.next()?;
        let unanswered = std::iter::once(newest).chain(open).find(|(_, stream)| !stream.answered);
        Some(unanswered.unwrap_or(newest).0)
    }

    /// Whether one more stream is not too soon; then it is counted.
    fn is_in_time(&mut self, client: ConnectionId, now: Instant) -> bool {
        let present = self.tokens.values().filter(|holder| holder.clients > 0).count();
        let Some(from) = self.clients.get_mut(&client) else { return false };
        let Some(holder) = self.tokens.get_mut(&from.token) else { return false };
        let own = share_of(NEW_STREAMS, present);
        let (pace, rate) = match self.pace.has_room(NEW_STREAMS, now) {
            true => (&mut self.pace, NEW_STREAMS),
            false => (&mut holder.pace, own),
        };
        let may = from.pace.has_room(CLIENTS_NEW_STREAMS, now) && pace.has_room(rate, now);
        if may {
            from.pace.take(CLIENTS_NEW_STREAMS, now);
            pace.take(rate, now);
        }
        may
    }
}

/// The share of one of so many.
fn share_of(rate: Rate, holders: usize) -> Rate {
    let holders = u32::try_from(holders).unwrap_or(u32::MAX).max(1);
    Rate { burst: (rate.burst / holders).max(1), pause: rate.pause.saturating_mul(holders) }
}
