//! One rule: for whose claims it is, and what it gives.
//!
//! Proven claims flow in, yes or no and a pattern of executors flow out. A claim is named by its path: the members of
//! objects on the way to it, with `.` or `/` between. A name that itself has such characters is found, too: of all ways to
//! read a path, the one with the longest first member that is there counts.

use std::borrow::Cow;

use exedra_proto::ids::{ExecutorId, TokenId};
use serde_json::{Map, Value};

use super::{Fault, MAX_NAME};
use crate::store::TokenRecord;
use crate::token::{self, InvalidPattern, Labels, Pattern, Rights, Role};

/// A rule of the file.
#[derive(Debug)]
pub struct Rule {
    /// What it is called in records and logs.
    pub name: String,
    /// The issuer whose tokens it is for.
    pub issuer: String,
    /// Paths of claims; each has to be as one of the patterns says.
    pub claims: Vec<(String, Vec<String>)>,
    /// What the bearer is.
    pub role: Role,
    /// Which executors it reaches.
    pub executors: Template,
    /// As those of a token.
    pub labels: Labels,
    /// As those of a token.
    pub client_labels: Labels,
    /// As those of a token.
    pub rights: Rights,
    /// For how long after a token was made what was opened with it may stay, in seconds; else until the token's end.
    pub session: Option<u64>,
}

/// A pattern of executor ids in which claims may stand, as in `ci-{run_id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// With `*` for the claims.
    widest: Pattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(String),
}

/// Why a text is no [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A brace stands alone, or nothing between two.
    #[error("`{{` and `}}` have to enclose the name of a claim")]
    Braces,
    /// Without its claims it is none.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
}

impl Rule {
    /// Whether it is for the bearer of these claims.
    pub fn is_for(&self, issuer: &str, claims: &Map<String, Value>) -> bool {
        self.issuer == issuer
            && self.claims.iter().all(|(path, patterns)| {
                at(claims, path).is_some_and(|value| patterns.iter().any(|pattern| is_as(value, pattern)))
            })
    }

    /// What is kept of whom it lets in.
    pub fn record(&self, subject: &str) -> TokenRecord {
        let name = format!("{}: {subject}", self.name);
        TokenRecord {
            name: name.chars().filter(|char| !char.is_control()).take(MAX_NAME).collect(),
            executors: self.executors.widest.clone(),
            labels: self.labels.clone(),
            client_labels: self.client_labels.clone(),
            rights: self.rights,
            ..TokenRecord::new(TokenId::new(""), self.role, 0)
        }
    }
}

impl Template {
    /// Reads `text`.
    ///
    /// # Errors
    /// [`InvalidTemplate`].
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (claim, after) = behind.split_once('}').ok_or(InvalidTemplate::Braces)?;
            if claim.is_empty() || claim.contains('{') || before.contains('}') {
                return Err(InvalidTemplate::Braces);
            }
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Claim(claim.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(InvalidTemplate::Braces);
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        let star = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Claim(_) => "*".to_owned(),
        };
        let widest = Pattern::parse(&parts.iter().map(star).collect::<String>())?;
        Ok(Self { parts, widest })
    }

    /// The pattern, with what the claims say in their places.
    ///
    /// # Errors
    /// [`Fault::Placeholder`]: a claim is missing, empty, or has a character that no executor's id has, `*` among them; or
    /// all together is too long.
    pub fn fill(&self, claims: &Map<String, Value>) -> Result<Pattern, Fault> {
        let (mut text, mut last) = (String::new(), "");
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Claim(path) => {
                    let value = at(claims, path).and_then(scalar);
                    // Whether it may begin an id, the whole will show.
                    let value = value.filter(|value| ExecutorId::parse(&format!("a{value}")).is_ok());
                    let value = value.filter(|value| !value.is_empty());
                    text.push_str(&value.ok_or_else(|| Fault::Placeholder(path.clone()))?);
                    last = path;
                }
            }
        }
        let is_id = text.contains('*') || ExecutorId::parse(&text).is_ok();
        let pattern = Pattern::parse(&text).ok().filter(|_| is_id);
        pattern.ok_or_else(|| Fault::Placeholder(last.to_owned()))
    }
}

/// The claim at a path.
fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.rmatch_indices(['.', '/']).find_map(|(at, separator)| {
        let inner = claims.get(path.get(..at)?)?.as_object()?;
        self::at(inner, path.get(at + separator.len()..)?)
    })
}

/// A value as text, if it is a single one.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(is) => Some(Cow::Borrowed(if *is { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether a value, or one of a list, is as the pattern says.
fn is_as(value: &Value, pattern: &str) -> bool {
    match value {
        Value::Array(values) => values.iter().filter_map(scalar).any(|value| token::matches(pattern, &value)),
        value => scalar(value).is_some_and(|value| token::matches(pattern, &value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn is_for(claims: &[(&str, &str)], held: Value) -> bool {
        let claims = claims.iter().map(|(path, pattern)| ((*path).to_owned(), vec![(*pattern).to_owned()]));
        let rule = Rule {
            name: "r".to_owned(),
            issuer: "https://i".to_owned(),
            claims: claims.collect(),
            role: Role::Client,
            executors: Template::parse("*").unwrap(),
            labels: Labels::default(),
            client_labels: Labels::default(),
            rights: Rights::ALL,
            session: None,
        };
        assert!(!rule.is_for("https://j", &object(held.clone())), "whatever it claims");
        rule.is_for("https://i", &object(held))
    }

    #[test]
    fn all_claims_have_to_be_as_the_rule_says() {
        let held = json!({
            "sub": "repo:acme/app:ref:refs/heads/main", "n": 7, "yes": true, "aud": ["a", "b"], "null": null,
            "kubernetes.io": {"namespace": "ml", "pod": {"name": "p"}}, "groups": [["x"], "dev", 3],
            "a.b": "flat", "a": {"b": "deep", "c": "inner"},
        });
        for claims in [
            &[("sub", "repo:acme/*:ref:refs/heads/main")][..],
            &[("sub", "repo:acme/app:*"), ("n", "7"), ("yes", "true")],
            &[("kubernetes.io/namespace", "ml")],
            &[("kubernetes.io.namespace", "m*")],
            &[("kubernetes.io/pod/name", "p"), ("kubernetes.io.pod.name", "*")],
            &[("aud", "b"), ("groups", "dev"), ("groups", "3")],
            &[("a.b", "flat"), ("a/b", "deep"), ("a.c", "inner")],
        ] {
            assert!(is_for(claims, held.clone()), "{claims:?}");
        }
        for claims in [
            &[("sub", "repo:acme/*:ref:refs/heads/mai")][..],
            &[("sub", "acme")],
            &[("sub", "*acme")],
            &[("sub", "repo:acme/app:*"), ("n", "8")],
            &[("absent", "*")],
            &[("null", "*")],
            &[("kubernetes.io", "*")],
            &[("kubernetes.io/pod", "*")],
            &[("kubernetes/io/namespace", "ml")],
            &[("sub.x", "*")],
            &[("groups", "x")],
            &[("a.b", "deep")],
            &[("", "*")],
        ] {
            assert!(!is_for(claims, held.clone()), "{claims:?}");
        }
    }

    #[test]
    fn a_claim_in_an_executors_name_is_a_part_of_an_id() {
        let fill = |template: &str, claims: Value| Template::parse(template).unwrap().fill(&object(claims));
        let good = |template, claims, expected: &str| {
            assert_eq!(fill(template, claims).unwrap().as_str(), expected, "{template}");
        };
        good("box", json!({}), "box");
        good("gpu-*", json!({}), "gpu-*");
        good("ci-{run_id}", json!({"run_id": 12}), "ci-12");
        good("{ns}.{k/pod}-*", json!({"ns": "ml", "k": {"pod": "p-0"}}), "ml.p-0-*");
        for value in
            [json!("*"), json!("a*b"), json!(""), json!("a/b"), json!("a b"), json!("{x}"), json!("é"), json!("a\n")]
        {
            let fault = fill("ci-{c}", json!({"c": value})).unwrap_err();
            assert_eq!(fault, Fault::Placeholder("c".to_owned()), "{value}");
        }
        for value in [json!(["a"]), json!({"a": 1}), json!(null), json!("x".repeat(126))] {
            assert!(fill("ci-{c}", json!({"c": value})).is_err(), "{value}");
        }
        assert!(fill("ci-{c}", json!({})).is_err());
        assert!(fill("{c}", json!({"c": "-a"})).is_err(), "no id begins so");
        good("x{c}", json!({"c": "-a"}), "x-a");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in ["", "{}", "{", "}", "a{b", "a}b", "{a{b}}", "{a}}", "a b", "ci/{x}", &"a".repeat(129)] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
