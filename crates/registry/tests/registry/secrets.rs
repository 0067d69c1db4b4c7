//! A run at trace level, searched for every secret in play.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use exedra_registry::NewToken;
use exedra_registry::token::Role;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{refusal, register_body, site};

#[derive(Clone, Default)]
struct Pages(Arc<Mutex<Vec<u8>>>);

impl Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Pages {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let pages = Pages::default();
    let log =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(pages.clone());
    tracing::subscriber::set_global_default(log.finish()).unwrap();

    let (site, dir) = site().await;
    let other = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    let registered = site.register("journal-box", "i").await;
    site.presence().online(&exedra_proto::ids::RegistrationId::new(registered.id.clone()), 1);
    let connected = site.connect("journal-box", 0).await;
    let path = format!("/cloud/executor/journal-box/register?token={}", other.secret.expose());
    refusal(site.post(&path, other.secret.expose(), register_body("journal-box", "i")).await, 403, "forbidden").await;
    site.registry.tokens().revoke(other.record.id.as_str()).await.unwrap();
    refusal(site.post(&path, other.secret.expose(), "").await, 401, "unauthenticated").await;
    site.registry.rotate_keys().await.unwrap();
    let keys: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("signing-keys.json")).unwrap()).unwrap();
    let admin = site.admin.clone();
    site.stop().await;

    let log = String::from_utf8_lossy(&pages.0.lock().unwrap().clone()).into_owned();
    assert!(log.contains("/cloud/executor/journal-box/register") && log.contains("status=403"), "{log}");
    assert!(log.contains(&registered.id), "{log}");
    let signature = |url: &str| url.split("sig=").nth(1).unwrap().to_owned();
    let mut secrets = vec![
        admin[9..52].to_owned(),
        other.secret.expose()[9..52].to_owned(),
        signature(registered.url.expose()),
        signature(connected.url.expose()),
    ];
    secrets.extend(keys["keys"].as_array().unwrap().iter().map(|key| key["secret"].as_str().unwrap().to_owned()));
    assert_eq!(secrets.len(), 6);
    for (n, secret) in secrets.iter().enumerate() {
        assert!(!log.contains(secret.as_str()), "secret {n} is in the log");
    }
}
