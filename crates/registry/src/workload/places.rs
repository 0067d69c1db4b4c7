//! Places for those who wait for a key that is not known: anybody can show a token of a known issuer with such a key, so
//! that they are few, and that no network has them all while another one has fewer.
//!
//! Addresses flow in, places flow out, which are given back when they are dropped. What is waited for is not known here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::rates::network;

/// Requests that wait for a key that is not known, of all issuers together: a quarter of the connections that speak HTTP where
/// there are 4,096 descriptors. When all places are taken, the network that has most of them gives up its newest for one that
/// has fewer; who has none is told to come again.
pub const PLACES: usize = 256;

/// All places.
#[derive(Default)]
pub struct Places {
    taken: Mutex<Taken>,
}

/// By number, so that the newest is the last.
#[derive(Default)]
struct Taken {
    places: BTreeMap<u64, (Option<IpAddr>, oneshot::Sender<()>)>,
    next: u64,
}

/// A place, until it is dropped.
pub struct Place {
    number: u64,
    places: Arc<Places>,
    kept: oneshot::Receiver<()>,
}

impl Places {
    /// A place for a request from this address, if there is one or another network has to give one up. All whose address is
    /// not known count as one network.
    pub fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let (keep, kept) = oneshot::channel();
        let number = self.lock().take(address.map(network), keep)?;
        Some(Place { number, places: Arc::clone(self), kept })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn take(&mut self, network: Option<IpAddr>, keep: oneshot::Sender<()>) -> Option<u64> {
        if self.places.len() >= PLACES {
            let mut held: HashMap<_, (usize, u64)> = HashMap::new();
            for (number, (network, _)) in &self.places {
                let (count, newest) = held.entry(*network).or_default();
                (*count, *newest) = (*count + 1, *number);
            }
            let own = held.get(&network).map_or(0, |(count, _)| *count);
            let (most, newest) = held.into_values().max()?;
            // Else the two would only take it from each other.
            if own + 1 >= most {
                return None;
            }
            self.places.remove(&newest);
        }
        let number = self.next;
        self.next += 1;
        self.places.insert(number, (network, keep));
        Some(number)
    }
}

impl Place {
    /// Comes back when it was given to another.
    pub async fn lost(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.kept).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    fn is_lost(place: &mut Place) -> bool {
        place.kept.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn one_network_has_all_places_only_as_long_as_no_other_asks() {
        let places = Arc::new(Places::default());
        let mut flood: Vec<_> = (0..PLACES).map(|_| places.take(address(1)).unwrap()).collect();
        assert!(places.take(address(1)).is_none());
        let mut other = places.take(address(2)).unwrap();
        assert!(is_lost(&mut flood[PLACES - 1]) && !is_lost(&mut flood[PLACES - 2]), "the newest");
        assert!(places.take(address(1)).is_none() && !is_lost(&mut other), "nor do they get it back");
        let mut others: Vec<_> = (0..PLACES / 2 - 1).map(|_| places.take(address(2)).unwrap()).collect();
        assert!(places.take(address(2)).is_none(), "each has the half");
        assert!(!others.iter_mut().any(is_lost));
        assert_eq!(flood.iter_mut().filter_map(|place| is_lost(place).then_some(())).count(), PLACES / 2);
    }

    #[test]
    fn a_place_is_free_when_it_is_dropped_and_once() {
        let places = Arc::new(Places::default());
        let mut flood: Vec<_> = (0..PLACES).map(|_| places.take(None).unwrap()).collect();
        let other = places.take(address(1));
        // What was given up does not free another's place when it goes.
        drop(flood.pop());
        assert!(places.take(None).is_none());
        drop(other);
        let again = places.take(None);
        assert!(again.is_some() && places.take(None).is_none());
        drop((flood, again));
        assert!(places.lock().places.is_empty());
    }

    #[test]
    fn whoever_has_a_network_of_ipv6_has_one_share() {
        let places = Arc::new(Places::default());
        let of = |host: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]));
        let flood: Vec<_> = (0..PLACES).map(|host| places.take(of(u16::try_from(host).unwrap())).unwrap()).collect();
        assert!(places.take(of(999)).is_none() && places.take(address(1)).is_some());
        drop(flood);
    }
}
