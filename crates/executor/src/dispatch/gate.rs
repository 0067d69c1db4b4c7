//! How far the handshake of one connection has come, and what it lets through: a pure state machine.
//!
//! In flow `initialize` and `initialized`, out flow permissions or the refusals of protocol 6.2.

use exedra_proto::envelope::RpcError;
use exedra_proto::method::Group;

use super::errors;

/// The handshake of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Nothing came yet.
    #[default]
    New,
    /// `initialize` succeeded.
    Opened,
    /// And `initialized` followed.
    Ready,
}

impl Gate {
    /// Whether `initialize` may be tried.
    ///
    /// # Errors
    /// It has succeeded before.
    pub fn may_open(self) -> Result<(), RpcError> {
        if self == Self::New { Ok(()) } else { Err(errors::initialized_twice()) }
    }

    /// `initialize` succeeded.
    pub fn open(&mut self) {
        *self = Self::Opened;
    }

    /// `initialized` came; it may be repeated.
    ///
    /// # Errors
    /// It came before `initialize`.
    pub fn confirm(&mut self) -> Result<(), RpcError> {
        if *self == Self::New {
            return Err(errors::initialized_too_early());
        }
        *self = Self::Ready;
        Ok(())
    }

    /// Whether a method of `group` may be used.
    ///
    /// # Errors
    /// What must come before.
    pub fn may_use(self, group: Group) -> Result<(), RpcError> {
        match self {
            Self::New => Err(errors::not_initialized(group)),
            Self::Opened => Err(errors::not_confirmed(group)),
            Self::Ready => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_opens_step_by_step() {
        let mut gate = Gate::default();
        let text = |result: Result<(), RpcError>| result.unwrap_err().message;
        assert_eq!(text(gate.may_use(Group::Exec)), "client must call initialize before using exec methods");
        assert_eq!(text(gate.confirm()), "client must call initialize before sending initialized");
        assert_eq!(gate.may_open(), Ok(()));
        gate.open();
        let expected = "client must send initialized before using filesystem methods";
        assert_eq!(text(gate.may_use(Group::Filesystem)), expected);
        assert_eq!(text(gate.may_open()), "initialize may only be sent once per connection");
        assert_eq!((gate.confirm(), gate.confirm()), (Ok(()), Ok(())));
        assert_eq!(gate.may_use(Group::Http), Ok(()));
        assert!(gate.may_open().is_err());
    }
}
