//! By what an executor registers: a token that it is given, or a credential of its own, got for a join token.
//!
//! In flow flags and environment, out flow the source of the token and the trade to be made first, if any. What a person says
//! now counts over what was kept: a flag, then a token in the environment, then a join token there, then the kept credential.

use std::path::{Path, PathBuf};

use exedra_executor::credential::{Credential, CredentialError};
use exedra_executor::daemon::{Join, TokenSource};
use exedra_proto::ids::ExecutorId;
use exedra_proto::secret::Secret;
use exedra_proto::token;

use crate::cli::ExecServerArgs;
use crate::exit::{Exit, Failure};
use crate::{env, settings};

/// By what it registers.
#[derive(Debug)]
pub struct Access {
    /// Where the token comes from.
    pub token: TokenSource,
    /// What is traded for it first.
    pub join: Option<Join>,
    /// The file with the credential, if that is the token and was traded for.
    file: Option<PathBuf>,
}

impl Access {
    /// The file with the credential that was used without any trade.
    pub fn kept(&self) -> Option<PathBuf> {
        self.file.clone().filter(|_| self.join.is_none())
    }

    fn given(token: TokenSource) -> Self {
        Self { token, join: None, file: None }
    }
}

/// Finds out.
///
/// # Errors
/// A file cannot be used, or there is no place for a credential.
pub fn resolve(url: &str, args: &ExecServerArgs) -> Result<Access, Failure> {
    if let Some(file) = &args.token_file {
        return Ok(Access::given(TokenSource::File(file.clone())));
    }
    let is_to_join = args.join.join.is_some() || args.join.join_file.is_some();
    if !is_to_join {
        let variable = |name: &str| env::text(name).map(|_| Access::given(TokenSource::Env(name.to_owned())));
        if let Some(access) = variable(env::EXEDRA_TOKEN) {
            return Ok(access);
        }
        if let Some(file) = env::text(env::EXEDRA_TOKEN_FILE).filter(|file| !file.trim().is_empty()) {
            return Ok(Access::given(TokenSource::File(file.into())));
        }
        if let Some(access) = variable(env::CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN) {
            return Ok(access);
        }
    }
    let wants = is_to_join || variable().is_some();
    let id = ExecutorId::parse(args.executor_id.as_deref().unwrap_or_default().trim());
    let (file, id) = match (settings::credentials(), id) {
        (Some(dir), Ok(id)) => (Credential::place(&dir, url, &id), id),
        (_, Err(error)) if wants => return Err(Failure::from(error).with_exit(Exit::Refused)),
        (None, _) if wants => {
            let what = "there is no place to keep a credential: HOME is not set";
            return Err(Failure::usage(what, "set XDG_STATE_HOME, or use a token instead of a join token"));
        }
        _ => return Ok(Access::given(TokenSource::stock())),
    };
    tracing::debug!(executor = %id, file = %file.display(), "looking for a credential");
    let kept = Credential::load(&file).map_err(refused)?;
    match kept {
        Some(credential) if credential.is_joined() || !wants => {
            Ok(Access { token: TokenSource::Fixed(credential.secret().clone()), join: None, file: Some(file) })
        }
        None if !wants => Ok(Access::given(TokenSource::stock())),
        _ => {
            // Read before anything is made: without a join token there is nothing to be made.
            let token = join_token(args)?;
            let credential = Credential::load_or_create(&file).map_err(refused)?;
            let own = TokenSource::Fixed(credential.secret().clone());
            Ok(Access { token: own, join: Some(Join { token, credential }), file: Some(file) })
        }
    }
}

/// What to do about a kept credential that the server refuses.
pub fn rejoin(file: &Path) -> String {
    format!(
        "the credential in {} is not known to the server, was revoked or has expired; to join again, remove that file and \
         use a new join token (`exedra token create --role join`)",
        file.display()
    )
}

fn join_token(args: &ExecServerArgs) -> Result<Secret, Failure> {
    let text = match (&args.join.join, &args.join.join_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => settings::token_file(file)?,
        (None, None) => variable().unwrap_or_else(|| Secret::new("")),
    };
    if token::letter(text.expose()) == Some(token::JOIN) {
        return Ok(text);
    }
    Err(Failure::usage("that is no join token", "make one on the server with `exedra token create --role join`"))
}

fn variable() -> Option<Secret> {
    let text = env::text(env::EXEDRA_JOIN_TOKEN).map(|text| text.trim().to_owned());
    text.filter(|text| !text.is_empty()).map(Secret::new)
}

fn refused(error: CredentialError) -> Failure {
    Failure::from(error).with_exit(Exit::Refused)
}
