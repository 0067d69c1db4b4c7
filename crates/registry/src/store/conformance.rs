//! What every store has to do: run [`suite`] with a way to make an empty one.

use std::collections::BTreeMap;

use exedra_proto::base64::Base64Text;
use exedra_proto::ids::{ExecutorId, RegistrationId, TokenId};
use exedra_proto::noise::{self, PublicKey};
use exedra_proto::registry::Transport;
use exedra_proto::secret::Secret;
use serde_json::json;

use super::{
    Access, EVENTS_KEPT, End, Ended, Event, ExecutorChange, NewEvent, NewRegistration, REGISTRATIONS_KEPT,
    Registration, Store, StoreError, TokenRecord, Trade, Traded, Workload,
};
use crate::token::{Labels, Pattern, Rights, Role, TokenHash};

/// All tests, each on an empty store.
pub async fn suite<S: Store, F: Future<Output = S>>(make: impl Fn() -> F) {
    tokens_are_found_by_their_hash_alone(&make().await).await;
    a_token_is_revoked_once(&make().await).await;
    tokens_that_ended_are_found_by_when_they_did(&make().await).await;
    a_token_cannot_be_added_twice(&make().await).await;
    a_token_gets_another_secret(&make().await).await;
    a_token_is_noted_as_used(&make().await).await;
    a_join_token_is_traded_as_often_as_it_may_be(&make().await).await;
    a_trade_is_refused_for_what_speaks_against_it(&make().await).await;
    a_workload_keeps_its_token(&make().await).await;
    what_lapsed_long_ago_is_forgotten(&make().await).await;
    an_instance_keeps_its_registration(&make().await).await;
    another_instance_gets_the_next_epoch(&make().await).await;
    a_superseded_instance_keeps_its_own_or_takes_over(&make().await).await;
    a_registration_is_found_by_its_id_with_its_key(&make().await).await;
    a_name_may_be_bound_to_the_first_key(&make().await).await;
    a_registration_needs_a_token(&make().await).await;
    old_registrations_give_way(&make().await).await;
    last_seen_only_rises(&make().await).await;
    ids_come_in_order_up_to_the_limit(&make().await).await;
    executors_come_in_pages(&make().await).await;
    what_an_administrator_says_stays_until_an_executor_is_forgotten(&make().await).await;
    the_access_log_keeps_its_order(&make().await).await;
    instances_at_once_get_epochs_of_their_own(&make().await).await;
    events_come_in_order_from_an_id_on(&make().await).await;
    the_oldest_events_give_way_and_the_last_id_is_known(&make().await).await;
    a_closed_store_says_so(&make().await).await;
}

fn hash(text: &str) -> TokenHash {
    TokenHash::of(&Secret::new(text))
}

fn token(id: &str, created_at: u64) -> TokenRecord {
    TokenRecord {
        name: format!("{id}'s name: ü'\";--"),
        executors: Pattern::parse("gpu-*").unwrap(),
        labels: Labels::new([("team".to_owned(), "a".to_owned())]).unwrap(),
        client_labels: Labels::new([("who".to_owned(), id.to_owned())]).unwrap(),
        rights: Rights::parse("exec,pty").unwrap(),
        expires_at: Some(created_at + 5),
        ..TokenRecord::new(TokenId::new(id), Role::Client, created_at)
    }
}

fn executor(id: &str) -> ExecutorId {
    ExecutorId::parse(id).unwrap()
}

/// A store with the token `tok-1`.
async fn with_token<S: Store>(store: &S) -> &S {
    store.add_token(&token("tok-1", 10), &hash("1")).await.unwrap();
    store
}

fn new(id: &str, instance: &str, registration: &str) -> NewRegistration {
    NewRegistration {
        registration: Registration {
            id: RegistrationId::new(registration),
            executor: executor(id),
            epoch: 0,
            idempotency_id: instance.to_owned(),
            created_at: 77,
            transport: Transport::Relay,
            public_key: None,
        },
        name: Some("a box".to_owned()),
        labels: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        metadata: json!({"deep": [1, null, {"x": "y"}]}),
        token: TokenId::new("tok-1"),
        take_over: false,
        bind_key: false,
    }
}

async fn tokens_are_found_by_their_hash_alone(store: &impl Store) {
    let mut admin = token("tok-a", 20);
    (admin.role, admin.expires_at, admin.revoked_at) = (Role::Admin, None, Some(21));
    store.add_token(&admin, &hash("a")).await.unwrap();
    store.add_token(&token("tok-b", 10), &hash("b")).await.unwrap();
    let (found, kept) = store.token(&hash("a"), 12).await.unwrap().unwrap();
    assert_eq!(found, admin);
    assert!(kept.matches(&hash("a")));
    assert_eq!(store.token(&hash("b"), 12).await.unwrap().unwrap().0, token("tok-b", 10));
    assert!(store.token(&hash("c"), 12).await.unwrap().is_none());
    let (found, kept) = store.token_of_id(&admin.id).await.unwrap().unwrap();
    assert!(found == admin && kept.matches(&hash("a")));
    assert!(store.token_of_id(&TokenId::new("tok-c")).await.unwrap().is_none());
    assert_eq!(store.tokens().await.unwrap(), [token("tok-b", 10), admin], "oldest first");
}

async fn a_token_is_revoked_once(store: &impl Store) {
    let store = with_token(store).await;
    let revoked = TokenRecord { revoked_at: Some(30), ..token("tok-1", 10) };
    let id = TokenId::new("tok-1");
    assert_eq!(store.revoke_token(&id, 30).await.unwrap(), Some(revoked.clone()));
    assert_eq!(store.revoke_token(&id, 40).await.unwrap(), Some(revoked.clone()), "the first time stays");
    assert_eq!(store.revoke_token(&TokenId::new("tok-2"), 30).await.unwrap(), None);
    assert_eq!(store.token(&hash("1"), 12).await.unwrap().unwrap().0, revoked);
}

async fn tokens_that_ended_are_found_by_when_they_did(store: &impl Store) {
    let ends = [("tok-good", None, None), ("tok-expires", Some(50), None), ("tok-revoked", None, Some(60))];
    for (id, expires_at, revoked_at) in ends {
        let token = TokenRecord { expires_at, revoked_at, ..token(id, 10) };
        store.add_token(&token, &hash(id)).await.unwrap();
    }
    let ended = async |since, now| {
        let mut ended = store.ended_tokens(since, now).await.unwrap();
        ended.sort();
        let how = |end: &Ended| match end.how {
            End::Renewed(until) => format!("{} {until}", end.token),
            End::Revoked | End::Expired => {
                let is_revoked = end.token.as_str() == "tok-revoked" || end.token.as_str() == "tok-both";
                assert_eq!(end.how, if is_revoked { End::Revoked } else { End::Expired });
                end.token.as_str().to_owned()
            }
        };
        ended.iter().map(how).collect::<Vec<_>>()
    };
    assert_eq!(ended(0, 49).await, ["tok-revoked"], "whatever the clock says now");
    assert_eq!(ended(0, 50).await, ["tok-expires", "tok-revoked"]);
    assert_eq!(ended(50, 90).await, ["tok-expires", "tok-revoked"]);
    assert_eq!(ended(51, 90).await, ["tok-revoked"]);
    assert_eq!(ended(60, 90).await, ["tok-revoked"]);
    assert!(ended(61, 90).await.is_empty());
    let both = TokenRecord { expires_at: Some(50), revoked_at: Some(60), ..token("tok-both", 10) };
    store.add_token(&both, &hash("both")).await.unwrap();
    assert_eq!(ended(50, 90).await, ["tok-both", "tok-expires", "tok-revoked"], "once");
    for (secret, until, now) in [("next", 20, 20), ("after", 30, 22)] {
        store.rotate_token(&TokenId::new("tok-good"), &hash(secret), until, now).await.unwrap().unwrap();
        assert!(ended(0, until - 1).await.iter().all(|one| !one.starts_with("tok-good")), "not before its time");
        assert_eq!(
            ended(until, until).await,
            [format!("tok-good {until}"), "tok-both".to_owned(), "tok-revoked".to_owned()]
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }
    store.rotate_token(&TokenId::new("tok-expires"), &hash("late"), 49, 49).await.unwrap().unwrap();
    assert_eq!(ended(40, 50).await, ["tok-both", "tok-expires", "tok-expires 49", "tok-revoked"], "both");
}

async fn a_token_cannot_be_added_twice(store: &impl Store) {
    let store = with_token(store).await;
    assert!(store.add_token(&token("tok-1", 11), &hash("2")).await.is_err(), "same id");
    assert!(store.add_token(&token("tok-2", 11), &hash("1")).await.is_err(), "same hash");
    assert_eq!(store.tokens().await.unwrap().len(), 1);
    store.add_token(&token("tok-2", 11), &hash("2")).await.unwrap();
}

async fn a_token_gets_another_secret(store: &impl Store) {
    let store = with_token(store).await;
    let id = TokenId::new("tok-1");
    let known = async |text, now| store.token(&hash(text), now).await.unwrap().map(|(token, _)| token.id);
    let rotate = async |text, until, now| store.rotate_token(&id, &hash(text), until, now).await.unwrap();
    assert_eq!(rotate("2", 13, 11).await, Some(token("tok-1", 10)));
    assert_eq!((known("1", 12).await, known("2", 12).await), (Some(id.clone()), Some(id.clone())));
    assert_eq!((known("1", 13).await, known("2", 13).await), (None, Some(id.clone())), "the grace is over");
    assert!(store.token(&hash("1"), 12).await.unwrap().unwrap().1.matches(&hash("1")));
    rotate("3", 12, 12).await.unwrap();
    assert_eq!((known("1", 12).await, known("2", 12).await), (None, None), "no grace, and one old secret at most");
    assert!(rotate("4", 15, 15).await.is_none(), "it has expired");
    store.add_token(&token("tok-2", 10), &hash("b")).await.unwrap();
    assert!(store.rotate_token(&id, &hash("b"), 0, 11).await.is_err(), "a secret is one token's");
    store.revoke_token(&id, 11).await.unwrap();
    assert!(rotate("5", 0, 11).await.is_none(), "it was revoked");
    assert!(store.rotate_token(&TokenId::new("tok-9"), &hash("9"), 0, 11).await.unwrap().is_none());
}

async fn a_token_is_noted_as_used(store: &impl Store) {
    let store = with_token(store).await;
    let used = async || store.token(&hash("1"), 11).await.unwrap().unwrap().0.last_used;
    assert_eq!(used().await, None);
    for (at, noted) in [(20, 20), (15, 20), (21, 21)] {
        store.mark_used(&[(TokenId::new("tok-1"), at), (TokenId::new("nobody"), at)]).await.unwrap();
        assert_eq!(used().await, Some(noted));
    }
    store.mark_used(&[]).await.unwrap();
}

/// A store with the join token `tok-j`, good until 100.
async fn with_join_token<S: Store>(store: &S, uses: u32) -> &S {
    let join = TokenRecord {
        uses_left: Some(uses),
        expires_at: Some(100),
        ..TokenRecord::new(TokenId::new("tok-j"), Role::Join, 10)
    };
    store.add_token(&join, &hash("join")).await.unwrap();
    store
}

fn credential(id: &str, executor: &str) -> Trade {
    let credential = TokenRecord {
        executors: Pattern::parse(executor).unwrap(),
        joined_with: Some(TokenId::new("tok-j")),
        ..TokenRecord::new(TokenId::new(id), Role::Executor, 20)
    };
    Trade { join: TokenId::new("tok-j"), credential, hash: hash(id), now: 20 }
}

async fn a_join_token_is_traded_as_often_as_it_may_be(store: &impl Store) {
    let store = with_join_token(store, 2).await;
    let left = async || store.token_of_id(&TokenId::new("tok-j")).await.unwrap().unwrap().0.uses_left;
    let (a, b, c) = (credential("tok-a", "a"), credential("tok-b", "b"), credential("tok-c", "c"));
    assert_eq!(store.trade(&a).await.unwrap(), Traded::Made(a.credential.clone()));
    assert_eq!(store.token(&hash("tok-a"), 20).await.unwrap().unwrap().0, a.credential);
    let (b_done, c_done) = tokio::join!(store.trade(&b), store.trade(&c));
    let done = [b_done.unwrap(), c_done.unwrap()];
    assert!(done.contains(&Traded::JoinUsedUp) && done.iter().any(|one| matches!(one, Traded::Made(_))), "{done:?}");
    assert_eq!((store.tokens().await.unwrap().len(), left().await), (3, Some(0)));
    let again = Trade { now: 200, credential: credential("tok-d", "a").credential, ..a.clone() };
    assert_eq!(store.trade(&again).await.unwrap(), Traded::Known(a.credential.clone()), "whatever the time");
    store.revoke_token(&a.credential.id, 30).await.unwrap();
    assert_eq!(store.trade(&again).await.unwrap(), Traded::Ended);
    assert_eq!(store.tokens().await.unwrap().len(), 3);
}

async fn a_trade_is_refused_for_what_speaks_against_it(store: &impl Store) {
    let store = with_join_token(with_token(store).await, 9).await;
    store.register(&new("box", "i1", "reg-1")).await.unwrap();
    let bound = credential("tok-bound", "bound");
    assert_eq!(store.trade(&bound).await.unwrap(), Traded::Made(bound.credential.clone()));
    let stolen = Trade { hash: hash("1"), ..credential("tok-s", "s") };
    let moved = Trade { hash: hash("tok-bound"), ..credential("tok-m", "elsewhere") };
    for (trade, refused) in [
        (credential("tok-x", "box"), Traded::NameTaken),
        (credential("tok-y", "bound"), Traded::NameTaken),
        (stolen, Traded::HashTaken),
        (moved, Traded::HashTaken),
        (Trade { now: 100, ..credential("tok-e", "late") }, Traded::JoinExpired),
        (Trade { join: TokenId::new("tok-gone"), ..credential("tok-g", "g") }, Traded::JoinRevoked),
    ] {
        assert_eq!(store.trade(&trade).await.unwrap(), refused);
    }
    store.revoke_token(&bound.credential.id, 30).await.unwrap();
    let next = Trade { now: 99, ..credential("tok-next", "bound") };
    assert_eq!(store.trade(&next).await.unwrap(), Traded::Made(next.credential.clone()), "a dead token binds no name");
    store.rotate_token(&next.credential.id, &hash("rotated"), 90, 80).await.unwrap();
    assert_eq!(store.trade(&next).await.unwrap(), Traded::HashTaken, "its secret is another now");
    store.revoke_token(&TokenId::new("tok-j"), 40).await.unwrap();
    assert_eq!(store.trade(&credential("tok-r", "r")).await.unwrap(), Traded::JoinRevoked);
    let left = store.token_of_id(&TokenId::new("tok-j")).await.unwrap().unwrap().0.uses_left;
    assert_eq!(left, Some(7), "refusals cost nothing");
}

async fn what_lapsed_long_ago_is_forgotten(store: &impl Store) {
    let admit = async |id: &str, created_at: u64| {
        let workload = Workload { issuer: "https://i".to_owned(), subject: id.to_owned(), rule: "r".to_owned() };
        let record = TokenRecord { workload: Some(workload), ..token(id, created_at) };
        store.admit_workload(&record, &hash(id)).await.unwrap()
    };
    let register = async |name: &str, by: &TokenRecord| {
        let new = NewRegistration { token: by.id.clone(), ..new(name, "i", &format!("reg-{name}")) };
        store.register(&new).await.unwrap();
    };
    with_token(store).await;
    // All end at 15, but for the last.
    let [plain, revoked, shown, ran, labelled, seen] = [
        admit("w-1", 10).await,
        admit("w-2", 10).await,
        admit("w-3", 10).await,
        admit("w-4", 10).await,
        admit("w-5", 10).await,
        admit("w-6", 10).await,
    ];
    let recent = admit("w-7", 995).await;
    store.revoke_token(&revoked.id, 12).await.unwrap();
    store.mark_used(&[(shown.id.clone(), 1_000)]).await.unwrap();
    for (name, by) in [("ran", &ran), ("labelled", &labelled), ("seen", &seen), ("own", &token("tok-1", 10))] {
        register(name, by).await;
    }
    let assigned = Some(Labels::new([("keep".to_owned(), "it".to_owned())]).unwrap());
    let change = ExecutorChange { assigned, ..ExecutorChange::default() };
    store.change_executor(&executor("labelled"), &change).await.unwrap();
    store.mark_seen(&[(executor("seen"), 1_000)]).await.unwrap();

    assert_eq!(store.lapsed_executors(15, 9).await.unwrap(), [], "not before its time");
    assert_eq!(store.forget_workloads(15, 9, 2_000).await.unwrap(), 0);
    assert_eq!(store.lapsed_executors(1_000, 9).await.unwrap(), [executor("ran")]);
    assert_eq!(store.lapsed_executors(1_000, 0).await.unwrap(), []);
    assert_eq!(store.forget_workloads(1_000, 0, 2_000).await.unwrap(), 0);
    assert_eq!(store.forget_workloads(1_000, 9, 2_000).await.unwrap(), 1);
    assert!(store.token(&hash("w-1"), 1).await.unwrap().is_none(), "{plain:?}");
    assert!(store.forget_executor(&executor("ran")).await.unwrap());
    assert_eq!(store.forget_workloads(1_000, 9, 2_000).await.unwrap(), 1);
    assert_eq!(store.forget_workloads(1_000, 9, 2_000).await.unwrap(), 0);
    let mut left: Vec<_> = store.tokens().await.unwrap().into_iter().map(|token| token.id).collect();
    left.sort();
    let kept = [TokenId::new("tok-1"), revoked.id, shown.id, labelled.id, seen.id, recent.id];
    assert_eq!(left, kept, "revoked, in use, and no workload's");
    let lines = store.access_after(0, 9).await.unwrap();
    let told: Vec<_> = lines.iter().map(|line| (line.at, line.outcome.as_str(), line.count)).collect();
    assert_eq!(told, [(2_000, "forgotten", 1); 2]);
    // Whoever comes again is somebody new.
    assert_eq!(admit("w-1", 3_000).await.created_at, 3_000);
}

async fn a_workload_keeps_its_token(store: &impl Store) {
    let text = |text: &str| text.to_owned();
    let workload = Workload { issuer: text("https://i"), subject: text("me'\";--"), rule: text("r") };
    let first = TokenRecord { workload: Some(workload), ..token("tok-w", 10) };
    assert_eq!(store.admit_workload(&first, &hash("w")).await.unwrap(), first);
    assert_eq!(store.token(&hash("w"), 12).await.unwrap().unwrap().0, first);
    let id = TokenId::new("tok-w");
    store.mark_used(&[(id.clone(), 13)]).await.unwrap();
    let client_labels = Labels::new([("who".to_owned(), "other".to_owned())]).unwrap();
    let later =
        TokenRecord { role: Role::Admin, client_labels, name: text("other"), expires_at: Some(99), ..first.clone() };
    let again = TokenRecord { id: TokenId::new("tok-x"), created_at: 50, ..later.clone() };
    let expected = TokenRecord { last_used: Some(13), ..later };
    assert_eq!(store.admit_workload(&again, &hash("w")).await.unwrap(), expected, "id and age stay");
    let sooner = TokenRecord { expires_at: Some(60), ..again.clone() };
    assert_eq!(store.admit_workload(&sooner, &hash("w")).await.unwrap(), expected, "the later end counts");
    assert_eq!(store.rotate_token(&id, &hash("z"), 0, 20).await.unwrap(), None, "there is no secret");
    store.revoke_token(&id, 70).await.unwrap();
    let barred = TokenRecord { revoked_at: Some(70), ..expected.clone() };
    assert_eq!(store.admit_workload(&again, &hash("w")).await.unwrap(), barred, "revoked stays revoked");
    assert_eq!(store.readmit_workload(&id).await.unwrap(), Some(expected));
    with_token(store).await;
    assert_eq!(store.readmit_workload(&TokenId::new("tok-1")).await.unwrap(), None);
    assert_eq!(store.readmit_workload(&TokenId::new("tok-2")).await.unwrap(), None);
    assert_eq!(store.tokens().await.unwrap().len(), 2);
}

async fn an_instance_keeps_its_registration(store: &impl Store) {
    let store = with_token(store).await;
    assert_eq!(store.executor(&executor("box")).await.unwrap(), None);
    let first = store.register(&new("box", "i1", "reg-1")).await.unwrap();
    assert_eq!(first, Registration { epoch: 1, ..new("box", "i1", "reg-1").registration });
    for take_over in [false, true] {
        let again = NewRegistration { take_over, name: None, ..new("box", "i1", "reg-2") };
        assert_eq!(store.register(&again).await.unwrap(), first);
    }
    store.add_token(&token("tok-2", 10), &hash("2")).await.unwrap();
    let other = NewRegistration { token: TokenId::new("tok-2"), ..new("elsewhere", "i1", "reg-3") };
    assert_eq!(store.register(&other).await.unwrap().epoch, 1);
    let other = NewRegistration {
        registration: new("elsewhere", "i1", "reg-4").registration,
        token: TokenId::new("tok-1"),
        ..other
    };
    let by_another_token = store.register(&other).await.unwrap();
    assert_eq!((by_another_token.epoch, by_another_token.id.as_str()), (2, "reg-4"), "which is another instance");
    let record = store.executor(&executor("box")).await.unwrap().unwrap();
    assert_eq!(record.current, first);
    assert_eq!(record.name.as_deref(), Some("a box"));
    let sent = new("box", "i1", "reg-1");
    assert_eq!((record.token.as_str(), record.trusted()), ("tok-1", token("tok-1", 10).labels));
    assert_eq!((record.labels, record.metadata), (sent.labels, sent.metadata));
    assert_eq!(record.last_seen, None);
    assert_eq!((record.assigned.is_empty(), record.draining_since), (true, None));
}

async fn another_instance_gets_the_next_epoch(store: &impl Store) {
    let store = with_token(store).await;
    let first = store.register(&new("box", "i1", "reg-1")).await.unwrap();
    let unnamed = NewRegistration { name: None, ..new("box", "i2", "reg-2") };
    let second = store.register(&unnamed).await.unwrap();
    assert_eq!((second.epoch, second.id.as_str()), (2, "reg-2"));
    let record = store.executor(&executor("box")).await.unwrap().unwrap();
    assert_eq!((&record.current, record.name), (&second, None));
    let other = store.register(&new("box2", "i1", "reg-3")).await.unwrap();
    assert_eq!(other.epoch, 1, "an instance counts for one executor");
    assert_eq!(store.registrations().await.unwrap(), [first, second, other]);
    assert!(store.register(&new("box3", "i1", "reg-1")).await.is_err(), "an id is used once");
    assert_eq!(store.executor(&executor("box3")).await.unwrap(), None, "and what failed left nothing");
}

async fn a_superseded_instance_keeps_its_own_or_takes_over(store: &impl Store) {
    let store = with_token(store).await;
    let first = store.register(&new("box", "i1", "reg-1")).await.unwrap();
    let second = store.register(&new("box", "i2", "reg-2")).await.unwrap();
    assert_eq!(store.register(&new("box", "i1", "reg-3")).await.unwrap(), first);
    assert_eq!(store.executor(&executor("box")).await.unwrap().unwrap().current, second);
    let over = NewRegistration { take_over: true, ..new("box", "i1", "reg-4") };
    let third = store.register(&over).await.unwrap();
    assert_eq!((third.id.as_str(), third.epoch), ("reg-4", 3));
    assert_eq!(store.executor(&executor("box")).await.unwrap().unwrap().current, third);
    assert_eq!(store.register(&new("box", "i1", "reg-5")).await.unwrap(), third, "its newest counts");
    assert_eq!(store.register(&new("box", "i2", "reg-6")).await.unwrap(), second);
}

async fn a_registration_is_found_by_its_id_with_its_key(store: &impl Store) {
    let store = with_token(store).await;
    let mut keyed = new("box", "i1", "reg-1");
    keyed.registration.public_key = Some(key());
    let first = store.register(&keyed).await.unwrap();
    let second = store.register(&new("box", "i2", "reg-2")).await.unwrap();
    assert_eq!(first.public_key, Some(key()));
    assert_eq!(store.registration(&first.id).await.unwrap(), Some(first));
    assert_eq!(store.registration(&second.id).await.unwrap(), Some(second));
    assert_eq!(store.registration(&RegistrationId::new("reg-3")).await.unwrap(), None);
}

async fn a_name_may_be_bound_to_the_first_key(store: &impl Store) {
    let store = with_token(store).await;
    let keyed = |instance: &str, seed: Option<u8>, bind_key| {
        let mut new = new("box", instance, &format!("reg-{instance}"));
        (new.registration.public_key, new.bind_key) = (seed.map(key_of), bind_key);
        new.registration.transport = if seed.is_some() { Transport::Noise } else { Transport::Relay };
        new
    };
    // Who does not have to have it may show any key.
    let told = |instance: &str, seed| {
        let mut new = keyed(instance, Some(seed), true);
        new.registration.transport = Transport::Relay;
        new
    };
    let bound_key = async || store.executor(&executor("box")).await.unwrap().unwrap().bound_key;
    store.register(&keyed("a", None, true)).await.unwrap();
    store.register(&told("told", 1)).await.unwrap();
    assert_eq!(bound_key().await, None);
    store.register(&keyed("b", Some(1), false)).await.unwrap();
    let bound = store.register(&keyed("c", Some(2), true)).await.unwrap();
    for other in [Some(1), None, Some(3)] {
        assert_eq!(store.register(&keyed("d", other, true)).await, Err(StoreError::OtherKey));
    }
    assert_eq!(store.register(&told("told again", 2)).await, Err(StoreError::OtherKey), "though it is that key");
    assert_eq!(store.executor(&executor("box")).await.unwrap().unwrap().current, bound, "and nothing has changed");
    assert_eq!(bound_key().await, Some(key_of(2).fingerprint()));
    assert_eq!(store.executors(None, 9).await.unwrap()[0].bound_key, bound_key().await);
    store.register(&keyed("e", Some(2), true)).await.unwrap();
    store.register(&keyed("f", Some(3), false)).await.unwrap();
    assert_eq!(store.register(&keyed("g", Some(3), true)).await, Err(StoreError::OtherKey));
    assert!(store.forget_key(&executor("box")).await.unwrap());
    assert!(!store.forget_key(&executor("box")).await.unwrap());
    store.register(&keyed("h", Some(3), true)).await.unwrap();
    assert_eq!(store.register(&keyed("i", Some(2), true)).await, Err(StoreError::OtherKey));
    assert!(store.forget_executor(&executor("box")).await.unwrap());
    assert_eq!(store.register(&keyed("j", Some(2), true)).await, Err(StoreError::OtherKey), "it outlives the executor");
    store.register(&keyed("k", Some(3), true)).await.unwrap();
}

fn key() -> PublicKey {
    key_of(7)
}

fn key_of(seed: u8) -> PublicKey {
    let part = |len| Base64Text::encode(&vec![seed; len]).0;
    serde_json::from_value(json!({
        "suite": noise::SUITE,
        "x25519_public_key": part(32),
        "mlkem768_public_key": part(1_184),
    }))
    .unwrap()
}

async fn a_registration_needs_a_token(store: &impl Store) {
    assert!(store.register(&new("box", "i1", "reg-1")).await.is_err());
    assert_eq!(store.executor(&executor("box")).await.unwrap(), None);
}

async fn old_registrations_give_way(store: &impl Store) {
    let store = with_token(store).await;
    let rounds = 2 * REGISTRATIONS_KEPT;
    for round in 1..=rounds {
        let one = store.register(&new("box", &format!("i{round}"), &format!("reg-{round}"))).await.unwrap();
        assert_eq!(one.epoch, round);
    }
    let kept: Vec<_> = store.registrations().await.unwrap().into_iter().map(|one| one.epoch).collect();
    assert_eq!(kept, (rounds - REGISTRATIONS_KEPT + 1..=rounds).collect::<Vec<_>>());
    let back = store.register(&new("box", "i1", "reg-back")).await.unwrap();
    assert_eq!(back.epoch, rounds + 1, "a forgotten instance is a new one");
}

async fn last_seen_only_rises(store: &impl Store) {
    let store = with_token(store).await;
    store.register(&new("box", "i1", "reg-1")).await.unwrap();
    store.register(&new("lab", "i1", "reg-2")).await.unwrap();
    let seen = async |id| store.executor(&executor(id)).await.unwrap().unwrap().last_seen;
    store.mark_seen(&[(executor("box"), 100), (executor("nobody"), 100)]).await.unwrap();
    assert_eq!((seen("box").await, seen("lab").await), (Some(100), None));
    store.mark_seen(&[(executor("box"), 90), (executor("lab"), 95)]).await.unwrap();
    assert_eq!((seen("box").await, seen("lab").await), (Some(100), Some(95)));
    store.mark_seen(&[]).await.unwrap();
    store.register(&new("box", "i2", "reg-3")).await.unwrap();
    assert_eq!(seen("box").await, Some(100), "it belongs to the executor");
    assert_eq!(store.executor(&executor("nobody")).await.unwrap(), None);
}

async fn ids_come_in_order_up_to_the_limit(store: &impl Store) {
    let store = with_token(store).await;
    assert_eq!(store.executor_ids(10).await.unwrap(), []);
    for id in ["b", "a", "B", "c"] {
        store.register(&new(id, "i", &format!("reg-{id}"))).await.unwrap();
    }
    assert_eq!(store.executor_ids(10).await.unwrap(), ["B", "a", "b", "c"].map(executor));
    assert_eq!(store.executor_ids(2).await.unwrap(), ["B", "a"].map(executor));
}

async fn executors_come_in_pages(store: &impl Store) {
    let store = with_token(store).await;
    for id in ["b", "a", "c"] {
        store.register(&new(id, "i", &format!("reg-{id}"))).await.unwrap();
        store.register(&new(id, "j", &format!("next-{id}"))).await.unwrap();
    }
    let page = async |after: Option<&str>, limit| {
        let after = after.map(executor);
        let page = store.executors(after.as_ref(), limit).await.unwrap();
        page.into_iter().map(|record| record.current.id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, ["next-a", "next-b"]);
    assert_eq!(page(Some("b"), 2).await, ["next-c"]);
    assert!(page(Some("c"), 2).await.is_empty());
}

async fn what_an_administrator_says_stays_until_an_executor_is_forgotten(store: &impl Store) {
    let store = with_token(store).await;
    store.register(&new("box", "i1", "reg-1")).await.unwrap();
    let labels = Labels::new([("team".to_owned(), "b".to_owned()), ("gpu".to_owned(), "1".to_owned())]).unwrap();
    let change = ExecutorChange { assigned: Some(labels.clone()), draining_since: Some(Some(5)) };
    let changed = store.change_executor(&executor("box"), &change).await.unwrap().unwrap();
    assert_eq!((&changed.assigned, changed.draining_since, changed.trusted()), (&labels, Some(5), labels.clone()));
    store.register(&new("box", "i2", "reg-2")).await.unwrap();
    let kept = store.executor(&executor("box")).await.unwrap().unwrap();
    assert_eq!((&kept.assigned, kept.draining_since), (&labels, Some(5)), "over registrations");
    let change = ExecutorChange { assigned: None, draining_since: Some(None) };
    let changed = store.change_executor(&executor("box"), &change).await.unwrap().unwrap();
    assert_eq!((&changed.assigned, changed.draining_since), (&labels, None), "what is not named stays");
    assert_eq!(store.change_executor(&executor("lab"), &change).await.unwrap(), None);
    assert!(store.forget_executor(&executor("box")).await.unwrap());
    assert!(!store.forget_executor(&executor("box")).await.unwrap());
    assert_eq!(store.executor(&executor("box")).await.unwrap(), None);
    assert!(store.registrations().await.unwrap().is_empty());
    let back = store.register(&new("box", "i1", "reg-3")).await.unwrap();
    assert_eq!((back.id.as_str(), back.epoch), ("reg-3", 1));
    assert!(store.executor(&executor("box")).await.unwrap().unwrap().assigned.is_empty());
}

async fn the_access_log_keeps_its_order(store: &impl Store) {
    let line = |action: &str| Access { action: action.to_owned(), count: 1, ..Access::default() };
    let whole = Access {
        at: 7,
        request_id: "r".to_owned(),
        address: Some("::1".to_owned()),
        token: Some(TokenId::new("tok-gone")),
        role: Some(Role::Join),
        executor: Some(executor("box")),
        outcome: "200".to_owned(),
        ..line("POST /x")
    };
    store.append_access(&[line("a"), whole.clone()]).await.unwrap();
    store.append_access(&[]).await.unwrap();
    store.append_access(&[line("c")]).await.unwrap();
    let all = store.access_after(0, 10).await.unwrap();
    assert_eq!(
        all.iter().map(|line| (line.id, line.action.as_str())).collect::<Vec<_>>(),
        [(1, "a"), (2, "POST /x"), (3, "c")]
    );
    assert_eq!(store.access_after(1, 1).await.unwrap(), [Access { id: 2, ..whole }]);
    assert_eq!(store.shorten_access(7, 1, 99).await.unwrap(), 1, "of the oldest one");
    assert_eq!(store.shorten_access(0, 10, 99).await.unwrap(), 0, "that is not worth a line");
    assert_eq!(store.shorten_access(7, 10, 99).await.unwrap(), 1, "not the one of that very second");
    store.append_access(&[line("d")]).await.unwrap();
    let left = store.access_after(0, 10).await.unwrap();
    let left: Vec<_> = left.iter().map(|line| (line.id, line.at, line.outcome.as_str(), line.count)).collect();
    // The newest never goes, so that no id comes twice.
    assert_eq!(left, [(2, 7, "200", 1), (4, 99, "given up", 1), (5, 99, "given up", 1), (6, 0, "", 1)]);
}

async fn instances_at_once_get_epochs_of_their_own(store: &impl Store) {
    let store = with_token(store).await;
    let all: Vec<_> = (0..6).map(|i| new("box", &format!("i{}", i % 3), &format!("reg-{i}"))).collect();
    let (a, b, c, d, e, f) = tokio::join!(
        store.register(&all[0]),
        store.register(&all[1]),
        store.register(&all[2]),
        store.register(&all[3]),
        store.register(&all[4]),
        store.register(&all[5]),
    );
    let [a, b, c, d, e, f] = [a, b, c, d, e, f].map(Result::unwrap);
    assert_eq!((&a, &b, &c), (&d, &e, &f), "one registration an instance");
    let mut epochs = [a.epoch, b.epoch, c.epoch];
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3]);
}

async fn events_come_in_order_from_an_id_on(store: &impl Store) {
    assert_eq!(store.events_after(0, 10).await.unwrap(), []);
    let event = |i: u64| NewEvent {
        at: 100 - i,
        kind: "some_thing".to_owned(),
        executor: i.is_multiple_of(2).then(|| executor("box")),
        detail: json!({"i": i, "text": "';--\u{0}"}),
    };
    let mut ids = Vec::new();
    for i in 0..4 {
        ids.push(store.append_events(&[event(i)]).await.unwrap());
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let all = store.events_after(0, 10).await.unwrap();
    assert_eq!(all.iter().map(|event| event.id).collect::<Vec<_>>(), ids);
    for (found, i) in all.iter().zip(0..) {
        let Event { at, kind, executor, detail, .. } = found.clone();
        assert_eq!(NewEvent { at, kind, executor, detail }, event(i));
    }
    assert_eq!(store.events_after(ids[1], 1).await.unwrap(), all[2..3]);
    assert_eq!(store.events_after(ids[3], 10).await.unwrap(), []);
    assert_eq!(store.last_event().await.unwrap(), ids[3]);
}

async fn the_oldest_events_give_way_and_the_last_id_is_known(store: &impl Store) {
    assert_eq!(store.last_event().await.unwrap(), 0);
    let events: Vec<_> = (0..EVENTS_KEPT + 5)
        .map(|at| NewEvent { at, kind: "some_thing".to_owned(), executor: None, detail: json!({}) })
        .collect();
    let (most, rest) = events.split_at(events.len() - 2);
    let before = store.append_events(most).await.unwrap();
    assert_eq!(store.last_event().await.unwrap(), before);
    let last = store.append_events(rest).await.unwrap();
    assert_eq!(store.last_event().await.unwrap(), last);
    let kept = store.events_after(0, u32::MAX).await.unwrap();
    assert_eq!(kept.iter().map(|event| event.at).collect::<Vec<_>>(), (5..EVENTS_KEPT + 5).collect::<Vec<_>>());
    assert_eq!((kept.last().unwrap().id, kept[kept.len() - 3].id), (last, before));
    assert_eq!(store.append_events(&[]).await.unwrap(), last, "nothing changes nothing");
}

async fn a_closed_store_says_so(store: &impl Store) {
    let store = with_token(store).await;
    store.check().await.unwrap();
    store.try_write().await.unwrap();
    store.close().await;
    assert_eq!(store.check().await, Err(StoreError::Closed));
    assert_eq!(store.try_write().await, Err(StoreError::Closed));
    assert_eq!(store.tokens().await, Err(StoreError::Closed));
    assert_eq!(store.register(&new("box", "i1", "reg-1")).await, Err(StoreError::Closed));
}
