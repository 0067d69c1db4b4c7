//! `exedra policy`: explains what a policy makes of a command; and keeps the policy in force for the commands that run an
//! executor.
//!
//! In flow the flags, out flow a decision and warnings, or log lines whenever the file was read anew.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use exedra_executor::audit::{Audit, Record};
use exedra_host::policy::{Current, Policy};
use exedra_host::process::{explain, warnings};
use exedra_host::{Host, HostConfig};
use serde_json::json;
use tokio::signal::unix::Signal;

use crate::cli::policy::{PolicyCheckArgs, PolicyCommand};
use crate::exit::{Exit, Failure};
use crate::{output, runtime};

/// Does what the command says.
///
/// # Errors
/// The policy cannot be used.
pub fn run(command: PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Check(args) => check(&args),
    }
}

/// The policy in `file`, to be put in force, which is written down in `audit`.
///
/// # Errors
/// It cannot be used.
pub fn open(file: &Path, audit: Option<&Audit>) -> Result<Current, Failure> {
    let policy = Policy::load(file)?;
    tell(file, &policy, audit);
    Ok(Current::new(policy))
}

/// Reads `file` again on each signal. One that cannot be used leaves the old policy in force.
pub async fn follow(file: PathBuf, current: Current, mut hangup: Signal, audit: Option<Audit>) -> Infallible {
    loop {
        if hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        let from = file.clone();
        match tokio::task::spawn_blocking(move || Policy::load(&from)).await {
            Ok(Ok(policy)) => {
                tell(&file, &policy, audit.as_ref());
                current.set(policy);
                tracing::info!(file = %file.display(), "a new policy is in force");
            }
            Ok(Err(error)) => tracing::error!(%error, "the policy stays as it was"),
            Err(error) => tracing::error!(%error, "the policy stays as it was"),
        }
    }
}

fn tell(file: &Path, policy: &Policy, audit: Option<&Audit>) {
    if let (Some(audit), Some(digest)) = (audit, &policy.digest) {
        audit.tell(Record::Policy { file: file.display().to_string(), sha256: digest.clone() });
    }
    for warning in warnings(policy) {
        tracing::warn!(file = %file.display(), "{warning}");
    }
}

/// What the policy asks for and this machine cannot do, so that every start would be refused.
async fn unenforceable(policy: &Policy) -> Result<Option<String>, Failure> {
    if policy.sandbox.is_none() {
        return Ok(None);
    }
    let mut config = HostConfig::default();
    config.launcher = Some("/proc/self/exe".into());
    let support = Host::start(config)?.support().await;
    let problem = support.namespaces.problem.as_ref();
    Ok(problem.map(|why| {
        format!(
            "sandbox: no namespaces on this machine, so that starts which Landlock alone cannot hold are refused: {why}"
        )
    }))
}

fn check(args: &PolicyCheckArgs) -> Result<Exit, Failure> {
    let policy = Policy::load(&args.file)?;
    let mut warnings = warnings(&policy);
    warnings.extend(runtime::light(unenforceable(&policy))?);
    let cwd = std::path::absolute(&args.cwd)?;
    let decision =
        (!args.argv.is_empty()).then(|| explain(&policy, &args.argv, &cwd, std::env::var_os("PATH").as_deref()));
    let allowed = decision.as_ref().is_none_or(|decision| decision.allowed);
    if args.json {
        let mut value = json!({"file": args.file, "warnings": warnings});
        if let (Some(members), Some(decision)) = (value.as_object_mut(), &decision) {
            members.insert("decision".to_owned(), serde_json::to_value(decision)?);
        }
        output::json(&value)?;
    } else {
        match &decision {
            None => output::line("the policy can be used")?,
            Some(decision) => {
                let word = if decision.allowed { "allowed" } else { "refused" };
                output::line(&format!("{word} by {}: {}", decision.rule, decision.why))?;
                for held in &decision.held {
                    output::line(&format!("held by {held}"))?;
                }
            }
        }
        for warning in &warnings {
            output::note(&format!("warning: {warning}"));
        }
    }
    Ok(if allowed { Exit::Success } else { Exit::Refused })
}
