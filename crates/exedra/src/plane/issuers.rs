//! Fetches what issuers of workload tokens publish, for the registry, which has no HTTP client.
//!
//! In flows a URL, out flows the document, with limits on its size and time. What it says is not looked at.

use std::time::Duration;

use exedra_link::ws;
use exedra_registry::workload::{Fetch, Fetching, MAX_FETCHED};
use reqwest::redirect::Policy;
use url::{Host, Url};

/// Limit for one document; the registry has one for both.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fetches over HTTPS, through the proxies of the environment.
#[derive(Clone, Copy, Debug)]
pub struct Issuers;

impl Fetch for Issuers {
    fn get<'a>(&'a self, url: &'a Url, authorities: Option<&'a [u8]>) -> Fetching<'a> {
        Box::pin(get(url, authorities, PATIENCE))
    }
}

async fn get(url: &Url, authorities: Option<&[u8]>, patience: Duration) -> Result<Vec<u8>, String> {
    let trusting = |text| ws::tls_trusting(text).map_err(|error| format!("whom `ca_file` trusts: {error}"));
    let tls = authorities.map_or_else(ws::client_tls, trusting)?;
    let mut client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .redirect(Policy::none())
        .timeout(patience)
        .tcp_nodelay(true);
    if is_here(url) {
        client = client.no_proxy();
    }
    let client = client.build().map_err(said)?;
    let mut response = client.get(url.clone()).send().await.map_err(said)?;
    if response.status().as_u16() != 200 {
        return Err(format!("the answer is {}", response.status()));
    }
    let mut document = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(said)? {
        if document.len() + piece.len() > MAX_FETCHED {
            return Err(format!("it is larger than {MAX_FETCHED} bytes"));
        }
        document.extend_from_slice(&piece);
    }
    Ok(document)
}

/// Whether it leads to this machine.
pub fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn said(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}

#[cfg(test)]
mod tests;
