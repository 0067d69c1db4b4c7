//! How many connections each address has, so that none takes the places of all others.
//!
//! In flow addresses, out flow places, each free again when it is dropped. An IPv6 client counts by its /64, since it has
//! all of that to itself. Loopback counts too, but has no limit: whoever is on this machine has other ways. Memory: an
//! entry for each address that has a place. Some may wait for a place of their address; who comes first is not said.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// How many may wait for a place, of all addresses together. One more is refused at once.
const WAITERS: usize = 256;

/// The places of all addresses.
#[derive(Clone, Debug)]
pub struct Crowd {
    each: usize,
    loopback_is_free: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    taken: Mutex<HashMap<IpAddr, usize>>,
    freed: Notify,
    waiters: Semaphore,
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
        let shared = Shared { taken: Mutex::default(), freed: Notify::new(), waiters: Semaphore::const_new(WAITERS) };
        Self { each, loopback_is_free: true, shared: Arc::new(shared) }
    }

    /// The same with a limit for loopback, too.
    #[cfg(test)]
    pub fn strict(each: usize) -> Self {
        Self { loopback_is_free: false, ..Self::new(each) }
    }

    /// How many wait for a place.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        WAITERS - self.shared.waiters.available_permits()
    }

    /// A place for `address`; none if it has as many as it may.
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        let address = key(address);
        let mut taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&address).copied().unwrap_or_default();
        if count >= self.each && !(self.loopback_is_free && address.is_loopback()) {
            return None;
        }
        taken.insert(address, count + 1);
        drop(taken);
        Some(Place { crowd: self.clone(), address })
    }

    /// A place for `address`, as soon as it has one, within `patience`; none if too many wait already.
    pub async fn wait(&self, address: IpAddr, patience: Duration) -> Option<Place> {
        let _waits = self.shared.waiters.try_acquire().ok()?;
        let place = async {
            loop {
                let mut freed = pin!(self.shared.freed.notified());
                // Before the look, so that none that is freed between the two is missed.
                freed.as_mut().enable();
                if let Some(place) = self.place(address) {
                    return place;
                }
                freed.await;
            }
        };
        timeout(patience, place).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.crowd.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
        drop(taken);
        self.crowd.shared.freed.notify_waiters();
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
        assert!(crowd.shared.taken.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
    #[tokio::test]
    async fn whoever_waits_gets_the_next_place_of_its_own_address() {
        const PATIENCE: Duration = Duration::from_secs(600);
        let crowd = Crowd::new(1);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let (place, others) = (crowd.place(one), crowd.place(other));
        assert!(crowd.wait(one, Duration::ZERO).await.is_none(), "not for ever");
        let leave = async {
            drop(others);
            assert_eq!(crowd.waiting(), 1, "another's place is of no use");
            drop(place);
        };
        let (waited, ()) = tokio::join!(biased; crowd.wait(one, PATIENCE), leave);
        assert!(waited.is_some() && crowd.place(one).is_none());
        let _all = crowd.shared.waiters.try_acquire_many(WAITERS as u32).unwrap();
        assert!(crowd.wait(one, PATIENCE).await.is_none(), "one too many is refused at once");
    }
}
