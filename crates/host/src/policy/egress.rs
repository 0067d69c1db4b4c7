//! Where `http/request` may go: hosts and ports that the owner lists, never the addresses at which clouds hand their
//! credentials to whoever asks, and the machine itself only where it is listed as such.
//!
//! In flow hosts of URLs and answers of resolvers, out flows a refusal that names the rule. Pure: resolves nothing. Without
//! a list everything but those metadata services is reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Metadata and credentials of instances, containers and pods: most clouds, AWS containers and pods, Alibaba, Azure's own
/// address, Oracle, Tencent.
const V4: [Ipv4Addr; 7] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(169, 254, 0, 23),
];
/// The same: AWS instances and pods, Google, Oracle.
const V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];
/// The names that mean such an address wherever they resolve, by a proxy too: Google's, and those that AWS and cloud-init
/// know.
const METADATA: [&str; 4] = ["metadata.google.internal", "metadata", "instance-data", "instance-data.ec2.internal"];
/// The name that means this machine.
const LOCALHOST: &str = "localhost";

/// Where requests may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    rules: Option<Vec<Rule>>,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    text: String,
    place: Place,
    /// None given: all.
    ports: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Any host but this machine.
    Any,
    /// A name.
    Name(String),
    /// All names below one.
    Below(String),
    /// Addresses that share their first bits.
    Net(IpAddr, u8),
}

/// Why a request may not go somewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A metadata service, whatever the list says.
    #[error("{0} is a metadata service of the cloud, which http/request does not reach")]
    Metadata(String),
    /// The list does not have it, or not so.
    #[error("policy: egress: {0}")]
    Rule(String),
}

impl Egress {
    /// Everywhere but metadata services.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// Only where one of `list` says so: `HOST` or `HOST:PORT,PORT…`, where a host is a name, `*.NAME`, an address,
    /// `ADDRESS/BITS` or `*`; an IPv6 address with ports stands in brackets.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn only<T: AsRef<str>>(list: &[T]) -> Result<Self, String> {
        let rules: Vec<Rule> = list.iter().map(|text| Rule::parse(text.as_ref())).collect::<Result<_, _>>()?;
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.place == rule.place) {
                return Err(format!("`{}` names a host for the second time; put its ports together", rule.text));
            }
        }
        Ok(Self { rules: Some(rules) })
    }

    /// Whether there is a list.
    pub fn is_limited(&self) -> bool {
        self.rules.is_some()
    }

    /// Refuses a URL whose host may not be asked at its port, whatever it resolves to.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let shown = || url.host_str().unwrap_or_default().to_owned();
        let metadata = match url.host() {
            Some(Host::Ipv4(address)) => is_metadata(address.into()),
            Some(Host::Ipv6(address)) => is_metadata(address.into()),
            Some(Host::Domain(name)) => METADATA.contains(&&*plain(name)),
            None => false,
        };
        if metadata {
            return Err(Refused::Metadata(shown()));
        }
        let Some(rules) = &self.rules else { return Ok(()) };
        let rule = match url.host() {
            Some(Host::Ipv4(address)) => of_address(rules, address.into()),
            Some(Host::Ipv6(address)) => of_address(rules, address.into()),
            Some(Host::Domain(name)) => of_name(rules, &plain(name)),
            None => None,
        };
        let port = url.port_or_known_default().unwrap_or(0);
        match rule {
            None => Err(Refused::Rule(format!("no rule of `allow` has {}", shown()))),
            Some(rule) if rule.ports.is_empty() || rule.ports.contains(&port) => Ok(()),
            Some(rule) => Err(Refused::Rule(format!("the rule `{}` does not have port {port}", rule.text))),
        }
    }

    /// Refuses a name because of what it resolves to: whatever else a name is listed for, it leads to this machine only if
    /// it is `localhost`.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_answer(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), Refused> {
        let local_too = self.rules.is_none() || is_localhost(&plain(name));
        for address in addresses {
            if is_metadata(address) {
                return Err(Refused::Metadata(name.to_owned()));
            }
            if !local_too && is_local(address) {
                let text = format!("{name} resolves to {address}, which is this machine or its neighbourhood");
                return Err(Refused::Rule(text));
            }
        }
        Ok(())
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("`{text}` is no host with ports: {why}");
        let (host, ports) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| bad("a bracket is not closed"))?;
                let ports = after.strip_prefix(':').or(after.is_empty().then_some(""));
                (host, ports.ok_or_else(|| bad("something follows the bracket"))?)
            }
            None if text.matches(':').count() > 1 => (text, ""),
            None => match text.split_once(':') {
                Some((_, "")) => return Err(bad("a port is missing")),
                Some(parts) => parts,
                None => (text, ""),
            },
        };
        let port = |port: &str| port.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let ports = match ports {
            "" => Vec::new(),
            ports => ports.split(',').map(port).collect::<Option<_>>().ok_or_else(|| bad("a port is no number"))?,
        };
        let place = Place::parse(host).ok_or_else(|| bad("the host is not understood"))?;
        Ok(Self { text: text.to_owned(), place, ports })
    }
}

impl Place {
    fn parse(host: &str) -> Option<Self> {
        if host == "*" {
            return Some(Self::Any);
        }
        if let Some(name) = host.strip_prefix("*.") {
            return name_of(name).map(Self::Below);
        }
        if let Some((address, bits)) = host.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
            return Some(Self::Net(address, bits));
        }
        match host.parse::<IpAddr>() {
            Ok(address) => Some(Self::Net(address, width(address))),
            Err(_) => name_of(host).map(Self::Name),
        }
    }
}

/// A name as URLs have it; none if it is none, or another spelling of an address.
fn name_of(text: &str) -> Option<String> {
    match Host::parse(text).ok()? {
        Host::Domain(name) if !name.contains('*') && !plain(&name).is_empty() => Some(plain(&name)),
        _ => None,
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The most specific rule for a name decides.
fn of_name<'a>(rules: &'a [Rule], name: &str) -> Option<&'a Rule> {
    let weight = |rule: &&Rule| match &rule.place {
        Place::Name(own) if own == name => Some(usize::MAX),
        Place::Below(above) if name.strip_suffix(above.as_str()).is_some_and(|rest| rest.ends_with('.')) => {
            Some(above.len())
        }
        Place::Any if !is_localhost(name) => Some(0),
        _ => None,
    };
    rules.iter().filter(|rule| weight(rule).is_some()).max_by_key(weight)
}

/// The most specific rule for an address decides. `*` does not mean this machine.
fn of_address(rules: &[Rule], address: IpAddr) -> Option<&Rule> {
    let address = embedded(address);
    let weight = |rule: &&Rule| match rule.place {
        Place::Net(net, bits) if shares(net, address, bits) => Some(u16::from(bits) + 1),
        Place::Any if !is_local(address) => Some(0),
        _ => None,
    };
    rules.iter().filter(|rule| weight(rule).is_some()).max_by_key(weight)
}

fn shares(net: IpAddr, address: IpAddr, bits: u8) -> bool {
    let differing = match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => (net.to_bits() ^ address.to_bits()).leading_zeros(),
        (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits() ^ address.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(bits)
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_localhost(name: &str) -> bool {
    name == LOCALHOST || name.ends_with(".localhost")
}

/// This machine, whatever interface it is, or its link.
fn is_local(address: IpAddr) -> bool {
    match embedded(address) {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_unspecified() || v4.octets()[0] == 0 || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local(),
    }
}

fn is_metadata(address: IpAddr) -> bool {
    match embedded(address) {
        IpAddr::V4(address) => V4.contains(&address),
        IpAddr::V6(address) => V6.contains(&address),
    }
}

/// The address that is meant: the IPv4 one that an IPv6 one leads to (mapped, compatible, translated by `64:ff9b::/96` or the
/// networks' own `64:ff9b:1::/48` in its usual form, or tunnelled, `2002::/16`).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let translated = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || segments[..3] == [0x64, 0xff9b, 1];
    if segments[0] == 0x2002 {
        return Ipv4Addr::from_bits((v6.to_bits() >> 80) as u32).into();
    }
    let low = Ipv4Addr::from_bits(v6.to_bits() as u32);
    match v6.to_ipv4_mapped() {
        Some(v4) => v4.into(),
        None if translated => low.into(),
        // `::` and `::1` are of this form too, and mean what they say.
        None if v6.to_bits() >> 32 == 0 && v6.to_bits() > 0xffff => low.into(),
        None => address,
    }
}

#[cfg(test)]
mod tests;
