//! Whether a listed program can be started at all where the owner's roots hold commands: what they do not show is not there.
//!
//! In flow a policy and a program, out flows the refusal. It looks at the disk as a start would.

use std::path::Path;

use exedra_proto::sandbox::Access;

use crate::policy::Policy;
use crate::sandbox;

/// Refuses a program that lies where the roots show nothing.
///
/// # Errors
/// The refusal, in the policy's words.
pub fn check(policy: &Policy, real: &Path) -> Result<(), String> {
    let Some(context) = policy.sandbox.as_ref().filter(|context| context.entries().is_some()) else { return Ok(()) };
    // What cannot be resolved is refused by the start itself, and told there.
    let Ok(rules) = sandbox::rules(context, std::env::var_os("TMPDIR").as_deref().map(Path::new)) else {
        return Ok(());
    };
    let around = rules.iter().filter(|(path, _)| real.starts_with(path)).max_by_key(|(path, _)| path.as_os_str().len());
    if around.is_some_and(|(_, access)| *access != Access::Deny) {
        return Ok(());
    }
    let shown = real.display();
    Err(format!(
        "policy: roots: `{shown}` is listed and cannot be started: no root holds it, nor is it where programs usually are"
    ))
}
