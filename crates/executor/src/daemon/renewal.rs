//! A token that is replaced in its file while a connection is open: the registry is told of the new one before the old one ends,
//! for a token that ends cuts what was opened with it, and a workload's lasts as long as the newest that was shown.
//!
//! In flow a source and what the registry took, out flows a token that it has not seen. It sends nothing itself.

use std::time::Duration;

use exedra_link::error::RegisterError;
use exedra_proto::secret::Secret;

use super::token::TokenSource;

/// Time between two looks at the file. Tokens are replaced minutes before they end.
pub const LOOK: Duration = Duration::from_secs(10);

/// Which token the registry has seen.
#[derive(Debug)]
pub struct Renewal {
    source: TokenSource,
    every: Duration,
    seen: Option<Secret>,
}

impl Renewal {
    /// Nothing was shown yet.
    pub fn new(source: TokenSource, every: Duration) -> Self {
        Self { source, every, seen: None }
    }

    /// The token, to be shown now.
    ///
    /// # Errors
    /// There is none.
    pub fn show(&mut self) -> Result<Secret, RegisterError> {
        let token = self.source.read()?;
        self.seen = Some(token.clone());
        Ok(token)
    }

    /// The registry has seen this one, and made up its mind.
    pub fn seen(&mut self, token: Secret) {
        self.seen = Some(token);
    }

    /// Returns when the file has another token; never for one that cannot change.
    pub async fn due(&self) -> Secret {
        if !matches!(self.source, TokenSource::File(_)) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.every).await;
            // While it is being replaced there may be none.
            let Ok(token) = self.source.read() else { continue };
            if self.seen.as_ref().is_none_or(|seen| seen.expose() != token.expose()) {
                return token;
            }
        }
    }
}
