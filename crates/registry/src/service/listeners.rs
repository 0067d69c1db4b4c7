//! Who follows the events at the moment, so that nobody takes all the places: a limit for each token, and one for all.
//!
//! In flow tokens, out flow places, each free again when it is dropped. Memory: an entry for each token that has a place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exedra_proto::ids::TokenId;

/// Streams of events at a time; one more is turned away (503).
pub const LISTENERS: usize = 64;
/// Streams of events of one token at a time; one more is turned away (429).
pub const LISTENERS_EACH: usize = 8;

/// The places.
#[derive(Clone, Debug, Default)]
pub struct Listeners(Arc<Mutex<HashMap<TokenId, usize>>>);

/// A place.
#[derive(Debug)]
pub struct Listener {
    listeners: Listeners,
    token: TokenId,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// The token has as many as it may.
    Own,
    /// There are as many as there may be.
    All,
}

impl Listeners {
    /// A place for the bearer of `token`.
    ///
    /// # Errors
    /// There is none.
    pub fn place(&self, token: &TokenId) -> Result<Listener, Crowded> {
        let mut taken = self.lock();
        let own = taken.get(token).copied().unwrap_or_default();
        if own >= LISTENERS_EACH {
            return Err(Crowded::Own);
        }
        if taken.values().sum::<usize>() >= LISTENERS {
            return Err(Crowded::All);
        }
        taken.insert(token.clone(), own + 1);
        drop(taken);
        Ok(Listener { listeners: self.clone(), token: token.clone() })
    }

    /// How many places are taken.
    pub fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut taken = self.listeners.lock();
        if let Some(own) = taken.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_part_and_all_have_theirs() {
        let listeners = Listeners::default();
        let place = |token: usize| listeners.place(&TokenId::new(format!("tok-{token}")));
        let mut own: Vec<_> = (0..LISTENERS_EACH).map(|_| place(0).unwrap()).collect();
        assert_eq!(place(0).unwrap_err(), Crowded::Own);
        let others: Vec<_> = (LISTENERS_EACH..LISTENERS).map(|number| place(number).unwrap()).collect();
        assert_eq!((place(1).unwrap_err(), place(0).unwrap_err()), (Crowded::All, Crowded::Own));
        own.pop();
        assert_eq!(listeners.count(), LISTENERS - 1);
        own.push(place(0).unwrap());
        drop((own, others));
        assert!(listeners.lock().is_empty(), "nothing is kept of who is gone");
    }
}
