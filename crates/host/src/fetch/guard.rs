//! Where `http/request` does not go: the addresses at which clouds hand their credentials to whoever asks.
//!
//! In flow hosts of URLs and resolved addresses, out flows a refusal. Three gates use it: the URL as given, every
//! redirect, and every name after its resolution. Behind a proxy the proxy resolves, and only the first two remain.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::{Host, Url};

/// Metadata and credentials of instances, containers and pods: most clouds, AWS containers and pods, Alibaba.
const V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
];
/// The same: AWS instances and pods, Google.
const V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];
/// The name that means such an address wherever it resolves.
const NAME: &str = "metadata.google.internal";

/// The refusal of one host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a metadata service of the cloud, which http/request does not reach")]
pub struct Refused(String);

/// Resolves as the system does, and refuses names that lead to such an address.
#[derive(Debug)]
pub struct Resolver;

/// Refuses a URL that names such a host.
///
/// # Errors
/// The refusal.
pub fn check(url: &Url) -> Result<(), Refused> {
    let refused = match url.host() {
        Some(Host::Ipv4(address)) => is_metadata(address.into()),
        Some(Host::Ipv6(address)) => is_metadata(address.into()),
        Some(Host::Domain(name)) => name.trim_end_matches('.').eq_ignore_ascii_case(NAME),
        None => false,
    };
    if refused { Err(Refused(url.host_str().unwrap_or_default().to_owned())) } else { Ok(()) }
}

/// Follows redirects as usual, but not to such a host.
pub fn redirects() -> Policy {
    Policy::custom(|attempt| match check(attempt.url()) {
        Ok(()) => Policy::default().redirect(attempt),
        Err(refused) => attempt.error(refused),
    })
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

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if addresses.iter().any(|address| is_metadata(address.ip())) {
                return Err(Refused(name.as_str().to_owned()).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => V4.contains(&address),
        IpAddr::V6(address) => V6.contains(&address) || embedded(address).is_some_and(|inner| V4.contains(&inner)),
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, or translated (`64:ff9b::/96`).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let translated = address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let low = || Ipv4Addr::from_bits(address.to_bits() as u32);
    address.to_ipv4().or_else(|| translated.then(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> bool {
        check(&Url::parse(url).unwrap()).is_err()
    }

    #[test]
    fn metadata_services_in_every_spelling() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "https://169.254.170.2:8080/",
            "http://100.100.100.200/",
            "http://[fd00:ec2::254]/",
            "http://[FD00:0EC2:0:0::0254]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::a9fe:a9fe]/",
            "http://[64:ff9b::169.254.169.254]/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://169.254.43518/",
            "http://0251.0376.0251.0376/",
            "http://user:password@169.254.169.254/",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://METADATA.google.internal./",
        ] {
            assert!(refused(url), "{url}");
        }
    }

    #[test]
    fn everything_else_is_reached() {
        for url in [
            "http://127.0.0.1/",
            "http://169.254.169.253/",
            "http://10.0.0.1/",
            "http://[::1]/",
            "http://[fd00:ec2::253]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254.example.com/",
            "http://example.com/169.254.169.254",
        ] {
            assert!(!refused(url), "{url}");
        }
    }

    struct RefuseAll;

    impl Resolve for RefuseAll {
        fn resolve(&self, name: Name) -> Resolving {
            Box::pin(async move { Err(Refused(name.as_str().to_owned()).into()) })
        }
    }

    #[tokio::test]
    async fn a_refusal_of_the_resolver_comes_through_the_client() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let client = builder.dns_resolver(std::sync::Arc::new(RefuseAll)).build().unwrap();
        let error = client.get("http://name.test/").send().await.unwrap_err();
        assert_eq!(refusal(&error), Some(&Refused("name.test".into())));
    }

    #[tokio::test]
    async fn the_resolver_resolves_what_it_does_not_refuse() {
        let name = |name: &str| name.parse().unwrap();
        let mut local = Resolver.resolve(name("localhost")).await.unwrap();
        assert!(local.all(|address| address.ip().is_loopback()));
        // Resolvers take numbers for names, so this is what a name that leads there looks like.
        for there in ["169.254.169.254", "::ffff:100.100.100.200", "fd00:ec2::254"] {
            let error = Resolver.resolve(name(there)).await.err().unwrap();
            assert_eq!(refusal(error.as_ref()), Some(&Refused(there.into())));
        }
    }

    #[test]
    fn a_refusal_is_found_under_its_wrappings() {
        let refused = Refused("x".into());
        let wrapped = std::io::Error::other(std::io::Error::other(refused.clone()));
        assert_eq!(refusal(&wrapped), Some(&refused));
        assert_eq!(refusal(&std::io::Error::other("x")), None);
    }
}
