//! The file with issuers and rules: read strictly, and only if nobody but its owner or root can write it.
//!
//! In flows a path, out flow settings and rules, or what is wrong, with the line and the field.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use toml::Spanned;

use super::guarded;
use super::issuer::{self, Settings};
use super::rule::{Rule, Template};
use crate::error::RegistryError;
use crate::token::{Labels, Rights, Role, parse_lifetime};

/// Largest file, in bytes; anything larger is some other file.
const LARGEST: usize = 1024 * 1024;
/// How tokens may be signed where the file does not say, the most common ways.
const USUAL: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];
/// By how much an issuer's clock may be off where the file does not say, in seconds.
const USUAL_SKEW: u64 = 60;
/// By how much it may be off at most; more is a clock to be set right.
const MAX_SKEW: u64 = 600;
/// Claims that are as good as the same in all tokens that get this far, whoever bears them: issuer, audience, times, and a
/// number that each token has of its own.
const COMMON: [&str; 6] = ["iss", "aud", "exp", "iat", "nbf", "jti"];
/// Longest name of a rule, in bytes.
const MAX_RULE_NAME: usize = 64;

/// What a file says.
#[derive(Debug)]
pub struct Rules {
    /// Whose word counts.
    pub issuers: Vec<Settings>,
    /// For whom; the first that is for somebody counts.
    pub rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    #[serde(default)]
    issuer: Vec<IssuerWords>,
    #[serde(default)]
    rule: Vec<RuleWords>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerWords {
    url: Spanned<String>,
    audience: Spanned<String>,
    algorithms: Option<Spanned<Vec<String>>>,
    skew_seconds: Option<Spanned<u64>>,
    ca_file: Option<Spanned<PathBuf>>,
    jwks_file: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleWords {
    name: Spanned<String>,
    issuer: Spanned<String>,
    claims: Spanned<BTreeMap<String, OneOrMore>>,
    role: Spanned<String>,
    executor: Spanned<String>,
    labels: Option<Spanned<BTreeMap<String, String>>>,
    client_labels: Option<Spanned<BTreeMap<String, String>>>,
    rights: Option<Spanned<Vec<String>>>,
    session: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// What is wrong, and where.
struct Wrong {
    at: Range<usize>,
    text: String,
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, makes no sense, or others could have written it.
pub fn load(path: &Path) -> Result<Rules, RegistryError> {
    let failed = |reason: String| RegistryError::Workloads { path: path.to_owned(), reason };
    let (real, text) = guarded::read(path, LARGEST).map_err(failed)?;
    let text = String::from_utf8(text).map_err(|_| failed("it is no text".to_owned()))?;
    parse(&text, real.parent().unwrap_or(Path::new("/"))).map_err(failed)
}

/// Reads the text of a file that lies in `dir`.
fn parse(text: &str, dir: &Path) -> Result<Rules, String> {
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let words: Words = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => format!("line {}: {}", line(span.start), error.message()),
        None => error.message().to_owned(),
    })?;
    let said = |wrong: Wrong| format!("line {}: {}", line(wrong.at.start), wrong.text);
    let mut issuers: Vec<Settings> = Vec::new();
    for words in words.issuer {
        issuers.push(issuer(words, &issuers, dir).map_err(said)?);
    }
    let mut rules: Vec<Rule> = Vec::new();
    for words in words.rule {
        rules.push(rule(words, &issuers, &rules).map_err(said)?);
    }
    Ok(Rules { issuers, rules })
}

fn issuer(words: IssuerWords, others: &[Settings], dir: &Path) -> Result<Settings, Wrong> {
    let url = words.url.as_ref();
    issuer::address(url, url).map_err(|why| wrong(&words.url, "url", why))?;
    if others.iter().any(|other| other.url == *url) {
        return Err(wrong(&words.url, "url", "this issuer is there twice"));
    }
    if words.audience.as_ref().trim().is_empty() {
        return Err(wrong(&words.audience, "audience", "it is empty: any token of the issuer would do"));
    }
    let algorithms = match &words.algorithms {
        None => USUAL.to_vec(),
        Some(names) if names.as_ref().is_empty() => return Err(wrong(names, "algorithms", "there is none")),
        Some(names) => {
            let read = names.as_ref().iter().map(|name| algorithm(name));
            read.collect::<Result<_, _>>().map_err(|why| wrong(names, "algorithms", why))?
        }
    };
    let skew = match &words.skew_seconds {
        None => USUAL_SKEW,
        Some(skew) if *skew.as_ref() > MAX_SKEW => {
            return Err(wrong(
                skew,
                "skew_seconds",
                format!("more than {MAX_SKEW} is a clock that has to be set right"),
            ));
        }
        Some(skew) => *skew.as_ref(),
    };
    if let Some(file) = &words.ca_file {
        issuer::authorities(&dir.join(file.as_ref())).map_err(|why| wrong(file, "ca_file", why))?;
    }
    if let Some(file) = &words.jwks_file {
        issuer::read(&dir.join(file.as_ref())).map_err(|why| wrong(file, "jwks_file", why))?;
    }
    let path = |file: Option<Spanned<PathBuf>>| file.map(|file| dir.join(file.into_inner()));
    Ok(Settings {
        url: words.url.into_inner(),
        audience: words.audience.into_inner(),
        algorithms,
        skew,
        authorities: path(words.ca_file),
        keys: path(words.jwks_file),
    })
}

fn rule(words: RuleWords, issuers: &[Settings], others: &[Rule]) -> Result<Rule, Wrong> {
    let name = words.name.as_ref();
    if name.is_empty() || name.len() > MAX_RULE_NAME || name.chars().any(char::is_control) {
        let why = format!("it has 1 to {MAX_RULE_NAME} bytes and no control characters");
        return Err(wrong(&words.name, "name", why));
    }
    if others.iter().any(|other| other.name == *name) {
        return Err(wrong(&words.name, "name", "another rule has it"));
    }
    if !issuers.iter().any(|issuer| issuer.url == *words.issuer.as_ref()) {
        return Err(wrong(&words.issuer, "issuer", "no [[issuer]] has this url"));
    }
    let role = Role::parse(words.role.as_ref()).filter(|role| *role != Role::Join);
    let role = role.ok_or_else(|| wrong(&words.role, "role", "it is none of executor, client and admin"))?;
    let executors = Template::parse(words.executor.as_ref());
    let executors = executors.map_err(|error| wrong(&words.executor, "executor", error))?;
    let labels = labels(words.labels, "labels")?.unwrap_or_default();
    if let Some(of) = words.client_labels.as_ref().filter(|_| !role.covers(Role::Client)) {
        return Err(wrong(of, "client_labels", "they are for clients; those of an executor are its `labels`"));
    }
    let client_labels = Labels::told(self::labels(words.client_labels, "client_labels")?, role, &labels);
    let rights = match words.rights {
        None => Rights::ALL,
        Some(words) => {
            let rights = Rights::parse(&words.as_ref().join(",")).map_err(|error| wrong(&words, "rights", error))?;
            if role == Role::Executor && !rights.is_all() {
                return Err(wrong(&words, "rights", "they are for clients; an executor's owner decides by a policy"));
            }
            rights
        }
    };
    let session = words.session.map(|session| {
        let time = parse_lifetime(session.as_ref()).map_err(|error| wrong(&session, "session", error))?;
        Ok(time.as_secs())
    });
    Ok(Rule {
        claims: claims(words.claims)?,
        name: words.name.into_inner(),
        issuer: words.issuer.into_inner(),
        role,
        executors,
        labels,
        client_labels,
        rights,
        session: session.transpose()?,
    })
}

fn labels(words: Option<Spanned<BTreeMap<String, String>>>, name: &str) -> Result<Option<Labels>, Wrong> {
    let read = words.map(|words| Labels::new(words.as_ref().clone()).map_err(|error| wrong(&words, name, error)));
    read.transpose()
}

fn claims(words: Spanned<BTreeMap<String, OneOrMore>>) -> Result<Vec<(String, Vec<String>)>, Wrong> {
    let at = words.span();
    let claims: Vec<_> = words
        .into_inner()
        .into_iter()
        .map(|(path, patterns)| match patterns {
            OneOrMore::One(pattern) => (path, vec![pattern]),
            OneOrMore::More(patterns) => (path, patterns),
        })
        .collect();
    let is_open = |pattern: &String| pattern.bytes().all(|byte| byte == b'*');
    let tells =
        |(path, patterns): &(String, Vec<String>)| !COMMON.contains(&path.as_str()) && !patterns.iter().any(is_open);
    let text = match claims.iter().find(|(path, patterns)| path.is_empty() || patterns.is_empty()) {
        Some((path, _)) => format!("field `claims`: `{path}` names no claim, or no value"),
        None if !claims.iter().any(tells) => format!(
            "field `claims`: they say nothing of the bearer: anybody whom the issuer knows would be let in. A text of `*` \
             alone tells nobody apart, nor does any of {}",
            COMMON.join(", ")
        ),
        None => return Ok(claims),
    };
    Err(Wrong { at, text })
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    match Algorithm::from_str(name) {
        Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) => {
            Err(format!("`{name}` is signed with a secret, and an issuer's keys are public"))
        }
        Ok(algorithm) => Ok(algorithm),
        Err(_) if name.eq_ignore_ascii_case("none") => Err("a token without a signature proves nothing".to_owned()),
        Err(_) => Err(format!("`{name}` is not known; there are RS256, PS256, ES256, EdDSA and their like")),
    }
}

fn wrong<T>(field: &Spanned<T>, name: &str, why: impl std::fmt::Display) -> Wrong {
    Wrong { at: field.span(), text: format!("field `{name}`: {why}") }
}

#[cfg(test)]
mod tests;
