//! How often may be asked: by each token, and by each address without one that is good.
//!
//! In flow a token's id or an address, out flows nothing or how long to wait. Knows no HTTP. Memory is bounded: a token has a
//! bucket while it is in use, and strangers share a fixed number of buckets, which they cannot choose, since the hash that
//! picks one has a key of this process. Two strangers in one bucket are charged together; who has a good token is in none.

use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use exedra_proto::ids::TokenId;
use governor::clock::{self, Clock as _};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::clock::Clock;

/// Buckets for strangers: some 500 KiB when all are in use.
const STRANGERS: u64 = 16_384;
/// So many seconds' worth may come at once.
const BURST_SECS: u32 = 10;

/// What is allowed in a second on average; ten seconds' worth may come at once. None: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests with one token.
    pub per_token: Option<NonZeroU32>,
    /// Requests from one address without a good token; an IPv6 network of 64 bits counts as one address.
    pub per_address: Option<NonZeroU32>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { per_token: NonZeroU32::new(500), per_address: NonZeroU32::new(10) }
    }
}

/// Too often; after this time one more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl Wait {
    /// In whole seconds, at least one.
    pub fn secs(self) -> u64 {
        self.0.as_secs().saturating_add(u64::from(self.0.subsec_nanos() > 0)).max(1)
    }
}

/// Our clock as a limiter wants it.
#[derive(Clone)]
struct Steady(Arc<dyn Clock>);

impl clock::Clock for Steady {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.steady()
    }
}

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, Steady, NoOpMiddleware<Duration>>;

/// Counts.
pub struct Rates {
    clock: Steady,
    tokens: Option<Limiter<TokenId>>,
    strangers: Option<Limiter<u64>>,
    picker: RandomState,
}

impl Rates {
    /// Nobody has come yet.
    pub fn new(limits: RateLimits, clock: Arc<dyn Clock>) -> Self {
        let clock = Steady(clock);
        Self {
            tokens: limits.per_token.map(|each| RateLimiter::hashmap_with_clock(quota(each), clock.clone())),
            strangers: limits.per_address.map(|each| RateLimiter::hashmap_with_clock(quota(each), clock.clone())),
            picker: RandomState::new(),
            clock,
        }
    }

    /// Somebody comes with this token, which is good.
    ///
    /// # Errors
    /// It came too often.
    pub fn token(&self, token: &TokenId) -> Result<(), Wait> {
        self.charge(self.tokens.as_ref(), token)
    }

    /// Somebody came from this address, and had no token that is good.
    ///
    /// # Errors
    /// That was too often.
    pub fn stranger(&self, address: IpAddr) -> Result<(), Wait> {
        self.charge(self.strangers.as_ref(), &(self.picker.hash_one(network(address)) % STRANGERS))
    }

    /// Forgets who did not come for a while.
    pub fn forget_idle(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.retain_recent();
            tokens.shrink_to_fit();
        }
        if let Some(strangers) = &self.strangers {
            strangers.retain_recent();
        }
    }

    fn charge<K: Clone + Eq + Hash>(&self, limiter: Option<&Limiter<K>>, key: &K) -> Result<(), Wait> {
        let Some(limiter) = limiter else { return Ok(()) };
        limiter.check_key(key).map_err(|not_until| Wait(not_until.wait_time_from(self.clock.now())))
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

fn quota(each: NonZeroU32) -> Quota {
    Quota::per_second(each).allow_burst(NonZeroU32::new(BURST_SECS).map_or(each, |secs| each.saturating_mul(secs)))
}

/// What an address counts as: whoever has one of IPv6 has a network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Millis(AtomicU64);

    impl Clock for Millis {
        fn now(&self) -> u64 {
            self.0.load(Ordering::Relaxed) / 1_000
        }

        fn steady(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn rates(each: u32) -> (Rates, Arc<Millis>) {
        let clock = Arc::new(Millis::default());
        let limits = RateLimits { per_token: NonZeroU32::new(each), per_address: NonZeroU32::new(each) };
        (Rates::new(limits, Arc::clone(&clock) as _), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_then_one_after_the_other() {
        let (rates, clock) = rates(2);
        let (a, b) = (TokenId::new("a"), TokenId::new("b"));
        assert!((0..20).all(|_| rates.token(&a).is_ok()));
        assert_eq!(rates.token(&a), Err(Wait(Duration::from_millis(500))));
        assert!(rates.token(&b).is_ok(), "others are not concerned");
        clock.0.fetch_add(499, Ordering::Relaxed);
        assert_eq!(rates.token(&a), Err(Wait(Duration::from_millis(1))));
        clock.0.fetch_add(1, Ordering::Relaxed);
        assert!(rates.token(&a).is_ok() && rates.token(&a).is_err());
        clock.0.fetch_add(60_000, Ordering::Relaxed);
        assert!((0..20).all(|_| rates.token(&a).is_ok()) && rates.token(&a).is_err(), "no more is saved up");
    }

    #[test]
    fn an_address_is_a_network_of_ipv6_and_one_of_ipv4() {
        let (rates, _) = rates(1);
        assert!((0..10).all(|i| rates.stranger(ip(&format!("2001:db8::{i:x}"))).is_ok()));
        assert!(rates.stranger(ip("2001:db8::ffff:1")).is_err());
        assert!((0..10).all(|_| rates.stranger(ip("192.0.2.1")).is_ok()));
        assert!(rates.stranger(ip("::ffff:192.0.2.1")).is_err());
    }

    #[test]
    fn strangers_cannot_make_it_grow_and_idle_tokens_are_forgotten() {
        let (rates, clock) = rates(1);
        for i in 0..100_000_u32 {
            let _ = rates.stranger(IpAddr::from(i.to_be_bytes()));
            assert!(rates.token(&TokenId::new(i.to_string())).is_ok());
        }
        assert!(rates.strangers.as_ref().unwrap().len() as u64 <= STRANGERS);
        clock.0.fetch_add(60_000, Ordering::Relaxed);
        rates.forget_idle();
        assert!(rates.tokens.as_ref().unwrap().is_empty() && rates.strangers.as_ref().unwrap().is_empty());
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let limits = RateLimits { per_token: None, per_address: None };
        let rates = Rates::new(limits, Arc::new(Millis::default()));
        let token = TokenId::new("a");
        assert!((0..10_000).all(|_| rates.stranger(ip("192.0.2.1")).is_ok() && rates.token(&token).is_ok()));
    }

    #[test]
    fn a_wait_is_told_in_seconds_rounded_up() {
        for (millis, secs) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(Wait(Duration::from_millis(millis)).secs(), secs);
        }
    }
}
