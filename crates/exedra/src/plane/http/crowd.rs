//! How many connections each address has, so that none takes the places of all others.
//!
//! In flow addresses, out flow places, each free again when it is dropped. An IPv6 client counts by its /64, since it has
//! all of that to itself. Loopback counts too, but has no limit: whoever is on this machine has other ways. Memory: an
//! entry for each address that has a place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The places of all addresses.
#[derive(Clone, Debug)]
pub struct Crowd {
    each: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place of one address.
#[derive(Debug)]
pub struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// At most `each` places for one address.
    pub fn new(each: usize) -> Self {
        Self { each, taken: Arc::default() }
    }

    /// A place for `address`; none if it has as many as it may.
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        let address = key(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= self.each && !address.is_loopback() {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place { crowd: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.crowd.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let network = ip.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let crowd = Crowd::new(2);
        let place = |text: &str| crowd.place(text.parse().unwrap());
        let first = [place("192.0.2.1"), place("::ffff:192.0.2.1")];
        assert!(first.iter().all(Option::is_some));
        assert!(place("192.0.2.1").is_none());
        assert!(place("192.0.2.2").is_some(), "others are not concerned");
        let wide = [place("2001:db8::1"), place("2001:db8::2:1")];
        assert!(
            wide.iter().all(Option::is_some) && place("2001:db8::3").is_none() && place("2001:db8:0:1::3").is_some()
        );
        let own: Vec<_> = (0..5).map(|_| place("127.0.0.1")).collect();
        assert!(own.iter().all(Option::is_some));
        drop((first, wide, own));
        assert!(place("192.0.2.1").is_some());
        assert!(crowd.taken.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
}
