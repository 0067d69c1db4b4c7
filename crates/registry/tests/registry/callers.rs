//! Who may: every operation of the interface against every kind of caller. The operations come from the routes themselves,
//! so that one without a row here fails.

use std::time::Duration;

use exedra_proto::ids::RegistrationId;
use exedra_registry::token::{Labels, Pattern, Rights, Role};
use exedra_registry::{NewToken, openapi_text};
use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::key;
use crate::issuer::{Issuer, SigningKey, config};
use crate::support::{START, Site, register_body};

const WORKLOAD: &str = r#"
[[rule]]
name = "clients"
issuer = "ISSUER"
claims = { sub = "repo:acme/*" }
role = "client"
executor = "b*"
labels = { team = "a" }
"#;

/// What decides who may use an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Nobody is asked.
    Open,
    /// A signature is asked for, and no bearer token does.
    Signed,
    /// An executor comes by this.
    Register,
    /// A client comes by this.
    Connect,
    /// Whoever sees executors sees of them what is theirs.
    Look,
    /// One executor is looked at.
    LookAtOne,
    /// An executor is changed.
    Administer,
    /// It concerns the whole server.
    Govern,
    /// A join token is traded.
    Join,
}

fn class(operation: &str) -> Class {
    match operation {
        "alive" | "ready" | "document" => Class::Open,
        "register" | "register_environment" | "validate" => Class::Register,
        "register_direct" => Class::Signed,
        "connect_environment" | "connect_executor" => Class::Connect,
        "list_executors" | "list_connections" | "list_events" | "follow_events" => Class::Look,
        "show_executor" => Class::LookAtOne,
        "forget_executor" | "drain_executor" | "resume_executor" | "label_executor" => Class::Administer,
        "list_tokens" | "create_token" | "show_token" | "revoke_token" | "rotate_token" => Class::Govern,
        "server_status" | "list_access" | "list_keys" | "rotate_keys" | "revoke_key" => Class::Govern,
        "join" => Class::Join,
        other => panic!("who may use {other}? It needs a row here"),
    }
}

/// Kinds of callers; the executor `box` registered with the token of [`Caller::Executor`], whose label is `team=a`.
const CALLERS: [Caller; 21] = [
    Caller::None,
    Caller::Wrong,
    Caller::Expired,
    Caller::Revoked,
    Caller::Join,
    Caller::OtherPattern(Role::Executor),
    Caller::OtherPattern(Role::Client),
    Caller::OtherPattern(Role::Admin),
    Caller::OtherLabel(Role::Executor),
    Caller::OtherLabel(Role::Client),
    Caller::OtherLabel(Role::Admin),
    Caller::OtherClientLabel(Role::Client),
    Caller::OtherClientLabel(Role::Admin),
    Caller::FewerRights(Role::Client),
    Caller::FewerRights(Role::Admin),
    Caller::OtherExecutor,
    Caller::Executor,
    Caller::Client,
    Caller::Workload,
    Caller::LabelledAdmin,
    Caller::Admin,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    None,
    Wrong,
    Expired,
    Revoked,
    Join,
    OtherPattern(Role),
    OtherLabel(Role),
    /// An executor is told of labels that it does not have itself.
    OtherClientLabel(Role),
    FewerRights(Role),
    OtherExecutor,
    Executor,
    Client,
    /// As [`Caller::Client`], by the word of another issuer.
    Workload,
    LabelledAdmin,
    Admin,
}

/// The refusal that is right; none, if there has to be none. `told`: the executor is told who its clients are.
fn refused(class: Class, caller: Caller, told: bool) -> Option<u16> {
    use Caller::{
        Admin, Client, Executor, Expired, FewerRights, Join, LabelledAdmin, OtherClientLabel, OtherExecutor,
        OtherLabel, OtherPattern, Revoked, Workload, Wrong,
    };
    let may = match (class, caller) {
        (Class::Signed, _) => return Some(401),
        (Class::Open, _) => true,
        (_, Caller::None | Wrong | Expired | Revoked) => return Some(401),
        (Class::Join, caller) => caller == Join,
        (_, Admin | OtherClientLabel(Role::Admin)) => true,
        (_, Join) => false,
        (Class::Govern, _) => false,
        (_, LabelledAdmin) => true,
        (Class::Look, _) => true,
        (_, OtherPattern(_) | OtherLabel(_)) => false,
        (Class::Register, Executor | OtherExecutor | FewerRights(Role::Admin)) => true,
        (Class::Connect, Client | OtherClientLabel(_) | Workload) => true,
        (Class::Connect, FewerRights(_)) => told,
        (Class::LookAtOne, Executor | Client | OtherClientLabel(_) | Workload | FewerRights(_)) => true,
        (Class::Administer, FewerRights(Role::Admin)) => true,
        _ => false,
    };
    (!may).then_some(403)
}

struct Bearers(Vec<(Caller, Option<String>)>);

impl Bearers {
    async fn new(site: &Site, workload: String) -> Self {
        let mut all = Vec::new();
        for caller in CALLERS {
            let bearer = match caller {
                Caller::Workload => Some(workload.clone()),
                _ => bearer(site, caller).await,
            };
            all.push((caller, bearer));
        }
        site.clock.advance(60);
        Self(all)
    }

    fn of(&self, wanted: Caller) -> Option<&str> {
        self.0.iter().find(|(caller, _)| *caller == wanted).and_then(|(_, bearer)| bearer.as_deref())
    }
}

async fn bearer(site: &Site, caller: Caller) -> Option<String> {
    let team = |name: &str| Labels::new([("team".to_owned(), name.to_owned())]).unwrap();
    let new = match caller {
        Caller::None | Caller::Workload => return None,
        Caller::Wrong => {
            return Some(exedra_registry::token::generate(Role::Admin).unwrap().expose().to_owned());
        }
        Caller::Expired => NewToken { lifetime: Some(Duration::from_secs(60)), ..NewToken::of(Role::Admin) },
        Caller::Revoked | Caller::Admin => NewToken::of(Role::Admin),
        Caller::Join => NewToken::of(Role::Join),
        Caller::OtherPattern(role) => NewToken { executors: Pattern::parse("lab-*").unwrap(), ..NewToken::of(role) },
        Caller::OtherLabel(role) => NewToken { labels: team("b"), ..NewToken::of(role) },
        Caller::OtherClientLabel(role) => {
            let labels = if role == Role::Client { team("a") } else { Labels::default() };
            NewToken { labels, client_labels: Some(team("b")), ..NewToken::of(role) }
        }
        Caller::FewerRights(role) => NewToken { rights: Rights::parse("exec").unwrap(), ..NewToken::of(role) },
        Caller::OtherExecutor => NewToken::of(Role::Executor),
        Caller::Executor => NewToken { labels: team("a"), ..NewToken::of(Role::Executor) },
        Caller::Client => NewToken { labels: team("a"), ..NewToken::of(Role::Client) },
        Caller::LabelledAdmin => NewToken { labels: team("a"), ..NewToken::of(Role::Admin) },
    };
    let created = site.registry.tokens().create(new).await.unwrap();
    if caller == Caller::Revoked {
        site.registry.tokens().revoke(created.record.id.as_str()).await.unwrap();
    }
    Some(created.secret.expose().to_owned())
}

/// `box` is registered with its own token, online and free.
async fn executor(site: &Site, own: &str, admin: &str, told: bool) {
    let forget = site.http.delete(format!("{}/v1/executors/box?force=true", site.base)).bearer_auth(admin);
    forget.send().await.unwrap();
    let response = site.post("/cloud/executor/box/register", own, register_body("box", "instance")).await;
    let reply: Value = response.json().await.unwrap();
    let registration = RegistrationId::new(reply["id"].as_str().unwrap());
    if told {
        site.presence().online_told(&registration, 1);
    } else {
        site.presence().online(&registration, 1);
    }
}

fn body(operation: &str) -> Option<Value> {
    Some(match operation {
        "register" => serde_json::from_str(&register_body("box", "instance")).unwrap(),
        "connect_environment" => json!({"harness_public_key": key(1)}),
        "validate" => json!({"executor_registration_id": "reg", "harness_public_key": key(1),
            "harness_key_authorization": "a"}),
        "connect_executor" => json!({}),
        "label_executor" => json!({"labels": {"team": "a"}}),
        "create_token" => json!({"role": "client"}),
        "join" => json!({"executor_id": "box", "credential_sha256": "0".repeat(64)}),
        _ => return None,
    })
}

#[tokio::test]
async fn every_operation_is_for_those_who_may_and_for_no_other() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let rules = tempfile::tempdir().unwrap();
    let file = rules.path().join("workloads.toml");
    issuer.rules(&file, WORKLOAD);
    let (site, _dir) = Site::with(|site| site.workloads = Some(config(&file))).await;
    let bearers = Bearers::new(&site, key.sign(&issuer.claims(START, json!({})))).await;
    let (own, admin) = (bearers.of(Caller::Executor).unwrap(), bearers.of(Caller::Admin).unwrap());
    let document: Value = serde_json::from_str(&openapi_text(None).unwrap()).unwrap();
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let operation = operation["operationId"].as_str().unwrap();
            let class = class(operation);
            operations += 1;
            let is_open = item[method]["security"].as_array().is_some();
            assert_eq!(is_open, class == Class::Open, "the document says so of {operation}");
            for (caller, told) in CALLERS.into_iter().flat_map(|caller| [(caller, false), (caller, true)]) {
                if told && class != Class::Connect {
                    continue;
                }
                executor(&site, own, admin, told).await;
                let token = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
                let id = if path.contains("/tokens/") { token.record.id.as_str() } else { "box" };
                let url = format!("{}{}", site.base, path.replace("{id}", id));
                let mut request = site.http.request(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), url);
                if let Some(bearer) = bearers.of(caller) {
                    request = request.bearer_auth(bearer);
                }
                if let Some(body) = body(operation) {
                    request = request.body(body.to_string());
                }
                let status = request.send().await.unwrap().status().as_u16();
                let found = Some(status).filter(|status| [401, 403].contains(status));
                assert_eq!(found, refused(class, caller, told), "{caller:?} at {operation}, told: {told}");
                assert!(status < 500, "{caller:?} at {operation}: {status}");
            }
        }
    }
    assert!(operations >= 20, "{operations}");
}
