//! How often may be asked: strangers by their address, tokens by themselves, executors with patience.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::middleware::map_request;
use axum::response::IntoResponse as _;
use axum::routing::get;
use exedra_proto::plane::Origin;
use exedra_proto::ticket::Rejection;
use exedra_registry::RateLimits;
use exedra_registry::token::Role;
use reqwest::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{ADDRESS, Site, refusal, register_body};

const REGISTER: &str = "/cloud/executor/box/register";
const CONNECT: &str = "/v1/executors/box/connect";

/// A site that allows so many requests in a second, and ten times as many at once.
async fn site(per_token: u32, per_address: u32) -> (Site, tempfile::TempDir) {
    let limits = RateLimits { per_token: NonZeroU32::new(per_token), per_address: NonZeroU32::new(per_address) };
    Site::with(|config| config.rates = limits).await
}

async fn from(site: &Site, address: &str, path: &str, token: Option<&str>, body: String) -> Response {
    let request = site.http.post(format!("{}{path}", site.base)).header(ADDRESS, address).body(body);
    token.into_iter().fold(request, |request, token| request.bearer_auth(token)).send().await.unwrap()
}

async fn too_often(response: Response) -> u64 {
    let wait = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    refusal(response, 429, "rate_limited").await;
    wait
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_slowed_down_and_locks_nobody_out() {
    let (site, _dir) = site(0, 1).await;
    let (executor, client) = (site.token(Role::Executor, "*").await, site.token(Role::Client, "*").await);
    let (here, elsewhere) = ("192.0.2.1", "192.0.2.2");
    let never_made = exedra_registry::token::generate(Role::Admin).unwrap();
    let bad = async |address, token| from(&site, address, CONNECT, token, "{}".to_owned()).await;
    for i in 0..10 {
        let token = [Some("nonsense"), Some(never_made.expose()), None][i % 3];
        refusal(bad(here, token).await, 401, "unauthenticated").await;
    }
    for token in [Some("nonsense"), Some(never_made.expose()), None] {
        assert_eq!(too_often(bad(here, token).await).await, 1);
    }
    too_often(from(&site, here, "/v1/nowhere", Some("nonsense"), String::new()).await).await;
    refusal(bad(elsewhere, Some("nonsense")).await, 401, "unauthenticated").await;
    // Who has a token that is good is not concerned, and costs the address nothing.
    for _ in 0..30 {
        let registered = from(&site, here, REGISTER, Some(&executor), register_body("box", "i")).await;
        assert_eq!(registered.status(), 200);
        assert_eq!(bad(here, Some(&client)).await.status(), 409, "offline, and not refused");
        refusal(bad(here, Some(&executor)).await, 403, "forbidden").await;
    }
    for path in ["/healthz", "/readyz"] {
        let answer = site.http.get(format!("{}{path}", site.base)).header(ADDRESS, here).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    too_often(bad(here, Some("nonsense")).await).await;
    site.clock.advance(1);
    refusal(bad(here, Some("nonsense")).await, 401, "unauthenticated").await;
    too_often(bad(here, Some("nonsense")).await).await;
}

/// A rendezvous that finds with a ticket what its path says, or nothing wrong.
async fn rendezvous(site: &Site) -> (String, JoinSet<()>) {
    let judge = |Path(word): Path<String>| async move {
        let rejections = [Rejection::Expired, Rejection::Used, Rejection::Fenced, Rejection::ExecutorAway];
        let strangers = [Rejection::InvalidSignature, Rejection::MissingRole, Rejection::MalformedQuery];
        let rejection = rejections.into_iter().chain(strangers).find(|rejection| rejection.as_str() == word);
        let Some(rejection) = rejection else { return StatusCode::OK.into_response() };
        let mut answer = StatusCode::UNAUTHORIZED.into_response();
        answer.extensions_mut().insert(rejection);
        answer
    };
    let router = site.registry.guard(Router::new().route("/{word}", get(judge)));
    let router = router.layer(map_request(async |mut request: Request| {
        let address = request.headers()[ADDRESS].to_str().unwrap().parse().unwrap();
        request.extensions_mut().insert(Origin { address, place: Arc::new(()) });
        request
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (base, server)
}

#[tokio::test]
async fn bad_tickets_are_charged_to_their_address_and_those_that_were_ours_are_not() {
    let (site, _dir) = site(0, 1).await;
    let client = site.token(Role::Client, "*").await;
    let (here, elsewhere) = ("192.0.2.1", "192.0.2.2");
    let (base, _server) = rendezvous(&site).await;
    let send = async |address: &str, query: &str, word: &str| {
        site.http.get(format!("{base}/{word}?{query}")).header(ADDRESS, address).send().await.unwrap()
    };
    let ask = async |address: &str, query: &str, word: &str| send(address, query, word).await.status();
    let bad = Rejection::InvalidSignature.as_str();
    for rejection in [Rejection::Expired, Rejection::Used, Rejection::Fenced, Rejection::ExecutorAway].repeat(10) {
        assert_eq!(ask(here, "role=harness", rejection.as_str()).await, 401, "{rejection}");
    }
    for _ in 0..10 {
        assert_eq!(ask(here, "role=harness", bad).await, 401);
    }
    assert_eq!(too_often(send(here, "role=harness", bad).await).await, 1);
    for rejection in [Rejection::MissingRole, Rejection::MalformedQuery] {
        assert_eq!(ask(here, "", rejection.as_str()).await, 429, "{rejection}");
    }
    // It is one allowance, for tickets and tokens.
    too_often(from(&site, here, CONNECT, Some("nonsense"), "{}".to_owned()).await).await;
    assert_eq!(ask(elsewhere, "role=harness", bad).await, 401);
    // Nobody who may come in is locked out, and no executor whose ticket ended with its key.
    assert_eq!(ask(here, "role=harness", "good").await, 200);
    assert_eq!(ask(here, "role=executor&shape=pair", bad).await, 401);
    assert_eq!(ask(here, "role=harness", Rejection::Expired.as_str()).await, 401);
    assert_eq!(from(&site, here, CONNECT, Some(&client), "{}".to_owned()).await.status(), 404);
    // An executor's are charged all the same.
    site.clock.advance(1);
    assert_eq!(ask(here, "role=executor", bad).await, 401);
    assert_eq!(ask(here, "role=harness", bad).await, 429);
}

#[tokio::test]
async fn a_revoked_token_is_a_strangers() {
    let (site, _dir) = site(0, 1).await;
    let created = site.registry.tokens().create(exedra_registry::NewToken::of(Role::Client)).await.unwrap();
    site.registry.tokens().revoke(created.record.id.as_str()).await.unwrap();
    let ask = async || from(&site, "2001:db8::1", CONNECT, Some(created.secret.expose()), "{}".to_owned()).await;
    for _ in 0..10 {
        refusal(ask().await, 401, "unauthenticated").await;
    }
    too_often(ask().await).await;
    let neighbour = from(&site, "2001:db8::2", CONNECT, None, "{}".to_owned()).await;
    too_often(neighbour).await;
}

#[tokio::test]
async fn a_token_has_a_rate_of_its_own() {
    let (site, _dir) = site(1, 1).await;
    let (busy, other) = (site.token(Role::Client, "*").await, site.token(Role::Client, "*").await);
    let ask = async |token: &str| from(&site, "192.0.2.1", CONNECT, Some(token), "{}".to_owned()).await;
    for _ in 0..10 {
        refusal(ask(&busy).await, 404, "executor_unknown").await;
    }
    assert_eq!(too_often(ask(&busy).await).await, 1);
    refusal(ask(&other).await, 404, "executor_unknown").await;
    let list = site.http.get(format!("{}/v1/executors", site.base)).bearer_auth(&busy).send().await.unwrap();
    too_often(list).await;
    site.clock.advance(2);
    refusal(ask(&busy).await, 404, "executor_unknown").await;
    refusal(ask(&busy).await, 404, "executor_unknown").await;
    too_often(ask(&busy).await).await;
    let log = site.http.get(format!("{}/v1/access-log", site.base)).bearer_auth(&site.admin).send().await.unwrap();
    let log: Value = log.json().await.unwrap();
    let refused = log["lines"].as_array().unwrap().iter().filter(|line| line["outcome"] == "429");
    assert_eq!(refused.count(), 3, "it is in the access log, with the token");
}

#[tokio::test]
async fn a_registration_waits_for_its_turn_and_is_not_refused() {
    let (site, _dir) = site(1, 1).await;
    let token = site.token(Role::Executor, "*").await;
    let register = async || from(&site, "192.0.2.1", REGISTER, Some(&token), register_body("box", "i")).await.status();
    for _ in 0..10 {
        assert_eq!(register().await, 200);
    }
    let waiting = register();
    tokio::pin!(waiting);
    tokio::select! {
        status = &mut waiting => panic!("it did not wait: {status}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    site.clock.advance(1);
    assert_eq!(waiting.await, 200);
}

#[tokio::test]
async fn a_registration_that_waited_long_enough_is_served() {
    let limits = RateLimits { per_token: NonZeroU32::new(1), per_address: NonZeroU32::new(1) };
    let (site, _dir) = Site::with(|config| {
        config.rates = limits;
        config.rate_patience = Duration::from_millis(20);
    })
    .await;
    let token = site.token(Role::Executor, "*").await;
    for _ in 0..15 {
        assert_eq!(site.post(REGISTER, &token, register_body("box", "i")).await.status(), 200);
    }
}
