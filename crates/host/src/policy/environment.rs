//! Which variables pass: of the executor's own to commands and headers, and of a client's to commands.
//!
//! In flow names, out flow decisions. Pure.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use exedra_proto::process::StartParams;

use super::pattern::Pattern;

/// Variables that make a program run what is in a file of somebody's choice.
const LOADER: &str = "LD_*";

/// Which variables pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// Of the executor's own, only these; none: all.
    pub pass: Option<Vec<Pattern>>,
    /// Of these not even those.
    pub hide: Vec<Pattern>,
    /// What clients may set; none: anything, but what the loader obeys where there is a list of commands.
    pub set: Option<Vec<Pattern>>,
}

impl Variables {
    /// Whether a variable of the executor's own is to be had.
    pub fn passes(&self, name: &OsStr) -> bool {
        let name = name.to_string_lossy();
        let among = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.fits(&name));
        self.pass.as_deref().is_none_or(among) && !among(&self.hide)
    }

    /// What of `own` is to be had.
    pub fn of(&self, own: &BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
        let passing = own.iter().filter(|(name, _)| self.passes(name));
        passing.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Refuses a start that sets what clients may not set.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, params: &StartParams, listed_commands: bool) -> Result<(), String> {
        let policy = params.env_policy.iter().flat_map(|policy| policy.set.keys());
        for name in params.env.keys().chain(policy) {
            match &self.set {
                Some(set) if !set.iter().any(|pattern| pattern.fits(name)) => {
                    return Err(format!("policy: env: `set` does not have {name}"));
                }
                None if listed_commands && Pattern::new(LOADER).fits(name) => {
                    return Err(format!(
                        "policy: env: {name} may not be set where commands are listed, unless `set` has it"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patterns(list: &[&str]) -> Vec<Pattern> {
        list.iter().copied().map(Pattern::new).collect()
    }

    #[test]
    fn hidden_beats_passed() {
        let variables = Variables { pass: Some(patterns(&["A*", "PATH"])), hide: patterns(&["AWS_*"]), set: None };
        let own = ["A1", "AWS_KEY", "PATH", "B"].map(|name| (name.into(), "v".into()));
        let passed: Vec<_> = variables.of(&own.into()).into_keys().collect();
        assert_eq!(passed, ["A1", "PATH"]);
        assert!(Variables::default().passes(OsStr::new("B")));
    }

    #[test]
    fn what_clients_may_set() {
        let params = |env: serde_json::Value| -> StartParams {
            let policy = json!({"inherit": "none", "ignoreDefaultExcludes": true, "exclude": [], "includeOnly": [],
                "set": {"ALSO": "1"}});
            let params =
                json!({"processId": "p", "argv": ["a"], "cwd": "/", "tty": false, "env": env, "envPolicy": policy});
            serde_json::from_value(params).unwrap()
        };
        let any = Variables::default();
        assert!(any.check(&params(json!({"LD_PRELOAD": "x"})), false).is_ok());
        assert!(any.check(&params(json!({"LD_PRELOAD": "x"})), true).unwrap_err().contains("LD_PRELOAD"));
        let some = Variables { set: Some(patterns(&["ALSO", "LD_*"])), ..any };
        assert!(some.check(&params(json!({"LD_PRELOAD": "x"})), true).is_ok());
        let refused = some.check(&params(json!({"X": "x"})), true).unwrap_err();
        assert_eq!(refused, "policy: env: `set` does not have X");
        let none = Variables { set: Some(vec![]), ..Variables::default() };
        assert!(none.check(&params(json!({})), false).unwrap_err().contains("ALSO"), "those of the policy count too");
    }
}
