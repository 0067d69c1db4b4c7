//! `/v1`: the registry's own interface, for those who govern it, look at it, or wait for news.
//!
//! Handlers here turn requests into calls of the service and its records into the bodies that `docs/openapi.json` states;
//! that file is made from what stands at the handlers and bodies.

pub mod access;
pub mod connections;
pub mod events;
pub mod executors;
pub mod join;
pub mod keys;
pub mod status;
pub mod tokens;

use axum::http::Uri;
use url::form_urlencoded;

use super::problem::Problem;

/// The parameters of the query, in their order.
fn query(uri: &Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// A parameter that is not one, or has no such value.
fn wrong(name: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    Problem::query_invalid(format!(
        "the parameter `{name}` is unknown here, twice there, or has a value that it cannot have"
    ))
}

/// The one value of `name` among `query`, read by `read`; all other parameters must be among `others`.
fn one<T>(query: &[(String, String)], name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    let mut values = query.iter().filter(|(key, _)| key == name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => read(value).map(Some).ok_or_else(|| wrong(name)),
        (Some(_), Some(_)) => Err(wrong(name)),
    }
}

/// Refuses parameters that are not in `known`.
fn only(query: &[(String, String)], known: &[&str]) -> Result<(), Problem> {
    match query.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        Some((key, _)) => Err(wrong(key)),
        None => Ok(()),
    }
}
