//! Registrations that come together, in one transaction: the disk is asked once for all of them.
//!
//! In flow registrations, each from a caller that waits for it; out flow their answers, once they are on the disk. Whoever
//! comes first takes along all that wait by the time the database is free. What one of them may not do undoes that one
//! alone; if the transaction fails, each has one of its own. A caller that goes away while it does the work of others
//! leaves them with an error that passes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use super::rows::failure;
use super::{SqliteStore, keys, replace, standing};
use crate::store::{NewRegistration, Registration, StoreError};

/// Registrations in one transaction, some 30 ms of work, for which other writes wait. More wait for the next: as many as
/// there are requests.
const TOGETHER: usize = 128;

/// Those that wait.
#[derive(Debug, Default)]
pub struct Line {
    waiting: Mutex<Vec<Waiting>>,
    lead: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    new: NewRegistration,
    tell: oneshot::Sender<Result<Registration, StoreError>>,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those whose turn it is, without those whose callers have gone.
    fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.lock();
        waiting.retain(|one| !one.tell.is_closed());
        let most = waiting.len().min(TOGETHER);
        waiting.drain(..most).collect()
    }
}

impl SqliteStore {
    /// Registers, together with others.
    pub(super) async fn register_in_line(&self, new: &NewRegistration) -> Result<Registration, StoreError> {
        let (tell, mut told) = oneshot::channel();
        self.line.lock().push(Waiting { new: new.clone(), tell });
        loop {
            let _lead = tokio::select! {
                biased;
                answer = &mut told => return answer.unwrap_or(Err(StoreError::Busy)),
                lead = self.line.lead.lock() => lead,
            };
            match told.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => return Err(StoreError::Busy),
                Err(oneshot::error::TryRecvError::Empty) => self.serve(self.line.next()).await,
            }
        }
    }

    async fn serve(&self, line: Vec<Waiting>) {
        match self.register_all(&line).await {
            Ok(answers) => {
                for (one, answer) in line.into_iter().zip(answers) {
                    // Whoever has gone since registers again.
                    let _ = one.tell.send(answer);
                }
            }
            Err(error) if error.is_retryable() => {
                for one in line {
                    let _ = one.tell.send(Err(error.clone()));
                }
            }
            Err(_) => {
                for one in line {
                    let answer = self.register_all(std::slice::from_ref(&one)).await;
                    let answer = answer.and_then(|mut answers| answers.pop().unwrap_or(Err(StoreError::Busy)));
                    let _ = one.tell.send(answer);
                }
            }
        }
    }

    /// One transaction for all.
    async fn register_all(&self, line: &[Waiting]) -> Result<Vec<Result<Registration, StoreError>>, StoreError> {
        let mut tx = self.begin().await?;
        let mut answers = Vec::with_capacity(line.len());
        for one in line {
            run(&mut tx, "SAVEPOINT one").await?;
            let answer = register(&mut tx, &one.new).await;
            match &answer {
                Ok(_) => {}
                Err(StoreError::OtherKey) => run(&mut tx, "ROLLBACK TO one").await?,
                Err(error) => return Err(error.clone()),
            }
            run(&mut tx, "RELEASE one").await?;
            answers.push(answer);
        }
        tx.commit().await.map_err(failure)?;
        Ok(answers)
    }
}

async fn register(tx: &mut SqliteConnection, new: &NewRegistration) -> Result<Registration, StoreError> {
    if new.bind_key {
        keys::bind(tx, new).await?;
    }
    match standing(tx, new).await? {
        Some(registration) => Ok(registration),
        None => replace(tx, new).await,
    }
}

async fn run(tx: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::query(sql).execute(tx).await.map(drop).map_err(failure)
}
