//! Registration: who gets which registration, and what the ticket says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::Cutoff;
use exedra_proto::registry::Transport;
use exedra_proto::ticket::{Rejection, Role as TicketRole, Shape};
use exedra_registry::NewToken;
use exedra_registry::token::Role;
use futures_util::future::join_all;

use crate::support::{START, Site, refusal, register_body, site};

const DAY: u64 = 86_400;

#[tokio::test]
async fn the_reply_is_the_seeds_and_the_ticket_is_good() {
    let (site, _dir) = site().await;
    let new = site.registry.tokens().create(NewToken::of(Role::Executor)).await.unwrap();
    let body = register_body("exec-7", "i");
    let reply = site.post("/cloud/executor/exec-7/register", new.secret.expose(), body).await;
    assert_eq!(reply.status(), 200);
    let reply: serde_json::Value = reply.json().await.unwrap();
    assert_eq!(reply["executor_id"], "exec-7");
    assert_eq!(reply["transport"], "direct");
    let id = reply["id"].as_str().unwrap();
    assert!(id.starts_with("reg-") && id.len() == 40, "{id}");
    let url = reply["url"].as_str().unwrap();
    assert!(url.starts_with(&site.base.replace("http://", "ws://")), "{url}");
    let claims = site.verify(url).unwrap();
    assert_eq!(claims.registration.as_str(), id);
    assert_eq!((claims.role, claims.shape, claims.epoch), (TicketRole::Executor, Shape::Pair, 1));
    assert_eq!(claims.token, new.record.id);
    assert_eq!((claims.issued_at, claims.expires_at), (START, START + DAY));
    site.clock.advance(DAY);
    assert_eq!(site.verify(url), Err(Rejection::Expired));
}

#[tokio::test]
async fn a_ticket_does_not_outlive_its_token() {
    let (site, _dir) = site().await;
    let new = NewToken { lifetime: Some(Duration::from_secs(30)), ..NewToken::of(Role::Admin) };
    let token = site.registry.tokens().create(new).await.unwrap().secret;
    let reply = site.post("/cloud/executor/box/register", token.expose(), register_body("box", "i")).await;
    let reply: exedra_proto::registry::RegisterReply = reply.json().await.unwrap();
    assert_eq!(site.verify(reply.url.expose()).unwrap().expires_at, START + 30);
    site.presence().online(&RegistrationId::new(reply.id), 1);
    let reply = site.post("/v1/executors/box/connect", token.expose(), "{}").await;
    let reply: exedra_proto::registry::ConnectReply = reply.json().await.unwrap();
    assert_eq!(reply.expires_at, START + 30);
}

#[tokio::test]
async fn the_same_instance_keeps_its_registration_and_another_gets_the_next_epoch() {
    let (site, _dir) = site().await;
    let first = site.register("box", "i1").await;
    let again = site.register("box", "i1").await;
    assert_eq!(first.id, again.id);
    assert_eq!(site.verify(again.url.expose()).unwrap().epoch, 1);
    let second = site.register("box", "i2").await;
    assert_ne!(first.id, second.id);
    assert_eq!(site.verify(second.url.expose()).unwrap().epoch, 2);
    assert_eq!(site.register("box", "i2").await.id, second.id);
    let other = site.register("box2", "i1").await;
    assert_eq!(site.verify(other.url.expose()).unwrap().epoch, 1, "an instance counts for one executor");
    assert_eq!(second.transport, Transport::Direct);
}

#[tokio::test]
async fn members_that_we_do_not_know_and_members_that_are_missing_do_no_harm() {
    let (site, _dir) = site().await;
    let post = async |body: &str| site.post("/cloud/executor/b/register", &site.admin, body.to_owned()).await.status();
    assert_eq!(post(r#"{"idempotency_id":"i","executor_id":"b"}"#).await, 200);
    assert_eq!(
        post(r#"{"idempotency_id":"j","executor_id":"b","metadata":null,"transports":["noise","direct"],"x":{}}"#)
            .await,
        200
    );
    assert_eq!(post(r#"{"idempotency_id":"k","executor_id":"b","labels":{"a":"b"},"metadata":{"v":[1]}}"#).await, 200);
}

#[tokio::test]
async fn an_executor_that_cannot_serve_what_we_have_is_told_so() {
    let (site, _dir) = site().await;
    let body = r#"{"idempotency_id":"i","executor_id":"b","transports":["noise","pigeon"]}"#;
    let reply = site.post("/cloud/executor/b/register", &site.admin, body.to_owned()).await;
    refusal(reply, 400, "transport_unsupported").await;
}

#[tokio::test]
async fn fifty_executors_register_at_once() {
    let (site, _dir) = site().await;
    let replies = join_all((0..50).map(async |i| site.register(&format!("box-{i}"), "i").await)).await;
    let ids: BTreeSet<_> = replies.iter().map(|reply| reply.id.clone()).collect();
    assert_eq!(ids.len(), 50);
    let instances: Vec<_> = (0..50).map(|i| format!("i{i}")).collect();
    let replies = join_all(instances.iter().map(|instance| site.register("box", instance))).await;
    let epochs: BTreeSet<_> = replies.iter().map(|one| site.verify(one.url.expose()).unwrap().epoch).collect();
    assert_eq!(epochs, (1..=50).collect(), "instances of one executor have epochs of their own");
    let replies = join_all((0..50).map(async |_| site.register("twin", "same").await)).await;
    let ids: BTreeSet<_> = replies.iter().map(|reply| reply.id.clone()).collect();
    assert_eq!(ids.len(), 1, "one instance has one registration, however often it asks at once");
}

#[derive(Default)]
struct Cuts(Mutex<Vec<(String, CloseReason)>>);

impl Cutoff for Cuts {
    fn registration(&self, registration: &RegistrationId, reason: CloseReason) {
        self.0.lock().unwrap().push((registration.as_str().to_owned(), reason));
    }

    fn token(&self, _: &TokenId, _: CloseReason) {}

    fn key(&self, _: &str, _: CloseReason) {}
}

#[tokio::test]
async fn a_newer_instance_cuts_the_older_when_it_comes_online_and_gives_way_when_it_is_gone() {
    let (site, _dir) = site().await;
    let cuts = Arc::new(Cuts::default());
    site.registry.set_cutoff(Arc::clone(&cuts) as Arc<dyn Cutoff>);
    let online = |id: &str, epoch| site.presence().online(&RegistrationId::new(id), epoch);
    let cut = || std::mem::take(&mut *cuts.0.lock().unwrap());

    let first = site.register("box", "i1").await.id;
    online(&first, 1);
    let second = site.register("box", "i2").await.id;
    assert_eq!(site.connect("box", 0).await.registration_id.as_str(), first, "the newer one is not there yet");
    assert_eq!(cut(), []);
    online(&second, 2);
    assert_eq!(cut(), [(first.clone(), CloseReason::Replaced)]);
    assert_eq!(site.connect("box", 0).await.registration_id.as_str(), second);

    site.clock.advance(3600);
    assert_eq!(site.register("box", "i1").await.id, first, "parked while the newer one is there");
    site.presence().offline(&RegistrationId::new(second.clone()), 0);
    site.clock.advance(59);
    assert_eq!(site.register("box", "i1").await.id, first, "or may be back in a moment");
    site.clock.advance(1);
    let third = site.register("box", "i1").await;
    assert_eq!(site.verify(third.url.expose()).unwrap().epoch, 3, "then it takes over");
    online(&third.id, 3);
    assert_eq!(cut(), [(second.clone(), CloseReason::Replaced)]);
    assert_eq!(site.register("box", "i2").await.id, second, "and now the other one is parked");
    online(&second, 2);
    assert_eq!(cut(), [(second, CloseReason::Revoked)]);
}

#[tokio::test]
async fn what_an_instance_says_of_itself_makes_no_other_token_the_same_instance() {
    let (site, _dir) = site().await;
    let online = |id: &str, epoch| site.presence().online(&RegistrationId::new(id), epoch);
    let [owner, thief] = [0, 1].map(|_| NewToken::of(Role::Executor));
    let tokens = site.registry.tokens();
    let (owner, thief) = (tokens.create(owner).await.unwrap(), tokens.create(thief).await.unwrap());
    let register = async |token: &exedra_registry::CreatedToken| {
        let reply = site.post("/cloud/executor/box/register", token.secret.expose(), register_body("box", "i")).await;
        let reply: exedra_proto::registry::RegisterReply = reply.json().await.unwrap();
        let claims = site.verify(reply.url.expose()).unwrap();
        assert_eq!(claims.token, token.record.id);
        (reply.id, claims.epoch)
    };
    let (first, epoch) = register(&owner).await;
    assert_eq!(epoch, 1);
    online(&first, 1);
    let (second, epoch) = register(&thief).await;
    assert!(second != first && epoch == 2, "{second} {epoch}");
    let contended = site.events("executor_contended").await;
    let detail = &contended.first().expect("both owners see it")["detail"];
    assert_eq!(
        (&detail["online_registration"], &detail["outcome"]),
        (&first.as_str().into(), &"newcomer_takes_over".into())
    );
    assert_eq!(detail["asking_token_id"], thief.record.id.as_str());
    online(&second, 2);
    assert_eq!(register(&owner).await, (first, 1), "parked");
    tokens.revoke(thief.record.id.as_str()).await.unwrap();
    let (third, epoch) = register(&owner).await;
    assert_eq!(epoch, 3, "who cannot come back is not waited for");
    online(&third, 3);
    tokens.rotate(owner.record.id.as_str(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(register(&owner).await, (third, 3), "another secret is the same token");
}

#[tokio::test]
async fn a_name_that_is_taken_by_who_registered_before_the_other_came_is_told_of() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    let first = site.register("box", "i1").await.id;
    let second = site.register("box", "i2").await.id;
    site.presence().online(&RegistrationId::new(first.as_str()), 1);
    site.presence().online(&RegistrationId::new(second.as_str()), 2);
    let event = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(event) = site.events("executor_contended").await.into_iter().next() {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let detail = &event.await.unwrap()["detail"];
    assert_eq!(detail["outcome"], "newcomer_takes_over");
    let sides = (&detail["online_registration"], &detail["asking_registration"]);
    assert_eq!(sides, (&first.as_str().into(), &second.as_str().into()));
    assert!(detail["asking_token_id"].is_string(), "{detail}");
}

#[tokio::test]
async fn an_instance_that_was_seen_while_the_clock_was_ahead_is_not_waited_for_until_then() {
    let (site, _dir) = site().await;
    let first = site.register("box", "i1").await.id;
    let second = RegistrationId::new(site.register("box", "i2").await.id);
    site.presence().online(&second, 2);
    site.clock.advance(DAY);
    site.presence().offline(&second, 0);
    site.clock.set_back(DAY);
    site.clock.advance(30);
    assert_eq!(site.register("box", "i1").await.id, first);
    site.clock.advance(30);
    assert_ne!(site.register("box", "i1").await.id, first, "it has been away for long enough");
}

#[tokio::test]
async fn connections_of_one_registration_that_take_turns_are_told_of() {
    let (site, _dir) = Site::with(|config| config.token_watch = Duration::from_millis(5)).await;
    let registration = site.executor("box").await;
    let told = async || site.events("executor_contended").await.into_iter().next();
    let replace = |times| (0..times).for_each(|_| site.presence().replaced(&registration));
    replace(3);
    site.clock.advance(121);
    replace(3);
    // The journal has what comes later, so that it would have this.
    site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    assert_eq!(told().await, None, "a network that comes and goes");
    replace(1);
    let event = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(event) = told().await {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let event = event.await.unwrap();
    assert_eq!(event["executor_id"], "box");
    assert_eq!(event["detail"]["outcome"], "same_registration_twice");
    assert_eq!(event["detail"]["online_registration"], registration.as_str());
}

#[tokio::test]
async fn the_id_in_the_path_is_checked_and_is_that_of_the_body() {
    let (site, _dir) = site().await;
    let post =
        async |id: &str, body: String| site.post(&format!("/cloud/executor/{id}/register"), &site.admin, body).await;
    let long = "a".repeat(129);
    for bad in ["", "a%20b", ".%2F.", "a%2Fb", "a%00", "%ff", "%C3%A9", "-a", "a'--", "a;b", &long] {
        refusal(post(bad, register_body("box", "i")).await, 400, "executor_id_invalid").await;
    }
    refusal(post("box", register_body("other", "i")).await, 400, "executor_id_invalid").await;
    refusal(post("box", register_body("Box", "i")).await, 400, "executor_id_invalid").await;
    let longest = "a".repeat(128);
    assert_eq!(post(&longest, register_body(&longest, "i")).await.status(), 200);
    assert_eq!(post("me%40host%2B1", register_body("me@host+1", "i")).await.status(), 200, "decoded");
}

#[tokio::test]
async fn a_body_that_is_none_is_told_so() {
    let (site, _dir) = site().await;
    let post = async |body: &str| site.post("/cloud/executor/box/register", &site.admin, body.to_owned()).await;
    for bad in [
        " \n",
        "nonsense",
        "{",
        "null",
        "[]",
        r#"["i","box"]"#,
        "{}",
        r#"{"executor_id":"box"}"#,
        r#"{"idempotency_id":"","executor_id":"box"}"#,
        r#"{"idempotency_id":" ","executor_id":"box"}"#,
        r#"{"idempotency_id":7,"executor_id":"box"}"#,
        r#"{"idempotency_id":"i","executor_id":"box","labels":{"a":1}}"#,
        r#"{"idempotency_id":"i","executor_id":"box","labels":[]}"#,
        r#"{"idempotency_id":"i","executor_id":"box"} {}"#,
    ] {
        refusal(post(bad).await, 400, "body_invalid").await;
    }
    assert_eq!(site.connect_raw("box", 0).await.status(), 404, "nothing of it was kept");
}

#[tokio::test]
async fn an_executor_that_serves_many_is_told_so_and_so_are_its_clients() {
    let (site, _dir) = site().await;
    let token = site.registry.tokens().create(NewToken::of(Role::Admin)).await.unwrap().secret;
    let body = |transports: &[&str]| {
        let mut body: serde_json::Value = serde_json::from_str(&register_body("box", "i")).unwrap();
        body["transports"] = transports.into();
        body.to_string()
    };
    let unknown = site.post("/cloud/executor/box/register", token.expose(), body(&["carrier-pigeon"])).await;
    assert_eq!(unknown.status(), 400);
    let reply = site.post("/cloud/executor/box/register", token.expose(), body(&["noise", "relay", "direct"])).await;
    let reply: exedra_proto::registry::RegisterReply = reply.json().await.unwrap();
    assert_eq!(reply.transport, Transport::Relay);
    assert_eq!(site.verify(reply.url.expose()).unwrap().shape, Shape::Streams);
    site.presence().online(&RegistrationId::new(reply.id), 1);
    for _ in 0..3 {
        let wanted = r#"{"transports":["relay","direct"]}"#;
        let reply = site.post("/v1/executors/box/connect", token.expose(), wanted).await;
        let reply: exedra_proto::registry::ConnectReply = reply.json().await.unwrap();
        assert_eq!(reply.transport, Transport::Relay);
        assert_eq!(site.verify(reply.url.expose()).unwrap().shape, Shape::Streams);
    }
    let old = site.post("/v1/executors/box/connect", token.expose(), r#"{"transports":["direct"]}"#).await;
    assert_eq!(old.status(), 400);
}

#[tokio::test]
async fn dialects_without_a_body_get_a_new_registration_each_time_and_the_newest_wins() {
    let (site, _dir) = site().await;
    let token = site.registry.tokens().create(NewToken::of(Role::Executor)).await.unwrap().secret;
    let mut epoch = 0;
    for path in ["/cloud/executor/box/register", "/cloud/environment/box/register", "/cloud/executor/box/register"] {
        let reply = site.post(path, token.expose(), "").await;
        assert_eq!(reply.status(), 200);
        let reply: serde_json::Value = reply.json().await.unwrap();
        let id = if path.contains("environment") { "environment_id" } else { "executor_id" };
        assert_eq!(reply[id], "box");
        let claims = site.verify(reply["url"].as_str().unwrap()).unwrap();
        epoch += 1;
        assert_eq!((claims.shape, claims.epoch), (Shape::Streams, epoch));
    }
    let noise = site.post("/cloud/environment/box/register", token.expose(), r#"{"security_profile":"x"}"#).await;
    assert_eq!(noise.status(), 400);
}
