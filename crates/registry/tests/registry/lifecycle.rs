//! Starting, restarting, draining; keys and records that outlive the process.

use std::time::Duration;

use exedra_proto::ids::RegistrationId;
use exedra_registry::{Registry, RegistryConfig, RegistryError};

use crate::support::{START, Site, StandingClock, config, refusal, site, until};

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let (site, dir) = site().await;
    let (admin, clock) = (site.admin.clone(), site.clock.clone());
    let first = site.register("box", "i1").await;
    let registration = RegistrationId::new(first.id.clone());
    site.presence().online(&registration, 1);
    clock.advance(7);
    site.stop().await;

    let mut site = Site::on(dir.path()).await;
    site.admin = admin;
    assert!(site.verify(first.url.expose()).is_ok(), "open tickets stay good");
    let detail = refusal(site.connect_raw("box", 0).await, 409, "environment_offline").await;
    assert_eq!(detail.last_seen, Some(START + 7), "saved at the shutdown");
    site.presence().online(&registration, 1);
    assert_eq!(site.connect("box", 0).await.registration_id, registration, "without registering again");
    assert_eq!(site.register("box", "i1").await.id, first.id);
    assert_eq!(site.verify(site.register("box", "i2").await.url.expose()).unwrap().epoch, 2);
}

#[tokio::test]
async fn what_was_answered_survives_without_a_shutdown() {
    let (site, dir) = site().await;
    let id = site.register("box", "i1").await.id;
    let admin = site.admin.clone();
    drop(site);
    let mut site = reopened(|| Site::start(config(dir.path(), &StandingClock::new()))).await;
    site.admin = admin;
    assert_eq!(site.register("box", "i1").await.id, id);
}

/// Tries again while the tasks of the one before, which were aborted, still go away.
async fn reopened<T, F: Future<Output = Result<T, RegistryError>>>(open: impl Fn() -> F) -> T {
    loop {
        match open().await {
            Ok(opened) => return opened,
            Err(RegistryError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_second_server_is_told_who_holds_the_directory() {
    let (site, dir) = site().await;
    let mut second = RegistryConfig::new(dir.path());
    second.purpose = "exedra up".to_owned();
    let error = Registry::open(second).await.err().unwrap();
    assert!(matches!(error, RegistryError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("process {} (exedra serve)", std::process::id())), "{error}");
    site.stop().await;
    Registry::open(RegistryConfig::new(dir.path())).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_drain_lets_no_new_work_in_and_keeps_nobody_waiting() {
    let (site, _dir) = site().await;
    site.register("box", "i").await;
    assert_eq!(site.get("/readyz").await.status(), 200);
    let (response, ()) = tokio::join!(site.connect_raw("box", 30_000), async {
        site.waiting(1).await;
        site.registry.drain();
    });
    assert!(response.headers().contains_key("retry-after"));
    refusal(response, 503, "unavailable").await;
    let response = site.get("/readyz").await;
    assert!(response.headers().contains_key("retry-after"));
    refusal(response, 503, "unavailable").await;
    refusal(site.connect_raw("box", 0).await, 503, "unavailable").await;
    assert_eq!(site.get("/healthz").await.status(), 200);
    site.register("box", "i").await;
}

#[tokio::test]
async fn after_the_shutdown_what_still_comes_is_answered() {
    let (site, _dir) = site().await;
    let Site { registry, base, http, admin, .. } = &site;
    let url = format!("{base}/v1/executors/box/connect");
    let router = registry.router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let late = url.replace(base, &format!("http://{}", listener.local_addr().unwrap()));
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (http, admin) = (http.clone(), admin.clone());
    site.stop().await;
    let response = http.post(&late).bearer_auth(&admin).body("{}").send().await.unwrap();
    refusal(response, 503, "unavailable").await;
}

#[tokio::test]
async fn keys_are_replaced_by_themselves_and_open_tickets_stay_good() {
    let (site, dir) = Site::with(|config| config.housekeeping = Duration::from_millis(5)).await;
    let ring = site.registry.key_ring();
    let first = site.register("box", "i").await;
    assert_eq!(ring.read().unwrap().len(), 1);
    site.clock.advance(7 * 86_400 - 1);
    let last = site.register("box", "i").await;
    site.clock.advance(1);
    until(|| ring.read().unwrap().len() == 2).await;
    assert!(site.verify(first.url.expose()).is_err(), "past its own time");
    assert!(site.verify(last.url.expose()).is_ok(), "signed by the key before");
    let new = site.register("box", "i").await;
    let key_of = |url: &str| url.split("kid=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    assert_ne!(key_of(last.url.expose()), key_of(new.url.expose()));
    site.registry.rotate_keys().await.unwrap();
    assert!(site.verify(last.url.expose()).is_ok() && site.verify(new.url.expose()).is_ok());
    let saved = std::fs::read_to_string(dir.path().join("signing-keys.json")).unwrap();
    assert_eq!(saved.matches("\"secret\"").count(), ring.read().unwrap().len());
}

#[tokio::test]
async fn last_seen_is_saved_while_the_server_runs() {
    let (site, dir) = Site::with(|config| config.housekeeping = Duration::from_millis(5)).await;
    site.executor("box").await;
    site.clock.advance(11);
    let mut connection = database(dir.path()).await;
    let mut last_seen = None;
    while last_seen != Some(i64::try_from(START + 11).unwrap()) {
        last_seen = sqlx::query_scalar("SELECT last_seen FROM executors").fetch_one(&mut connection).await.unwrap();
        tokio::task::yield_now().await;
    }
}

async fn database(dir: &std::path::Path) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions as _;
    sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("registry.db")).connect().await.unwrap()
}

#[tokio::test]
async fn the_directory_and_all_in_it_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/data");
    let site = Site::on(&path).await;
    site.register("box", "i").await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn without_a_public_url_no_ticket_is_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(config(dir.path(), &StandingClock::new())).await.unwrap();
    let token =
        registry.tokens().create(exedra_registry::NewToken::of(exedra_registry::token::Role::Admin)).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/cloud/executor/box/register", listener.local_addr().unwrap());
    let router = registry.router();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url).header("host", "evil.example");
    let body = crate::support::register_body("box", "i");
    let response = request.bearer_auth(token.secret.expose()).body(body).send().await.unwrap();
    refusal(response, 503, "unavailable").await;
}
