//! Join tokens: traded once or a few times, for a credential that the executor made itself.

use std::time::Duration;

use exedra_proto::secret::Secret;
use exedra_proto::token::{EXECUTOR, format, sha256};
use exedra_registry::token::{Labels, Pattern, Rights, Role};
use exedra_registry::{CreatedToken, NewToken, RegistryError};
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};

use crate::support::{START, Site, refusal, register_body, site};

/// A credential that no other call makes with another number.
fn credential(number: u8) -> Secret {
    format(EXECUTOR, [number; 32])
}

fn hex(credential: &Secret) -> String {
    sha256(credential).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn join_token(site: &Site, pattern: &str, uses: u32) -> CreatedToken {
    let executors = Pattern::parse(pattern).unwrap();
    let new = NewToken { executors, uses: Some(uses), ..NewToken::of(Role::Join) };
    site.registry.tokens().create(new).await.unwrap()
}

async fn join(site: &Site, token: &CreatedToken, id: &str, credential: &Secret) -> Response {
    let body = json!({"executor_id": id, "credential_sha256": hex(credential)}).to_string();
    site.post("/v1/join", token.secret.expose(), body).await
}

async fn joined(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn uses_left(site: &Site, token: &CreatedToken) -> Option<u32> {
    site.registry.tokens().show(token.record.id.as_str()).await.unwrap().uses_left
}

#[tokio::test]
async fn a_join_token_is_traded_for_a_credential_of_one_executor() {
    let (site, _dir) = site().await;
    let labels = Labels::new([("team".to_owned(), "a".to_owned())]).unwrap();
    let new = NewToken {
        executors: Pattern::parse("gpu-*").unwrap(),
        labels: labels.clone(),
        uses: Some(2),
        ..NewToken::of(Role::Join)
    };
    let token = site.registry.tokens().create(new).await.unwrap();
    assert!(token.secret.expose().starts_with("exedra_j_"));
    assert_eq!(token.record.expires_at, Some(START + 3_600), "an hour, if nothing is said");
    let own = credential(1);
    let reply = joined(join(&site, &token, "gpu-7", &own).await).await;
    assert_eq!((&reply["executor_id"], &reply["expires_at"]), (&json!("gpu-7"), &Value::Null));
    assert_eq!(uses_left(&site, &token).await, Some(1));
    let record = site.registry.tokens().show(reply["token_id"].as_str().unwrap()).await.unwrap();
    assert_eq!((record.role, record.executors.as_str(), &record.labels), (Role::Executor, "gpu-7", &labels));
    assert_eq!(record.joined_with.as_ref(), Some(&token.record.id));
    assert_eq!((record.expires_at, record.rights), (None, Rights::ALL));
    let register = async |id: &str, token: &str| {
        site.post(&format!("/cloud/executor/{id}/register"), token, register_body(id, "i")).await
    };
    assert_eq!(register("gpu-7", own.expose()).await.status(), 200);
    refusal(register("gpu-8", own.expose()).await, 403, "forbidden").await;
    refusal(register("gpu-7", token.secret.expose()).await, 403, "forbidden").await;
    let body = json!({"executor_id": "gpu-8", "credential_sha256": hex(&credential(2)), "name": "the lab's"});
    let second = joined(site.post("/v1/join", token.secret.expose(), body.to_string()).await).await;
    assert_eq!(site.registry.tokens().show(second["token_id"].as_str().unwrap()).await.unwrap().name, "the lab's");
    let third = refusal(join(&site, &token, "gpu-9", &credential(3)).await, 401, "unauthenticated").await;
    assert!(third.message.unwrap().contains("used up"));
}

#[tokio::test]
async fn asking_again_with_the_same_credential_is_the_same_trade() {
    let (site, _dir) = site().await;
    let token = join_token(&site, "*", 1).await;
    let first = joined(join(&site, &token, "box", &credential(1)).await).await;
    assert_eq!(joined(join(&site, &token, "box", &credential(1)).await).await, first, "although it is used up");
    site.clock.advance(3_600);
    assert_eq!(joined(join(&site, &token, "box", &credential(1)).await).await, first, "although it has expired");
    refusal(join(&site, &token, "lab", &credential(2)).await, 401, "unauthenticated").await;
    site.registry.tokens().revoke(token.record.id.as_str()).await.unwrap();
    assert_eq!(joined(join(&site, &token, "box", &credential(1)).await).await, first, "although it was revoked");
    let other = join_token(&site, "*", 1).await;
    assert_eq!(joined(join(&site, &other, "box", &credential(1)).await).await, first, "with another join token");
    assert_eq!(uses_left(&site, &other).await, Some(1));
    let own = credential(1);
    let register = async || site.post("/cloud/executor/box/register", own.expose(), register_body("box", "i")).await;
    assert_eq!(register().await.status(), 200, "what was got outlives the join token");
    refusal(join(&site, &other, "lab", &own).await, 400, "body_invalid").await;
    site.registry.tokens().revoke(first["token_id"].as_str().unwrap()).await.unwrap();
    refusal(register().await, 401, "unauthenticated").await;
    refusal(join(&site, &other, "box", &own).await, 409, "token_ended").await;
    assert_eq!(uses_left(&site, &other).await, Some(1), "a refusal costs nothing");
}

#[tokio::test]
async fn a_join_token_that_has_ended_is_worth_nothing() {
    let (site, _dir) = site().await;
    let (expired, revoked) = (join_token(&site, "*", 9).await, join_token(&site, "*", 9).await);
    site.registry.tokens().revoke(revoked.record.id.as_str()).await.unwrap();
    site.clock.advance(3_599);
    joined(join(&site, &expired, "in-time", &credential(1)).await).await;
    site.clock.advance(1);
    for (token, word) in [(&expired, "expired"), (&revoked, "revoked")] {
        let detail = refusal(join(&site, token, "box", &credential(2)).await, 401, "unauthenticated").await;
        assert!(detail.message.unwrap().contains(word));
    }
    assert_eq!((uses_left(&site, &expired).await, uses_left(&site, &revoked).await), (Some(8), Some(9)));
}

#[tokio::test]
async fn a_name_that_somebody_has_is_not_given_out() {
    let (site, _dir) = site().await;
    let token = join_token(&site, "*", 9).await;
    let first = joined(join(&site, &token, "box", &credential(1)).await).await;
    refusal(join(&site, &token, "box", &credential(2)).await, 409, "executor_exists").await;
    site.register("registered", "i").await;
    refusal(join(&site, &token, "registered", &credential(3)).await, 409, "executor_exists").await;
    site.token(Role::Executor, "promised").await;
    refusal(join(&site, &token, "promised", &credential(4)).await, 409, "executor_exists").await;
    assert_eq!(uses_left(&site, &token).await, Some(8), "refusals cost nothing");
    site.registry.tokens().revoke(first["token_id"].as_str().unwrap()).await.unwrap();
    joined(join(&site, &token, "box", &credential(2)).await).await;
    let forget = site.http.delete(format!("{}/v1/executors/registered", site.base)).bearer_auth(&site.admin);
    assert_eq!(forget.send().await.unwrap().status(), 204);
    joined(join(&site, &token, "registered", &credential(3)).await).await;
    let lab = join_token(&site, "lab-*", 1).await;
    refusal(join(&site, &lab, "labs", &credential(5)).await, 403, "forbidden").await;
}

#[tokio::test]
async fn of_two_who_want_the_last_use_one_gets_it() {
    let (site, _dir) = site().await;
    for round in 0..8 {
        let token = join_token(&site, "*", 1).await;
        let trades = (0..4).map(|i| {
            let (site, token) = (&site, &token);
            async move { join(site, token, &format!("box-{round}-{i}"), &credential(round * 4 + i)).await }
        });
        let answers = join_all(trades).await;
        let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status().as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401, 401, 401]);
        assert_eq!(uses_left(&site, &token).await, Some(0));
    }
    let token = join_token(&site, "*", 9).await;
    let trades = (100..104).map(|i| {
        let (site, token) = (&site, &token);
        async move { join(site, token, "wanted", &credential(i)).await }
    });
    let answers = join_all(trades).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409], "a name is given once");
    assert_eq!(uses_left(&site, &token).await, Some(8));
}

#[tokio::test]
async fn a_trade_needs_a_name_and_a_hash() {
    let (site, _dir) = site().await;
    let token = join_token(&site, "*", 1).await;
    let hash = hex(&credential(1));
    for (body, code) in [
        (json!({"executor_id": "box"}), "body_invalid"),
        (json!({"executor_id": "box", "credential_sha256": ""}), "body_invalid"),
        (json!({"executor_id": "box", "credential_sha256": &hash[1..]}), "body_invalid"),
        (json!({"executor_id": "box", "credential_sha256": format!("{hash}00")}), "body_invalid"),
        (json!({"executor_id": "box", "credential_sha256": format!("+{}", &hash[1..])}), "body_invalid"),
        (json!({"executor_id": "box", "credential_sha256": "é".repeat(32)}), "body_invalid"),
        (json!({"executor_id": "box", "credential_sha256": hash, "labels": {"team": "a"}}), "body_invalid"),
        (json!({"executor_id": "box", "credential_sha256": hash, "name": "a\nb"}), "body_invalid"),
        (json!({"executor_id": "*", "credential_sha256": hash}), "executor_id_invalid"),
        (json!({"executor_id": "a/../b", "credential_sha256": hash}), "executor_id_invalid"),
        (json!({"executor_id": "", "credential_sha256": hash}), "executor_id_invalid"),
    ] {
        refusal(site.post("/v1/join", token.secret.expose(), body.to_string()).await, 400, code).await;
    }
    refusal(site.post("/v1/join", token.secret.expose(), "").await, 400, "body_invalid").await;
    refusal(site.post("/v1/join", &site.admin, "nonsense").await, 403, "forbidden").await;
    refusal(site.post("/v1/join", "nonsense", "nonsense").await, 401, "unauthenticated").await;
    assert_eq!(uses_left(&site, &token).await, Some(1));
    joined(join(&site, &token, "box", &credential(1)).await).await;
}

#[tokio::test]
async fn the_log_and_the_journal_say_who_joined_with_what() {
    let (site, _dir) = site().await;
    let token = join_token(&site, "*", 1).await;
    let reply = joined(join(&site, &token, "box", &credential(1)).await).await;
    let get = async |path: &str| {
        let request = site.http.get(format!("{}{path}", site.base)).bearer_auth(&site.admin);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let log = get("/v1/access-log").await;
    let line = log["lines"].as_array().unwrap().iter().find(|line| line["action"] == "POST /v1/join").unwrap();
    assert_eq!((&line["executor_id"], &line["outcome"], &line["role"]), (&json!("box"), &json!("200"), &json!("join")));
    assert_eq!(line["token_id"], token.record.id.as_str());
    let events = get("/v1/events").await;
    let event = events["events"].as_array().unwrap().iter().find(|event| event["kind"] == "executor_joined").unwrap();
    assert_eq!(event["detail"], json!({"token_id": reply["token_id"], "joined_with": token.record.id.as_str()}));
}

#[tokio::test]
async fn uses_are_for_join_tokens_alone() {
    let (site, _dir) = site().await;
    for new in [
        NewToken { uses: Some(2), ..NewToken::of(Role::Client) },
        NewToken { uses: Some(0), ..NewToken::of(Role::Join) },
        NewToken { rights: Rights::parse("exec").unwrap(), ..NewToken::of(Role::Join) },
    ] {
        let error = site.registry.tokens().create(new).await.unwrap_err();
        assert!(matches!(error, RegistryError::Config(_)), "{error:?}");
    }
    let body = json!({"role": "join", "executors": "gpu-*", "uses": 3, "expires_in": 60}).to_string();
    let made: Value = site.post("/v1/tokens", &site.admin, body).await.json().await.unwrap();
    assert_eq!((&made["token"]["uses_left"], &made["token"]["expires_at"]), (&json!(3), &json!(START + 60)));
    let once = NewToken { lifetime: Some(Duration::from_secs(5)), ..NewToken::of(Role::Join) };
    let once = site.registry.tokens().create(once).await.unwrap().record;
    assert_eq!((once.uses_left, once.expires_at), (Some(1), Some(START + 5)));
}
