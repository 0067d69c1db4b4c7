//! Who follows the events at the moment, so that nobody takes all the places: a limit for each token, and one for all, which
//! keeps some for administrators.
//!
//! In flow tokens, out flow places, each free again when it is dropped. Memory: an entry for each token that has a place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exedra_proto::ids::TokenId;

/// Streams of events at a time; one more is turned away (503).
pub const LISTENERS: usize = 64;
/// Of these, those that administrators alone get; who else comes when there are no others is turned away (503).
pub const LISTENERS_OF_ADMINS: usize = 16;
/// Streams of events of one token at a time; one more is turned away (429).
pub const LISTENERS_EACH: usize = 8;

/// The places.
#[derive(Clone, Debug, Default)]
pub struct Listeners(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    each: HashMap<TokenId, usize>,
    /// By those who are no administrators.
    by_others: usize,
}

impl Taken {
    fn count(&self) -> usize {
        self.each.values().sum()
    }
}

/// A place.
#[derive(Debug)]
pub struct Listener {
    listeners: Listeners,
    token: TokenId,
    is_admin: bool,
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
    /// A place for the bearer of `token`, who may be an administrator.
    ///
    /// # Errors
    /// There is none.
    pub fn place(&self, token: &TokenId, is_admin: bool) -> Result<Listener, Crowded> {
        let mut taken = self.lock();
        let own = taken.each.get(token).copied().unwrap_or_default();
        if own >= LISTENERS_EACH {
            return Err(Crowded::Own);
        }
        let is_kept = !is_admin && taken.by_others >= LISTENERS - LISTENERS_OF_ADMINS;
        if is_kept || taken.count() >= LISTENERS {
            return Err(Crowded::All);
        }
        taken.each.insert(token.clone(), own + 1);
        taken.by_others += usize::from(!is_admin);
        drop(taken);
        Ok(Listener { listeners: self.clone(), token: token.clone(), is_admin })
    }

    /// How many places are taken.
    pub fn count(&self) -> usize {
        self.lock().count()
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut taken = self.listeners.lock();
        taken.by_others -= usize::from(!self.is_admin);
        if let Some(own) = taken.each.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                taken.each.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: usize = LISTENERS - LISTENERS_OF_ADMINS;

    #[test]
    fn a_token_has_its_part_and_all_have_theirs() {
        let listeners = Listeners::default();
        let place = |token: usize| listeners.place(&TokenId::new(format!("tok-{token}")), false);
        let mut own: Vec<_> = (0..LISTENERS_EACH).map(|_| place(0).unwrap()).collect();
        assert_eq!(place(0).unwrap_err(), Crowded::Own);
        let others: Vec<_> = (LISTENERS_EACH..OTHERS).map(|number| place(number).unwrap()).collect();
        assert_eq!((place(1).unwrap_err(), place(0).unwrap_err()), (Crowded::All, Crowded::Own));
        own.pop();
        assert_eq!(listeners.count(), OTHERS - 1);
        own.push(place(0).unwrap());
        drop((own, others));
        assert!(listeners.lock().each.is_empty(), "nothing is kept of who is gone");
        assert_eq!(listeners.lock().by_others, 0);
    }

    #[test]
    fn an_administrator_has_a_place_whoever_else_took_theirs() {
        let listeners = Listeners::default();
        let place =
            |kind: &str, token: usize| listeners.place(&TokenId::new(format!("{kind}-{token}")), kind == "admin");
        let clients: Vec<_> = (0..OTHERS).map(|number| place("client", number).unwrap()).collect();
        assert_eq!(place("client", OTHERS).unwrap_err(), Crowded::All);
        let admins: Vec<_> = (0..LISTENERS_OF_ADMINS).map(|number| place("admin", number).unwrap()).collect();
        assert_eq!(place("admin", LISTENERS).unwrap_err(), Crowded::All);
        drop(clients);
        // Administrators may have more than those.
        let more: Vec<_> = (LISTENERS_OF_ADMINS..LISTENERS).map(|number| place("admin", number).unwrap()).collect();
        assert_eq!(place("client", 0).unwrap_err(), Crowded::All, "{} are taken", admins.len() + more.len());
    }
}
