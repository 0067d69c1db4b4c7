//! Labels that decide rights: names with values, given by a token or by an administrator, never by an executor itself.
//!
//! On an executor's token they are what the executor gets, on a client's what an executor must have to be reached. Who a
//! client is, its token says by labels of another kind, which executors are told. In flow words `name=value`, out flows a
//! checked set.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use serde::{Deserialize, Serialize};

use super::Role;

/// Most labels of one token or executor.
const MAX_LABELS: usize = 16;
/// Longest name and longest value, in bytes.
const MAX_LEN: usize = 63;

/// Checked labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

/// Why something is no set of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "labels are at most 16 of name=value, name and value of at most 63 characters out of A-Z a-z 0-9 . _ / -, and the \
     name not empty"
)]
pub struct InvalidLabels;

impl Labels {
    /// Checks `labels`.
    ///
    /// # Errors
    /// They break the rule that the error states, or a name is there twice.
    pub fn new(labels: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidLabels> {
        let mut checked = BTreeMap::new();
        for (name, value) in labels {
            let fits = is_word(&name) && is_word(&value) && !name.is_empty();
            if !fits || checked.insert(name, value).is_some() {
                return Err(InvalidLabels);
            }
        }
        if checked.len() > MAX_LABELS { Err(InvalidLabels) } else { Ok(Self(checked)) }
    }

    /// Whether all of `wanted` are among them.
    pub fn have(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(name, value)| self.0.get(name) == Some(value))
    }

    /// These, with `others` in their place where the names are the same.
    #[must_use]
    pub fn overlaid(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(&others.0).map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// What executors are told of whoever has such a token: what was said of that, even if it is nothing; else its labels,
    /// as they were told before there were two kinds. Of an executor nobody is told.
    #[must_use]
    pub fn told(said: Option<Self>, role: Role, labels: &Self) -> Self {
        if !role.covers(Role::Client) {
            return Self::default();
        }
        said.unwrap_or_else(|| labels.clone())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as `name=value`, or the name alone where there is no value.
    pub fn words(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(name, value)| match value.as_str() {
            "" => name.clone(),
            value => format!("{name}={value}"),
        })
    }

    /// All, by name.
    pub fn iter(&self) -> Iter<'_, String, String> {
        self.0.iter()
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = InvalidLabels;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, InvalidLabels> {
        Self::new(labels)
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= MAX_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, InvalidLabels> {
        Labels::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn an_executor_has_to_have_all_that_is_wanted() {
        let both = labels(&[("team", "a"), ("gpu", "h100")]).unwrap();
        let has = |wanted: &[(&str, &str)]| both.have(&labels(wanted).unwrap());
        assert!(has(&[]) && has(&[("team", "a")]) && has(&[("team", "a"), ("gpu", "h100")]));
        assert!(!has(&[("team", "b")]) && !has(&[("team", "a"), ("os", "linux")]) && !has(&[("Team", "a")]));
    }

    #[test]
    fn a_client_is_told_of_by_what_was_said_of_it_or_else_by_its_labels() {
        let (said, reach) = (labels(&[("team", "a")]).unwrap(), labels(&[("gpu", "yes")]).unwrap());
        for role in [Role::Client, Role::Admin] {
            assert_eq!(Labels::told(Some(said.clone()), role, &reach), said);
            assert_eq!(Labels::told(Some(Labels::default()), role, &reach), Labels::default());
            assert_eq!(Labels::told(None, role, &reach), reach);
        }
        for role in [Role::Executor, Role::Join] {
            assert!(Labels::told(Some(said.clone()), role, &reach).is_empty(), "{role}");
            assert!(Labels::told(None, role, &reach).is_empty(), "{role}");
        }
    }

    #[test]
    fn what_is_no_label_is_refused() {
        let long = "x".repeat(64);
        for bad in [[("", "a")], [("a b", "c")], [("a", "b c")], [(long.as_str(), "a")], [("a", "ü")], [("a=b", "c")]]
        {
            assert_eq!(labels(&bad), Err(InvalidLabels), "{bad:?}");
        }
        assert_eq!(labels(&[("a", "1"), ("a", "1")]), Err(InvalidLabels));
        assert!(labels(&[("a", "")]).is_ok());
        let many = (0..17).map(|i| (format!("l{i}"), String::new()));
        assert_eq!(Labels::new(many), Err(InvalidLabels));
    }

    #[test]
    fn the_later_ones_win() {
        let over = labels(&[("a", "1"), ("b", "1")]).unwrap().overlaid(&labels(&[("b", "2"), ("c", "2")]).unwrap());
        assert_eq!(over, labels(&[("a", "1"), ("b", "2"), ("c", "2")]).unwrap());
        let words = labels(&[("team", "ml"), ("ci", "")]).unwrap();
        assert_eq!(words.words().collect::<Vec<_>>(), ["ci", "team=ml"]);
    }
}
