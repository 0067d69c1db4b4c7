//! How the process ends: every exit status in one place, and the failure that carries one.
//!
//! In flow results of commands, out flow statuses: the remote command's own, 255 where Exedra itself failed (as ssh
//! does), 2 for wrong usage, 1 where an executor may not or cannot register (as upstream does) or `doctor` finds a lack.

use std::process::ExitCode;

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success,
    /// The remote command ended with this code.
    Command(i32),
    /// A signal to us ended the work.
    Signal(i32),
    /// Exedra itself failed.
    Failed,
    /// Wrong usage.
    Usage,
    /// An executor cannot register, and trying again would not help.
    Refused,
    /// This machine lacks something.
    Lacking,
}

/// An error and the status that it ends with.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What is said about it.
    pub error: anyhow::Error,
    /// What to do about it, where the error itself does not say.
    pub hint: Option<String>,
}

impl Exit {
    /// The status.
    pub fn status(self) -> u8 {
        match self {
            Self::Success => 0,
            // Only the low byte exists; -1, stock's word for a death by signal, becomes 255.
            Self::Command(code) => code.to_le_bytes()[0],
            Self::Signal(signal) => 128u8.saturating_add(signal.to_le_bytes()[0]),
            Self::Failed => 255,
            Self::Usage => 2,
            Self::Refused | Self::Lacking => 1,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

impl Failure {
    /// Wrong usage, said in `text`, with the way out in `hint`.
    pub fn usage(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, error: anyhow::Error::msg(text.into()), hint: Some(hint.into()) }
    }

    /// With another status.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// With advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: Exit::Failed, error: error.into(), hint: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(Exit::Command(7).status(), 7);
        assert_eq!(Exit::Command(-1).status(), 255);
        assert_eq!(Exit::Command(256).status(), 0);
        assert_eq!(Exit::Signal(2).status(), 130);
        assert_eq!(Exit::Signal(15).status(), 143);
        assert_eq!(Exit::Failed.status(), 255);
        assert_eq!(Exit::Usage.status(), 2);
        assert_eq!(Exit::Refused.status(), 1);
    }
}
