//! Which registration stands, and when it has to be made anew. Pure.
//!
//! In flow registrations and what became of the connections made with them, out flows the one to go on with, if any. A
//! direct registration is for one client and is made anew each time, as stock does; one for streams is kept until the
//! rendezvous refuses it, somebody else has taken the place, or it turns out to lead nowhere.

use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::registry::{RegisterReply, Transport};

/// So many attempts in a row to reach the rendezvous of a registration may fail; the next asks the registry again, which
/// may know another one.
const MAX_UNREACHABLE: u32 = 5;
/// A connection that ended sooner than this, without a client, says nothing for its registration.
const SHORT: Duration = Duration::from_millis(500);

/// The registration to go on with.
#[derive(Debug, Default)]
pub struct Standing {
    reply: Option<RegisterReply>,
    unreachable: u32,
}

impl Standing {
    /// The registration that stands.
    pub fn current(&self) -> Option<&RegisterReply> {
        self.reply.as_ref()
    }

    /// The registry took us.
    pub fn registered(&mut self, reply: &RegisterReply) {
        let keep = match reply.transport {
            Transport::Direct => false,
            Transport::Relay | Transport::Noise => true,
        };
        self.reply = keep.then(|| reply.clone());
        self.unreachable = 0;
    }

    /// The rendezvous could not be reached, or refused; `stale` if it says that the ticket is no longer good.
    pub fn undialled(&mut self, stale: bool) {
        self.unreachable += 1;
        if stale || self.unreachable >= MAX_UNREACHABLE {
            self.reply = None;
        }
    }

    /// A connection has ended, for the rendezvous's `reason` if it gave one.
    pub fn served(&mut self, opened: bool, lasted: Duration, reason: Option<CloseReason>) {
        self.unreachable = 0;
        let is_fenced = matches!(reason, Some(CloseReason::Replaced | CloseReason::Revoked | CloseReason::KeyRevoked));
        if is_fenced || (!opened && lasted < SHORT) {
            self.reply = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use exedra_proto::secret::Secret;

    use super::*;

    fn standing(transport: Transport) -> Standing {
        let mut standing = Standing::default();
        let (id, executor_id, url) = ("r".to_owned(), "box".to_owned(), Secret::new("ws://h"));
        standing.registered(&RegisterReply { id, executor_id, url, transport });
        standing
    }

    #[test]
    fn a_direct_registration_is_made_anew_and_one_for_streams_is_kept() {
        assert!(standing(Transport::Direct).current().is_none());
        assert!(standing(Transport::Relay).current().is_some());
        assert!(Standing::default().current().is_none());
    }

    #[test]
    fn it_is_kept_over_ends_and_failures_that_say_nothing_against_it() {
        let mut standing = standing(Transport::Relay);
        for reason in [None, Some(CloseReason::GoingAway), Some(CloseReason::PeerLost), Some(CloseReason::Silent)] {
            standing.served(true, Duration::ZERO, reason);
            standing.served(false, SHORT, reason);
            (1..MAX_UNREACHABLE).for_each(|_| standing.undialled(false));
            assert!(standing.current().is_some(), "{reason:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_any_more_is_forgotten() {
        let ends: [fn(&mut Standing); 6] = [
            |standing| standing.undialled(true),
            |standing| (0..MAX_UNREACHABLE).for_each(|_| standing.undialled(false)),
            |standing| standing.served(true, SHORT, Some(CloseReason::Replaced)),
            |standing| standing.served(true, SHORT, Some(CloseReason::Revoked)),
            |standing| standing.served(true, SHORT, Some(CloseReason::KeyRevoked)),
            |standing| standing.served(false, Duration::ZERO, None),
        ];
        for (number, end) in ends.iter().enumerate() {
            let mut standing = standing(Transport::Relay);
            end(&mut standing);
            assert!(standing.current().is_none(), "case {number}");
        }
    }
}
