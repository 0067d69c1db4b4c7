//! What the router remembers against tickets that are still signed well: cut registrations and tokens, tokens that got another
//! secret or may no longer come to an executor, and the highest epoch seen of a registration.
//!
//! Times in (seconds since 1970), refusals out. An entry is kept as long as the longest ticket that it stands against
//! can live, and those past their time are swept out whenever the number has doubled.

use std::collections::BTreeMap;

use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::ticket::{EXECUTOR_TICKET_SECS, Rejection};
use serde::{Deserialize, Serialize};

/// How long an entry is kept: as long as the longest ticket lives, and a while for clocks that are set.
const KEPT_SECS: u64 = EXECUTOR_TICKET_SECS + 5 * 60;
/// No sweep below this number of entries.
const SWEEP_FROM: usize = 1_024;

/// The memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Fences {
    registrations: BTreeMap<RegistrationId, Fence>,
    /// Until when it is remembered that the token was cut: [`KEPT_SECS`] after that.
    tokens: BTreeMap<TokenId, u64>,
    /// Up to when tickets were issued of which this token has another secret now.
    #[serde(default)]
    renewed: BTreeMap<TokenId, u64>,
    /// Up to when tickets were issued with which clients come no more, by executor and token.
    #[serde(default)]
    barred: BTreeMap<RegistrationId, BTreeMap<TokenId, u64>>,
    #[serde(skip)]
    swept: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fence {
    /// The lowest epoch that may pass; `None` if none may.
    epoch: Option<u64>,
    until: u64,
}

impl Fences {
    /// Lets a ticket pass, and remembers its epoch against lower ones.
    ///
    /// # Errors
    /// [`Rejection::Fenced`].
    pub fn pass(
        &mut self,
        registration: &RegistrationId,
        (token, issued_at): (&TokenId, u64),
        epoch: u64,
        now: u64,
    ) -> Result<(), Rejection> {
        self.sweep(now);
        if self.tokens.get(token).is_some_and(|until| issued_at.saturating_add(KEPT_SECS) <= *until) {
            return Err(Rejection::Fenced);
        }
        // A time that is yet to come was told while the clock was ahead.
        let is_before = |until: &u64| issued_at <= *until && *until <= now;
        let barred = self.barred.get(registration).and_then(|tokens| tokens.get(token));
        if self.renewed.get(token).is_some_and(is_before) || barred.is_some_and(is_before) {
            return Err(Rejection::Fenced);
        }
        let until = now.saturating_add(KEPT_SECS);
        match self.registrations.get_mut(registration) {
            Some(fence) if fence.epoch.is_none_or(|lowest| epoch < lowest) => return Err(Rejection::Fenced),
            Some(fence) => *fence = Fence { epoch: Some(epoch), until },
            None => {
                self.registrations.insert(registration.clone(), Fence { epoch: Some(epoch), until });
            }
        }
        Ok(())
    }

    /// Whether a higher epoch has been seen since, or the registration was cut.
    pub fn is_below(&self, registration: &RegistrationId, epoch: u64) -> bool {
        self.registrations.get(registration).is_some_and(|fence| fence.epoch.is_none_or(|lowest| epoch < lowest))
    }

    /// No ticket of the registration passes any more.
    pub fn shut_registration(&mut self, registration: &RegistrationId, now: u64) {
        let until = now.saturating_add(KEPT_SECS);
        self.registrations.insert(registration.clone(), Fence { epoch: None, until });
        self.sweep(now);
    }

    /// No ticket of the token passes that was issued up to now. One that is issued later means that the token is good
    /// again: that of a workload gets a new end with each proof that is shown.
    pub fn shut_token(&mut self, token: &TokenId, now: u64) {
        self.tokens.insert(token.clone(), now.saturating_add(KEPT_SECS));
        self.sweep(now);
    }

    /// No ticket of the token passes that was issued up to `until`, once it is that time.
    pub fn renew_token(&mut self, token: &TokenId, until: u64, now: u64) {
        self.renewed.insert(token.clone(), until);
        self.sweep(now);
    }

    /// No ticket of the token for this registration passes that was issued up to now.
    pub fn bar(&mut self, registration: &RegistrationId, token: &TokenId, now: u64) {
        self.barred.entry(registration.clone()).or_default().insert(token.clone(), now);
        self.sweep(now);
    }

    fn len(&self) -> usize {
        let barred = self.barred.values().map(BTreeMap::len).sum::<usize>();
        self.registrations.len() + self.tokens.len() + self.renewed.len() + barred
    }

    fn sweep(&mut self, now: u64) {
        if self.len() < SWEEP_FROM.max(2 * self.swept) {
            return;
        }
        let is_kept = |since: &u64| since.saturating_add(KEPT_SECS) > now;
        self.registrations.retain(|_, fence| fence.until > now);
        self.tokens.retain(|_, until| *until > now);
        self.renewed.retain(|_, until| is_kept(until));
        self.barred.retain(|_, tokens| {
            tokens.retain(|_, at| is_kept(at));
            !tokens.is_empty()
        });
        self.swept = self.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_its_time_is_swept_out_and_nothing_else() {
        let mut fences = Fences::default();
        let token = TokenId::new("t");
        let id = |i: u64| RegistrationId::new(format!("r{i}"));
        for i in 0..10_000 {
            fences.pass(&id(i), (&token, i * 100), 5, i * 100).unwrap();
            fences.shut_token(&TokenId::new(format!("t{i}")), i * 100);
        }
        let alive = usize::try_from(KEPT_SECS / 100).unwrap();
        assert!(fences.registrations.len() <= 2 * alive + SWEEP_FROM, "{}", fences.registrations.len());
        for i in 10_000 - alive as u64 + 1..10_000 {
            assert_eq!(fences.pass(&id(i), (&token, 999_900), 4, 999_900), Err(Rejection::Fenced));
            let cut = TokenId::new(format!("t{i}"));
            assert_eq!(fences.pass(&id(0), (&cut, i * 100), 9, 999_900), Err(Rejection::Fenced));
        }
    }

    #[test]
    fn a_token_that_is_good_again_passes_with_tickets_issued_since_and_with_no_other() {
        let mut fences = Fences::default();
        let (token, other) = (TokenId::new("t"), TokenId::new("o"));
        let id = RegistrationId::new("r");
        fences.shut_token(&token, 100);
        for issued_at in [0, 99, 100] {
            assert_eq!(fences.pass(&id, (&token, issued_at), 1, 150), Err(Rejection::Fenced), "{issued_at}");
        }
        fences.pass(&id, (&token, 101), 1, 150).unwrap();
        fences.pass(&id, (&other, 0), 1, 150).unwrap();
        fences.shut_token(&token, 200);
        assert_eq!(fences.pass(&id, (&token, 101), 1, 250), Err(Rejection::Fenced), "cut once more");
    }

    #[test]
    fn tickets_from_before_another_secret_or_a_bar_pass_no_more_and_later_ones_do() {
        let mut fences = Fences::default();
        let (token, other) = (TokenId::new("t"), TokenId::new("o"));
        let (id, elsewhere) = (RegistrationId::new("r"), RegistrationId::new("s"));
        fences.renew_token(&token, 100, 101);
        fences.bar(&id, &other, 101);
        let text = serde_json::to_string(&fences).unwrap();
        for fences in [&mut fences, &mut serde_json::from_str(&text).unwrap()] {
            assert_eq!(fences.pass(&id, (&token, 100), 1, 101), Err(Rejection::Fenced));
            assert_eq!(fences.pass(&id, (&other, 101), 1, 101), Err(Rejection::Fenced));
            fences.pass(&id, (&token, 101), 1, 101).unwrap();
            fences.pass(&id, (&other, 102), 1, 102).unwrap();
            fences.pass(&elsewhere, (&other, 101), 1, 101).unwrap();
            fences.pass(&id, (&token, 90), 1, 95).unwrap();
        }
        for i in 0..10_000 {
            fences.renew_token(&TokenId::new(format!("t{i}")), i * 100, i * 100);
            fences.bar(&RegistrationId::new(format!("r{}", i % 7)), &TokenId::new(format!("t{i}")), i * 100);
        }
        assert!(fences.len() <= 4 * usize::try_from(KEPT_SECS / 100).unwrap() + SWEEP_FROM, "{}", fences.len());
    }
}
