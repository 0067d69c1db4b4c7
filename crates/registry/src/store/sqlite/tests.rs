//! SQLite alone: what is on the disk, who else is there, and what went wrong with it.

use super::*;
use crate::store::{EVENTS_KEPT, conformance};
use crate::token::{Labels, Role};
use exedra_proto::secret::Secret;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

fn token(n: usize) -> (TokenRecord, TokenHash) {
    let record = TokenRecord::new(TokenId::new(format!("tok-{n}")), Role::Admin, 1);
    (record, TokenHash::of(&Secret::new(n.to_string())))
}

async fn sql(path: &Path, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn it_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    conformance::suite(|| async {
        let name = format!("{}.db", count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        SqliteStore::open(&dir.path().join(name), Check::Pages).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn records_outlive_the_process_and_only_the_owner_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let (record, hash) = token(1);
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    store.add_token(&record, &hash).await.unwrap();
    for file in ["a.db", "a.db-wal", "a.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    drop(store);
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    assert_eq!(store.tokens().await.unwrap(), [record]);
}

#[tokio::test]
async fn writes_are_durable_and_foreign_keys_hold() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("a.db"), Check::Pages).await.unwrap();
    let ask = async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&store.writer).await.unwrap() };
    assert_eq!(ask("PRAGMA synchronous").await, 2, "FULL");
    assert_eq!(ask("PRAGMA foreign_keys").await, 1);
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.unwrap();
    assert_eq!(mode, "wal");
    let written = sqlx::query("DELETE FROM tokens").execute(&store.readers).await;
    assert!(written.is_err(), "readers do not write");
}

#[tokio::test]
async fn whoever_watches_hears_of_reads_and_writes_also_of_those_that_fail() {
    let dir = tempfile::tempdir().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let watch = Watch(std::sync::Arc::new(move |operation, took| tell.send((operation, took)).unwrap()));
    let store = SqliteStore::open(&dir.path().join("a.db"), Check::Pages).await.unwrap().watched(Some(watch));
    let (record, hash) = token(1);
    store.add_token(&record, &hash).await.unwrap();
    store.add_token(&record, &hash).await.unwrap_err();
    store.tokens().await.unwrap();
    let mut heard = Vec::new();
    while let Ok((operation, took)) = told.try_recv() {
        assert!(!took.is_zero());
        heard.push(operation);
    }
    assert_eq!(heard, [Operation::Write, Operation::Write, Operation::Read]);
}

#[tokio::test]
async fn two_may_work_on_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let first = SqliteStore::open(&path, Check::Pages).await.unwrap();
    let second = SqliteStore::open(&path, Check::Version).await.unwrap();
    let write = async |store: &SqliteStore, offset: usize| {
        for n in 0..20 {
            let (record, hash) = token(offset + n);
            store.add_token(&record, &hash).await.unwrap();
        }
    };
    tokio::join!(write(&first, 0), write(&second, 100));
    assert_eq!(first.tokens().await.unwrap().len(), 40);
    second.revoke_token(&token(3).0.id, 9).await.unwrap();
    let (seen, _) = first.token(&token(3).1, 1).await.unwrap().unwrap();
    assert_eq!(seen.revoked_at, Some(9), "the other sees it at once");
}

/// Somebody else who is writing, until told to stop.
async fn another_writer(path: &Path) -> SqliteConnection {
    let mut other = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

#[tokio::test]
async fn a_start_waits_for_whoever_is_writing() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["new.db", "known.db"] {
        let path = dir.path().join(file);
        if file == "known.db" {
            SqliteStore::open(&path, Check::Pages).await.unwrap().close().await;
        }
        let mut other = another_writer(&path).await;
        let patience = schema::Patience { attempt: Duration::from_millis(1), ..schema::Patience::default() };
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let opening = schema::open(&path, Check::Pages, patience, || tell.send(()).unwrap());
        let release = async {
            // It has met the other's write, tried again, and met it again.
            for _ in 0..2 {
                told.recv().await.unwrap();
            }
            sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        };
        let (opened, ()) = tokio::join!(opening, release);
        let (writer, readers) = opened.unwrap();
        let (writes, directory) = (Writes::default(), dir.path().to_owned());
        let store = SqliteStore { writer, readers, line: Line::default(), watch: None, writes, directory };
        assert_eq!(store.tokens().await.unwrap(), [], "{file}");
    }
}

#[tokio::test]
async fn a_start_that_waited_long_enough_says_for_what() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    SqliteStore::open(&path, Check::Pages).await.unwrap().close().await;
    let mut other = another_writer(&path).await;
    let patience = schema::Patience { attempt: Duration::from_millis(1), whole: Duration::ZERO };
    let error = schema::open(&path, Check::Pages, patience, || ()).await.unwrap_err();
    assert_eq!(error, StoreError::BusyFor { secs: 0 });
    assert!(error.is_retryable() && error.hint().is_some_and(|hint| hint.contains("another process")));
    assert!(error.to_string().contains("its disk does not keep up"), "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    SqliteStore::open(&path, Check::Pages).await.unwrap();
}

#[tokio::test]
async fn only_a_busy_database_is_waited_for() {
    let mut attempts = 0;
    let outcome = outwait(
        WAIT,
        || panic!("it is not busy"),
        || {
            attempts += 1;
            async { Err::<(), _>(StoreError::Full) }
        },
    );
    assert_eq!(outcome.await, Err(StoreError::Full));
    assert_eq!(attempts, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    SqliteStore::open(&path, Check::Pages).await.unwrap().close().await;
    sql(&path, "PRAGMA user_version = 99").await;
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path, Check::Pages).await.unwrap_err();
    let known = u32::try_from(schema::MIGRATIONS.len()).unwrap();
    assert_eq!(error, StoreError::Newer { found: 99, known });
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn somebody_elses_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (with_tables, with_version) = (dir.path().join("a.db"), dir.path().join("b.db"));
    sql(&with_tables, "CREATE TABLE songs (title TEXT)").await;
    sql(&with_version, "CREATE TABLE songs (title TEXT); PRAGMA user_version = 1").await;
    for path in [with_tables, with_version] {
        assert_eq!(SqliteStore::open(&path, Check::Version).await.unwrap_err(), StoreError::Foreign);
    }
}

#[tokio::test]
async fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = dir.path().join("a.db");
    std::fs::write(&garbage, vec![b'x'; 8192]).unwrap();
    let error = SqliteStore::open(&garbage, Check::Version).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");

    let page = dir.path().join("b.db");
    let store = SqliteStore::open(&page, Check::Pages).await.unwrap();
    for n in 0..200 {
        let (record, hash) = token(n);
        store.add_token(&record, &hash).await.unwrap();
    }
    store.close().await;
    let mut file = std::fs::OpenOptions::new().write(true).open(&page).unwrap();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&[0xff; 4096]).unwrap();
    drop(file);
    let error = SqliteStore::open(&page, Check::Pages).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    let (record, hash) = token(1);
    store.add_token(&record, &hash).await.unwrap();
    for change in ["UPDATE tokens SET executors = 'a b'", "UPDATE tokens SET executors = '*', created_at = -1"] {
        sql(&path, change).await;
        let error = store.token(&hash, 1).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_transaction_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("a.db"), Check::Pages).await.unwrap();
    for n in 0..50 {
        let (record, hash) = token(n);
        let mut adding = store.add_token(&record, &hash);
        for _ in 0..n {
            if futures_util::poll!(&mut adding).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let (record, hash) = token(1000);
    store.add_token(&record, &hash).await.unwrap();
    assert_eq!(store.token(&hash, 1).await.unwrap().unwrap().0, record);
}

#[tokio::test]
async fn a_file_of_the_first_version_is_brought_forward() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    sql(&path, include_str!("../migrations/0001_tokens_and_executors.sql")).await;
    sql(&path, "PRAGMA application_id = 0x45786472").await;
    sql(&path, "INSERT INTO tokens VALUES ('t', zeroblob(32), '', 'executor', '*', 1, NULL, NULL)").await;
    sql(&path, "INSERT INTO executors VALUES ('box', NULL, '{}', '{}', 1, NULL)").await;
    sql(&path, "INSERT INTO registrations VALUES ('box', 1, 'reg-1', 'i', 't', 1)").await;
    sql(&path, "PRAGMA user_version = 1").await;
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    let registrations = store.registrations().await.unwrap();
    assert_eq!(registrations.len(), 1);
    assert_eq!(registrations[0].transport, exedra_proto::registry::Transport::Direct);
}

#[tokio::test]
async fn what_an_older_version_wrote_is_all_there_after_the_step_to_rights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    sql(&path, include_str!("../migrations/0001_tokens_and_executors.sql")).await;
    sql(&path, include_str!("../migrations/0002_transports.sql")).await;
    sql(
        &path,
        "PRAGMA application_id = 1165517938; PRAGMA user_version = 2; PRAGMA foreign_keys = ON;
         INSERT INTO tokens VALUES ('tok-1', x'0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20', 'n',
             'executor', 'b*', 5, 900, NULL);
         INSERT INTO executors VALUES ('box', 'a box', '{\"k\":\"v\"}', '{}', 1, 77);
         INSERT INTO registrations VALUES ('box', 1, 'reg-1', 'i', 'tok-1', 6, 'relay');",
    )
    .await;
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    let token = store.tokens().await.unwrap().remove(0);
    assert_eq!((token.role, token.executors.as_str(), token.expires_at), (Role::Executor, "b*", Some(900)));
    assert!(token.rights.is_all() && token.labels.is_empty());
    let id = ExecutorId::parse("box").unwrap();
    let executor = store.executor(&id).await.unwrap().unwrap();
    assert_eq!(
        (executor.current.id.as_str(), executor.last_seen, executor.token.as_str()),
        ("reg-1", Some(77), "tok-1")
    );
    for gone in ["DELETE FROM tokens", "UPDATE registrations SET token_id = 'nobody'"] {
        assert!(sqlx::query(gone).execute(&store.writer).await.is_err(), "{gone}: foreign keys still hold");
    }
}

#[tokio::test]
async fn after_the_step_to_client_labels_tokens_reach_and_are_told_what_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    for version in &schema::MIGRATIONS[..7] {
        sql(&path, version).await;
    }
    sql(
        &path,
        "PRAGMA application_id = 1165517938; PRAGMA user_version = 7;
         INSERT INTO tokens (id, hash, name, role, executors, labels, created_at) VALUES
             ('tok-1', zeroblob(32), '', 'client', '*', '{\"ci\":\"\",\"team\":\"a\"}', 1);
         INSERT INTO tokens (id, hash, name, role, executors, labels, created_at)
             SELECT 'tok-2', randomblob(32), '', 'admin', '*', labels, 2 FROM tokens;
         INSERT INTO tokens (id, hash, name, role, executors, labels, created_at)
             SELECT 'tok-3', randomblob(32), '', 'executor', '*', labels, 3 FROM tokens WHERE id = 'tok-1';
         INSERT INTO tokens (id, hash, name, role, executors, created_at, issuer, subject, rule) VALUES
             ('tok-4', randomblob(32), '', 'client', '*', 4, 'i', 's', 'r');",
    )
    .await;
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    let labels = [("team", "a"), ("ci", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (both, none) = (Labels::new(labels).unwrap(), Labels::default());
    let kept = store.tokens().await.unwrap();
    let kept: Vec<_> = kept.iter().map(|token| (token.id.as_str(), &token.labels, &token.client_labels)).collect();
    assert_eq!(
        kept,
        [("tok-1", &both, &both), ("tok-2", &both, &both), ("tok-3", &both, &none), ("tok-4", &none, &none)]
    );
    // A process of the version before may still write while it hands over.
    let old = "INSERT INTO tokens (id, hash, name, role, executors, labels, created_at) \
               SELECT 'tok-5', randomblob(32), '', 'client', '*', labels, 5 FROM tokens WHERE id = 'tok-1'";
    sqlx::query(old).execute(&store.writer).await.unwrap();
    assert_eq!(store.token_of_id(&TokenId::new("tok-5")).await.unwrap().unwrap().0.client_labels, both);
}

#[tokio::test]
async fn registrations_that_come_together_are_all_answered_and_a_refusal_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("a.db"), Check::Pages).await.unwrap();
    let (record, hash) = token(1);
    store.add_token(&record, &hash).await.unwrap();
    let new = |name: usize, instance: usize, bind_key: bool| NewRegistration {
        registration: Registration {
            id: RegistrationId::new(format!("reg-{name}-{instance}")),
            executor: ExecutorId::parse(&format!("box-{name}")).unwrap(),
            epoch: 0,
            idempotency_id: instance.to_string(),
            created_at: 1,
            transport: exedra_proto::registry::Transport::Relay,
            public_key: None,
        },
        name: None,
        labels: [].into(),
        metadata: serde_json::json!({}),
        token: record.id.clone(),
        take_over: false,
        bind_key,
    };
    let bind = "INSERT INTO bound_keys (executor_id, key, bound_at) VALUES ('box-7', 'another', 1)";
    sqlx::query(bind).execute(&store.writer).await.unwrap();
    // More than go together, two of each name; the seventh belongs to a key.
    let all: Vec<_> = (0..300).flat_map(|name| [new(name, 0, true), new(name, 1, true)]).collect();
    let answers = futures_util::future::join_all(all.iter().map(|new| store.register(new))).await;
    for (new, answer) in all.iter().zip(answers) {
        if new.registration.executor.as_str() == "box-7" {
            assert_eq!(answer.unwrap_err(), StoreError::OtherKey);
        } else {
            assert_eq!(answer.unwrap().id, new.registration.id);
        }
    }
    let kept = store.registrations().await.unwrap();
    assert_eq!(kept.len(), 598);
    assert!(kept.iter().all(|kept| (1..=2).contains(&kept.epoch)));
    // One that goes away while it works for others leaves them with an error that passes, and nothing half done.
    let (first, second) = (new(0, 2, false), new(0, 3, false));
    let mut leader = Box::pin(store.register(&first));
    let mut follower = Box::pin(store.register(&second));
    // The database may be quicker than this thread, which is fine, too.
    let _ = futures_util::poll!(leader.as_mut());
    let early = futures_util::poll!(follower.as_mut());
    drop(leader);
    let answer = match early {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => follower.await,
    };
    assert!(matches!(&answer, Ok(_) | Err(StoreError::Busy)), "{answer:?}");
    store.register(&second).await.unwrap();
}

#[tokio::test]
async fn the_access_log_only_grows_but_for_its_keeper() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    let run = async |sql: &'static str| sqlx::query(sql).execute(&store.writer).await;
    let insert = "INSERT INTO access_log (at, request_id, action, outcome) VALUES (1, 'r', 'connect', 'ok')";
    run(insert).await.unwrap();
    let refused = [
        "UPDATE access_log SET outcome = 'no'",
        "DELETE FROM access_log",
        "REPLACE INTO access_log (id, at, request_id, action, outcome) VALUES (1, 2, 'r', 'x', 'ok')",
        "INSERT INTO access_log (id, at, request_id, action, outcome) VALUES (1, 2, 'r', 'x', 'ok') \
         ON CONFLICT (id) DO UPDATE SET action = 'x'",
    ];
    for sql in refused {
        assert!(run(sql).await.unwrap_err().to_string().contains("append-only"), "{sql}");
    }
    run(insert).await.unwrap();
    assert_eq!(store.shorten_access(2, 1, 9).await.unwrap(), 1);
    for sql in refused.map(|sql| sql.replace("(1, 2,", "(2, 2,")) {
        let error = sqlx::query(AssertSqlSafe(sql.clone())).execute(&store.writer).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "afterwards: {sql}");
    }
    assert_eq!(store.access_after(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn ids_of_events_leap_forward_alone_and_what_was_kept_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let event = |at| NewEvent { at, kind: "some_thing".to_owned(), executor: None, detail: serde_json::json!({}) };
    let reopened = async |first| {
        SqliteStore::leap_events(&path, first).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the file");
        SqliteStore::open(&path, Check::Pages).await.unwrap()
    };
    SqliteStore::open(&path, Check::Pages).await.unwrap().close().await;
    let store = reopened(1_000).await;
    assert_eq!(store.last_event().await.unwrap(), 999, "before the first");
    assert_eq!(store.append_events(&[event(1), event(2)]).await.unwrap(), 1_001);
    store.close().await;
    let store = reopened(5).await;
    assert_eq!(store.append_events(&[event(3)]).await.unwrap(), 1_002, "they never go back");
    store.close().await;
    let store = reopened(1_800_000_000_000).await;
    assert_eq!(store.append_events(&[event(4)]).await.unwrap(), 1_800_000_000_000);
    let kept: Vec<_> = store.events_after(0, 10).await.unwrap().iter().map(|event| event.at).collect();
    assert_eq!(kept, [1, 2, 3, 4], "there are few, whatever their ids");
    let many: Vec<_> = (5..EVENTS_KEPT + 3).map(event).collect();
    store.append_events(&many).await.unwrap();
    let kept: Vec<_> = store.events_after(0, u32::MAX).await.unwrap().iter().map(|event| event.at).collect();
    assert_eq!(kept, (3..EVENTS_KEPT + 3).collect::<Vec<_>>());
    store.close().await;
    sql(&path, "DELETE FROM events").await;
    let store = SqliteStore::open(&path, Check::Pages).await.unwrap();
    assert_eq!(store.last_event().await.unwrap(), 1_800_000_000_000 + EVENTS_KEPT - 2, "though none is kept");
}

#[tokio::test]
async fn ids_of_a_file_from_before_there_were_events_do_not_leap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    sql(&path, schema::MIGRATIONS[0]).await;
    SqliteStore::leap_events(&path, 1_000).await.unwrap();
}
