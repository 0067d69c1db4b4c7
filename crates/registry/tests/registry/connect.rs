//! Connecting: tickets, refusals with what is known, and the line.

use std::time::Duration;

use exedra_proto::ids::RegistrationId;
use exedra_proto::registry::{ConnectReply, Transport};
use exedra_proto::ticket::{Role as TicketRole, Shape};
use exedra_registry::NewToken;
use exedra_registry::token::{Labels, Pattern, Role};
use serde_json::json;

use crate::support::{START, Site, refusal, site};

const LONG: u64 = 30_000;

#[tokio::test]
async fn the_ticket_is_good_for_one_websocket_within_a_minute() {
    let (site, _dir) = site().await;
    let registration = site.executor("box").await;
    let new = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    let reply = site.post("/v1/executors/box/connect", new.secret.expose(), "{}").await;
    assert_eq!(reply.status(), 200);
    let reply: ConnectReply = reply.json().await.unwrap();
    assert_eq!((reply.executor_id.as_str(), &reply.registration_id), ("box", &registration));
    assert_eq!((reply.transport, reply.expires_at), (Transport::Direct, START + 60));
    let claims = site.verify(reply.url.expose()).unwrap();
    assert_eq!((claims.role, claims.shape, claims.epoch), (TicketRole::Harness, Shape::Pair, 1));
    assert_eq!((&claims.registration, &claims.token), (&registration, &new.record.id));
    assert_eq!((claims.issued_at, claims.expires_at), (START, START + 60));
    assert!(reply.url.expose().contains("role=harness"));
    site.served(&registration);
    let second = site.connect("box", 0).await;
    assert_ne!(site.verify(second.url.expose()).unwrap().ticket_id, claims.ticket_id);
}

#[tokio::test]
async fn an_executor_that_nobody_knows_is_told_with_near_names() {
    let (site, _dir) = site().await;
    for id in ["gpu-1", "gpu-2", "gpu-3", "gpu-4", "laptop"] {
        site.register(id, "i").await;
    }
    let detail = refusal(site.connect_raw("gpu-0", LONG).await, 404, "executor_unknown").await;
    assert_eq!(detail.near, ["gpu-1", "gpu-2", "gpu-3"]);
    let detail = refusal(site.connect_raw("zebra", 0).await, 404, "executor_unknown").await;
    assert!(detail.near.is_empty());
    let token = site.token(Role::Client, "gpu-0*").await;
    let response = site.post("/v1/executors/gpu-0/connect", &token, "{}").await;
    let detail = refusal(response, 404, "executor_unknown").await;
    assert!(detail.near.is_empty(), "only names that the token reaches");
}

#[tokio::test]
async fn away_and_held_are_told_apart() {
    let (site, _dir) = site().await;
    let registration = RegistrationId::new(site.register("box", "i").await.id);
    let detail = refusal(site.connect_raw("box", 0).await, 409, "environment_offline").await;
    assert_eq!(detail.last_seen, None, "it never came");
    site.presence().online(&registration, 1);
    site.connect("box", 0).await;
    let detail = refusal(site.connect_raw("box", 0).await, 409, "executor_busy").await;
    assert_eq!(detail.held_since, Some(START), "another client is on its way");
    site.clock.advance(5);
    site.presence().held(&registration);
    let detail = refusal(site.connect_raw("box", 20).await, 409, "executor_busy").await;
    assert_eq!(detail.held_since, Some(START + 5));
    site.clock.advance(5);
    site.presence().offline(&registration, 123);
    let detail = refusal(site.connect_raw("box", 20).await, 409, "environment_offline").await;
    assert_eq!(detail.last_seen, Some(START + 10));
}

#[tokio::test]
async fn who_waits_gets_an_executor_that_comes_back() {
    let (site, _dir) = site().await;
    let registration = RegistrationId::new(site.register("box", "i").await.id);
    let (reply, ()) = tokio::join!(site.connect("box", LONG), async {
        site.waiting(1).await;
        site.presence().online(&registration, 1);
    });
    assert_eq!(reply.registration_id, registration);
    site.waiting(0).await;
}

#[tokio::test]
async fn who_waits_is_answered_when_the_token_ends() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    site.register("box", "i").await;
    let tokens = site.registry.tokens();
    for (number, word) in ["revoked", "expired", "not known"].into_iter().enumerate() {
        let lifetime = (word == "expired").then(|| Duration::from_secs(60));
        let token = tokens.create(NewToken { lifetime, ..NewToken::of(Role::Client) }).await.unwrap();
        let body = json!({"wait_ms": 60_000}).to_string();
        let (answer, ()) = tokio::join!(
            tokio::time::timeout(
                Duration::from_secs(20),
                site.post("/v1/executors/box/connect", token.secret.expose(), body)
            ),
            async {
                site.waiting(1).await;
                match number {
                    0 => drop(tokens.revoke(token.record.id.as_str()).await.unwrap()),
                    1 => site.clock.advance(60),
                    _ => drop(tokens.rotate(token.record.id.as_str(), Duration::ZERO).await.unwrap()),
                }
            }
        );
        let detail = refusal(answer.expect("not after the wait that it asked for"), 401, "unauthenticated").await;
        assert!(detail.message.as_ref().unwrap().contains(word), "{detail:?}");
        site.waiting(0).await;
    }
}

#[tokio::test]
async fn who_waited_is_let_in_by_the_labels_of_now() {
    let (site, _dir) = site().await;
    let registration = RegistrationId::new(site.register("box", "i").await.id);
    let label = async |labels: serde_json::Value| {
        let request = site.http.put(format!("{}/v1/executors/box/labels", site.base)).bearer_auth(&site.admin);
        let answer = request.body(json!({"labels": labels}).to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    label(json!({"team": "a"})).await;
    let labels = Labels::new([("team".to_owned(), "a".to_owned())]).unwrap();
    let token = site.registry.tokens().create(NewToken { labels, ..NewToken::of(Role::Client) }).await.unwrap();
    let body = json!({"wait_ms": LONG}).to_string();
    let (answer, ()) = tokio::join!(site.post("/v1/executors/box/connect", token.secret.expose(), body), async {
        site.waiting(1).await;
        label(json!({})).await;
        site.presence().online(&registration, 1);
    });
    refusal(answer, 403, "forbidden").await;
}

#[tokio::test]
async fn the_line_is_served_in_its_order() {
    let (site, _dir) = site().await;
    let registration = site.executor("box").await;
    site.connect("box", 0).await;
    site.presence().held(&registration);
    let served = std::sync::Mutex::new(Vec::new());
    let client = async |place: usize| {
        site.waiting(place).await;
        let reply = site.connect("box", LONG).await;
        served.lock().unwrap().push(place);
        assert_eq!(reply.registration_id, registration);
    };
    let executor = async || {
        for done in 0..3 {
            site.waiting(3 - done).await;
            assert_eq!(served.lock().unwrap().len(), done, "one client at a time");
            site.served(&registration);
            crate::support::until(|| served.lock().unwrap().len() == done + 1).await;
            site.presence().held(&registration);
        }
    };
    // The line has to stand before the executor moves.
    tokio::join!(client(0), client(1), client(2), executor());
    assert_eq!(*served.lock().unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_the_line() {
    let (site, _dir) = site().await;
    let registration = site.executor("box").await;
    site.presence().held(&registration);
    let gone = async {
        tokio::select! {
            _ = site.connect_raw("box", LONG) => panic!("nobody was there"),
            () = site.waiting(1) => {}
        }
    };
    gone.await;
    site.waiting(0).await;
    site.served(&registration);
    site.connect("box", 0).await;
}

#[tokio::test]
async fn a_reservation_lapses_when_the_client_does_not_come() {
    let (site, _dir) = Site::with(|config| config.reservation = Duration::from_millis(50)).await;
    site.executor("box").await;
    site.connect("box", 0).await;
    site.connect("box", LONG).await;
}

#[tokio::test]
async fn a_reservation_that_is_taken_up_does_not_lapse() {
    let (site, _dir) = Site::with(|config| config.reservation = Duration::from_millis(20)).await;
    let registration = site.executor("box").await;
    site.connect("box", 0).await;
    site.presence().held(&registration);
    refusal(site.connect_raw("box", 200).await, 409, "executor_busy").await;
}

#[tokio::test]
async fn a_token_that_ends_while_its_client_waits_gets_nothing() {
    let (site, _dir) = site().await;
    let registration = RegistrationId::new(site.register("box", "i").await.id);
    let new = NewToken { executors: Pattern::any(), ..NewToken::of(Role::Client) };
    let token = site.registry.tokens().create(new).await.unwrap();
    let body = json!({ "wait_ms": LONG }).to_string();
    let (response, ()) = tokio::join!(site.post("/v1/executors/box/connect", token.secret.expose(), body), async {
        site.waiting(1).await;
        site.registry.tokens().revoke(token.record.id.as_str()).await.unwrap();
        site.presence().online(&registration, 1);
    });
    refusal(response, 401, "unauthenticated").await;
    site.connect("box", 0).await;
}

#[tokio::test]
async fn transports_that_we_have_not_are_refused() {
    let (site, _dir) = site().await;
    let registration = site.executor("box").await;
    let post = async |transports: serde_json::Value| {
        let body = json!({ "transports": transports }).to_string();
        site.served(&registration);
        site.post("/v1/executors/box/connect", &site.admin, body).await
    };
    refusal(post(json!(["noise", "relay"])).await, 400, "transport_unsupported").await;
    for good in [json!([]), json!(["direct"]), json!(["noise", "direct"])] {
        assert_eq!(post(good).await.status(), 200);
    }
}

#[tokio::test]
async fn a_request_that_is_none_is_told_so() {
    let (site, _dir) = site().await;
    site.executor("box").await;
    for bad in ["", "nonsense", "[1", r#"{"wait_ms":-1}"#, r#"{"wait_ms":"1"}"#, r#"{"transports":"direct"}"#] {
        let response = site.post("/v1/executors/box/connect", &site.admin, bad).await;
        refusal(response, 400, "body_invalid").await;
    }
    refusal(site.post("/v1/executors/a%00b/connect", &site.admin, "{}").await, 400, "executor_id_invalid").await;
}

#[tokio::test]
async fn a_patience_beyond_all_measure_is_no_error() {
    let (site, _dir) = site().await;
    site.register("box", "i").await;
    let patient = async { drop(site.connect_raw("box", u64::MAX).await) };
    tokio::select! {
        () = patient => panic!("it did not wait"),
        () = site.waiting(1) => {}
    }
}
