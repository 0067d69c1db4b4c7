//! Events: who hears of what, in pages and streams, whatever the database does, and after a backup was restored.

use std::path::Path;
use std::time::Duration;

use exedra_registry::NewToken;
use exedra_registry::backup::{backup, restore};
use exedra_registry::token::Role;
use futures_util::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Executor as _, SqliteConnection};

use crate::support::{START, Site, refusal, site};

async fn follow(site: &Site, token: &str, last: Option<&str>) -> Response {
    let mut request = site.http.get(format!("{}/v1/events/stream", site.base)).bearer_auth(token);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().await.unwrap()
}

/// What the administrator does.
async fn done(site: &Site, method: Method, path: &str) {
    let done = site.http.request(method, format!("{}{path}", site.base)).bearer_auth(&site.admin).body("{}");
    let done = done.header("content-type", "application/json").send().await.unwrap();
    assert!(done.status().is_success(), "{path}: {}", done.text().await.unwrap());
}

/// Somebody else who has locked the database.
async fn locked(dir: &Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("registry.db"));
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    other
}

/// What a stream of events says, until `is_enough`.
async fn read(response: Response, is_enough: impl Fn(&str) -> bool) -> String {
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    while !is_enough(&text) {
        let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
        match next.expect("something comes") {
            Some(bytes) => text.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap()),
            None => break,
        }
    }
    text
}

#[tokio::test]
async fn events_are_followed_and_resumed_by_those_who_may() {
    let (site, _dir) = site().await;
    for id in ["gpu-1", "lab"] {
        site.register(id, "i").await;
        done(&site, Method::POST, &format!("/v1/executors/{id}/drain")).await;
    }
    let client = site.token(Role::Client, "gpu-*").await;
    let asked = site.http.get(format!("{}/v1/events", site.base)).bearer_auth(&client).send().await;
    let page: Value = asked.unwrap().json().await.unwrap();
    assert_eq!(page["events"].as_array().unwrap().len(), 1);
    assert_eq!(page["events"][0]["kind"], "executor_draining");
    let first = page["events"][0]["id"].to_string();
    let (all, rest, theirs) = (
        follow(&site, &site.admin, None).await,
        follow(&site, &site.admin, Some(&first)).await,
        follow(&site, &client, None).await,
    );
    assert_eq!(all.headers()["content-type"], "text/event-stream");
    done(&site, Method::DELETE, "/v1/executors/lab/drain").await;
    done(&site, Method::DELETE, "/v1/executors/gpu-1/drain").await;
    let resumed = |text: &str| text.matches("event: executor_resumed").count();
    let all = read(all, |text| resumed(text) == 2).await;
    assert_eq!(all.matches("event: executor_draining").count(), 2, "{all}");
    assert!(all.contains("event: token_created") && all.contains(&format!("id: {first}\n")), "{all}");
    let rest = read(rest, |text| resumed(text) == 2).await;
    assert!(rest.contains("event: executor_draining") && !rest.contains(&format!("id: {first}\n")), "{rest}");
    let theirs = read(theirs, |text| resumed(text) == 1).await;
    assert!(theirs.contains(&format!("id: {first}\n")) && !theirs.contains("lab"), "{theirs}");
    assert!(!theirs.contains("token_created"), "{theirs}");
    refusal(follow(&site, &client, Some("x")).await, 400, "query_invalid").await;
    let other = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    let open = follow(&site, other.secret.expose(), None).await;
    site.registry.tokens().revoke(other.record.id.as_str()).await.unwrap();
    let ended = read(open, |_| false).await;
    assert!(ended.contains("event: end") && ended.contains("revoked"), "{ended}");
    let open = follow(&site, &site.admin, None).await;
    site.registry.drain();
    let ended = read(open, |_| false).await;
    assert!(ended.contains("event: end") && ended.contains("unavailable"), "{ended}");
}

#[tokio::test]
async fn one_token_follows_the_events_so_often_and_leaves_room_for_others() {
    let (site, _dir) = site().await;
    let client = site.token(Role::Client, "*").await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let stream = follow(&site, &client, None).await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    assert_eq!(site.registry.look().listeners(), 8);
    let one_more = follow(&site, &client, None).await;
    assert_eq!(one_more.headers()["retry-after"], "10");
    refusal(one_more, 429, "too_many_connections").await;
    assert_eq!(follow(&site, &site.admin, None).await.status(), 200, "others are not concerned");
    streams.pop();
    // The server notices that it was hung up on when it looks for news.
    let free = async { while follow(&site, &client, None).await.status() != 200 {} };
    tokio::time::timeout(Duration::from_secs(30), free).await.expect("its place is free again");
}

#[tokio::test]
async fn clients_leave_room_for_administrators() {
    let (site, _dir) = site().await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        let client = site.token(Role::Client, "*").await;
        for _ in 0..8 {
            let stream = follow(&site, &client, None).await;
            assert_eq!(stream.status(), 200);
            streams.push(stream);
        }
    }
    let client = site.token(Role::Client, "*").await;
    let one_more = follow(&site, &client, None).await;
    assert_eq!(one_more.headers()["retry-after"], "10");
    refusal(one_more, 503, "unavailable").await;
    assert_eq!(follow(&site, &site.admin, None).await.status(), 200);
}

#[tokio::test]
async fn while_the_database_is_locked_events_wait_and_all_are_told_in_their_order() {
    let (site, dir) = site().await;
    for id in ["a", "b", "c"] {
        site.executor(id).await;
        site.register(id, "newer").await;
    }
    // From then on it is time to tell of them again.
    site.clock.advance(60);
    let last = site.shown("/v1/events").await["next"].to_string();
    let mut other = locked(dir.path()).await;
    done(&site, Method::POST, "/v1/keys/rotate").await;
    for id in ["a", "b", "c"] {
        // It is known, so that its registration needs no write.
        site.register(id, "newer").await;
    }
    done(&site, Method::POST, "/v1/keys/rotate").await;
    site.clock.advance(7);
    let creating = site.post("/v1/tokens", &site.admin, json!({"role": "client"}).to_string());
    let unlocking = async {
        assert_eq!(site.shown(&format!("/v1/events?after={last}")).await["events"], json!([]));
        other.execute("ROLLBACK").await.unwrap();
    };
    assert_eq!(tokio::join!(creating, unlocking).0.status(), 201);
    let told = read(follow(&site, &site.admin, Some(&last)).await, |text| text.contains("token_created")).await;
    let told: Vec<Value> =
        told.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let told: Vec<_> = told.iter().map(|event| (&event["kind"], &event["executor_id"], &event["at"])).collect();
    let (rotated, contended, created) = (json!("key_rotated"), json!("executor_contended"), json!("token_created"));
    let (then, later, [a, b, c]) = (json!(START + 60), json!(START + 67), ["a", "b", "c"].map(|id| json!(id)));
    let expected = [
        (&rotated, &Value::Null, &then),
        (&contended, &a, &then),
        (&contended, &b, &then),
        (&contended, &c, &then),
        (&rotated, &Value::Null, &then),
        (&created, &Value::Null, &later),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn events_that_wait_when_a_server_ends_are_written_if_the_database_is_free_in_time() {
    let (site, dir) = site().await;
    let mut other = locked(dir.path()).await;
    done(&site, Method::POST, "/v1/keys/rotate").await;
    let unlocking = async {
        tokio::task::yield_now().await;
        other.execute("ROLLBACK").await.unwrap();
    };
    tokio::join!(site.stop(), unlocking);
    let site = Site::on(dir.path()).await;
    assert_eq!(site.events("key_rotated").await.len(), 1);
}

#[tokio::test]
async fn who_followed_beyond_a_backup_hears_all_that_comes_after_its_restore() {
    let (site, dir) = site().await;
    let (saved, restored) = (dir.path().join("saved"), dir.path().join("restored"));
    site.register("box", "i").await;
    let end = site.shown("/v1/events").await["next"].clone();
    backup(dir.path(), &saved).await.unwrap();
    for method in [Method::POST, Method::DELETE, Method::POST] {
        done(&site, method, "/v1/executors/box/drain").await;
    }
    let beyond = site.shown("/v1/events").await["next"].clone();
    assert!(beyond.as_u64() > end.as_u64());
    site.stop().await;
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    restore(&saved, &restored).await.unwrap();
    let site = Site::on(&restored).await;
    done(&site, Method::POST, "/v1/executors/box/drain").await;
    for last in [&end, &beyond] {
        let told = follow(&site, &site.admin, Some(&last.to_string())).await;
        let told = read(told, |text| text.contains("executor_draining")).await;
        let page = site.shown(&format!("/v1/events?after={last}")).await;
        let kinds: Vec<_> = page["events"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
        assert_eq!(kinds, ["token_created", "executor_draining"], "all that is new");
        let first = page["events"][0]["id"].as_u64().unwrap();
        assert!(u128::from(first) >= before, "{first}");
        assert!(told.starts_with(&format!("event: gap\ndata: {{\"until\":{first}}}\n\nid: {first}\n")), "{told}");
        assert_eq!(page["gap"], first);
    }
}

#[tokio::test]
async fn who_followed_another_journal_hears_all_and_who_is_at_the_end_nothing_twice() {
    let (site, dir) = site().await;
    let page = site.shown("/v1/events").await;
    let (first, end) = (page["events"][0]["id"].clone(), page["next"].clone());
    assert_eq!(page["gap"], Value::Null);
    for beyond in [end.as_u64().unwrap() + 1, u64::MAX] {
        let again = site.shown(&format!("/v1/events?after={beyond}")).await;
        assert_eq!((&again["events"], &again["next"], &again["gap"]), (&page["events"], &end, &first));
    }
    let at_end = site.shown(&format!("/v1/events?after={end}")).await;
    assert_eq!(at_end, json!({"events": [], "next": end, "gap": null}));
    let beyond = follow(&site, &site.admin, Some("999999")).await;
    let at_end = follow(&site, &site.admin, Some(&end.to_string())).await;
    done(&site, Method::POST, "/v1/keys/rotate").await;
    let beyond = read(beyond, |text| text.contains("event: key_rotated")).await;
    assert!(beyond.starts_with(&format!("event: gap\ndata: {{\"until\":{first}}}\n\nid: {first}\n")), "{beyond}");
    assert_eq!(beyond.matches("event: ").count(), page["events"].as_array().unwrap().len() + 2, "{beyond}");
    let at_end = read(at_end, |text| text.contains("event: key_rotated")).await;
    assert!(at_end.starts_with("id: ") && at_end.matches("event: ").count() == 1, "{at_end}");
    // None is kept, and the last id is known nevertheless.
    let end = site.shown("/v1/events").await["next"].clone();
    locked(dir.path()).await.execute("DELETE FROM events; COMMIT").await.unwrap();
    let at_end = site.shown(&format!("/v1/events?after={end}")).await;
    assert_eq!(at_end, json!({"events": [], "next": end, "gap": null}));
    let beyond = site.shown(&format!("/v1/events?after={}", end.as_u64().unwrap() + 1)).await;
    assert_eq!(beyond, json!({"events": [], "next": 0, "gap": end.as_u64().unwrap() + 1}));
}
