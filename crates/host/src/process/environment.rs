//! The environment of a child, made from the executor's own, a policy and an overlay.
//!
//! In flow names and values, out flows what the child gets. Pure: reads no environment and no disk.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use exedra_proto::process::{EnvInherit, EnvPolicy};

/// The names that `inherit: core` takes over.
const CORE: [&str; 11] =
    ["PATH", "SHELL", "TMPDIR", "TEMP", "TMP", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "USER"];
/// What is dropped unless the policy says otherwise.
const DEFAULT_EXCLUDES: [&str; 3] = ["*KEY*", "*SECRET*", "*TOKEN*"];

/// The environment of a child: `overlay` alone without a policy, else on top of what the policy makes of `own`.
pub fn build(
    own: &BTreeMap<OsString, OsString>,
    policy: Option<&EnvPolicy>,
    overlay: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    let mut env = policy.map(|policy| apply(own, policy)).unwrap_or_default();
    env.extend(owned(overlay));
    env
}

fn apply(own: &BTreeMap<OsString, OsString>, policy: &EnvPolicy) -> BTreeMap<OsString, OsString> {
    let mut env: BTreeMap<OsString, OsString> = match policy.inherit {
        EnvInherit::All => own.clone(),
        EnvInherit::Core => own.iter().filter(|(name, _)| is_core(name)).map(|(n, v)| (n.clone(), v.clone())).collect(),
        EnvInherit::None => BTreeMap::new(),
    };
    if !policy.ignore_default_excludes {
        env.retain(|name, _| !DEFAULT_EXCLUDES.iter().any(|pattern| matches(pattern, name)));
    }
    env.retain(|name, _| !policy.exclude.iter().any(|pattern| matches(pattern, name)));
    env.extend(owned(&policy.set));
    if !policy.include_only.is_empty() {
        env.retain(|name, _| policy.include_only.iter().any(|pattern| matches(pattern, name)));
    }
    env
}

fn owned(map: &BTreeMap<String, String>) -> impl Iterator<Item = (OsString, OsString)> {
    map.iter().map(|(name, value)| (name.into(), value.into()))
}

fn is_core(name: &OsStr) -> bool {
    CORE.iter().any(|core| name.eq_ignore_ascii_case(core))
}

/// Whether the whole name fits the pattern, in any case; `*` is any text and `?` one character.
fn matches(pattern: &str, name: &OsStr) -> bool {
    let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (pattern, name) = (fold(pattern), fold(&name.to_string_lossy()));
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(inherit: EnvInherit) -> EnvPolicy {
        EnvPolicy {
            inherit,
            ignore_default_excludes: true,
            exclude: vec![],
            set: BTreeMap::new(),
            include_only: vec![],
        }
    }

    fn own() -> BTreeMap<OsString, OsString> {
        let pairs = [
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("FOO", "1"),
            ("MY_API_KEY", "k"),
            ("secret_x", "s"),
            ("TOKEN", "t"),
            ("MONKEYS", "3"),
            ("LC_ALL", "C"),
            ("LC_TIME", "C"),
        ];
        pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn names(env: &BTreeMap<OsString, OsString>) -> Vec<&str> {
        env.keys().map(|name| name.to_str().unwrap()).collect()
    }

    #[test]
    fn without_a_policy_only_the_overlay() {
        let env = build(&own(), None, &map(&[("A", "1")]));
        assert_eq!(names(&env), ["A"]);
    }

    #[test]
    fn inherit_decides_the_start() {
        assert_eq!(build(&own(), Some(&policy(EnvInherit::All)), &map(&[])), own());
        assert_eq!(names(&build(&own(), Some(&policy(EnvInherit::Core)), &map(&[]))), ["HOME", "LC_ALL", "PATH"]);
        assert!(build(&own(), Some(&policy(EnvInherit::None)), &map(&[])).is_empty());
    }

    #[test]
    fn default_excludes_drop_what_looks_secret() {
        let policy = EnvPolicy { ignore_default_excludes: false, ..policy(EnvInherit::All) };
        assert_eq!(names(&build(&own(), Some(&policy), &map(&[]))), ["FOO", "HOME", "LC_ALL", "LC_TIME", "PATH"]);
    }

    #[test]
    fn the_steps_have_their_order() {
        let policy = EnvPolicy {
            ignore_default_excludes: false,
            exclude: vec!["f?o".into(), "SET_*".into()],
            set: map(&[("SET_TOKEN", "1"), ("FOO", "2"), ("DROPPED", "3")]),
            include_only: vec!["set*".into(), "foo".into(), "over".into()],
            ..policy(EnvInherit::All)
        };
        let env = build(&own(), Some(&policy), &map(&[("ANY", "4"), ("FOO", "5")]));
        let pairs: Vec<_> = env.iter().map(|(n, v)| (n.to_str().unwrap(), v.to_str().unwrap())).collect();
        assert_eq!(pairs, [("ANY", "4"), ("FOO", "5"), ("SET_TOKEN", "1")]);
    }

    #[test]
    fn patterns() {
        let fits = |pattern: &str, name: &str| matches(pattern, OsStr::new(name));
        for (pattern, name) in
            [("*", ""), ("*", "x"), ("a*c", "ABBC"), ("?b?", "xBy"), ("**a", "ba"), ("a*b*c", "a1b2b3c"), ("Ä", "ä")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "x"), ("?", ""), ("a", "ab"), ("a*c", "abd"), ("zz*", "azz"), ("[a]", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
