//! Dialect D: what recorded stock peers send is answered in the form that they took, and who may is bound tightly.

use exedra_proto::base64::Base64Text;
use exedra_proto::ids::RegistrationId;
use exedra_proto::noise::SUITE;
use exedra_proto::ticket::{Role as TicketRole, Shape};
use exedra_registry::NewToken;
use exedra_registry::token::Role;
use serde_json::{Value, json};

use crate::support::{START, Site, refusal, register_body, site};

const RECORDED: &str = include_str!("../../../proto/fixtures/registry-noise.jsonl");

pub fn key(seed: u8) -> Value {
    let part = |len| Base64Text::encode(&vec![seed; len]).0;
    json!({"suite": SUITE, "x25519_public_key": part(32), "mlkem768_public_key": part(1_184)})
}

/// An executor that registered with the key of this seed, and is online: its registration.
async fn executor(site: &Site, seed: u8) -> String {
    let body = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(seed)});
    let reply = site.post("/cloud/environment/box/register", &site.admin, body.to_string()).await;
    assert_eq!(reply.status(), 200);
    let reply: Value = reply.json().await.unwrap();
    let claims = site.verify(reply["url"].as_str().unwrap()).unwrap();
    let id = reply["executor_registration_id"].as_str().unwrap().to_owned();
    site.presence().online(&RegistrationId::new(id.as_str()), claims.epoch);
    id
}

async fn connect(site: &Site, seed: u8) -> Value {
    let body = json!({"harness_public_key": key(seed)}).to_string();
    let reply = site.post("/cloud/environment/box/connect", &site.admin, body).await;
    assert_eq!(reply.status(), 200);
    reply.json().await.unwrap()
}

fn validation(registration: &str, seed: u8, authorization: &Value) -> Value {
    json!({
        "executor_registration_id": registration,
        "harness_public_key": key(seed),
        "harness_key_authorization": authorization,
    })
}

async fn is_valid(site: &Site, executor: &str, body: Value) -> bool {
    let path = format!("/cloud/environment/{executor}/validate");
    let reply = site.post(&path, &site.admin, body.to_string()).await;
    assert_eq!(reply.status(), 200);
    let reply: Value = reply.json().await.unwrap();
    assert_eq!(reply.as_object().unwrap().len(), 1, "{reply}");
    reply["valid"].as_bool().unwrap()
}

/// The recorded body, with values of ours where the record has none.
fn filled(body: &Value, registration: &str, authorization: &Value) -> Value {
    let mut body = body.clone();
    for member in ["executor_public_key", "harness_public_key"] {
        if body.get(member).is_some() {
            body[member] = key(if member == "executor_public_key" { 1 } else { 2 });
        }
    }
    if body.get("harness_key_authorization").is_some() {
        body["executor_registration_id"] = json!(registration);
        body["harness_key_authorization"] = authorization.clone();
    }
    body
}

#[tokio::test]
async fn recorded_calls_are_answered_in_the_recorded_form() {
    for version in ["0.145", "0.169"] {
        let (site, _dir) = site().await;
        let (mut registration, mut authorization) = (executor(&site, 1).await, Value::Null);
        authorization = connect(&site, 2).await.get_mut("harness_key_authorization").map_or(authorization, Value::take);
        let mut seen = 0;
        for line in RECORDED.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            if case["version"] != version || case["case"] == "validate-false" {
                continue;
            }
            seen += 1;
            let (path, name) = (case["request"]["path"].as_str().unwrap(), case["case"].as_str().unwrap());
            let path = path.replace("/exec-1/", "/box/").replace("/env-1/", "/box/").replace("/env-9/", "/box/");
            let body = filled(&case["request"]["body"], &registration, &authorization);
            let mut request = site.http.post(format!("{}{path}", site.base)).bearer_auth(&site.admin);
            for header in ["content-type", "chatgpt-account-id", "x-codex-noise-stream-id"] {
                if let Some(value) = case["request"]["headers"][header].as_str() {
                    request = request.header(header, value);
                }
            }
            let reply = request.body(body.to_string()).send().await.unwrap();
            assert_eq!(reply.status().as_u16(), 200, "{name}");
            let reply: Value = reply.json().await.unwrap();
            let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(members(&reply), members(&case["response"]["body"]), "{name} of {version}");
            match name {
                "register-ok" => {
                    assert_eq!(reply["executor_registration_id"], registration, "the same key is the same instance");
                    assert_eq!(
                        (&reply["environment_id"], &reply["security_profile"]),
                        (&json!("box"), &json!("noise_hybrid_ik_v1"))
                    );
                    let claims = site.verify(reply["url"].as_str().unwrap()).unwrap();
                    assert_eq!((claims.role, claims.shape), (TicketRole::Executor, Shape::Streams));
                    reply["executor_registration_id"].as_str().unwrap().clone_into(&mut registration);
                }
                "connect-ok" => {
                    assert_eq!((&reply["executor_public_key"], &reply["environment_id"]), (&key(1), &json!("box")));
                    let url = reply["url"].as_str().unwrap();
                    assert!(url.contains("?role=harness&"), "a stock client looks for it: {url}");
                    assert_eq!(site.verify(url).unwrap().registration.as_str(), registration);
                }
                _ => assert_eq!(reply, case["response"]["body"], "{name}"),
            }
        }
        assert_eq!(seen, if version == "0.169" { 3 } else { 2 });
    }
}

#[tokio::test]
async fn an_authorization_is_for_one_executor_registration_and_key_and_ends_with_its_time_or_its_token() {
    let (site, _dir) = site().await;
    let registration = executor(&site, 1).await;
    let new = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    let body = json!({"harness_public_key": key(2)}).to_string();
    let reply = site.post("/cloud/environment/box/connect", new.secret.expose(), body).await;
    let authorization = reply.json::<Value>().await.unwrap()["harness_key_authorization"].take();
    let good = validation(&registration, 2, &authorization);
    assert!(is_valid(&site, "box", good.clone()).await);
    assert!(is_valid(&site, "box", good.clone()).await, "an executor may have to ask again");
    assert!(!is_valid(&site, "box2", good.clone()).await, "another executor");
    assert!(!is_valid(&site, "box", validation("reg-other", 2, &authorization)).await, "another registration");
    assert!(!is_valid(&site, "box", validation(&registration, 3, &authorization)).await, "another key");
    for forged in ["", "x", "v1.k.t.9999999999.AAAA", "auth-1\u{0}'--"] {
        assert!(!is_valid(&site, "box", validation(&registration, 2, &json!(forged))).await, "{forged}");
    }
    site.clock.advance(119);
    assert!(is_valid(&site, "box", good.clone()).await);
    site.registry.tokens().revoke(new.record.id.as_str()).await.unwrap();
    assert!(!is_valid(&site, "box", good.clone()).await, "its token was revoked");
    let mut other = connect(&site, 2).await;
    let other = validation(&registration, 2, &other["harness_key_authorization"].take());
    assert!(is_valid(&site, "box", other.clone()).await);
    site.clock.advance(120);
    assert!(!is_valid(&site, "box", other).await, "its time is over");
}

#[tokio::test]
async fn who_may_not_and_what_makes_no_sense_is_refused() {
    let (site, _dir) = site().await;
    let registration = executor(&site, 1).await;
    let (client, worker) = (site.token(Role::Client, "*").await, site.token(Role::Executor, "*").await);
    let asking = validation(&registration, 2, &json!("x")).to_string();
    let calling = json!({"harness_public_key": key(2)}).to_string();
    let (validate, connect) = ("/cloud/environment/box/validate", "/cloud/environment/box/connect");
    refusal(site.post(validate, &client, asking.clone()).await, 403, "forbidden").await;
    refusal(site.post(connect, &worker, calling.clone()).await, 403, "forbidden").await;
    for path in [validate, connect] {
        refusal(site.post(path, "nonsense", "{}").await, 401, "unauthenticated").await;
        for body in ["", "{}", "[]", r#"{"harness_public_key":{}}"#, r#"{"harness_public_key":{"suite":"x"}}"#] {
            refusal(site.post(path, &site.admin, body).await, 400, "body_invalid").await;
        }
    }
    refusal(site.post("/cloud/environment/nobody/connect", &client, calling.clone()).await, 404, "executor_unknown")
        .await;
    let register = "/cloud/environment/box/register";
    let other = json!({"security_profile": "noise_xx_v9", "executor_public_key": key(1)}).to_string();
    refusal(site.post(register, &worker, other).await, 400, "transport_unsupported").await;
    refusal(site.post(register, &worker, r#"{"security_profile":"noise_hybrid_ik_v1"}"#).await, 400, "body_invalid")
        .await;
    site.register("old", "i").await;
    let plain = site.post("/cloud/environment/old/connect", &client, calling).await;
    refusal(plain, 400, "transport_unsupported").await;
}

#[tokio::test]
async fn an_executor_that_is_away_is_the_one_thing_that_a_stock_client_tries_again() {
    let (site, _dir) = site().await;
    let id = executor(&site, 1).await;
    let registration = RegistrationId::new(id.as_str());
    site.presence().offline(&registration, 0);
    let waiting = async {
        site.waiting(1).await;
        site.presence().online(&registration, 1);
    };
    let (reply, ()) = tokio::join!(connect(&site, 2), waiting);
    assert_eq!(reply["executor_registration_id"], id, "it is waited for");
    site.presence().offline(&registration, 0);
    let body = json!({"harness_public_key": key(2)}).to_string();
    let draining = async {
        site.waiting(1).await;
        site.registry.drain();
    };
    let (reply, ()) = tokio::join!(site.post("/cloud/environment/box/connect", &site.admin, body), draining);
    refusal(reply, 503, "unavailable").await;
}

#[tokio::test]
async fn another_key_is_another_instance_and_the_same_one_keeps_its_registration() {
    let (site, _dir) = site().await;
    let first = executor(&site, 1).await;
    assert_eq!(executor(&site, 1).await, first);
    let second = executor(&site, 2).await;
    assert_ne!(second, first);
    assert_eq!(connect(&site, 9).await["executor_public_key"], key(2), "the newer wins at once");
    let body = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1)}).to_string();
    let back = site.post("/cloud/environment/box/register", &site.admin, body).await;
    assert_eq!(back.status(), 200);
    let back: Value = back.json().await.unwrap();
    assert_eq!(back["executor_registration_id"], first, "the older one is parked with its own");
    assert_eq!(site.verify(back["url"].as_str().unwrap()).unwrap().epoch, 1);
}

#[tokio::test]
async fn our_own_ends_may_use_noise_on_their_paths() {
    let (site, _dir) = site().await;
    let body = json!({
        "idempotency_id": "i", "executor_id": "box", "transports": ["noise", "relay"],
        "security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1),
    });
    let reply = site.post("/cloud/executor/box/register", &site.admin, body.to_string()).await;
    let reply: Value = reply.json().await.unwrap();
    assert_eq!((&reply["transport"], &reply["id"]), (&json!("noise"), &reply["executor_registration_id"]));
    assert_eq!(reply["security_profile"], "noise_hybrid_ik_v1");
    let registration = RegistrationId::new(reply["id"].as_str().unwrap());
    site.presence().online(&registration, 1);
    let keyless = site.post("/v1/executors/box/connect", &site.admin, "{}").await;
    refusal(keyless, 400, "body_invalid").await;
    let connecting = json!({"public_key": key(2), "transports": ["noise"]}).to_string();
    let reply = site.post("/v1/executors/box/connect", &site.admin, connecting).await;
    let reply: Value = reply.json().await.unwrap();
    assert_eq!((&reply["transport"], &reply["executor_public_key"]), (&json!("noise"), &key(1)));
    let asking = validation(registration.as_str(), 2, &reply["harness_key_authorization"]);
    assert!(is_valid(&site, "box", asking).await);
    assert_eq!(site.verify(reply["url"].as_str().unwrap()).unwrap().issued_at, START);
}

#[tokio::test]
async fn with_bound_keys_only_the_key_first_seen_may_have_the_name() {
    let (site, dir) = Site::with(|config| config.bind_keys = true).await;
    let register = async |seed| {
        let body = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(seed)}).to_string();
        site.post("/cloud/environment/box/register", &site.admin, body).await
    };
    assert_eq!(register(1).await.status(), 200);
    assert_eq!(register(1).await.status(), 200);
    let detail = refusal(register(2).await, 403, "executor_key_bound").await;
    assert!(detail.message.unwrap().contains("forget-key"));
    refusal(site.register_raw("box", "i").await, 403, "executor_key_bound").await;
    refusal(site.post("/cloud/executor/box/register", &site.admin, "").await, 403, "executor_key_bound").await;
    site.register("other", "i").await;
    let beside = exedra_registry::open_tokens(dir.path()).await.unwrap();
    assert!(beside.forget_key("box").await.unwrap());
    assert!(!beside.forget_key("box").await.unwrap());
    assert!(beside.forget_key("../box").await.is_err());
    assert_eq!(register(2).await.status(), 200);
    refusal(register(1).await, 403, "executor_key_bound").await;
}

/// The events of these kinds, with what they say.
async fn told(site: &Site, kinds: &[&str]) -> Vec<(String, Value)> {
    let page = site.shown("/v1/events").await;
    let events = page["events"].as_array().unwrap().iter();
    let events = events.map(|event| (event["kind"].as_str().unwrap().to_owned(), event["detail"].clone()));
    events.filter(|(kind, _)| kinds.contains(&kind.as_str())).collect()
}

#[tokio::test]
async fn who_is_refused_a_bound_name_disturbs_nobody_and_is_told_of() {
    let (site, dir) = Site::with(|config| config.bind_keys = true).await;
    let held = executor(&site, 1).await;
    let register =
        async |body: Value| site.post("/cloud/environment/box/register", &site.admin, body.to_string()).await;
    let keyed = |seed| json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(seed)});
    // As a stock executor that was started again.
    refusal(register(keyed(2)).await, 403, "executor_key_bound").await;
    // As somebody who read the key, and would have clients talk to him without it.
    for transport in ["relay", "direct"] {
        let mut body: Value = serde_json::from_str(&register_body("box", "i")).unwrap();
        (body["transports"], body["executor_public_key"]) = (json!([transport]), key(1));
        body["security_profile"] = json!("noise_hybrid_ik_v1");
        let reply = site.post("/cloud/executor/box/register", &site.admin, body.to_string()).await;
        refusal(reply, 403, "executor_key_bound").await;
    }
    // As somebody who calls himself what the registry calls the holder.
    let shown = site.shown("/v1/executors/box").await;
    let fingerprint = shown["bound_key"].as_str().unwrap().to_owned();
    refusal(site.register_raw("box", &format!("key+{fingerprint}")).await, 403, "executor_key_bound").await;
    assert_eq!((&shown["registration_id"], &shown["state"]), (&json!(held), &json!("online")));
    connect(&site, 3).await;

    let kinds = ["executor_key_bound", "executor_key_refused", "executor_key_forgotten"];
    let events = told(&site, &kinds).await;
    assert_eq!(events.len(), 2, "one refusal in a minute: {events:?}");
    assert_eq!((events[0].0.as_str(), &events[0].1["key"]), ("executor_key_bound", &json!(fingerprint)));
    let refused = &events[1].1;
    assert!(refused["token_id"].is_string() && refused["key"] != refused["bound_key"], "{refused}");
    assert_eq!(refused["bound_key"], json!(fingerprint));
    site.clock.advance(60);
    refusal(register(keyed(2)).await, 403, "executor_key_bound").await;
    let beside = exedra_registry::open_tokens(dir.path()).await.unwrap();
    assert!(beside.forget_key("box").await.unwrap());
    assert_eq!(register(keyed(2)).await.status(), 200);
    let events = told(&site, &kinds).await;
    let events: Vec<_> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    let all = ["executor_key_bound", "executor_key_refused", "executor_key_refused", "executor_key_forgotten"];
    assert_eq!(events, [&all[..], &["executor_key_bound"]].concat());
}

#[tokio::test]
async fn a_name_without_a_key_is_for_all_and_a_key_may_have_many_names() {
    let (site, _dir) = Site::with(|config| config.bind_keys = true).await;
    let register = async |name: &str, seed| {
        let body = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(seed)}).to_string();
        site.post(&format!("/cloud/environment/{name}/register"), &site.admin, body).await
    };
    let first = site.register("plain", "i").await;
    assert_eq!(site.register("plain", "i").await.id, first.id);
    assert_eq!(
        site.post("/cloud/executor/plain/register", &site.admin, "").await.status(),
        200,
        "nobody's key is asked"
    );
    assert_eq!(register("plain", 1).await.status(), 200);
    refusal(site.register_raw("plain", "i").await, 403, "executor_key_bound").await;
    // One that was renamed; its old name is bound until that is forgotten.
    assert_eq!(register("renamed", 1).await.status(), 200);
    refusal(register("renamed", 2).await, 403, "executor_key_bound").await;
    let forget = site.http.delete(format!("{}/v1/executors/plain", site.base)).bearer_auth(&site.admin);
    assert_eq!(forget.send().await.unwrap().status(), 204);
    refusal(register("plain", 2).await, 403, "executor_key_bound").await;
    assert_eq!(register("plain", 1).await.status(), 200);
}

#[tokio::test]
async fn whose_name_it_is_registers_while_nothing_can_be_written() {
    use sqlx::{ConnectOptions as _, Executor as _};
    let (site, dir) = Site::with(|config| config.bind_keys = true).await;
    let held = executor(&site, 1).await;
    let plain = site.register("plain", "i").await;
    let path = dir.path().join("registry.db");
    let mut other = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    assert_eq!(executor(&site, 1).await, held);
    assert_eq!(site.register("plain", "i").await.id, plain.id);
    other.execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn ids_with_marks_of_sql_and_of_paths_are_nobodys() {
    let (site, _dir) = site().await;
    let registration = executor(&site, 1).await;
    let register = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1)}).to_string();
    let connecting = json!({"harness_public_key": key(2)}).to_string();
    for bad in ["box'--", "box%27%20OR%201=1--", "%2e%2e%2fbox", "box%00", "box%2Fregister", "%ff", "box;", "*", "%25"]
    {
        for (call, body) in [("register", &register), ("connect", &connecting)] {
            let reply = site.post(&format!("/cloud/environment/{bad}/{call}"), &site.admin, body.clone()).await;
            refusal(reply, 400, "executor_id_invalid").await;
        }
        let asking = validation(&registration, 2, &json!("x")).to_string();
        let reply = site.post(&format!("/cloud/environment/{bad}/validate"), &site.admin, asking).await;
        refusal(reply, 400, "executor_id_invalid").await;
    }
    for strange in ["reg-1' OR '1'='1", "../reg", "%", "\u{0}", "reg-\n"] {
        assert!(!is_valid(&site, "box", validation(strange, 2, &json!("x"))).await);
    }
}
