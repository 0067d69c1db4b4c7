//! Kills in the middle of writes, and a look afterwards at all that had been answered with success.
//!
//! Registrations go to the server over HTTP, tokens are made and revoked by the command line beside it. At a random
//! moment both are killed. What had no answer may be there or not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use exedra_proto::registry::{RegisterReply, RegisterRequest};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::load::post::post;
use crate::plane::Plane;

/// Registrations that are under way at the same time.
const WRITERS: usize = 4;
/// The earliest and the latest moment of a kill, after the writers began.
const MOMENT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// For one look at what is there.
const LOOK: Duration = Duration::from_secs(30);

/// What was answered with success.
#[derive(Debug, Default)]
struct Answered {
    /// The registration of each executor.
    registrations: BTreeMap<String, String>,
    /// The tokens by name: the secret.
    tokens: BTreeMap<String, String>,
    /// The names of those that were revoked.
    revoked: Vec<String>,
}

/// How much was looked at.
#[derive(Debug)]
pub(super) struct Tally {
    registrations: usize,
    tokens: usize,
    revocations: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registrations, tokens, revocations } = self;
        write!(f, "{registrations} registrations, {tokens} tokens and {revocations} revocations were all there")
    }
}

/// One server and its writers.
struct Run {
    plane: Plane,
    answered: Mutex<Answered>,
}

pub(super) async fn run(exedra: &Path, dir: &Path, kills: usize) -> Result<Tally> {
    let dir = dir.join("kills");
    std::fs::create_dir_all(&dir)?;
    let mut run = Run { plane: Plane::start(exedra, &dir, false).await?, answered: Mutex::default() };
    for kill in 0..kills {
        let moment = MOMENT.0 + (MOMENT.1 - MOMENT.0).mul_f64(fastrand::f64());
        let writers = async {
            let registering = futures_util::future::join_all((0..WRITERS).map(|writer| run.register(kill, writer)));
            tokio::join!(registering, run.tokens(kill))
        };
        // The command line ends with its handle, by a kill too.
        let _ = timeout(moment, writers).await;
        run.plane.kill().await?;
        run.plane.start_again().await?;
        run.look(&format!("-{kill}-"))
            .await
            .with_context(|| format!("after kill {kill}, {moment:?} into the writes"))?;
    }
    run.look("").await.context("after the last kill")?;
    run.plane.stop().await?;
    let answered = run.answered();
    Ok(Tally {
        registrations: answered.registrations.len(),
        tokens: answered.tokens.len(),
        revocations: answered.revoked.len(),
    })
}

impl Run {
    async fn register(&self, kill: usize, writer: usize) {
        for number in 0.. {
            let executor = format!("x-{kill}-{writer}-{number}");
            if let Ok(registration) = self.registration(&executor).await {
                self.answered().registrations.insert(executor, registration);
            }
        }
    }

    /// Registers; the same executor with the same instance gets the same, if it is still known.
    async fn registration(&self, executor: &str) -> Result<String> {
        let request = RegisterRequest {
            idempotency_id: format!("instance-of-{executor}"),
            executor_id: executor.to_owned(),
            name: None,
            labels: BTreeMap::new(),
            metadata: json!({}),
            transports: Vec::new(),
            security_profile: None,
            executor_public_key: None,
        };
        let path = format!("/cloud/executor/{executor}/register");
        let body = serde_json::to_vec(&request)?;
        let answer = post(self.plane.address()?, &path, &self.plane.executor_token, &body).await?;
        ensure!(answer.status == 200, "{} for {executor}", answer.status);
        let reply: RegisterReply = serde_json::from_slice(&answer.body)?;
        Ok(reply.id)
    }

    /// Makes tokens, and revokes every other.
    async fn tokens(&self, kill: usize) -> Result<()> {
        for number in 0.. {
            let name = format!("t-{kill}-{number}");
            let create = self.plane.token_command(&["create", "--role", "executor", "--name", &name]);
            let secret = create.text(LOOK).await?.trim().to_owned();
            self.answered().tokens.insert(name.clone(), secret);
            if number % 2 == 1 {
                let id = id_of(&self.list().await?, &name)?;
                self.plane.token_command(&["revoke", &id]).text(LOOK).await?;
                self.answered().revoked.push(name);
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.plane.token_command(&["list", "--json"]).text(LOOK).await?)?)
    }

    /// Looks at all whose name has `part` in it.
    async fn look(&self, part: &str) -> Result<()> {
        let (registrations, tokens, revoked) = {
            let answered = self.answered();
            (answered.registrations.clone(), answered.tokens.clone(), answered.revoked.clone())
        };
        for (executor, before) in registrations.iter().filter(|(executor, _)| executor.contains(part)) {
            let now = timeout(LOOK, self.registration(executor)).await??;
            ensure!(now == *before, "executor {executor} was registered as {before}, and is now {now}");
        }
        let list = self.list().await?;
        for (name, secret) in tokens.iter().filter(|(name, _)| name.contains(part)) {
            let is_revoked = named(&list, name)?.get("revoked_at").is_some_and(|at| !at.is_null());
            ensure!(is_revoked || !revoked.contains(name), "the revocation of token {name} is lost");
            let path = "/cloud/executor/probe/register";
            let answer = timeout(LOOK, post(self.plane.address()?, path, secret, b"")).await??;
            let wanted = if is_revoked { 401 } else { 200 };
            ensure!(answer.status == wanted, "token {name} (revoked: {is_revoked}) is answered {}", answer.status);
        }
        Ok(())
    }

    fn answered(&self) -> MutexGuard<'_, Answered> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named<'l>(list: &'l [Value], name: &str) -> Result<&'l Value> {
    let is_it = |token: &&Value| token.get("name").and_then(Value::as_str) == Some(name);
    list.iter().find(is_it).with_context(|| format!("token {name} is lost"))
}

fn id_of(list: &[Value], name: &str) -> Result<String> {
    Ok(named(list, name)?.get("id").and_then(Value::as_str).context("a token without an id")?.to_owned())
}
