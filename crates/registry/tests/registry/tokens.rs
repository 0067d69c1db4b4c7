//! Tokens on a data directory, with and without a server.

use std::time::Duration;

use exedra_proto::ids::RegistrationId;
use exedra_proto::introduction::Client;
use exedra_proto::registry::{ConnectReply, RegisterReply};
use exedra_registry::token::{Labels, Pattern, Rights, Role, is_well_formed};
use exedra_registry::{NewToken, RegistryError, open_tokens};
use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{START, Site, refusal, register_body, site};

#[tokio::test]
async fn a_directory_is_made_for_the_first_token_and_a_server_knows_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let tokens = open_tokens(&path).await.unwrap();
    let new = NewToken {
        executors: Pattern::parse("gpu-*").unwrap(),
        name: "the lab".to_owned(),
        lifetime: Some(Duration::from_secs(3600)),
        ..NewToken::of(Role::Executor)
    };
    let created = tokens.create(new).await.unwrap();
    assert!(is_well_formed(created.secret.expose()));
    let record = created.record.clone();
    assert_eq!(record.expires_at, Some(record.created_at + 3600));
    assert_eq!((record.name.as_str(), record.executors.as_str(), record.role), ("the lab", "gpu-*", Role::Executor));
    assert_eq!(tokens.list().await.unwrap(), std::slice::from_ref(&record));
    tokens.close().await;
    let server = exedra_registry::Registry::open(exedra_registry::RegistryConfig::new(&path)).await.unwrap();
    assert_eq!(server.tokens().list().await.unwrap(), [record]);
    server.shutdown().await;
}

#[tokio::test]
async fn the_token_itself_is_nowhere_on_the_disk() {
    let (site, dir) = site().await;
    let token = site.token(Role::Client, "*").await;
    site.stop().await;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for part in [&token[..], &token[9..], &token[9..52]] {
            assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()));
        }
    }
}

#[tokio::test]
async fn what_is_listed_has_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = open_tokens(dir.path()).await.unwrap();
    let created = tokens.create(NewToken::of(Role::Admin)).await.unwrap();
    let listed = serde_json::to_value(tokens.list().await.unwrap()).unwrap();
    let members: Vec<_> = listed[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "client_labels",
            "created_at",
            "executors",
            "expires_at",
            "id",
            "joined_with",
            "labels",
            "last_used",
            "name",
            "revoked_at",
            "rights",
            "role",
            "uses_left",
            "workload"
        ]
    );
    assert_eq!(listed[0]["role"], "admin");
    let shown = format!("{created:?} {listed}");
    assert!(!shown.contains(created.secret.expose()) && shown.contains("<redacted>"));
    tokens.close().await;
}

#[tokio::test]
async fn revoking_says_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = open_tokens(dir.path()).await.unwrap();
    let created = tokens.create(NewToken::of(Role::Admin)).await.unwrap();
    let first = tokens.revoke(created.record.id.as_str()).await.unwrap();
    assert!(first.revoked_at.is_some());
    assert_eq!(tokens.revoke(created.record.id.as_str()).await.unwrap(), first, "once more changes nothing");
    let error = tokens.revoke("tok-0123456789abcdef").await.unwrap_err();
    assert!(matches!(error, RegistryError::UnknownToken { .. }), "{error:?}");
    let error = tokens.revoke(created.secret.expose()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&created.secret.expose()[9..]), "a token given for an id");
    tokens.close().await;
}

#[tokio::test]
async fn a_name_is_one_short_line() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = open_tokens(dir.path()).await.unwrap();
    for name in ["a\nb".to_owned(), "\u{1b}[31m".to_owned(), "a".repeat(129)] {
        let error = tokens.create(NewToken { name, ..NewToken::of(Role::Admin) }).await.unwrap_err();
        assert!(matches!(error, RegistryError::Config(_)), "{error:?}");
    }
    assert!(tokens.list().await.unwrap().is_empty());
    tokens.close().await;
}

#[tokio::test]
async fn many_may_make_tokens_at_once_in_a_new_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let create = async |_| {
        let tokens = open_tokens(&path).await.unwrap();
        tokens.create(NewToken::of(Role::Client)).await.unwrap();
        tokens.close().await;
    };
    join_all((0..12).map(create)).await;
    let tokens = open_tokens(&path).await.unwrap();
    assert_eq!(tokens.list().await.unwrap().len(), 12);
    tokens.close().await;
}

#[tokio::test]
async fn a_token_gets_another_secret_and_the_old_one_a_grace() {
    let (site, _dir) = site().await;
    let created = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    let id = created.record.id.as_str();
    let status = async |token: &str| site.post("/v1/executors/box/connect", token, "{}").await.status().as_u16();
    let rotated = site.registry.tokens().rotate(id, Duration::from_secs(60)).await.unwrap();
    assert_eq!(rotated.record.id.as_str(), id);
    assert_ne!(rotated.secret.expose(), created.secret.expose());
    assert_eq!((status(created.secret.expose()).await, status(rotated.secret.expose()).await), (404, 404));
    site.clock.advance(60);
    assert_eq!((status(created.secret.expose()).await, status(rotated.secret.expose()).await), (401, 404));
    let at_once = site.registry.tokens().rotate(id, Duration::ZERO).await.unwrap();
    assert_eq!((status(rotated.secret.expose()).await, status(at_once.secret.expose()).await), (401, 404));
    site.registry.tokens().revoke(id).await.unwrap();
    let error = site.registry.tokens().rotate(id, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, RegistryError::EndedToken { .. }), "{error:?}");
    assert_eq!(status(at_once.secret.expose()).await, 401);
}

#[tokio::test]
async fn when_a_token_was_last_used_is_told_at_once_and_saved_soon() {
    let (site, dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    let created = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    let id = created.record.id.as_str().to_owned();
    let told = async || {
        let show = site.http.get(format!("{}/v1/tokens/{id}", site.base)).bearer_auth(&site.admin);
        let token = show.send().await.unwrap().json::<Value>().await.unwrap();
        let list = site.http.get(format!("{}/v1/tokens", site.base)).bearer_auth(&site.admin);
        let list = list.send().await.unwrap().json::<Value>().await.unwrap();
        assert!(list["tokens"].as_array().unwrap().contains(&token), "{list}");
        token["last_used"].as_u64()
    };
    let use_it = async || site.post("/v1/executors/box/connect", created.secret.expose(), "{}").await;
    assert_eq!(told().await, None);
    site.clock.advance(7);
    use_it().await;
    assert_eq!(told().await, Some(START + 7));
    // Whoever looks into the records beside the server sees it soon, too.
    let saved = async || site.registry.tokens().show(&id).await.unwrap().last_used;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while saved().await != Some(START + 7) {
        assert!(tokio::time::Instant::now() < deadline, "it is never saved");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    site.clock.advance(5);
    use_it().await;
    assert_eq!(told().await, Some(START + 12));
    site.stop().await;
    let tokens = open_tokens(dir.path()).await.unwrap();
    assert_eq!(tokens.show(&id).await.unwrap().last_used, Some(START + 12));
    tokens.close().await;
}

#[tokio::test]
async fn labels_of_a_token_decide_and_those_of_a_registration_do_not() {
    let (site, _dir) = site().await;
    let team = |name: &str| Labels::new([("team".to_owned(), name.to_owned())]).unwrap();
    let token = async |role, labels| {
        let new = NewToken { labels, ..NewToken::of(role) };
        site.registry.tokens().create(new).await.unwrap().secret.expose().to_owned()
    };
    let (a, b) = (token(Role::Executor, team("a")).await, token(Role::Executor, team("b")).await);
    let path = "/cloud/executor/box/register";
    let lie = register_body("box", "i").replace(r#""labels":{}"#, r#""labels":{"team":"b"}"#);
    assert!(lie.contains(r#""team":"b""#));
    assert_eq!(site.post(path, &a, lie).await.status(), 200);
    refusal(site.post(path, &b, register_body("box", "j")).await, 403, "forbidden").await;
    let connect = async |token: &str| site.post("/v1/executors/box/connect", token, "{}").await;
    let theirs = token(Role::Client, team("a")).await;
    refusal(connect(&theirs).await, 409, "environment_offline").await;
    for labels in [team("b"), Labels::new([("os".to_owned(), "linux".to_owned())]).unwrap()] {
        refusal(connect(&token(Role::Client, labels).await).await, 403, "forbidden").await;
    }
    refusal(connect(&token(Role::Client, Labels::default()).await).await, 409, "environment_offline").await;
}

#[tokio::test]
async fn fewer_rights_than_all_are_refused_where_nobody_enforces_them() {
    let (site, _dir) = site().await;
    let new = NewToken { rights: Rights::parse("exec,pty").unwrap(), ..NewToken::of(Role::Client) };
    let token = site.registry.tokens().create(new.clone()).await.unwrap();
    let path = "/v1/executors/box/connect";
    let connect = async |body: &'static str| site.post(path, token.secret.expose(), body).await;
    let registration = site.executor("box").await;
    let detail = refusal(connect("{}").await, 403, "rights_not_enforceable").await;
    assert!(detail.message.unwrap().contains("exec,pty"));
    // Nor is it waited for, whoever has it now.
    site.presence().held(&registration);
    refusal(connect(r#"{"wait_ms": 60000}"#).await, 403, "rights_not_enforceable").await;

    site.presence().offline(&registration, 0);
    refusal(connect("{}").await, 409, "environment_offline").await;
    // Whoever waits for it learns what it is when it comes.
    let (answer, ()) = tokio::join!(connect(r#"{"wait_ms": 60000}"#), async {
        site.waiting(1).await;
        site.presence().online(&registration, 1);
    });
    refusal(answer, 403, "rights_not_enforceable").await;

    site.presence().offline(&registration, 0);
    let (answer, ()) = tokio::join!(connect(r#"{"wait_ms": 60000}"#), async {
        site.waiting(1).await;
        site.presence().online_told(&registration, 1);
    });
    let reply: ConnectReply = answer.json().await.unwrap();
    let claims = site.verify(reply.url.expose()).unwrap();
    assert_eq!(claims.client, Client { rights: new.rights, ..Client::default() });

    let error = site.registry.tokens().create(NewToken { role: Role::Executor, ..new }).await.unwrap_err();
    assert!(matches!(error, RegistryError::Config(_)), "{error:?}");
}

#[tokio::test]
async fn a_clients_ticket_says_what_its_token_does() {
    let (site, _dir) = site().await;
    let labels = [("team", "ml"), ("ci", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let labels = Labels::new(labels).unwrap();
    let executor = NewToken { labels: labels.clone(), ..NewToken::of(Role::Executor) };
    let executor = site.registry.tokens().create(executor).await.unwrap();
    let body = register_body("box", "i").replace(r#""metadata":{}"#, r#""metadata":{},"transports":["relay"]"#);
    let response = site.post("/cloud/executor/box/register", executor.secret.expose(), body).await;
    let registered: RegisterReply = response.json().await.unwrap();
    let registration = RegistrationId::new(registered.id.clone());
    site.presence().online_told(&registration, 1);
    let new = NewToken { labels, name: "the \"ci\" & co".to_owned(), ..NewToken::of(Role::Client) };
    let told = Labels::new([("who".to_owned(), "me".to_owned())]).unwrap();
    for (client_labels, expected) in [(Some(told), vec!["who=me".to_owned()]), (Some(Labels::default()), vec![])] {
        let new = NewToken { client_labels, ..new.clone() };
        let token = site.registry.tokens().create(new).await.unwrap();
        let answer = site.post("/v1/executors/box/connect", token.secret.expose(), "{}").await;
        let reply: ConnectReply = answer.json().await.unwrap();
        assert_eq!(site.verify(reply.url.expose()).unwrap().client.labels, expected);
    }
    let token = site.registry.tokens().create(new).await.unwrap();
    let answer = site.post("/v1/executors/box/connect", token.secret.expose(), "{}").await;
    let reply: ConnectReply = answer.json().await.unwrap();
    let claims = site.verify(reply.url.expose()).unwrap();
    assert_eq!(claims.token, token.record.id);
    let labels = vec!["ci".to_owned(), "team=ml".to_owned()];
    assert_eq!(claims.client, Client { name: "the \"ci\" & co".to_owned(), labels, rights: Rights::ALL });
    assert_eq!(site.verify(registered.url.expose()).unwrap().client, Client::default(), "an executor's says nothing");
}
