//! Tokens that ended while something was open, and whoever is told to cut it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::{Cutoff, Presence};
use exedra_registry::token::Role;
use exedra_registry::{CreatedToken, NewToken};

use crate::support::{START, Site, StandingClock, config, refusal, register_body, site, until};

/// A rendezvous that notes what it is told, and reports as offline what was opened with the token.
#[derive(Default)]
struct Rendezvous {
    told: Mutex<Vec<String>>,
    /// Of these those against whose tickets nothing is to be kept.
    expired: Mutex<Vec<String>>,
    open: Mutex<Option<Open>>,
}

struct Open {
    token: TokenId,
    registration: RegistrationId,
    presence: Arc<dyn Presence>,
}

impl Rendezvous {
    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl Cutoff for Rendezvous {
    fn registration(&self, registration: &RegistrationId, _: CloseReason) {
        panic!("{registration} is cut");
    }

    fn expired(&self, token: &TokenId, reason: CloseReason) {
        self.expired.lock().unwrap().push(token.as_str().to_owned());
        self.token(token, reason);
    }

    fn renewed(&self, token: &TokenId, until: u64, reason: CloseReason) {
        assert_eq!(reason, CloseReason::KeyRevoked);
        self.told.lock().unwrap().push(format!("{token} until {}", until - START));
    }

    fn key(&self, key_id: &str, reason: CloseReason) {
        assert_eq!(reason, CloseReason::KeyRevoked);
        self.told.lock().unwrap().push(key_id.to_owned());
    }

    fn token(&self, token: &TokenId, reason: CloseReason) {
        assert_eq!(reason, CloseReason::Revoked);
        self.told.lock().unwrap().push(token.as_str().to_owned());
        if let Some(open) = self.open.lock().unwrap().take_if(|open| open.token == *token) {
            open.presence.offline(&open.registration, 0);
        }
    }
}

fn rendezvous(site: &Site) -> Arc<Rendezvous> {
    let rendezvous = Arc::new(Rendezvous::default());
    site.registry.set_cutoff(Arc::clone(&rendezvous) as _);
    rendezvous
}

async fn create(site: &Site, lifetime: Option<u64>) -> CreatedToken {
    let new = NewToken { lifetime: lifetime.map(Duration::from_secs), ..NewToken::of(Role::Executor) };
    site.registry.tokens().create(new).await.unwrap()
}

async fn revoke(site: &Site, token: &CreatedToken) {
    site.registry.tokens().revoke(token.record.id.as_str()).await.unwrap();
}

fn ids(tokens: &[&CreatedToken]) -> Vec<String> {
    tokens.iter().map(|token| token.record.id.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_token_that_ends_is_cut_once() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    let (expires, revoked, last) =
        (create(&site, Some(60)).await, create(&site, None).await, create(&site, None).await);
    let rendezvous = rendezvous(&site);
    site.clock.advance(60);
    until(|| rendezvous.told() == ids(&[&expires])).await;
    revoke(&site, &revoked).await;
    until(|| rendezvous.told().len() == 2).await;
    // Over the time in which the first was looked for.
    site.clock.advance(100_000);
    revoke(&site, &last).await;
    until(|| rendezvous.told().len() >= 3).await;
    assert_eq!(rendezvous.told(), ids(&[&expires, &revoked, &last]));
    assert_eq!(*rendezvous.expired.lock().unwrap(), ids(&[&expires]));
}

#[tokio::test]
async fn what_the_clock_alone_has_ended_is_good_again_when_it_is_set_right() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    let token = create(&site, Some(3_600)).await;
    let rendezvous = rendezvous(&site);
    let register = async || {
        let body = register_body("box", "i");
        site.post("/cloud/executor/box/register", token.secret.expose(), body).await
    };
    assert_eq!(register().await.status(), 200);
    site.clock.advance(86_400);
    until(|| rendezvous.told() == ids(&[&token])).await;
    assert_eq!(*rendezvous.expired.lock().unwrap(), ids(&[&token]), "no ticket of it is refused for that");
    refusal(register().await, 401, "unauthenticated").await;
    site.clock.set_back(86_400);
    assert_eq!(register().await.status(), 200);
    // One more, by which it is seen that somebody looked since.
    let other = create(&site, None).await;
    revoke(&site, &other).await;
    until(|| rendezvous.told() == ids(&[&token, &other])).await;
    site.clock.advance(3_600);
    until(|| rendezvous.told() == ids(&[&token, &other, &token])).await;
}

#[tokio::test]
async fn what_was_opened_with_a_secret_is_cut_when_that_ends() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    let (now, later) = (create(&site, None).await, create(&site, None).await);
    let (now, later) = (now.record.id.as_str(), later.record.id.as_str());
    let rendezvous = rendezvous(&site);
    site.registry.tokens().rotate(later, Duration::from_secs(60)).await.unwrap();
    site.clock.advance(1);
    site.registry.tokens().rotate(now, Duration::ZERO).await.unwrap();
    until(|| rendezvous.told() == [format!("{now} until 1")]).await;
    site.clock.advance(59);
    until(|| rendezvous.told().len() > 1).await;
    assert_eq!(rendezvous.told(), [format!("{now} until 1"), format!("{later} until 60")]);
    site.registry.tokens().rotate(now, Duration::ZERO).await.unwrap();
    until(|| rendezvous.told().last() == Some(&format!("{now} until 60"))).await;
}

#[tokio::test]
async fn an_end_over_which_the_clock_leapt_is_seen() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    let (first, second) = (create(&site, Some(1)).await, create(&site, Some(60)).await);
    let rendezvous = rendezvous(&site);
    site.clock.advance(1);
    until(|| rendezvous.told() == ids(&[&first])).await;
    site.clock.advance(30 * 86_400);
    until(|| rendezvous.told() == ids(&[&first, &second])).await;
}

#[tokio::test]
async fn a_new_rendezvous_is_told_of_all_whose_tickets_may_live() {
    let (site, dir) = site().await;
    let (old, recent) = (create(&site, None).await, create(&site, None).await);
    revoke(&site, &old).await;
    site.clock.advance(3_600);
    revoke(&site, &recent).await;
    site.stop().await;
    // It looks once at the start, when there is nobody to tell, and then only when there is.
    let site = Site::start_after(config(dir.path(), &StandingClock::new()), 86_401).await.unwrap();
    for _ in 0..2 {
        let rendezvous = rendezvous(&site);
        until(|| !rendezvous.told().is_empty()).await;
        // A look that is under way while it arrives may tell it before the look that it causes.
        let mut told = rendezvous.told();
        told.dedup();
        assert_eq!(told, ids(&[&recent]));
    }
}

#[tokio::test]
async fn an_executor_whose_token_was_revoked_is_granted_to_nobody() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_secs(3_600)).await;
    let rendezvous = rendezvous(&site);
    let token = create(&site, None).await;
    let path = "/cloud/executor/box/register";
    let response = site.post(path, token.secret.expose(), register_body("box", "i")).await;
    let reply: exedra_proto::registry::RegisterReply = response.json().await.unwrap();
    let registration = RegistrationId::new(reply.id);
    let open = Open { token: token.record.id.clone(), registration: registration.clone(), presence: site.presence() };
    *rendezvous.open.lock().unwrap() = Some(open);
    site.presence().online(&registration, 1);
    site.connect("box", 0).await;
    site.served(&registration);
    revoke(&site, &token).await;
    refusal(site.connect_raw("box", 0).await, 409, "environment_offline").await;
    assert_eq!(rendezvous.told(), ids(&[&token]));
    refusal(site.connect_raw("box", 0).await, 409, "environment_offline").await;
}
