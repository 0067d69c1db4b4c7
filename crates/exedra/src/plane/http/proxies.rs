//! Who a request comes from when a proxy stands in front: the address that the proxy tells, if the proxy is trusted.
//!
//! In flow the peer's address and a request's headers, out flows the client's address. One header alone is read, the one
//! that the operator's proxies write: any other may be the client's own. What comes from elsewhere counts for nothing.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// The proxies that are trusted, and how they tell whom they speak for.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Their addresses; none: nobody is trusted.
    pub networks: Vec<IpNet>,
    /// The header that they write.
    pub header: ProxyHeader,
}

/// How a proxy tells whom it speaks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProxyHeader {
    /// `X-Forwarded-For: CLIENT, PROXY…`
    #[default]
    XForwardedFor,
    /// `Forwarded: for=CLIENT, for=PROXY…` (RFC 7239)
    Forwarded,
}

impl Proxies {
    /// Whether this is a trusted proxy.
    pub fn include(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client behind `peer`. Each proxy adds whom it spoke with at the end of the list, so the last one that is no
    /// trusted proxy is the client; what stands before is what it claims itself.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.networks.is_empty() {
            return client;
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ProxyHeader::Forwarded => header::FORWARDED,
        };
        let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        let mut hops = values.iter().rev().flat_map(|value| value.rsplit(','));
        while self.include(client) {
            let hop = hops.next().and_then(|hop| match self.header {
                ProxyHeader::XForwardedFor => address(hop.trim()),
                ProxyHeader::Forwarded => address(node(hop)?),
            });
            match hop {
                Some(hop) => client = hop,
                None => break,
            }
        }
        client
    }
}

/// The node of `for=…` in one element of `Forwarded`.
fn node(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`; nothing else is an address.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ProxyHeader, peer: &str, values: &[(&'static str, &str)]) -> String {
        let networks = ["10.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()).into();
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, value.parse().unwrap());
        }
        Proxies { networks, header }.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_header_counts_only_from_a_trusted_proxy() {
        let by_x = |peer, values: &[(&'static str, &str)]| client(ProxyHeader::XForwardedFor, peer, values);
        assert_eq!(by_x("192.0.2.1", &[("x-forwarded-for", "203.0.113.9")]), "192.0.2.1");
        assert_eq!(by_x("10.0.0.1", &[("x-forwarded-for", "203.0.113.9")]), "203.0.113.9");
        assert_eq!(by_x("::ffff:10.0.0.1", &[("x-forwarded-for", "203.0.113.9:77")]), "203.0.113.9");
        assert_eq!(by_x("::1", &[("x-forwarded-for", "[2001:db8::7]:1")]), "2001:db8::7");
        assert_eq!(by_x("10.0.0.1", &[("forwarded", "for=203.0.113.9")]), "10.0.0.1", "the client's own header");
        assert_eq!(by_x("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_last_hop_that_is_no_proxy_is_the_client_whatever_it_claims() {
        let by_x = |values: &[(&'static str, &str)]| client(ProxyHeader::XForwardedFor, "10.0.0.1", values);
        assert_eq!(by_x(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.2")]), "203.0.113.9");
        assert_eq!(by_x(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")]), "203.0.113.9");
        assert_eq!(by_x(&[("x-forwarded-for", "1.1.1.1, nonsense")]), "10.0.0.1");
        assert_eq!(by_x(&[("x-forwarded-for", "1.1.1.1, nonsense, 10.0.0.3")]), "10.0.0.3");
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_asked_for() {
        let standard = |values: &[(&'static str, &str)]| client(ProxyHeader::Forwarded, "10.0.0.1", values);
        assert_eq!(standard(&[("forwarded", "for=1.1.1.1, For=\"[2001:db8::7]:4711\";proto=https")]), "2001:db8::7");
        assert_eq!(standard(&[("forwarded", "for=unknown")]), "10.0.0.1");
        assert_eq!(standard(&[("forwarded", "proto=https")]), "10.0.0.1");
        assert_eq!(standard(&[("x-forwarded-for", "1.1.1.1")]), "10.0.0.1", "the client's own header");
    }
}
