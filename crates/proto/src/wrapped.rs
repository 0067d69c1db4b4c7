//! A command that comes wrapped in its client's own sandbox program.
//!
//! Clients of 0.130 have no `sandbox` on `process/start`: their `argv` is a program of theirs, by its path on their machine,
//! with the sandbox as arguments. In flow such params, out flow the same with the command as `argv` and the sandbox as
//! `sandbox`; what is not understood whole is refused. Pure: whether the sandbox can be enforced is for the host to say.

use std::path::Path;

use serde_json::{Value, json};

use crate::path::CwdPath;
use crate::process::StartParams;
use crate::sandbox::{Enforcement, SandboxContext};

/// The name by which the program knows what it is to be.
const NAME: &str = "codex-linux-sandbox";

/// `params` as they would be from a client of 0.142 or later; all others as they are.
///
/// # Errors
/// What of the arguments is not understood.
pub fn unwrap(params: StartParams) -> Result<StartParams, String> {
    if !is_wrapped(&params) {
        return Ok(params);
    }
    if params.sandbox.as_ref().is_some_and(|sandbox| sandbox.for_processes() != Enforcement::NotNeeded) {
        return Err("there are two sandboxes, one of them in the arguments".to_owned());
    }
    let mut rest = params.argv.into_iter().skip(1);
    let (mut policy_cwd, mut command_cwd, mut profile) = (None, None, None);
    let argv = loop {
        let flag = rest.next().ok_or("there is no command")?;
        let slot = match flag.as_str() {
            "--" => break rest.collect::<Vec<_>>(),
            "--sandbox-policy-cwd" => &mut policy_cwd,
            "--command-cwd" => &mut command_cwd,
            "--permission-profile" => &mut profile,
            _ => return Err(format!("the argument `{flag}` is not understood")),
        };
        let value = rest.next().ok_or_else(|| format!("`{flag}` has no value"))?;
        if slot.replace(value).is_some() {
            return Err(format!("`{flag}` is there twice"));
        }
    };
    if argv.is_empty() {
        return Err("there is no command".to_owned());
    }
    let permissions: Value = serde_json::from_str(&profile.ok_or("there is no permission profile")?)
        .map_err(|error| format!("the permission profile is no JSON: {error}"))?;
    let context = json!({
        "permissions": permissions,
        "cwd": policy_cwd.ok_or("there is no directory of the sandbox")?,
        "windowsSandboxLevel": "disabled",
    });
    let sandbox: SandboxContext = serde_json::from_value(context).map_err(|error| error.to_string())?;
    let cwd = command_cwd.map_or(params.cwd, CwdPath::native);
    Ok(StartParams { argv, cwd, arg0: None, sandbox: Some(sandbox), ..params })
}

/// The name stands in `arg0`, alone or as the end of the path of a link that the client made to itself.
fn is_wrapped(params: &StartParams) -> bool {
    let name = params.arg0.as_ref().or(params.argv.first());
    name.is_some_and(|name| Path::new(name).file_name() == Some(NAME.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{"type":"managed","file_system":{"type":"restricted","entries":[
        {"path":{"type":"special","value":{"kind":"root"}},"access":"read"},
        {"path":{"type":"special","value":{"kind":"project_roots"}},"access":"write"}]},"network":"restricted"}"#;

    fn params(argv: &[&str]) -> StartParams {
        let members = json!({
            "processId": "p", "argv": argv, "cwd": "/c", "env": {"A": "b"}, "tty": true, "arg0": NAME,
        });
        serde_json::from_value(members).unwrap()
    }

    #[test]
    fn the_command_and_its_sandbox_come_out() {
        let all =
            ["/home/u/codex", "--sandbox-policy-cwd", "/w", "--command-cwd", "/w/d", "--permission-profile", PROFILE];
        let whole = unwrap(params(&[&all[..], &["--", "sh", "-c", "--"]].concat())).unwrap();
        assert_eq!(
            (whole.argv, whole.cwd.as_path()),
            (["sh", "-c", "--"].map(str::to_owned).to_vec(), "/w/d".as_ref())
        );
        assert!(whole.arg0.is_none() && whole.tty && whole.env["A"] == "b");
        let sandbox = whole.sandbox.unwrap();
        assert_eq!(sandbox.for_processes(), Enforcement::Needed);
        assert_eq!(sandbox.project_roots().iter().map(ToString::to_string).collect::<Vec<_>>(), ["/w"]);
        let without_cwd = [&all[..3], &all[5..], &["--", "true"]].concat();
        assert_eq!(unwrap(params(&without_cwd)).unwrap().cwd.as_path(), Path::new("/c"));
    }

    #[test]
    fn what_is_not_understood_is_refused_and_the_rest_left_alone() {
        let profile = ["--permission-profile", PROFILE];
        let cwd = ["--sandbox-policy-cwd", "/w"];
        for (argv, why) in [
            (vec!["x"], "there is no command"),
            ([&["x"], &cwd[..], &profile, &["--"]].concat(), "there is no command"),
            ([&["x"], &cwd[..], &["--", "true"]].concat(), "there is no permission profile"),
            ([&["x"], &profile[..], &["--", "true"]].concat(), "there is no directory of the sandbox"),
            ([&["x"], &cwd[..], &cwd, &profile, &["--", "true"]].concat(), "`--sandbox-policy-cwd` is there twice"),
            (
                [&["x", "--no-proc"], &cwd[..], &profile, &["--", "true"]].concat(),
                "the argument `--no-proc` is not understood",
            ),
            ([&["x"], &cwd[..], &profile, &["true"]].concat(), "the argument `true` is not understood"),
            (vec!["x", "--permission-profile"], "`--permission-profile` has no value"),
        ] {
            assert_eq!(unwrap(params(&argv)).unwrap_err(), why, "{argv:?}");
        }
        let odd = [&["x"], &cwd[..], &["--permission-profile", r#"{"type":"bogus"}"#, "--", "true"]].concat();
        assert!(unwrap(params(&odd)).is_err());
        let plain = StartParams { arg0: Some("x".to_owned()), ..params(&["true"]) };
        assert_eq!(unwrap(plain).unwrap().argv, ["true"]);
        let linked = [&["/home/u/codex-linux-sandbox"], &cwd[..], &profile, &["--", "true"]].concat();
        for arg0 in [None, Some(linked[0].to_owned())] {
            assert_eq!(unwrap(StartParams { arg0, ..params(&linked) }).unwrap().argv, ["true"]);
        }
    }
}
