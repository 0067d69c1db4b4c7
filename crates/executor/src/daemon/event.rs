//! What a daemon tells those who watch it, such as the binary that prints a line when it has registered.
//!
//! Plain data. Texts from outside are free of control characters, and none holds a token or a ticket.

use std::time::Duration;

/// Something that happened to a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The registry took us.
    Registered {
        /// The registration's id.
        id: String,
        /// Our own, as the registry has it.
        executor_id: String,
    },
    /// The rendezvous took us: clients can come.
    Connected,
    /// An attempt is over, and the next begins after the pause.
    Waiting {
        /// How long.
        pause: Duration,
        /// Why the attempt is over.
        reason: String,
    },
}

/// Called with each event, between awaits; must not block.
pub type Watch<'a> = dyn FnMut(Event) + Send + 'a;

impl Event {
    /// A registration; control characters are replaced.
    pub fn registered(id: &str, executor_id: &str) -> Self {
        Self::Registered { id: printable(id), executor_id: printable(executor_id) }
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_cannot_write_to_the_terminal() {
        let event = Event::registered("reg\x1b[2J", "box\n");
        let expected = Event::Registered { id: "reg\u{fffd}[2J".into(), executor_id: "box\u{fffd}".into() };
        assert_eq!(event, expected);
    }
}
