//! Tokens on a data directory, with and without a server.

use std::time::Duration;

use exedra_registry::token::{Pattern, Role, is_well_formed};
use exedra_registry::{NewToken, RegistryError, open_tokens};
use futures_util::future::join_all;

use crate::support::site;

#[tokio::test]
async fn a_directory_is_made_for_the_first_token_and_a_server_knows_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let tokens = open_tokens(&path).await.unwrap();
    let new = NewToken {
        role: Role::Executor,
        executors: Pattern::parse("gpu-*").unwrap(),
        name: "the lab".to_owned(),
        lifetime: Some(Duration::from_secs(3600)),
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
    assert_eq!(members, ["created_at", "executors", "expires_at", "id", "name", "revoked_at", "role"]);
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
