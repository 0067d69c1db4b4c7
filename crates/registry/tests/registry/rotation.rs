//! Keys that an issuer published after they were fetched: whoever shows one waits for the next fetch, or is told when to come
//! again, however many show keys that nobody published.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use exedra_proto::ids::RegistrationId;
use futures_util::{StreamExt as _, stream};
use reqwest::Response;
use serde_json::{Value, json};

use crate::issuer::SigningKey;
use crate::support::{ADDRESS, START, refusal, register_body, until};
use crate::workloads::{PAUSE, Stage, comes};

/// A server that waits for as long as the test, whose issuer was just asked for its keys.
async fn stage() -> Stage {
    let stage = Stage::with(Duration::from_secs(60)).await;
    assert_eq!(stage.register("ci-77", &stage.token(json!({}))).await.status(), 200);
    assert_eq!(stage.issuer.asked(), 1);
    stage
}

/// What comes of it while somebody else waits, who is not answered.
async fn meanwhile<T>(waiting: &mut Pin<Box<impl Future<Output = Response>>>, other: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        response = waiting => panic!("{:?}", response.status()),
        done = other => done,
    }
}

#[tokio::test]
async fn a_key_that_is_published_after_a_fetch_is_taken_by_the_next_and_a_registration_waits_for_it() {
    let stage = stage().await;
    let next = SigningKey::ec("k2");
    stage.issuer.publish(&[&stage.key, &next]);
    let token = next.sign(&stage.claims(json!({})));
    let agent = next.sign(&stage.claims(json!({"sub": "system:serviceaccount:ml:agent"})));
    let mut registering = Box::pin(stage.register("ci-77", &token));
    for rest in ["8", "5", "2"] {
        let response = meanwhile(&mut registering, stage.connect(&agent)).await;
        assert_eq!(response.headers()["retry-after"], rest);
        refusal(response, 503, "unavailable").await;
        assert_eq!(stage.issuer.asked(), 1);
        stage.site.clock.advance(3);
    }
    let response = registering.await;
    assert_eq!((response.status().as_u16(), stage.issuer.asked()), (200, 2));
    let reply: Value = response.json().await.unwrap();
    stage.site.presence().online(&RegistrationId::new(reply["id"].as_str().unwrap()), 1);
    assert_eq!(stage.connect(&agent).await.status(), 200);
}

#[tokio::test]
async fn a_client_that_comes_again_when_it_was_told_to_has_its_key_looked_for() {
    let stage = stage().await;
    let (next, stranger) = (SigningKey::ec("k2"), SigningKey::ec("k3"));
    let claims = stage.claims(json!({"sub": "system:serviceaccount:ml:agent"}));
    refusal(stage.connect(&next.sign(&claims)).await, 503, "unavailable").await;
    stage.issuer.publish(&[&next]);
    stage.site.clock.advance(PAUSE);
    refusal(stage.connect(&next.sign(&claims)).await, 409, "environment_offline").await;
    refusal(stage.connect(&stranger.sign(&claims)).await, 503, "unavailable").await;
    stage.site.clock.advance(PAUSE);
    let said = refusal(stage.connect(&stranger.sign(&claims)).await, 401, "unauthenticated").await;
    assert!(said.message.unwrap().contains("does not publish"));
    assert_eq!(stage.issuer.asked(), 3);
}

#[tokio::test]
async fn a_registration_whose_key_is_missing_still_is_refused_by_the_next_fetch() {
    let stage = stage().await;
    let token = SigningKey::ec("k2").sign(&stage.claims(json!({})));
    let mut registering = Box::pin(stage.register("ci-77", &token));
    meanwhile(&mut registering, stage.connect(&stage.pod())).await;
    stage.site.clock.advance(PAUSE);
    let said = refusal(registering.await, 401, "unauthenticated").await;
    assert!(said.message.unwrap().contains("does not publish"));
    assert_eq!(stage.issuer.asked(), 2);
}

#[tokio::test]
async fn a_registration_is_told_to_come_again_before_its_executor_gives_up() {
    let stage = Stage::new().await;
    assert_eq!(stage.register("ci-77", &stage.token(json!({}))).await.status(), 200);
    let token = SigningKey::ec("k2").sign(&stage.claims(json!({})));
    let response = stage.register("ci-77", &token).await;
    assert_eq!(response.headers()["retry-after"], "8");
    refusal(response, 503, "unavailable").await;
}

#[tokio::test]
async fn a_fetch_that_had_begun_before_does_not_speak_against_a_key() {
    let stage = stage().await;
    let (next, stranger) = (SigningKey::ec("k2"), SigningKey::ec("k3"));
    stage.issuer.set_hanging(true);
    stage.site.clock.advance(PAUSE);
    let (early, late) = (stranger.sign(&stage.claims(json!({}))), next.sign(&stage.claims(json!({}))));
    let mut earlier = Box::pin(stage.register("ci-77", &early));
    meanwhile(&mut earlier, until(|| stage.issuer.asked() == 2)).await;
    let mut later = Box::pin(stage.register("ci-77", &late));
    meanwhile(&mut later, stage.register("ci-77", &stage.token(json!({})))).await;
    stage.issuer.set_hanging(false);
    refusal(meanwhile(&mut later, earlier).await, 401, "unauthenticated").await;
    stage.issuer.publish(&[&next]);
    stage.site.clock.advance(PAUSE);
    assert_eq!((later.await.status().as_u16(), stage.issuer.asked()), (200, 3));
}

#[tokio::test]
async fn what_no_key_could_make_good_waits_for_none() {
    let stage = Stage::with(Duration::from_secs(60)).await;
    let stranger = SigningKey::ec("x");
    for (change, said) in [
        (json!({"iat": START - 600, "exp": START - 60}), "expired"),
        (json!({"exp": null}), "`exp`"),
        (json!({"nbf": START + 61}), "not good yet"),
        (json!({"aud": "https://github.com/acme"}), "audience"),
        (json!({"sub": null}), "`sub`"),
        (json!({"iss": "https://issuer.example"}), "issuer"),
    ] {
        let message = stage.refused(&stranger.sign(&stage.claims(change))).await;
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(stage.issuer.asked(), 0);
}

#[tokio::test]
async fn who_waits_for_an_issuer_that_is_taken_out_is_told_at_once() {
    let stage = stage().await;
    let token = SigningKey::ec("k2").sign(&stage.claims(json!({})));
    let mut registering = Box::pin(stage.register("ci-77", &token));
    meanwhile(&mut registering, stage.connect(&stage.pod())).await;
    std::fs::write(&stage.file, "").unwrap();
    stage.site.registry.reload_workloads().await;
    let said = refusal(registering.await, 401, "unauthenticated").await;
    assert!(said.message.unwrap().contains("issuer is not one"));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_one_fetch_in_a_while_and_keeps_out_nobody_from_elsewhere() {
    /// As many as wait, and as many requests as are under way at a time, so that some find no place.
    const PLACES: usize = 256;
    const AT_ONCE: usize = 300;
    const ALL: usize = 1_000;
    let stage = stage().await;
    let mut stranger = SigningKey::ec("x");
    let tokens: Vec<_> = (0..ALL)
        .map(|number| {
            stranger.id = format!("x{number}");
            stranger.sign(&stage.claims(json!({})))
        })
        .collect();
    let register = async |token: &str, address: &str| {
        let request = stage.site.http.post(format!("{}/cloud/executor/ci-77/register", stage.site.base));
        let request = request.bearer_auth(token).header(ADDRESS, address).body(register_body("ci-77", "instance"));
        request.send().await.unwrap().status().as_u16()
    };
    let next = SigningKey::ec("k2");
    stage.issuer.publish(&[&stage.key, &next]);
    let (new, known) = (next.sign(&stage.claims(json!({}))), stage.token(json!({})));
    let sent_away = AtomicUsize::new(0);
    let flood = stream::iter(&tokens).map(async |token| {
        let status = register(token, "192.0.2.1").await;
        sent_away.fetch_add(usize::from(status == 503), Ordering::SeqCst);
        status
    });
    let good = async {
        comes(async || sent_away.load(Ordering::SeqCst) == ALL - PLACES).await;
        assert_eq!(register(&known, "192.0.2.1").await, 200, "what is known waits for nothing");
        let (status, ()) = tokio::join!(register(&new, "192.0.2.2"), async {
            until(|| sent_away.load(Ordering::SeqCst) == ALL - PLACES + 1).await;
            assert_eq!(stage.issuer.asked(), 1);
            stage.site.clock.advance(PAUSE);
        });
        status
    };
    let (statuses, good) = tokio::join!(flood.buffer_unordered(AT_ONCE).collect::<Vec<_>>(), good);
    assert_eq!((good, stage.issuer.asked()), (200, 2), "once for all of them");
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    // As many as are charged to an address at once.
    assert_eq!((count(401), count(429), count(503)), (100, PLACES - 1 - 100, ALL - PLACES + 1));
}
