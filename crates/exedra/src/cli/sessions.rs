//! What concerns sessions on the command line: the flags of whoever runs an executor.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use exedra_executor::MIN_SESSION_TTL;

use super::duration;

/// Flags of a command that runs an executor.
#[derive(Clone, Debug, Args)]
pub struct SessionArgs {
    /// How long a session and its processes outlive their connection, at least 80s
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = session_ttl)]
    pub session_ttl: Duration,
    /// What happens when a command has written all that is kept for a client that is away
    #[arg(long, value_name = "WHAT", value_enum, default_value = "wait")]
    pub when_full: WhenFullArg,
    /// A directory of this user's alone, where output beyond 1 MiB of each command waits for a client that is away
    /// [default: $XDG_STATE_HOME/exedra/spool or ~/.local/state/exedra/spool, else one below the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
}

/// What happens when there is no room for more output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenFullArg {
    /// The command waits until a client has read some; nothing is lost
    Wait,
    /// The oldest output is dropped, and how much is counted
    DropOldest,
}

fn session_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration::parse(text)?;
    if ttl < MIN_SESSION_TTL {
        let least = MIN_SESSION_TTL.as_secs();
        return Err(format!(
            "a session stays for {least}s at least: a client that has lost its connection may come back as late"
        ));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stays_for_as_long_as_any_client_may_need() {
        assert_eq!(session_ttl("80s"), Ok(Duration::from_secs(80)));
        assert_eq!(session_ttl("2h"), Ok(Duration::from_secs(7_200)));
        assert!(session_ttl("79s").unwrap_err().starts_with("a session stays for 80s at least"));
        assert!(session_ttl("soon").is_err());
    }
}
