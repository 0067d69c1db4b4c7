//! Fetching what an issuer publishes: done by whoever has an HTTP client, for the registry has none.

use std::pin::Pin;

use url::Url;

/// Largest document of an issuer that is taken, in bytes.
pub const MAX_FETCHED: usize = 256 * 1024;

/// A document on its way, or why it does not come.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// Fetches documents.
pub trait Fetch: Send + Sync + 'static {
    /// What is at `url`: the body of an answer 200, [`MAX_FETCHED`] bytes at most. Redirects are not followed. `authorities`
    /// are the certificates to trust, as the text of a PEM file, and no others; without, those that the process trusts.
    fn get<'a>(&'a self, url: &'a Url, authorities: Option<&'a [u8]>) -> Fetching<'a>;
}
