//! Who may: every endpoint against every kind of caller.

use std::time::Duration;

use exedra_proto::registry::ErrorBody;
use exedra_registry::NewToken;
use exedra_registry::token::{Pattern, Rights, Role};
use reqwest::StatusCode;

use crate::support::{Site, refusal, register_body, site};

/// The endpoints that need a token, with a body that each takes.
fn endpoints() -> [(&'static str, String); 2] {
    [("/cloud/executor/box/register", register_body("box", "instance")), ("/v1/executors/box/connect", "{}".to_owned())]
}

/// The token with another last digit.
fn other_digit(token: &str) -> String {
    let (start, last) = token.split_at(token.len() - 1);
    format!("{start}{}", if last == "0" { "1" } else { "0" })
}

async fn status(site: &Site, path: &str, token: &str, body: &str) -> u16 {
    let response = site.post(path, token, body.to_owned()).await;
    let status = response.status().as_u16();
    let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(challenge.as_deref(), (status == 401).then_some("Bearer"), "{path}");
    match status {
        401 => drop(refusal(response, 401, "unauthenticated").await),
        403 => {
            let code = response.json::<ErrorBody>().await.unwrap().error.code.unwrap();
            assert!(code == "forbidden" || code == "rights_not_enforceable", "{code}");
        }
        _ => {}
    }
    status
}

#[tokio::test]
async fn each_token_reaches_as_far_as_it_should() {
    let (site, _dir) = site().await;
    site.executor("box").await;
    let expired = NewToken { lifetime: Some(Duration::from_secs(60)), ..NewToken::of(Role::Admin) };
    let expired = site.registry.tokens().create(expired).await.unwrap();
    let revoked = site.registry.tokens().create(NewToken::of(Role::Admin)).await.unwrap();
    site.registry.tokens().revoke(revoked.record.id.as_str()).await.unwrap();
    site.clock.advance(60);
    let some = |role| NewToken { rights: Rights::parse("exec,files,pty").unwrap(), ..NewToken::of(role) };
    let partial = site.registry.tokens().create(some(Role::Client)).await.unwrap();
    let partial_admin = site.registry.tokens().create(some(Role::Admin)).await.unwrap();
    let never_made = exedra_registry::token::generate(Role::Admin).unwrap();
    let good = site.admin.clone();
    let callers = [
        ("expired", expired.secret.expose().to_owned(), [401, 401]),
        ("revoked", revoked.secret.expose().to_owned(), [401, 401]),
        ("never made", never_made.expose().to_owned(), [401, 401]),
        ("nonsense", "nonsense".to_owned(), [401, 401]),
        ("one digit off", other_digit(&good), [401, 401]),
        ("cut", good[..good.len() - 1].to_owned(), [401, 401]),
        ("very long", "x".repeat(8_000), [401, 401]),
        ("executor", site.token(Role::Executor, "*").await, [200, 403]),
        ("executor, by pattern", site.token(Role::Executor, "b*x").await, [200, 403]),
        ("executor of others", site.token(Role::Executor, "lab-*").await, [403, 403]),
        ("client", site.token(Role::Client, "*").await, [403, 200]),
        ("client of others", site.token(Role::Client, "boxes").await, [403, 403]),
        ("client for some", partial.secret.expose().to_owned(), [403, 403]),
        ("admin for some", partial_admin.secret.expose().to_owned(), [200, 403]),
        ("admin", good.clone(), [200, 200]),
        ("admin of others", site.token(Role::Admin, "lab-*").await, [403, 403]),
    ];
    for (caller, token, expected) in callers {
        for ((path, body), expected) in endpoints().into_iter().zip(expected) {
            assert_eq!(status(&site, path, &token, &body).await, expected, "{caller} at {path}");
            let registration = site.register("box", "instance").await.id;
            let registration = exedra_proto::ids::RegistrationId::new(registration);
            site.presence().online(&registration, 1);
            site.served(&registration);
        }
    }
    // The same where the executor is told who its clients are: rights are its business then, and nothing else changes.
    let (path, body) = endpoints()[1].clone();
    for (caller, token, expected) in [
        ("client for some", partial.secret.expose(), 200),
        ("admin for some", partial_admin.secret.expose(), 200),
        ("client", &site.token(Role::Client, "*").await, 200),
        ("client of others", &site.token(Role::Client, "boxes").await, 403),
        ("executor", &site.token(Role::Executor, "*").await, 403),
        ("revoked", revoked.secret.expose(), 401),
    ] {
        let registration = exedra_proto::ids::RegistrationId::new(site.register("box", "instance").await.id);
        site.presence().held(&registration);
        site.presence().offline(&registration, 0);
        site.presence().online_told(&registration, 1);
        assert_eq!(status(&site, path, token, &body).await, expected, "{caller} at an executor that is told");
    }
}

#[tokio::test]
async fn without_a_bearer_token_nobody_comes_in() {
    let (site, _dir) = site().await;
    for (path, body) in endpoints() {
        let url = format!("{}{path}", site.base);
        for request in [
            site.http.post(&url),
            site.http.post(&url).basic_auth("me", Some(&site.admin)),
            site.http.post(&url).header("authorization", &site.admin),
            site.http.post(&url).header("authorization", "Bearer "),
            site.http.post(&url).bearer_auth(&site.admin).bearer_auth(&site.admin),
        ] {
            let response = request.body(body.clone()).send().await.unwrap();
            refusal(response, 401, "unauthenticated").await;
        }
        let response = site.http.post(&url).header("authorization", format!("bearer {}", site.admin));
        let response = response.body(body).send().await.unwrap();
        assert_ne!(response.status(), StatusCode::UNAUTHORIZED, "the scheme's case does not matter");
    }
}

#[tokio::test]
async fn a_refusal_tells_nothing_about_tokens_that_are_not_shown() {
    let (site, _dir) = site().await;
    let (path, body) = endpoints()[1].clone();
    let good = site.admin.clone();
    let never_made = exedra_registry::token::generate(Role::Admin).unwrap();
    let mut answers = Vec::new();
    for token in [never_made.expose(), "nonsense", &good[..good.len() - 1], &format!("{good}0"), &good.to_uppercase()] {
        answers.push(refusal(site.post(path, token, body.clone()).await, 401, "unauthenticated").await);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn the_token_comes_before_the_id_and_the_id_before_the_body() {
    let (site, _dir) = site().await;
    let path = "/cloud/executor/a%20b/register";
    refusal(site.post(path, "nonsense", "nonsense").await, 401, "unauthenticated").await;
    refusal(site.post(path, &site.token(Role::Client, "*").await, "nonsense").await, 403, "forbidden").await;
    refusal(site.post(path, &site.admin, "nonsense").await, 400, "executor_id_invalid").await;
    let foreign = site.token(Role::Executor, "lab").await;
    refusal(site.post("/cloud/executor/box/register", &foreign, "nonsense").await, 403, "forbidden").await;
}

#[tokio::test]
async fn a_token_revoked_beside_the_server_is_refused_from_the_next_request_on() {
    let (site, dir) = site().await;
    let beside = exedra_registry::open_tokens(dir.path()).await.unwrap();
    let new = NewToken { executors: Pattern::parse("box").unwrap(), ..NewToken::of(Role::Client) };
    let token = beside.create(new).await.unwrap();
    let connect = async || site.post("/v1/executors/box/connect", token.secret.expose(), "{}").await;
    refusal(connect().await, 404, "executor_unknown").await;
    beside.revoke(token.record.id.as_str()).await.unwrap();
    refusal(connect().await, 401, "unauthenticated").await;
    beside.close().await;
}
