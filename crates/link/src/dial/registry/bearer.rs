//! A token that may change while a client runs: what has it tells it before each request.

use std::fmt;
use std::sync::Arc;

use exedra_proto::secret::Secret;

/// Reads the token as it is now; a failure is a text for people, which does not hold it. Clones share the reader.
#[derive(Clone)]
pub struct BearerSource(Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>);

impl BearerSource {
    /// By this reader, which is called on the thread that sends the request and must not take long.
    pub fn new(read: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(super) fn read(&self) -> Result<Secret, String> {
        (self.0)()
    }
}

impl fmt::Debug for BearerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<source of a token>")
    }
}
