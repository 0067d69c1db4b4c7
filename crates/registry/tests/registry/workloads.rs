//! Workloads: tokens of an issuer on loopback, good and forged, its keys as they come and go, and the rules.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::Cutoff;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::issuer::{Issuer, SigningKey, config};
use crate::support::{START, Site, refusal, register_body, until};

const RULES: &str = r#"
[[rule]]
name = "ci"
issuer = "ISSUER"
claims = { sub = "repo:acme/*:ref:refs/heads/main" }
role = "executor"
executor = "ci-{run_id}"
labels = { team = "a" }

[[rule]]
name = "pods"
issuer = "ISSUER"
claims = { "kubernetes.io/namespace" = "ml", sub = "system:*" }
role = "client"
executor = "ci-*"
"#;

/// Time between two fetches of keys, in seconds.
pub const PAUSE: u64 = 8;

/// A server with rules for workloads, and their issuer.
pub struct Stage {
    pub site: Site,
    pub issuer: Issuer,
    pub key: SigningKey,
    pub file: PathBuf,
    _dirs: (TempDir, TempDir),
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(Duration::from_millis(300)).await
    }

    pub async fn with(patience: Duration) -> Self {
        Self::shaped(|site| site.write_patience = patience).await
    }

    async fn shaped(change: impl FnOnce(&mut exedra_registry::RegistryConfig)) -> Self {
        let key = SigningKey::ec("k1");
        let issuer = Issuer::start(&[&key]).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("workloads.toml");
        issuer.rules(&file, RULES);
        let (site, data) = Site::with(|site| {
            site.workloads = Some(config(&file));
            change(site);
        })
        .await;
        Self { site, issuer, key, file, _dirs: (dir, data) }
    }

    pub fn claims(&self, change: Value) -> Value {
        self.issuer.claims(self.site.clock_now(), change)
    }

    pub fn token(&self, change: Value) -> String {
        self.key.sign(&self.claims(change))
    }

    pub fn pod(&self) -> String {
        self.token(json!({"sub": "system:serviceaccount:ml:agent"}))
    }

    pub async fn register(&self, id: &str, token: &str) -> reqwest::Response {
        self.site.post(&format!("/cloud/executor/{id}/register"), token, register_body(id, "instance")).await
    }

    pub async fn connect(&self, token: &str) -> reqwest::Response {
        self.site.post("/v1/executors/ci-77/connect", token, r#"{"transports": ["direct"]}"#).await
    }

    pub async fn refused(&self, token: &str) -> String {
        refusal(self.register("ci-77", token).await, 401, "unauthenticated").await.message.unwrap()
    }

    async fn workloads(&self) -> Vec<exedra_registry::store::TokenRecord> {
        let tokens = self.site.registry.tokens().list().await.unwrap();
        tokens.into_iter().filter(|token| token.workload.is_some()).collect()
    }
}

#[tokio::test]
async fn a_job_registers_and_a_pod_connects_without_a_secret_of_ours() {
    let stage = Stage::new().await;
    let token = stage.token(json!({}));
    let reply: Value = stage.register("ci-77", &token).await.json().await.unwrap();
    let claims = stage.site.verify(reply["url"].as_str().unwrap()).unwrap();
    let kept = stage.workloads().await.remove(0);
    let workload = kept.workload.clone().unwrap();
    assert_eq!((workload.subject.as_str(), workload.rule.as_str()), ("repo:acme/app:ref:refs/heads/main", "ci"));
    assert_eq!(workload.issuer, stage.issuer.url);
    assert_eq!((kept.executors.as_str(), kept.labels.get("team")), ("ci-*", Some("a")));
    assert_eq!(kept.expires_at, Some(START + 3_600 + 60));
    assert_eq!((claims.token, claims.expires_at), (kept.id.clone(), START + 3_660), "no longer than the proof");
    stage.site.presence().online(&RegistrationId::new(reply["id"].as_str().unwrap()), 1);
    let met: Value = stage.connect(&stage.pod()).await.json().await.unwrap();
    assert_eq!(met["executor_id"], "ci-77");
    assert_eq!(stage.register("ci-77", &token).await.status(), 200);
    assert_eq!(stage.workloads().await.len(), 2, "one for each subject and rule");
    let log = stage.site.http.get(format!("{}/v1/access-log", stage.site.base)).bearer_auth(&stage.site.admin);
    let log: Value = log.send().await.unwrap().json().await.unwrap();
    let lines = log["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["token_id"] == kept.id.as_str() && line["role"] == "executor"), "{log}");
    assert_eq!(stage.issuer.asked(), 1);
}

#[tokio::test]
async fn what_is_forged_or_not_for_now_or_not_for_us_is_refused() {
    let stage = Stage::new().await;
    let rsa = SigningKey::rsa("r1");
    stage.issuer.publish(&[&stage.key, &rsa]);
    assert_eq!(stage.register("ci-77", &rsa.sign(&stage.claims(json!({})))).await.status(), 200, "as it should be");
    let good = stage.token(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let header = |header: Value| URL_SAFE_NO_PAD.encode(header.to_string());
    let other = URL_SAFE_NO_PAD.encode(stage.claims(json!({"run_id": "78"})).to_string());
    let (stranger, now) = (SigningKey::ec("k1"), START);
    let confused = |secret: &[u8], id: &str| {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &stage.claims(json!({})), &EncodingKey::from_secret(secret)).unwrap()
    };
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", rsa.public["n"].as_str().unwrap());
    let modulus = URL_SAFE_NO_PAD.decode(rsa.public["n"].as_str().unwrap()).unwrap();
    let mislabelled = |key: &SigningKey, id: &str| {
        encode(&Header { kid: Some(id.to_owned()), ..Header::new(key.algorithm) }, &stage.claims(json!({})), &key.key)
    };
    for (what, token, said) in [
        ("no signature", format!("{}.{}.", header(json!({"alg": "none", "kid": "k1"})), parts[1]), "algorithm"),
        ("none with one", format!("{}.{}.{}", header(json!({"alg": "None"})), parts[1], parts[2]), "algorithm"),
        ("the public key as a secret", confused(&modulus, "r1"), "algorithm"),
        ("its text as a secret", confused(pem.as_bytes(), "r1"), "algorithm"),
        ("a point as a secret", confused(&STANDARD.decode("AAAA").unwrap(), "k1"), "algorithm"),
        ("another key of that id", stranger.sign(&stage.claims(json!({}))), "signature"),
        ("other claims", format!("{}.{other}.{}", parts[0], parts[2]), "signature"),
        ("no signature at all", format!("{}.{}.", parts[0], parts[1]), "signature"),
        ("a cut one", good[..good.len() - 2].to_owned(), "signature"),
        ("an RSA key for ES256", mislabelled(&stage.key, "r1").unwrap(), "does not publish"),
        ("an EC key for RS256", mislabelled(&rsa, "k1").unwrap(), "does not publish"),
        (
            "not in the list",
            {
                let header = Header { kid: Some("r1".to_owned()), ..Header::new(Algorithm::RS384) };
                encode(&header, &stage.claims(json!({})), &rsa.key).unwrap()
            },
            "algorithm",
        ),
        ("expired", stage.token(json!({"iat": now - 600, "exp": now - 60})), "expired"),
        ("not good yet", stage.token(json!({"nbf": now + 61})), "not good yet"),
        ("made tomorrow", stage.token(json!({"iat": now + 61})), "not good yet"),
        ("without an end", stage.token(json!({"exp": null})), "`exp`"),
        ("for others", stage.token(json!({"aud": "https://github.com/acme"})), "audience"),
        ("for nobody", stage.token(json!({"aud": null})), "`aud`"),
        ("of nobody", stage.token(json!({"sub": ""})), "`sub`"),
        ("of another issuer", stage.token(json!({"iss": "https://issuer.example"})), "issuer"),
    ] {
        let message = stage.refused(&token).await;
        assert!(message.contains(said), "{what}: {message}");
    }
    assert_eq!(stage.register("ci-77", &good).await.status(), 200, "with the last second of it");
    assert_eq!(stage.workloads().await.len(), 1);
    assert_eq!(stage.issuer.asked(), 1, "nobody makes us ask anybody, and nobody again");
}

#[tokio::test]
async fn an_issuer_that_is_not_listed_is_never_asked() {
    let stage = Stage::new().await;
    let key = SigningKey::ec("k1");
    let stranger = Issuer::start(&[&key]).await;
    let claims = stranger.claims(START, json!({}));
    assert!(stage.refused(&key.sign(&claims)).await.contains("issuer"));
    assert!(stage.refused(&stage.token(json!({"iss": format!("{}/", stage.issuer.url)}))).await.contains("issuer"));
    assert_eq!((stranger.asked(), stage.issuer.asked()), (0, 0));
    refusal(stage.register("ci-77", "a.b.c").await, 401, "unauthenticated").await;
}

#[tokio::test]
async fn withdrawn_keys_are_not_taken_for_long() {
    let stage = Stage::new().await;
    let old = stage.token(json!({"exp": START + 100_000}));
    assert_eq!(stage.register("ci-77", &old).await.status(), 200);
    let next = SigningKey::ec("k2");
    stage.issuer.publish(&[&next]);
    let new = next.sign(&stage.claims(json!({"exp": START + 100_000})));
    assert_eq!(stage.register("ci-77", &old).await.status(), 200, "nobody knows yet");
    stage.site.clock.advance(PAUSE);
    assert_eq!(stage.register("ci-77", &new).await.status(), 200);
    stage.site.clock.advance(PAUSE);
    assert!(stage.refused(&old).await.contains("does not publish"));
    let last = SigningKey::ec("k3");
    stage.issuer.publish(&[&last]);
    stage.site.clock.advance(900);
    // The first one that is shown after that time has the keys looked for, and does not wait for it.
    assert_eq!(stage.register("ci-77", &new).await.status(), 200);
    until(|| stage.issuer.asked() == 4).await;
    assert_eq!(stage.register("ci-77", &last.sign(&stage.claims(json!({})))).await.status(), 200);
    stage.site.clock.advance(PAUSE);
    assert!(stage.refused(&new).await.contains("does not publish"));
}

#[tokio::test]
async fn a_registration_waits_for_an_issuer_that_is_away_and_others_are_told_when_to_come_again() {
    let stage = Stage::with(Duration::from_secs(60)).await;
    stage.issuer.set_down(true);
    let response = stage.connect(&stage.pod()).await;
    assert_eq!(response.headers()["retry-after"], "5");
    refusal(response, 503, "unavailable").await;
    let token = stage.token(json!({}));
    let mut registering = Box::pin(stage.register("ci-77", &token));
    tokio::select! {
        response = &mut registering => panic!("{:?}", response.status()),
        () = until(|| stage.issuer.asked() == 1) => {}
    }
    stage.issuer.set_down(false);
    stage.site.clock.advance(5);
    assert_eq!(registering.await.status(), 200);
}

#[tokio::test]
async fn keys_are_kept_for_a_day_when_the_issuer_is_away() {
    let stage = Stage::new().await;
    let token = stage.token(json!({"exp": START + 1_000_000}));
    assert_eq!(stage.register("ci-77", &token).await.status(), 200);
    stage.issuer.set_down(true);
    stage.site.clock.advance(86_399);
    assert_eq!(stage.register("ci-77", &token).await.status(), 200);
    until(|| stage.issuer.asked() == 2).await;
    stage.site.clock.advance(1);
    refusal(stage.register("ci-77", &token).await, 503, "unavailable").await;
}

#[tokio::test]
async fn while_an_issuer_hangs_known_keys_are_good_and_who_shows_a_new_one_waits_for_it() {
    let stage = Stage::with(Duration::from_secs(60)).await;
    let known = stage.token(json!({"exp": START + 100_000}));
    assert_eq!(stage.register("ci-77", &known).await.status(), 200);
    stage.issuer.set_hanging(true);
    stage.site.clock.advance(900);
    let (next, stranger) = (SigningKey::ec("k2"), SigningKey::ec("k3"));
    let new = next.sign(&stage.claims(json!({})));
    let mut waiting = Box::pin(stage.register("ci-77", &new));
    tokio::select! {
        response = &mut waiting => panic!("{:?}", response.status()),
        () = until(|| stage.issuer.asked() == 2) => {}
    }
    tokio::select! {
        response = &mut waiting => panic!("{:?}", response.status()),
        response = stage.register("ci-77", &known) => assert_eq!(response.status(), 200),
    }
    assert_eq!(stage.issuer.waiting(), 1, "nobody waits for known keys until the issuer is given up");
    // The keys change while somebody waits for them.
    stage.issuer.publish(&[&next]);
    stage.issuer.set_hanging(false);
    // If this took so long that it was given up, it is asked again.
    stage.site.clock.advance(5);
    assert_eq!(waiting.await.status(), 200);
    stage.site.clock.advance(PAUSE);
    assert!(stage.refused(&known).await.contains("does not publish"), "withdrawn meanwhile");
    stage.site.clock.advance(PAUSE);
    assert!(stage.refused(&stranger.sign(&stage.claims(json!({})))).await.contains("does not publish"));
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_given_up_and_holds_up_nobody_of_another() {
    let stage = Stage::new().await;
    let other = Issuer::start(&[&stage.key]).await;
    let theirs = stage.file.with_file_name("theirs.toml");
    other.rules(&theirs, &RULES.replace("name = \"", "name = \"their "));
    let both = [&stage.file, &theirs].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    std::fs::write(&stage.file, both).unwrap();
    stage.site.registry.reload_workloads().await;
    stage.issuer.set_hanging(true);
    let pod = stage.pod();
    let mut waiting = Box::pin(stage.connect(&pod));
    tokio::select! {
        response = &mut waiting => panic!("{:?}", response.status()),
        () = until(|| stage.issuer.asked() == 1) => {}
    }
    // Once it is given up, it is as if that had taken its time.
    stage.site.clock.advance(5);
    let token = stage.key.sign(&other.claims(START, json!({})));
    tokio::select! {
        response = &mut waiting => panic!("{:?}", response.status()),
        response = stage.register("ci-77", &token) => assert_eq!(response.status(), 200),
    }
    let response = waiting.await;
    assert_eq!(response.headers()["retry-after"], "5");
    refusal(response, 503, "unavailable").await;
    assert_eq!(stage.issuer.asked(), 1, "whoever waited for it is not made to wait again");
}

#[tokio::test]
async fn a_document_that_speaks_for_another_issuer_is_not_believed() {
    let stage = Stage::new().await;
    stage.issuer.claim_to_be("https://issuer.example");
    refusal(stage.register("ci-77", &stage.token(json!({}))).await, 503, "unavailable").await;
}

#[tokio::test]
async fn whom_no_rule_is_for_is_known_and_not_let_in() {
    let stage = Stage::new().await;
    for change in [
        json!({"sub": "repo:acme/app:ref:refs/heads/evil"}),
        json!({"sub": "repo:acme2/app:ref:refs/heads/main"}),
        json!({"sub": "system:serviceaccount:ml:agent", "kubernetes.io": {"namespace": "ops"}}),
        json!({"sub": "system:serviceaccount:ml:agent", "kubernetes.io": null}),
        json!({"run_id": "*"}),
        json!({"run_id": "7 7"}),
        json!({"run_id": "7/7"}),
        json!({"run_id": "7*"}),
        json!({"run_id": ""}),
        json!({"run_id": null}),
        json!({"run_id": ["77"]}),
    ] {
        refusal(stage.register("ci-77", &stage.token(change)).await, 403, "workload_unmatched").await;
    }
    assert!(stage.workloads().await.is_empty());
    let token = stage.token(json!({}));
    refusal(stage.register("ci-78", &token).await, 403, "forbidden").await;
    refusal(stage.connect(&token).await, 403, "forbidden").await;
    let pod = stage.pod();
    refusal(stage.register("ci-77", &pod).await, 403, "forbidden").await;
    refusal(stage.site.post("/v1/executors/gpu-1/connect", &pod, "{}").await, 403, "forbidden").await;
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Cutoff for Told {
    fn registration(&self, _: &RegistrationId, _: CloseReason) {}

    fn key(&self, _: &str, _: CloseReason) {}

    fn token(&self, token: &TokenId, _: CloseReason) {
        self.0.lock().unwrap().push(token.as_str().to_owned());
    }
}

#[tokio::test]
async fn its_end_cuts_what_is_open_and_a_new_proof_begins_again() {
    let stage = Stage::new().await;
    let told = Arc::new(Told::default());
    stage.site.registry.set_cutoff(Arc::clone(&told) as _);
    let registered = stage.register("ci-77", &stage.token(json!({}))).await;
    assert_eq!(registered.status(), 200);
    let id = stage.workloads().await[0].id.clone();
    stage.site.clock.advance(1_800);
    let renewed = stage.token(json!({}));
    assert_eq!(stage.register("ci-77", &renewed).await.status(), 200);
    stage.site.clock.advance(1_860);
    // Whoever asks for an executor has the ended ones looked for.
    let look = async || stage.site.connect_raw("ci-77", 0).await.status().as_u16();
    assert_eq!(look().await, 409);
    assert!(told.0.lock().unwrap().is_empty(), "the later proof counts");
    stage.site.clock.advance(1_800);
    let gone = stage.refused(&renewed).await;
    assert!(gone.contains("expired"), "{gone}");
    stage.site.registry.set_cutoff(Arc::clone(&told) as _);
    until(|| *told.0.lock().unwrap() == [id.as_str().to_owned()]).await;
    let reply: Value = stage.register("ci-77", &stage.token(json!({}))).await.json().await.unwrap();
    let claims = stage.site.verify(reply["url"].as_str().unwrap()).unwrap();
    assert_eq!((claims.token, claims.issued_at), (id, START + 5_460), "the same, from now on");
}

/// Waits until it is so.
pub async fn comes(condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn who_ended_longer_ago_than_the_access_log_reaches_is_forgotten_with_what_came_with_it() {
    let stage = Stage::shaped(|site| {
        site.housekeeping = Duration::from_millis(20);
        site.access_keep = Duration::from_secs(1_000);
    })
    .await;
    assert_eq!(stage.register("ci-77", &stage.token(json!({}))).await.status(), 200);
    assert_eq!(stage.connect(&stage.pod()).await.status(), 409, "known, and away");
    let revoked = stage.workloads().await.remove(1);
    stage.site.registry.tokens().revoke(revoked.id.as_str()).await.unwrap();
    let log = async || {
        let url = format!("{}/v1/access-log", stage.site.base);
        stage.site.http.get(url).bearer_auth(&stage.site.admin).send().await.unwrap().text().await.unwrap()
    };
    // Its time is over, and the log still names it: a whole round of housekeeping leaves it alone.
    for seconds in [3_600 + 60 + 900, 1] {
        stage.site.clock.advance(seconds);
        log().await;
        comes(async || {
            let tokens = stage.site.registry.tokens().list().await.unwrap();
            tokens.iter().any(|token| token.last_used == Some(stage.site.clock_now()))
        })
        .await;
    }
    assert_eq!(stage.workloads().await.len(), 2);
    stage.site.clock.advance(200);
    comes(async || stage.workloads().await == [stage.site.registry.tokens().show(revoked.id.as_str()).await.unwrap()])
        .await;
    assert_eq!(stage.connect(&stage.pod()).await.status(), 401, "who was revoked stays out");
    let forgotten = &stage.site.events("executor_forgotten").await[0];
    assert_eq!((&forgotten["executor_id"], &forgotten["detail"]["by"]), (&"ci-77".into(), &"lapsed".into()));
    comes(async || log().await.contains("tokens of workloads that ended")).await;
    assert_eq!(
        stage.register("ci-77", &stage.token(json!({}))).await.status(),
        200,
        "and whoever comes again is let in"
    );
}

#[tokio::test]
async fn who_was_revoked_stays_out_until_an_administrator_says_otherwise() {
    let stage = Stage::new().await;
    assert_eq!(stage.register("ci-77", &stage.token(json!({}))).await.status(), 200);
    let tokens = stage.site.registry.tokens();
    let id = stage.workloads().await[0].id.as_str().to_owned();
    assert!(tokens.rotate(&id, Duration::ZERO).await.is_err(), "it has no secret to be renewed");
    tokens.revoke(&id).await.unwrap();
    stage.site.clock.advance(60);
    for change in [json!({}), json!({"run_id": "78"}), json!({"jti": "another"})] {
        let said = stage.refused(&stage.token(change)).await;
        assert!(said.contains("revoked"), "{said}");
    }
    let elsewhere = stage.token(json!({"sub": "repo:acme/other:ref:refs/heads/main"}));
    assert_eq!(stage.register("ci-77", &elsewhere).await.status(), 200, "another subject");
    tokens.readmit(&id).await.unwrap();
    assert_eq!(stage.register("ci-77", &stage.token(json!({}))).await.status(), 200);
    let ours = tokens.list().await.unwrap().into_iter().find(|token| token.workload.is_none()).unwrap();
    tokens.revoke(ours.id.as_str()).await.unwrap();
    assert!(tokens.readmit(ours.id.as_str()).await.is_err(), "a secret that was revoked stays so");
}

#[tokio::test]
async fn new_rules_hold_at_once_and_bad_ones_change_nothing() {
    let stage = Stage::new().await;
    let token = stage.token(json!({}));
    assert_eq!(stage.register("ci-77", &token).await.status(), 200);
    std::fs::write(&stage.file, "[[issuer]]\nurl = 7\n").unwrap();
    stage.site.registry.reload_workloads().await;
    assert_eq!(stage.register("ci-77", &token).await.status(), 200);
    stage
        .issuer
        .rules(&stage.file, &RULES.replace("ci-{run_id}", "job-{run_id}").replace("team = \"a\"", "team = \"b\""));
    stage.site.registry.reload_workloads().await;
    refusal(stage.register("ci-77", &token).await, 403, "forbidden").await;
    assert_eq!(stage.register("job-77", &token).await.status(), 200);
    let kept = stage.workloads().await.remove(0);
    assert_eq!((kept.executors.as_str(), kept.labels.get("team")), ("job-*", Some("b")), "the same, as it is now");
    assert_eq!((stage.workloads().await.len(), stage.issuer.asked()), (1, 1), "its keys were known");
    stage.issuer.rules(&stage.file, "");
    stage.site.registry.reload_workloads().await;
    refusal(stage.register("job-77", &token).await, 403, "workload_unmatched").await;
    std::fs::write(&stage.file, "").unwrap();
    stage.site.registry.reload_workloads().await;
    assert!(stage.refused(&token).await.contains("issuer"));
}

#[tokio::test]
async fn executors_are_told_of_a_workload_what_its_rule_says_and_else_its_labels() {
    let stage = Stage::new().await;
    let body = register_body("ci-77", "i").replace(r#""metadata":{}"#, r#""metadata":{},"transports":["relay"]"#);
    let reply = stage.site.post("/cloud/executor/ci-77/register", &stage.token(json!({})), body).await;
    let reply: Value = reply.json().await.unwrap();
    stage.site.presence().online_told(&RegistrationId::new(reply["id"].as_str().unwrap()), 1);
    let reach = "role = \"client\"\nlabels = { team = \"a\" }";
    for (words, told) in [
        (reach.to_owned(), &["team=a"][..]),
        (format!("{reach}\nclient_labels = {{ ci = \"\", who = \"pods\" }}"), &["ci", "who=pods"]),
        (format!("{reach}\nclient_labels = {{}}"), &[]),
    ] {
        stage.issuer.rules(&stage.file, &RULES.replace("role = \"client\"", &words));
        stage.site.registry.reload_workloads().await;
        let met = stage.site.post("/v1/executors/ci-77/connect", &stage.pod(), "{}").await;
        let met: Value = met.json().await.unwrap();
        let claims = stage.site.verify(met["url"].as_str().unwrap()).unwrap();
        assert_eq!(claims.client.labels, told, "{words}");
        let kept = stage.workloads().await.into_iter().find(|token| token.id == claims.token).unwrap();
        assert_eq!(kept.client_labels.words().collect::<Vec<_>>(), told, "{words}");
        assert_eq!(kept.labels.get("team"), Some("a"));
    }
}

#[tokio::test]
async fn what_is_opened_may_stay_for_longer_than_the_proof_where_the_rule_says_so() {
    let stage = Stage::new().await;
    stage.issuer.rules(&stage.file, &RULES.replace("labels = { team = \"a\" }", "session = \"12h\""));
    stage.site.registry.reload_workloads().await;
    let token = stage.token(json!({"exp": START + 300}));
    let reply: Value = stage.register("ci-77", &token).await.json().await.unwrap();
    let claims = stage.site.verify(reply["url"].as_str().unwrap()).unwrap();
    assert_eq!(claims.expires_at, START + 43_200);
    stage.site.clock.advance(360);
    assert!(stage.refused(&token).await.contains("expired"), "to ask for anything, the proof has to be good");
}

/// A server with an issuer whose keys are in a file.
struct OfFile {
    site: Site,
    issuer: Issuer,
    keys: PathBuf,
    _dirs: (TempDir, TempDir),
}

impl OfFile {
    async fn new(key: &SigningKey) -> Self {
        let issuer = Issuer::start(&[]).await;
        let dir = tempfile::tempdir().unwrap();
        let (file, keys) = (dir.path().join("workloads.toml"), dir.path().join("keys.json"));
        std::fs::write(&keys, json!({"keys": [key.public]}).to_string()).unwrap();
        issuer.rules(&file, RULES);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen("audience", "jwks_file = \"keys.json\"\naudience", 1)).unwrap();
        let (site, data) = Site::with(|site| site.workloads = Some(config(&file))).await;
        Self { site, issuer, keys, _dirs: (dir, data) }
    }

    /// From then on it has these, some time later.
    fn publish(&self, published: &[&SigningKey]) {
        let keys: Vec<_> = published.iter().map(|key| &key.public).collect();
        std::fs::write(&self.keys, json!({"keys": keys}).to_string()).unwrap();
        self.site.clock.advance(30);
    }

    fn set_mode(&self, mode: u32) {
        std::fs::set_permissions(&self.keys, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What becomes of a registration with a token that this key signs.
    async fn status(&self, key: &SigningKey) -> u16 {
        let token = key.sign(&self.issuer.claims(START, json!({})));
        let path = "/cloud/executor/ci-77/register";
        self.site.post(path, &token, register_body("ci-77", "i")).await.status().as_u16()
    }
}

#[tokio::test]
async fn keys_may_come_from_a_file() {
    let (key, next) = (SigningKey::ec("k1"), SigningKey::ec("k2"));
    let stage = OfFile::new(&key).await;
    assert_eq!(stage.status(&key).await, 200);
    stage.publish(&[&next]);
    assert_eq!(stage.status(&next).await, 200);
    assert_eq!(stage.issuer.asked(), 0);
}

#[tokio::test]
async fn a_file_of_keys_that_a_stranger_may_have_written_is_not_read_again_and_the_keys_from_before_stay() {
    let (key, theirs) = (SigningKey::ec("k1"), SigningKey::ec("k2"));
    let stage = OfFile::new(&key).await;
    assert_eq!(stage.status(&key).await, 200);
    stage.set_mode(0o666);
    stage.publish(&[&key, &theirs]);
    assert_eq!(stage.status(&theirs).await, 503);
    stage.site.registry.reload_workloads().await;
    stage.site.clock.advance(30);
    assert_eq!((stage.status(&theirs).await, stage.status(&key).await), (503, 200));
    stage.set_mode(0o600);
    stage.site.clock.advance(5);
    assert_eq!(stage.status(&theirs).await, 200, "its owner says that it is good");
}

#[tokio::test]
async fn a_server_with_a_bad_file_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("workloads.toml");
    std::fs::write(&file, "[[rule]]\nname = \"x\"\n").unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut site = crate::support::config(data.path(), &crate::support::StandingClock::new());
    site.workloads = Some(config(&file));
    let Err(error) = Site::start(site).await else { panic!("it started") };
    assert!(error.to_string().contains("line 1: missing field `issuer`"), "{error}");
}
