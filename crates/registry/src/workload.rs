//! Workloads: jobs and pods that show a signed token (JWT) of an issuer that vouches for them, so that they need no secret
//! of ours.
//!
//! A bearer token flows in, an [`Identity`] flows out: who it is, and what the rules of the owner's file allow. `jwt` and
//! `keys` are pure, `issuer` fetches keys through a [`Fetch`] that is passed in, `places` bounds who waits for that, `file` reads
//! the rules. It must not know the store nor HTTP's answers.

mod fetch;
mod file;
mod guarded;
mod issuer;
mod jwt;
mod keys;
mod places;
mod rule;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use exedra_proto::ids::TokenId;
use exedra_proto::secret::Secret;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::error::RegistryError;
use crate::store::{TokenRecord, Workload};
use crate::token::{Pattern, TokenHash};

use file::Rules;
use issuer::Issuer;
use places::Places;
use rule::Rule;

pub use fetch::{Fetch, Fetching, MAX_FETCHED};
pub use jwt::is_signed;

/// Longest name of a workload's token, in characters.
const MAX_NAME: usize = 100;

/// Where the rules are, and how keys are fetched.
#[derive(Clone)]
pub struct WorkloadConfig {
    /// The file with issuers and rules.
    pub file: PathBuf,
    /// Fetches what issuers publish.
    pub fetch: Arc<dyn Fetch>,
}

/// The rules in force, and the keys of their issuers.
pub struct Workloads {
    config: WorkloadConfig,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Arc<Current>>,
    places: Arc<Places>,
}

/// Who shows a token, and how long that one waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker {
    /// Where the request comes from, if that is known.
    pub address: Option<IpAddr>,
    /// Until when it waits for whatever passes. None: for a fetch that is under way, and no longer.
    pub until: Option<Instant>,
}

/// What one reading of the file came to. Its tasks end with it.
struct Current {
    issuers: Vec<Arc<Issuer>>,
    rules: Vec<Rule>,
    _tasks: JoinSet<()>,
}

/// Somebody whom an issuer vouches for, and what a rule allows.
#[derive(Debug)]
pub struct Identity {
    workload: Workload,
    /// What the rule gives; its executors with `*` in place of what the bearer's claims say.
    record: TokenRecord,
    /// With what the claims say.
    executors: Pattern,
    /// Until when this proof is good, seconds since 1970.
    until: u64,
}

/// Why a token of another issuer is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is none.
    #[error("the workload token is no JWT that can be read")]
    Malformed,
    /// Nobody asked for that issuer's word.
    #[error("the workload token's issuer is not one of this server's")]
    Issuer,
    /// None, a symmetric one, or one that is not listed.
    #[error("the workload token's algorithm is not allowed for its issuer")]
    Algorithm,
    /// The issuer does not publish such a key.
    #[error("the workload token is signed with a key that its issuer does not publish")]
    Key,
    /// The signature is not the key's.
    #[error("the workload token's signature is not good")]
    Signature,
    /// A claim is missing, or is nothing of its kind.
    #[error("the workload token lacks a usable claim `{0}`")]
    Claim(&'static str),
    /// It is for others.
    #[error("the workload token is for another audience")]
    Audience,
    /// It is past its time.
    #[error("the workload token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the workload token is not good yet")]
    Early,
    /// The keys cannot be had now; in so many seconds they may.
    #[error("the keys of the workload token's issuer cannot be had at the moment")]
    Away(u64),
    /// The key may be newer than the keys that were fetched; in so many seconds that can be found out.
    #[error("the workload token is signed with a key that is not known yet; its issuer is asked for new ones in {0} s")]
    Later(u64),
    /// Too many wait for keys; in so many seconds that may be over.
    #[error("too many wait for the keys of workload tokens' issuers at the moment")]
    Crowded(u64),
    /// It is good, and no rule is for it.
    #[error("no workload rule is for the bearer of this token")]
    Unmatched,
    /// It is good, and the rule that is for it makes no executor's name of its claims.
    #[error("the claim `{0}` of the workload token is missing or cannot be a part of an executor's id")]
    Placeholder(String),
}

impl Fault {
    /// What it was, in a word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "workload_malformed",
            Self::Issuer => "workload_issuer",
            Self::Algorithm => "workload_algorithm",
            Self::Key => "workload_key",
            Self::Signature => "workload_signature",
            Self::Claim(_) => "workload_claim",
            Self::Audience => "workload_audience",
            Self::Expired => "workload_expired",
            Self::Early => "workload_early",
            Self::Away(_) => "workload_away",
            Self::Later(_) => "workload_later",
            Self::Crowded(_) => "workload_crowded",
            Self::Unmatched | Self::Placeholder(_) => "workload_unmatched",
        }
    }

    /// After how many seconds the bearer may come again, if it passes by itself.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Away(seconds) | Self::Later(seconds) | Self::Crowded(seconds) => Some(*seconds),
            _ => None,
        }
    }

    /// Whether the bearer is who the token says, and is let in by no rule.
    pub fn is_proven(&self) -> bool {
        matches!(self, Self::Unmatched | Self::Placeholder(_))
    }
}

impl Workloads {
    /// Reads the file, and begins to keep the keys of its issuers, which are fetched when they are needed. To be called
    /// within tokio.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(config: WorkloadConfig, clock: Arc<dyn Clock>) -> Result<Self, RegistryError> {
        let places = Arc::default();
        let current = start(file::load(&config.file)?, &config, &clock, &places, &[]);
        Ok(Self { config, clock, current: watch::Sender::new(Arc::new(current)), places })
    }

    /// Reads the file again. An issuer that stays as it was keeps its keys; who waits for keys is looked at anew.
    ///
    /// # Errors
    /// It cannot be used; then the rules until now stay in force.
    pub fn reload(&self) -> Result<(), RegistryError> {
        let rules = file::load(&self.config.file)?;
        let before = Arc::clone(&self.current.borrow());
        let next = start(rules, &self.config, &self.clock, &self.places, &before.issuers);
        self.current.send_replace(Arc::new(next));
        Ok(())
    }

    /// Whom this token is for, and what they may.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn identify(&self, bearer: &Secret, asker: &Asker) -> Result<Identity, Fault> {
        let mut news = self.current.subscribe();
        loop {
            let current = Arc::clone(&news.borrow_and_update());
            tokio::select! {
                biased;
                identity = current.identify(bearer, asker, self.clock.as_ref()) => return identity,
                Ok(()) = news.changed() => {}
            }
        }
    }
}

impl Current {
    async fn identify(&self, bearer: &Secret, asker: &Asker, clock: &dyn Clock) -> Result<Identity, Fault> {
        let seen = jwt::peek(bearer.expose())?;
        let issuer = self.issuers.iter().find(|issuer| issuer.settings.url == seen.issuer).ok_or(Fault::Issuer)?;
        let settings = &issuer.settings;
        if !settings.algorithms.contains(&seen.algorithm) {
            return Err(Fault::Algorithm);
        }
        let check = |claims: &Map<String, Value>| {
            jwt::check(claims, &settings.url, &settings.audience, settings.skew, clock.now())
        };
        // What would be refused whoever signed it makes nobody wait, nor fetch anything.
        check(&seen.claims)?;
        // As a tree they may be a hundred times as large as the token.
        drop(seen.claims);
        let key = issuer.key(seen.key_id.as_deref(), seen.algorithm, asker, clock).await?;
        let claims = jwt::verify(bearer.expose(), &key, seen.algorithm)?;
        let proof = check(&claims)?;
        let rule = self.rules.iter().find(|rule| rule.is_for(&settings.url, &claims));
        let Some(rule) = rule else {
            tracing::info!(issuer = settings.url, subject = proof.subject, "no workload rule is for this");
            return Err(Fault::Unmatched);
        };
        Ok(Identity {
            executors: rule.executors.fill(&claims)?,
            until: rule.session.map_or(proof.until, |session| proof.until.max(proof.issued_at.saturating_add(session))),
            record: rule.record(&proof.subject),
            workload: Workload { issuer: settings.url.clone(), subject: proof.subject, rule: rule.name.clone() },
        })
    }
}

impl Identity {
    /// By what it is found among the tokens: no text of a token has this hash.
    pub fn hash(&self) -> TokenHash {
        let Workload { issuer, subject, rule } = &self.workload;
        TokenHash::of(&Secret::new(format!("workload\0{issuer}\0{subject}\0{rule}")))
    }

    /// What is to be kept of it.
    pub fn record(&self, id: TokenId, now: u64) -> TokenRecord {
        TokenRecord {
            id,
            created_at: now,
            expires_at: Some(self.until),
            workload: Some(self.workload.clone()),
            ..self.record.clone()
        }
    }

    /// Whether that is what is kept already. What was revoked stays as it is.
    pub fn is_kept_by(&self, known: &TokenRecord) -> bool {
        let parts = |record: &TokenRecord| {
            let TokenRecord { name, role, executors, labels, client_labels, rights, .. } = record.clone();
            (name, role, executors, labels, client_labels, rights)
        };
        let is_same = parts(known) == parts(&self.record);
        known.revoked_at.is_some() || (is_same && known.expires_at >= Some(self.until))
    }

    /// What the bearer of this one proof may, of what is kept.
    pub fn narrow(&self, known: TokenRecord) -> TokenRecord {
        let TokenRecord { role, labels, client_labels, rights, .. } = self.record.clone();
        let (executors, expires_at) = (self.executors.clone(), Some(self.until));
        TokenRecord { role, labels, client_labels, rights, executors, expires_at, ..known }
    }
}

/// Has a task for each issuer; those that are as they were go on with the keys that they have.
fn start(
    rules: Rules,
    config: &WorkloadConfig,
    clock: &Arc<dyn Clock>,
    places: &Arc<Places>,
    before: &[Arc<Issuer>],
) -> Current {
    let mut tasks = JoinSet::new();
    let issuers: Vec<_> = rules
        .issuers
        .into_iter()
        .map(|settings| {
            let same = before.iter().find(|issuer| issuer.settings == settings);
            Arc::new(Issuer::new(settings, same.map(|issuer| issuer.cache()), Arc::clone(places)))
        })
        .collect();
    for issuer in &issuers {
        tasks.spawn(Arc::clone(issuer).run(Arc::clone(&config.fetch), Arc::clone(clock)));
    }
    Current { issuers, rules: rules.rules, _tasks: tasks }
}
