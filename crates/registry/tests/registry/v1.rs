//! `/v1`: what is seen, changed and heard.

use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::Cutoff;
use exedra_registry::NewToken;
use exedra_registry::token::{Labels, Pattern, Role};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{START, Site, refusal, register_body, site};

async fn call(site: &Site, method: Method, path: &str, token: &str, body: Value) -> Response {
    let request = site.http.request(method, format!("{}{path}", site.base)).bearer_auth(token);
    let request = if body.is_null() { request } else { request.body(body.to_string()) };
    request.send().await.unwrap()
}

async fn get(site: &Site, path: &str, token: &str) -> Value {
    let response = call(site, Method::GET, path, token, Value::Null).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

fn ids(page: &Value) -> Vec<&str> {
    page["executors"].as_array().unwrap().iter().map(|executor| executor["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn executors_are_listed_by_page_label_and_state() {
    let (site, _dir) = site().await;
    for id in ["gpu-1", "gpu-2", "gpu-3", "lab"] {
        let body = register_body(id, "i").replace(r#""labels":{}"#, &format!(r#""labels":{{"n":"{id}","k":"v"}}"#));
        assert_eq!(site.post(&format!("/cloud/executor/{id}/register"), &site.admin, body).await.status(), 200);
    }
    let registration = RegistrationId::new(site.register("gpu-2", "i").await.id);
    site.presence().online(&registration, 1);
    let admin = site.admin.clone();
    assert_eq!(ids(&get(&site, "/v1/executors", &admin).await), ["gpu-1", "gpu-2", "gpu-3", "lab"]);
    let first = get(&site, "/v1/executors?limit=3", &admin).await;
    assert_eq!((ids(&first), &first["next"]), (vec!["gpu-1", "gpu-2", "gpu-3"], &json!("gpu-3")));
    let second = get(&site, "/v1/executors?limit=3&after=gpu-3", &admin).await;
    assert_eq!((ids(&second), &second["next"]), (vec!["lab"], &Value::Null));
    assert_eq!(ids(&get(&site, "/v1/executors?label=n%3Dlab", &admin).await), ["lab"]);
    assert_eq!(ids(&get(&site, "/v1/executors?label=n%3Dlab&label=k%3Dw", &admin).await), [""; 0]);
    assert_eq!(ids(&get(&site, "/v1/executors?state=online", &admin).await), ["gpu-2"]);
    assert_eq!(ids(&get(&site, "/v1/executors?state=away&limit=2", &admin).await), ["gpu-1", "gpu-3"]);
    let client = site.token(Role::Client, "gpu-*").await;
    assert_eq!(ids(&get(&site, "/v1/executors", &client).await), ["gpu-1", "gpu-2", "gpu-3"]);
    let executor = site.token(Role::Executor, "*").await;
    assert!(ids(&get(&site, "/v1/executors", &executor).await).is_empty(), "none of them came with it");
    for bad in ["limit=0", "limit=501", "state=gone", "label=x", "after=a%20b", "limit=1&limit=2", "lable=a%3Db"] {
        let response = call(&site, Method::GET, &format!("/v1/executors?{bad}"), &admin, Value::Null).await;
        refusal(response, 400, "query_invalid").await;
    }
    site.presence().held(&registration);
    let held = get(&site, "/v1/executors/gpu-2", &admin).await;
    assert_eq!((&held["state"], &held["held_since"], &held["epoch"]), (&json!("held"), &json!(START), &json!(1)));
    assert_eq!(held["claimed_labels"], json!({"k": "v", "n": "gpu-2"}));
    refusal(call(&site, Method::GET, "/v1/executors/none", &admin, Value::Null).await, 404, "executor_unknown").await;
}

#[tokio::test]
async fn an_administrators_labels_decide_who_may() {
    let (site, _dir) = site().await;
    site.executor("box").await;
    let team = Labels::new([("team".to_owned(), "a".to_owned())]).unwrap();
    let new = NewToken { labels: team, ..NewToken::of(Role::Client) };
    let client = site.registry.tokens().create(new).await.unwrap();
    let connect = async || site.post("/v1/executors/box/connect", client.secret.expose(), "{}").await;
    refusal(connect().await, 403, "forbidden").await;
    let labels = json!({"labels": {"team": "a"}});
    let labelled = call(&site, Method::PUT, "/v1/executors/box/labels", &site.admin, labels).await;
    assert_eq!(labelled.json::<Value>().await.unwrap()["labels"], json!({"team": "a"}));
    assert_eq!(connect().await.status(), 200);
    for bad in [json!({"labels": {"a b": "c"}}), json!({"labels": 3}), json!({}), json!({"labels": {}, "more": 1})] {
        let response = call(&site, Method::PUT, "/v1/executors/box/labels", &site.admin, bad).await;
        refusal(response, 400, "body_invalid").await;
    }
    call(&site, Method::PUT, "/v1/executors/box/labels", &site.admin, json!({"labels": {}})).await;
    refusal(connect().await, 403, "forbidden").await;
}

#[derive(Default)]
struct Bars(std::sync::Mutex<Vec<(String, String)>>);

impl Cutoff for Bars {
    fn registration(&self, registration: &RegistrationId, _: CloseReason) {
        panic!("{registration} is cut");
    }

    fn token(&self, token: &TokenId, _: CloseReason) {
        panic!("{token} is cut");
    }

    fn key(&self, _: &str, _: CloseReason) {}

    fn barred(&self, registration: &RegistrationId, token: &TokenId, reason: CloseReason) {
        assert_eq!(reason, CloseReason::Revoked);
        self.0.lock().unwrap().push((registration.as_str().to_owned(), token.as_str().to_owned()));
    }
}

#[tokio::test]
async fn a_label_that_is_taken_away_cuts_those_off_whom_it_let_in() {
    let (site, _dir) = site().await;
    let registration = site.executor("box").await;
    let bars = std::sync::Arc::new(Bars::default());
    site.registry.set_cutoff(std::sync::Arc::clone(&bars) as _);
    let create = async |role, labels: &[(&str, &str)], pattern: &str| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let labels = Labels::new(labels).unwrap();
        let executors = exedra_registry::token::Pattern::parse(pattern).unwrap();
        site.registry.tokens().create(NewToken { labels, executors, ..NewToken::of(role) }).await.unwrap().record.id
    };
    let team = create(Role::Client, &[("team", "a")], "b*").await;
    create(Role::Client, &[("gpu", "yes")], "*").await;
    create(Role::Client, &[("team", "b")], "*").await;
    create(Role::Client, &[("team", "a")], "other").await;
    create(Role::Client, &[], "*").await;
    create(Role::Executor, &[("team", "a")], "*").await;
    let label = async |labels: Value| {
        let done = call(&site, Method::PUT, "/v1/executors/box/labels", &site.admin, json!({"labels": labels})).await;
        assert_eq!(done.status(), 200);
        std::mem::take(&mut *bars.0.lock().unwrap())
    };
    assert_eq!(label(json!({"team": "a", "gpu": "yes"})).await, []);
    assert_eq!(label(json!({"gpu": "yes"})).await, [(registration.as_str().to_owned(), team.as_str().to_owned())]);
    assert_eq!(label(json!({"gpu": "yes"})).await, []);
}

#[tokio::test]
async fn an_executor_is_drained_and_resumed() {
    let (site, _dir) = site().await;
    site.executor("box").await;
    let drained = call(&site, Method::POST, "/v1/executors/box/drain", &site.admin, Value::Null).await;
    assert_eq!(drained.json::<Value>().await.unwrap()["draining_since"], START);
    refusal(site.connect_raw("box", 60_000).await, 409, "executor_draining").await;
    let resumed = call(&site, Method::DELETE, "/v1/executors/box/drain", &site.admin, Value::Null).await;
    assert_eq!(resumed.json::<Value>().await.unwrap()["draining_since"], Value::Null);
    assert_eq!(site.connect_raw("box", 0).await.status(), 200);
}

#[tokio::test]
async fn a_forgotten_executor_is_away_until_it_registers_anew() {
    let (site, dir) = site().await;
    let registration = site.executor("box").await;
    let forget = async |query: &str| {
        call(&site, Method::DELETE, &format!("/v1/executors/box{query}"), &site.admin, Value::Null).await
    };
    for query in ["", "?force=false"] {
        refusal(forget(query).await, 409, "executor_connected").await;
    }
    for query in ["?force", "?force=yes", "?force=true&force=true", "?forced=true"] {
        refusal(forget(query).await, 400, "query_invalid").await;
    }
    assert_eq!(site.connect_raw("box", 0).await.status(), 200, "nothing was done to it");
    assert_eq!(forget("?force=true").await.status(), 204);
    refusal(forget("").await, 404, "executor_unknown").await;
    refusal(site.connect_raw("box", 0).await, 404, "executor_unknown").await;
    // What it says with its old registration no longer counts.
    site.presence().online(&registration, 1);
    let again = site.register("box", "instance").await;
    assert_ne!(again.id, registration.as_str());
    refusal(site.connect_raw("box", 0).await, 409, "environment_offline").await;
    let again = RegistrationId::new(again.id);
    site.presence().online(&again, 1);
    assert_eq!(site.connect_raw("box", 0).await.status(), 200);
    site.presence().offline(&again, 0);
    assert_eq!(forget("").await.status(), 204, "it is away");
    drop(dir);
}

#[tokio::test]
async fn tokens_are_governed_over_http() {
    let (site, _dir) = site().await;
    let admin = site.admin.clone();
    let body = json!({"role": "client", "executors": "gpu-*", "labels": {"gpu": "yes"}, "client_labels": {"team": "a"},
        "rights": ["exec", "pty"], "name": "ci", "expires_in": 60});
    let made = call(&site, Method::POST, "/v1/tokens", &admin, body).await;
    assert_eq!(made.status(), 201);
    let made: Value = made.json().await.unwrap();
    let id = made["token"]["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["token"]["rights"], &made["token"]["expires_at"]), (&json!(["exec", "pty"]), &json!(START + 60)));
    let labels = (&made["token"]["labels"], &made["token"]["client_labels"]);
    assert_eq!(labels, (&json!({"gpu": "yes"}), &json!({"team": "a"})));
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(get(&site, "/v1/executors", &secret).await["executors"].as_array().unwrap().is_empty());
    let shown = get(&site, &format!("/v1/tokens/{id}"), &admin).await;
    assert!(shown["name"] == "ci" && !shown.to_string().contains(&secret));
    assert_eq!(get(&site, "/v1/tokens", &admin).await["tokens"].as_array().unwrap().len(), 2);
    let renewed = call(&site, Method::POST, &format!("/v1/tokens/{id}/rotate"), &admin, Value::Null).await;
    let renewed: Value = renewed.json().await.unwrap();
    refusal(call(&site, Method::GET, "/v1/executors", &secret, Value::Null).await, 401, "unauthenticated").await;
    let revoked = call(&site, Method::DELETE, &format!("/v1/tokens/{id}"), &admin, Value::Null).await;
    assert_eq!(revoked.json::<Value>().await.unwrap()["revoked_at"], START);
    let secret = renewed["secret"].as_str().unwrap();
    refusal(call(&site, Method::GET, "/v1/executors", secret, Value::Null).await, 401, "unauthenticated").await;
    let rotate = call(&site, Method::POST, &format!("/v1/tokens/{id}/rotate"), &admin, Value::Null).await;
    refusal(rotate, 409, "token_ended").await;
    let unknown = call(&site, Method::GET, "/v1/tokens/tok-0123456789abcdef", &admin, Value::Null).await;
    refusal(unknown, 404, "token_unknown").await;
    for bad in [
        json!({"role": "root"}),
        json!({"role": "client", "uses": 2}),
        json!({"role": "client", "executors": "a b"}),
        json!({"role": "client", "rights": []}),
        json!({"role": "executor", "rights": ["exec"]}),
        json!({"role": "client", "client_labels": {"a b": "c"}}),
        json!({"role": "executor", "client_labels": {}}),
        json!({"role": "join", "client_labels": {"team": "a"}}),
        json!({"role": "client", "name": "a\nb"}),
        json!({"role": "client", "expire": 3}),
    ] {
        refusal(call(&site, Method::POST, "/v1/tokens", &admin, bad).await, 400, "body_invalid").await;
    }
}

#[tokio::test]
async fn the_access_log_is_kept_for_so_long() {
    let (site, _dir) = Site::with(|config| {
        config.access_keep = Duration::from_secs(100);
        config.housekeeping = Duration::from_millis(50);
    })
    .await;
    refusal(site.post("/v1/executors/early/connect", &site.admin, "{}").await, 404, "executor_unknown").await;
    assert_eq!(get(&site, "/v1/access-log", &site.admin).await["lines"][0]["executor_id"], "early");
    site.clock.advance(101);
    let gone = async {
        loop {
            let page = get(&site, "/v1/access-log", &site.admin).await;
            if page["lines"].as_array().unwrap().iter().all(|line| line["executor_id"] != "early") {
                return page;
            }
        }
    };
    let page = tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it goes");
    let lines = page["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["outcome"] == "given up"), "{page}");
}

#[tokio::test]
async fn the_access_log_says_who_asked_for_what() {
    let (site, dir) = site().await;
    site.executor("box").await;
    let client = NewToken { executors: Pattern::parse("box").unwrap(), ..NewToken::of(Role::Client) };
    let client = site.registry.tokens().create(client).await.unwrap();
    let path = "/v1/executors/box/connect";
    let request = site.http.post(format!("{}{path}", site.base)).bearer_auth(client.secret.expose());
    request.header("x-request-id", "the-one").body("{}").send().await.unwrap();
    refusal(site.post("/v1/executors/lab/connect", client.secret.expose(), "{}").await, 403, "forbidden").await;
    for _ in 0..3 {
        site.post(path, "nonsense", "{}").await;
    }
    let page = get(&site, "/v1/access-log", &site.admin).await;
    let lines = page["lines"].as_array().unwrap();
    let of_client: Vec<_> = lines.iter().filter(|line| line["token_id"] == client.record.id.as_str()).collect();
    assert_eq!(of_client.len(), 2, "{page}");
    let line = of_client[0];
    assert_eq!(
        (&line["action"], &line["executor_id"], &line["outcome"], &line["request_id"], &line["role"]),
        (&json!("POST /v1/executors/{id}/connect"), &json!("box"), &json!("200"), &json!("the-one"), &json!("client"))
    );
    assert_eq!((&of_client[1]["executor_id"], &of_client[1]["outcome"]), (&json!("lab"), &json!("403")));
    assert!(!page.to_string().contains("nonsense"));
    site.stop().await;
    let site = Site::on(dir.path()).await;
    let page = get(&site, "/v1/access-log?after=0", &site.admin).await;
    let strangers = page["lines"].as_array().unwrap().iter().find(|line| line["count"] == 3);
    assert_eq!(strangers.unwrap()["action"], "requests without a token of this server");
}

#[tokio::test]
async fn the_status_counts_what_is_there() {
    let (site, _dir) = site().await;
    site.executor("box").await;
    site.register("lab", "i").await;
    let status = get(&site, "/v1/status", &site.admin).await;
    assert_eq!((&status["executors_known"], &status["executors_online"]), (&json!(2), &json!(1)));
    assert_eq!((&status["ready"], &status["started_at"]), (&json!(true), &json!(START)));
}
