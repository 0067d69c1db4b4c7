//! The service over a store that fails when it is told to.

use super::events::EventKind;
use super::tokens::{NewToken, Tokens};
use super::*;
use crate::clock::SystemClock;
use crate::rates::RateLimits;
use crate::store::StoreError;
use crate::store::memory::MemoryStore;
use exedra_proto::registry::{ConnectRequest, RegisterRequest};
use std::collections::BTreeMap;

struct Stage {
    service: Service,
    store: Arc<MemoryStore>,
    token: Secret,
    writer: journal::Writer,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn new(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keys = SigningKeys::open(dir.path().join("keys.json"), clock.now(), 1_000).unwrap();
        let presence = Arc::new(Tracker::new(Arc::clone(&clock), patience));
        let records = Arc::clone(&store) as Arc<dyn Store>;
        let tokens = Tokens::new(Arc::clone(&records), Arc::clone(&clock), dir.path().to_owned());
        let token = tokens.create(NewToken::of(Role::Admin)).await.unwrap().secret;
        let direct = Direct::new(crate::serverkey::ServerKey::open(&dir.path().join("key")).unwrap(), "r".to_owned());
        let rates = Arc::new(Rates::new(RateLimits::default(), Arc::clone(&clock)));
        let terms = Terms { write_patience: patience, bind_keys: false, rates, rate_patience: patience };
        let service = Service::new(records, presence, Arc::new(keys), clock, direct, terms);
        service.set_public_url(PublicUrl::parse("http://h").unwrap());
        let writer = service.journal.start();
        Self { service, store, token, writer, _dir: dir }
    }

    async fn register(&self, instance: &str) -> Result<String, Refusal> {
        let permit = self.service.permit_executor(Some(&self.token), "box").await?;
        let request = RegisterRequest {
            idempotency_id: instance.to_owned(),
            executor_id: "box".to_owned(),
            name: None,
            labels: BTreeMap::new(),
            metadata: serde_json::Value::Null,
            transports: Vec::new(),
            security_profile: None,
            executor_public_key: None,
        };
        Ok(self.service.register(&permit, request).await?.id)
    }
}

#[tokio::test]
async fn a_registration_waits_for_a_store_that_cannot_answer() {
    let stage = Stage::new(Duration::from_secs(30)).await;
    for failure in [StoreError::Busy, StoreError::Full, StoreError::Failed("a cable".to_owned())] {
        stage.store.fail(Some(failure.clone()));
        let instance = failure.to_string();
        let mut registering = Box::pin(stage.register(&instance));
        assert!(futures_util::poll!(&mut registering).is_pending(), "{failure}");
        stage.store.fail(None);
        registering.await.unwrap();
    }
}

#[tokio::test]
async fn a_registration_that_waits_is_answered_when_its_token_ends() {
    let stage = Stage::new(Duration::from_secs(3600)).await;
    let new = NewToken { lifetime: Some(Duration::from_secs(1)), ..NewToken::of(Role::Executor) };
    let token = stage.service.tokens.create(new).await.unwrap().secret;
    let stage = Stage { token, ..stage };
    stage.store.fail(Some(StoreError::Busy));
    let answer = tokio::time::timeout(Duration::from_secs(20), stage.register("i")).await;
    assert_eq!(answer.expect("the store never gets better"), Err(Refusal::Denied(Denied::Expired)));
}

#[tokio::test]
async fn tokens_at_a_terminal_wait_for_a_store_that_is_busy_and_those_of_requests_do_not() {
    let stage = Stage::new(Duration::ZERO).await;
    let records = Arc::clone(&stage.store) as Arc<dyn Store>;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tokens = Tokens::new(records, clock, PathBuf::from("db"));
    let patient = tokens.clone().patient(Duration::from_secs(3600));
    stage.store.fail(Some(StoreError::Busy));
    let refused = tokens.create(NewToken::of(Role::Client)).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    let mut creating = Box::pin(patient.create(NewToken::of(Role::Client)));
    assert!(futures_util::poll!(&mut creating).is_pending());
    stage.store.fail(None);
    let made = creating.await.unwrap();
    assert_eq!(patient.show(made.record.id.as_str()).await.unwrap(), made.record);
    stage.store.fail(Some(StoreError::Full));
    patient.revoke(made.record.id.as_str()).await.unwrap_err();
}

#[tokio::test]
async fn patience_has_an_end_and_none_is_had_with_what_does_not_pass() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.store.fail(Some(StoreError::Full));
    assert_eq!(stage.register("i").await, Err(Refusal::Full));
    let stage = Stage::new(Duration::from_secs(3600)).await;
    stage.store.fail(Some(StoreError::Corrupt("a page".to_owned())));
    assert_eq!(stage.register("i").await, Err(Refusal::Unavailable));
    stage.store.fail(None);
    let id = stage.register("i").await.unwrap();
    stage.store.fail(Some(StoreError::Corrupt("a page".to_owned())));
    assert_eq!(stage.register("i").await, Ok(id), "what is known needs no write");
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_as_long_as_it_asked_and_at_most_a_minute() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.register("i").await.unwrap();
    for (wait_ms, waited) in [(0, 0), (1_500, 1_500), (60_000, 60_000), (60_001, 60_000), (u64::MAX, 60_000)] {
        let permit = stage.service.permit_client(Some(&stage.token), "box").await.unwrap();
        let request = ConnectRequest { public_key: None, transports: Vec::new(), wait_ms };
        let started = tokio::time::Instant::now();
        let refused = stage.service.connect(&permit, &request).await.unwrap_err();
        assert_eq!(refused, Refusal::Offline { last_seen: None });
        let spent = started.elapsed().as_millis();
        assert!((waited..waited + 5).contains(&spent), "{wait_ms}: {spent}");
    }
}

#[tokio::test]
async fn a_server_whose_store_cannot_be_written_is_not_ready() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.store.fail(Some(StoreError::Full));
    assert_eq!(stage.service.check().await, Ok(()), "nobody has tried");
    // Any write, not registrations alone.
    stage.store.mark_seen(&[]).await.unwrap_err();
    assert_eq!(stage.service.check().await, Err(Refusal::Full));
    stage.service.try_write().await;
    assert_eq!(stage.service.check().await, Err(Refusal::Full));
    stage.store.fail(None);
    stage.register("i").await.unwrap();
    assert_eq!(stage.service.check().await, Err(Refusal::Full), "it may have found room that the store had already");
    stage.service.try_write().await;
    assert_eq!(stage.service.check().await, Ok(()));
    for (failure, answer) in [
        (Some(StoreError::ReadOnly), Err(Refusal::ReadOnly)),
        (Some(StoreError::Busy), Err(Refusal::ReadOnly)),
        (None, Ok(())),
        (Some(StoreError::Failed("a cable".to_owned())), Err(Refusal::Unavailable)),
        (None, Ok(())),
        (Some(StoreError::Busy), Ok(())),
    ] {
        stage.store.fail(failure);
        stage.service.try_write().await;
        assert_eq!(stage.service.check().await, answer);
    }
}

#[tokio::test]
async fn two_instances_with_one_name_are_told_of_once_a_minute() {
    use exedra_proto::plane::Presence as _;
    let stage = Stage::new(Duration::ZERO).await;
    let events = async || stage.store.events_after(1, 10).await.unwrap();
    let first = stage.register("i1").await.unwrap();
    stage.register("i1").await.unwrap();
    stage.service.presence.online(&exedra_proto::ids::RegistrationId::new(first.as_str()), 1);
    stage.register("i1").await.unwrap();
    assert_eq!(events().await, [], "one alone contends with nobody");
    let second = stage.register("i2").await.unwrap();
    stage.register("i1").await.unwrap();
    let events = events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((events[0].kind.as_str(), events[0].executor.as_ref().unwrap().as_str()), ("executor_contended", "box"));
    let detail = &events[0].detail;
    assert_eq!((&detail["online_registration"], &detail["asking_registration"]), (&first.into(), &second.into()));
    stage.store.fail(Some(StoreError::Full));
    stage.register("i2").await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_closed_is_not_ready() {
    let stage = Stage::new(Duration::ZERO).await;
    assert_eq!(stage.service.check().await, Ok(()));
    stage.store.close().await;
    assert_eq!(stage.service.check().await, Err(Refusal::Unavailable));
}

/// The numbers of the events in the store that [`happens`] put there, and the counts of those that are missing.
async fn journal(stage: &Stage) -> Vec<(String, u64)> {
    let events = stage.store.events_after(0, u32::MAX).await.unwrap();
    let own = events.iter().filter_map(|event| match event.kind.as_str() {
        "key_rotated" => Some((event.kind.clone(), event.detail["by"].as_u64()?)),
        "events_missing" => Some((event.kind.clone(), event.detail["count"].as_u64()?)),
        _ => None,
    });
    own.collect()
}

async fn happens(stage: &Stage, number: u64) {
    stage.service.record(EventKind::KeyRotated, None, serde_json::json!({"by": number})).await;
}

/// Waits until the journal ends with this event.
async fn ends_with(stage: &Stage, number: u64) {
    let is_there = async {
        while journal(stage).await.last().is_none_or(|last| last.1 != number) {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_there).await.expect("it is written");
}

#[tokio::test]
async fn an_event_is_in_the_journal_before_the_answer() {
    let stage = Stage::new(Duration::ZERO).await;
    for number in 0..10 {
        happens(&stage, number).await;
        assert_eq!(journal(&stage).await.last().unwrap().1, number);
    }
}

#[tokio::test]
async fn events_wait_in_order_for_a_store_that_takes_none() {
    let stage = Stage::new(Duration::ZERO).await;
    for failure in [StoreError::Busy, StoreError::Full, StoreError::Corrupt("a page".to_owned())] {
        let before = journal(&stage).await.len() as u64;
        stage.store.fail(Some(failure.clone()));
        for number in before..before + 100 {
            happens(&stage, number).await;
        }
        assert_eq!(journal(&stage).await.len() as u64, before, "{failure}");
        stage.store.fail(None);
        ends_with(&stage, before + 99).await;
    }
    let expected: Vec<_> = (0..300).map(|number| ("key_rotated".to_owned(), number)).collect();
    assert_eq!(journal(&stage).await, expected);
}

#[tokio::test]
async fn events_that_find_no_room_are_counted_in_the_journal() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.store.fail(Some(StoreError::Busy));
    for number in 0..1_030 {
        happens(&stage, number).await;
    }
    stage.store.fail(None);
    ends_with(&stage, 6).await;
    happens(&stage, 1_030).await;
    ends_with(&stage, 1_030).await;
    let mut expected: Vec<_> = (0..1_024).map(|number| ("key_rotated".to_owned(), number)).collect();
    expected.extend([("events_missing".to_owned(), 6), ("key_rotated".to_owned(), 1_030)]);
    assert_eq!(journal(&stage).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_hangs_is_waited_for_once_and_for_a_second() {
    let stage = Stage::new(Duration::ZERO).await;
    let Stage { service, .. } = &stage;
    // Nobody writes.
    let silent = journal::Journal::new(Arc::clone(&service.store));
    let event = crate::store::NewEvent { at: 1, kind: "k".to_owned(), executor: None, detail: serde_json::Value::Null };
    let started = tokio::time::Instant::now();
    silent.put(event.clone()).await;
    let first = started.elapsed();
    assert!((1_000..1_005).contains(&first.as_millis()), "{first:?}");
    silent.put(event).await;
    assert_eq!(started.elapsed(), first, "it is known to hang");
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_written_as_far_as_the_store_lets_it() {
    for (recovers, kept) in [(true, 10), (false, 0)] {
        let stage = Stage::new(Duration::ZERO).await;
        stage.store.fail(Some(StoreError::Busy));
        for number in 0..10 {
            happens(&stage, number).await;
        }
        let Stage { writer, store, .. } = stage;
        let recovery = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            store.fail((!recovers).then_some(StoreError::Busy));
        };
        let started = tokio::time::Instant::now();
        tokio::join!(writer.shutdown(), recovery);
        assert!(started.elapsed() < Duration::from_secs(6), "patience has an end");
        let events = store.events_after(0, 100).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == "key_rotated").count(), kept);
    }
}
