//! Resolves names for `http/request` and dials only what the owner's egress allows: the addresses that were judged are the
//! ones that are dialled, since nobody resolves a second time.
//!
//! In flow names, out flow addresses or a refusal. A proxy is named by whoever runs the executor, and is dialled wherever it
//! is, metadata services excepted.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use crate::policy::Egress;
use crate::policy::egress::Refused;

/// Where the proxies are named.
const PROXIES: [&str; 3] = ["http_proxy", "https_proxy", "all_proxy"];

/// Addresses of a name.
pub type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Whoever knows the addresses of names.
pub trait Lookup: fmt::Debug + Send + Sync {
    /// The addresses of `name`.
    fn lookup(&self, name: String) -> Answer;
}

/// As the system does it.
#[derive(Clone, Copy, Debug)]
pub struct System;

/// Resolves, and refuses names that lead to where nothing may go.
#[derive(Debug)]
pub struct Resolver {
    lookup: Arc<dyn Lookup>,
    egress: Egress,
    proxies: HashSet<String>,
}

impl Resolver {
    /// For what `egress` allows, and the `proxies`.
    pub fn new(lookup: Arc<dyn Lookup>, egress: Egress, proxies: HashSet<String>) -> Self {
        Self { lookup, egress, proxies }
    }
}

impl Lookup for System {
    fn lookup(&self, name: String) -> Answer {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (name, lookup) = (name.as_str().to_owned(), Arc::clone(&self.lookup));
        let egress = if self.proxies.contains(&name) { Egress::unlimited() } else { self.egress.clone() };
        Box::pin(async move {
            let addresses = lookup.lookup(name.clone()).await?;
            egress.check_answer(&name, addresses.iter().map(SocketAddr::ip))?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The hosts of the proxies that `variable` names.
pub fn proxies(variable: impl Fn(&str) -> Option<String>) -> HashSet<String> {
    let values = PROXIES.iter().flat_map(|name| [variable(name), variable(&name.to_uppercase())]).flatten();
    let host = |value: String| {
        let url = if value.contains("://") { value } else { format!("http://{value}") };
        Some(Url::parse(&url).ok()?.host_str()?.to_owned())
    };
    values.filter_map(host).collect()
}

/// The refusal among the causes of `error`, if it is one.
pub fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Refused> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        // An io::Error made of another one gives that one's cause as its own.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_resolver_resolves_what_it_does_not_refuse() {
        let name = |name: &str| name.parse().unwrap();
        let resolver = Resolver::new(Arc::new(System), Egress::unlimited(), HashSet::new());
        let mut local = resolver.resolve(name("localhost")).await.unwrap();
        assert!(local.all(|address| address.ip().is_loopback()));
        // Resolvers take numbers for names, so this is what a name that leads there looks like.
        for there in ["169.254.169.254", "::ffff:100.100.100.200", "fd00:ec2::254"] {
            let error = resolver.resolve(name(there)).await.err().unwrap();
            assert_eq!(refusal(error.as_ref()), Some(&Refused::Metadata(there.into())));
        }
    }

    #[derive(Debug)]
    struct Here;

    impl Lookup for Here {
        fn lookup(&self, _name: String) -> Answer {
            Box::pin(std::future::ready(Ok(vec![([127, 0, 0, 1], 0).into()])))
        }
    }

    #[tokio::test]
    async fn a_refusal_of_the_resolver_comes_through_the_client() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = Resolver::new(Arc::new(Here), Egress::only(&["*"]).unwrap(), HashSet::new());
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let client = builder.dns_resolver(Arc::new(resolver)).build().unwrap();
        let error = client.get("http://name.test/").send().await.unwrap_err();
        assert!(matches!(refusal(&error), Some(Refused::Rule(_))), "{error:?}");
    }

    #[tokio::test]
    async fn a_proxy_may_be_here() {
        let proxies = HashSet::from(["proxy.test".to_owned()]);
        let resolver = Resolver::new(Arc::new(Here), Egress::only(&["*"]).unwrap(), proxies);
        assert!(resolver.resolve("proxy.test".parse().unwrap()).await.is_ok());
        assert!(resolver.resolve("other.test".parse().unwrap()).await.is_err());
    }

    #[test]
    fn a_refusal_is_found_under_its_wrappings() {
        let refused = Refused::Rule("x".into());
        let wrapped = std::io::Error::other(std::io::Error::other(refused.clone()));
        assert_eq!(refusal(&wrapped), Some(&refused));
        assert_eq!(refusal(&std::io::Error::other("x")), None);
    }

    #[test]
    fn hosts_of_proxies() {
        let variable = |name: &str| match name {
            "http_proxy" => Some("http://user:pw@proxy.test:3128".to_owned()),
            "HTTPS_PROXY" => Some("Other.test:1".to_owned()),
            _ => None,
        };
        assert_eq!(proxies(variable), HashSet::from(["proxy.test".to_owned(), "other.test".to_owned()]));
    }
}
