//! `exedra token`: makes, lists, renews and revokes tokens in a data directory, beside a running server or without one.
//!
//! In flow the flags, out flows a new token alone on stdout, or the list without any secret.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exedra_registry::store::TokenRecord;
use exedra_registry::token::{self, Labels, Pattern, Rights};
use exedra_registry::{CreatedToken, NewToken, RegistryError, Tokens, has_records, open_tokens};
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::ForgetKeyArgs;
use crate::cli::token::{
    Role, TokenAwsArgs, TokenCommand, TokenCreateArgs, TokenListArgs, TokenRevokeArgs, TokenRotateArgs, TokenShowArgs,
};
use crate::exit::{Exit, Failure};
use crate::{log, output, owner, runtime, settings};

/// What `--json` prints of a token that was made.
#[derive(Serialize)]
struct Made<'a> {
    token: &'a str,
    #[serde(flatten)]
    record: &'a TokenRecord,
}

/// Does what the command says.
///
/// # Errors
/// The records cannot be used, or what was asked for makes no sense.
pub fn run(command: TokenCommand) -> Result<Exit, Failure> {
    log::init(LevelFilter::WARN)?;
    let dir = settings::data_dir(command.data_dir().cloned())?;
    let work = async {
        match command {
            TokenCommand::Create(args) => create(args, &dir).await,
            TokenCommand::List(args) => list(args, &dir).await,
            TokenCommand::Show(args) => show(args, &dir).await,
            TokenCommand::Rotate(args) => rotate(args, &dir).await,
            TokenCommand::Revoke(args) => revoke(args, &dir).await,
            TokenCommand::Readmit(args) => readmit(args, &dir).await,
            TokenCommand::Aws(args) => aws(args, &dir).await,
        }?;
        Ok(Exit::Success)
    };
    owner::acting(&dir, || runtime::light(work))
}

/// Lets another key have an executor's name.
///
/// # Errors
/// The records cannot be used, or the name is bound to none.
pub fn forget_key(args: ForgetKeyArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::WARN)?;
    let dir = settings::data_dir(args.data_dir)?;
    let work = async {
        let tokens = open_existing(&dir).await?;
        let forgotten = tokens.forget_key(&args.executor).await.map_err(usage);
        tokens.close().await;
        if forgotten? {
            return Ok(Exit::Success);
        }
        let what = format!("the name {} is bound to no key", args.executor);
        Err(Failure::usage(what, "any key may register it"))
    };
    owner::acting(&dir, || runtime::light(work))
}

async fn create(args: TokenCreateArgs, dir: &Path) -> Result<(), Failure> {
    let executors = Pattern::parse(&args.executor)
        .map_err(|error| Failure::usage(error.to_string(), "write an id, or a pattern such as gpu-* or *"))?;
    let labels = Labels::new(args.label)
        .map_err(|error| Failure::usage(error.to_string(), "write each as --label NAME=VALUE, once"))?;
    let client_labels = Labels::new(args.client_label)
        .map_err(|error| Failure::usage(error.to_string(), "write each as --client-label NAME=VALUE, once"))?;
    let client_labels = Some(client_labels).filter(|labels| !labels.is_empty());
    if client_labels.is_some() && matches!(args.role, Role::Executor | Role::Join) {
        return Err(Failure::usage(
            "--client-label is for clients".to_owned(),
            "an executor's labels are given by --label",
        ));
    }
    if args.uses.is_some() && !matches!(args.role, Role::Join) {
        return Err(Failure::usage("--uses is for join tokens".to_owned(), "leave it out, or make it --role join"));
    }
    let new = NewToken {
        executors,
        labels,
        client_labels,
        rights: args.rights.unwrap_or(Rights::ALL),
        name: args.name.unwrap_or_default(),
        lifetime: args.expires,
        uses: args.uses,
        ..NewToken::of(role(args.role))
    };
    let tokens = open(dir).await?;
    let created = tokens.create(new).await.map_err(usage);
    tokens.close().await;
    let created = created?;
    if !created.record.rights.is_all() {
        output::note(
            "note: this token reaches executors alone that hold clients to their rights: those of Exedra, from this version on",
        );
    }
    print(&created, args.json)
}

async fn rotate(args: TokenRotateArgs, dir: &Path) -> Result<(), Failure> {
    let tokens = open_existing(dir).await?;
    let rotated = tokens.rotate(&args.id, args.grace).await.map_err(usage);
    tokens.close().await;
    print(&rotated?, args.json)
}

fn print(made: &CreatedToken, json: bool) -> Result<(), Failure> {
    let token = made.secret.expose();
    let printed = if json { output::json(&Made { token, record: &made.record }) } else { output::line(token) };
    Ok(printed?)
}

async fn show(args: TokenShowArgs, dir: &Path) -> Result<(), Failure> {
    let tokens = open_existing(dir).await?;
    let found = tokens.show(&args.id).await.map_err(usage);
    tokens.close().await;
    let found = found?;
    if args.json {
        return Ok(output::json(&found)?);
    }
    let [id, role, executors, state, made, used, from, name] = row(&found, now());
    let workload = found.workload.as_ref();
    let workload = workload.map(|workload| format!("{} of {}", workload.subject, workload.issuer)).unwrap_or_default();
    let words = |labels: &Labels| {
        let words: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.join(" ")
    };
    let rows = [
        ["id", &id],
        ["role", &role],
        ["executors", &executors],
        ["labels", &words(&found.labels)],
        ["client labels", &words(&found.client_labels)],
        ["rights", &found.rights.to_string()],
        ["state", &state],
        ["made", &made],
        ["last used", &used],
        ["uses left", &found.uses_left.map(|uses| uses.to_string()).unwrap_or_default()],
        ["joined with", &from],
        ["name", &name],
        ["workload", &workload],
    ];
    let of_some = ["client labels", "uses left", "joined with", "workload"];
    let rows = rows.into_iter().filter(|[what, value]| !value.is_empty() || !of_some.contains(what));
    Ok(output::table(rows.map(|row| row.map(str::to_owned)))?)
}

async fn list(args: TokenListArgs, dir: &Path) -> Result<(), Failure> {
    let tokens = open_existing(dir).await?;
    let records = tokens.list().await;
    tokens.close().await;
    let records = records?;
    if args.json {
        output::json(&records)?;
        return Ok(());
    }
    let now = now();
    let rows = records.iter().map(|record| row(record, now));
    let header = ["ID", "ROLE", "EXECUTORS", "STATE", "MADE", "USED", "FROM", "NAME"].map(str::to_owned);
    Ok(output::table(std::iter::once(header).chain(rows))?)
}

async fn revoke(args: TokenRevokeArgs, dir: &Path) -> Result<(), Failure> {
    let tokens = open_existing(dir).await?;
    let revoked = tokens.revoke(&args.id).await.map_err(usage);
    tokens.close().await;
    let revoked = revoked?;
    if args.json {
        output::json(&revoked)?;
    }
    Ok(())
}

async fn readmit(args: TokenRevokeArgs, dir: &Path) -> Result<(), Failure> {
    let tokens = open_existing(dir).await?;
    let readmitted = tokens.readmit(&args.id).await.map_err(usage);
    tokens.close().await;
    let readmitted = readmitted?;
    if args.json {
        output::json(&readmitted)?;
    }
    Ok(())
}

async fn aws(args: TokenAwsArgs, dir: &Path) -> Result<(), Failure> {
    let tokens = open_existing(dir).await?;
    let pair = tokens.aws(&args.id).await.map_err(usage);
    tokens.close().await;
    let pair = pair?;
    let (id, secret) = (&pair.access_key_id, pair.secret_access_key.expose());
    if args.json {
        return Ok(output::json(&serde_json::json!({"access_key_id": id, "secret_access_key": secret}))?);
    }
    output::line(&format!("AWS_ACCESS_KEY_ID={id}"))?;
    Ok(output::line(&format!("AWS_SECRET_ACCESS_KEY={secret}"))?)
}

/// Where nothing is there yet, it is made, and said so: a server on another directory would not know the token.
async fn open(dir: &Path) -> Result<Tokens, Failure> {
    let is_new = !has_records(dir);
    let tokens = open_tokens(dir).await?;
    if is_new {
        output::note(&format!(
            "note: there were no records in {}, so they were made; a server that runs already has its own --data-dir",
            dir.display()
        ));
    }
    Ok(tokens)
}

/// The same, where there has to be something: a mistyped directory is not made.
async fn open_existing(dir: &Path) -> Result<Tokens, Failure> {
    if !dir.exists() {
        let what = format!("there is no data directory {}", dir.display());
        return Err(Failure::usage(what, "name the one of the server with --data-dir"));
    }
    Ok(open_tokens(dir).await?)
}

/// A setting that makes no sense is wrong usage.
fn usage(error: RegistryError) -> Failure {
    let wrong = matches!(error, RegistryError::Config(_));
    let failure = Failure::from(error);
    if wrong { failure.with_exit(Exit::Usage) } else { failure }
}

fn role(role: Role) -> token::Role {
    match role {
        Role::Executor => token::Role::Executor,
        Role::Client => token::Role::Client,
        Role::Admin => token::Role::Admin,
        Role::Join => token::Role::Join,
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn row(record: &TokenRecord, now: u64) -> [String; 8] {
    let state = match (record.revoked_at, record.expires_at) {
        (Some(at), _) => format!("revoked {} ago", span(now.saturating_sub(at))),
        (None, Some(at)) if at <= now => format!("expired {} ago", span(now - at)),
        _ if record.uses_left == Some(0) => "used up".to_owned(),
        (None, Some(at)) => format!("good for {}{}", span(at - now), uses(record.uses_left)),
        (None, None) => "good".to_owned(),
    };
    [
        record.id.to_string(),
        record.role.to_string(),
        record.executors.as_str().to_owned(),
        state,
        format!("{} ago", span(now.saturating_sub(record.created_at))),
        record.last_used.map_or_else(|| "never".to_owned(), |at| format!("{} ago", span(now.saturating_sub(at)))),
        record.joined_with.as_ref().map(ToString::to_string).unwrap_or_default(),
        record.name.clone(),
    ]
}

/// How often a join token can still be traded.
fn uses(left: Option<u32>) -> String {
    match left {
        None => String::new(),
        Some(1) => ", once".to_owned(),
        Some(left) => format!(", {left} times"),
    }
}

/// Seconds in words.
pub fn span(seconds: u64) -> String {
    let span = Duration::from_secs(seconds);
    match span.as_secs() {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use exedra_proto::ids::TokenId;

    use super::*;

    #[test]
    fn a_row_says_what_a_token_is_worth() {
        let record = |expires_at, revoked_at| TokenRecord {
            expires_at,
            revoked_at,
            ..TokenRecord::new(TokenId::new("tok-1"), token::Role::Client, 1_000)
        };
        let state = |expires_at, revoked_at| row(&record(expires_at, revoked_at), 2_000)[3].clone();
        assert_eq!(state(None, None), "good");
        assert_eq!(state(Some(2_000 + 86_400 * 30), None), "good for 30 days");
        assert_eq!(state(Some(2_000), None), "expired 0 s ago");
        assert_eq!(state(Some(9_000), Some(1_400)), "revoked 10 min ago");
        let join = |left| row(&TokenRecord { uses_left: Some(left), ..record(Some(2_060), None) }, 2_000)[3].clone();
        assert_eq!(join(3), "good for 60 s, 3 times");
        assert_eq!((join(1), join(0)), ("good for 60 s, once".to_owned(), "used up".to_owned()));
    }
}
