//! What a policy makes of a command, in words, without starting it; and where its list of commands keeps nothing out.
//!
//! In flow a policy and a command, out flow a decision with its rule, what would hold the command, and warnings. It looks at
//! the disk as a start would.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use exedra_proto::sandbox::{Access, Network};
use serde::Serialize;

use super::{program, reach};
use crate::policy::commands::{Command, Commands, machine};
use crate::policy::program::{Helper, helper};
use crate::policy::{Policy, commands};
use crate::sandbox::{Landlock, landlock};

/// Programs that do whatever their arguments or their input say. Of names with versions the beginning counts.
const INTERPRETERS: [&str; 33] = [
    "sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "csh", "tcsh", "busybox", "toybox", "python", "pypy",
    "perl", "ruby", "node", "nodejs", "deno", "bun", "php", "lua", "luajit", "tclsh", "wish", "expect", "awk", "gawk",
    "mawk", "nawk", "gdb", "emacs", "vim",
];
/// Programs that start others that their arguments name.
const STARTERS: [&str; 26] = [
    "env", "xargs", "find", "nohup", "nice", "ionice", "timeout", "setsid", "stdbuf", "time", "watch", "parallel",
    "make", "ninja", "strace", "ltrace", "sudo", "su", "doas", "ssh", "git", "tar", "vi", "less", "man", "flock",
];

/// What a policy makes of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether it would be started.
    pub allowed: bool,
    /// The rule that decides, as the policy names it.
    pub rule: String,
    /// Why.
    pub why: String,
    /// What would hold it.
    pub held: Vec<String>,
}

/// What `policy` makes of `argv` in the directory `cwd`, with `path` for `PATH`.
pub fn explain(policy: &Policy, argv: &[String], cwd: &Path, path: Option<&OsStr>) -> Explanation {
    let refused =
        |rule: &str, why: String| Explanation { allowed: false, rule: rule.to_owned(), why, held: Vec::new() };
    let Some((program, args)) = argv.split_first() else {
        return refused("commands", "there is no command".to_owned());
    };
    if policy.read_only {
        return refused("read_only", "a command could change something".to_owned());
    }
    let candidates: Vec<PathBuf> = program::candidates(program, path).into_iter().map(|path| cwd.join(path)).collect();
    let (rule, why) = match &policy.commands {
        None => ("none".to_owned(), "there is no list of commands".to_owned()),
        Some(list) => match list.judge(&machine(), &candidates, program, args) {
            Err(text) => return refused("commands", text.trim_start_matches("policy: commands: ").to_owned()),
            Ok(commands::Allowed { real, rule }) => {
                if let Err(text) = reach::check(policy, &real) {
                    return refused("roots", text.trim_start_matches("policy: roots: ").to_owned());
                }
                let shown = list.list.get(rule).map(Command::shown).unwrap_or_default();
                (format!("commands[{rule}]"), format!("`{}` fits `{shown}`", real.display()))
            }
        },
    };
    Explanation { allowed: true, rule, why, held: held(policy) }
}

fn held(policy: &Policy) -> Vec<String> {
    let mut held = Vec::new();
    if let Some(sandbox) = &policy.sandbox {
        let network = if sandbox.network() == Network::Enabled { "with the network" } else { "without a network" };
        let files = if sandbox.entries().is_some() { "files by the roots" } else { "all files" };
        held.push(format!("sandbox: {files}, {network}"));
    }
    if policy.commands.as_ref().is_some_and(|commands| commands.bound) {
        held.push("descendants: it and what it starts execute only what is listed".to_owned());
    }
    if policy.limits != Default::default() {
        held.push(format!("limits: {}", serde_json::to_string(&policy.limits).unwrap_or_default()));
    }
    held
}

/// Where `policy` keeps out less than it seems to, or lets in less.
pub fn warnings(policy: &Policy) -> Vec<String> {
    let mut all = Vec::new();
    if policy.file.is_some() && !says_something(policy) {
        all.push("the policy says nothing: everything is allowed".to_owned());
    }
    if policy.roots.is_none() && (policy.commands.is_some() || policy.sandbox.is_some()) && !policy.read_only {
        let what = "file methods read and write whatever the executor's user may, but for what is its own: whoever may write \
            files may have them run";
        all.push(format!("roots: there are none: {what}"));
    }
    let held = policy.sandbox.is_some() || policy.commands.as_ref().is_some_and(|commands| commands.bound);
    let counted = policy.limits.memory_bytes.is_some() || policy.limits.processes.is_some();
    if counted && !held && rustix::process::geteuid().is_root() {
        all.push(
            "limits: commands run as root and outside of any sandbox: they can leave the group that limits them"
                .to_owned(),
        );
    }
    if policy.roots.is_some() && policy.sandbox.is_none() {
        all.push("roots: they hold file methods alone, since `[sandbox]` is off: commands go everywhere".to_owned());
    }
    if let Some(why) = policy.file.as_deref().and_then(|file| replaceable(policy, file)) {
        all.push(format!("the policy itself could be replaced by moving what holds it: {why}"));
    }
    let Some(list) = &policy.commands else { return all };
    if list.bound && landlock() == Landlock::Absent {
        all.push("descendants: this kernel has no Landlock, so that every start will be refused".to_owned());
    }
    let real = |path: &PathBuf| std::fs::canonicalize(path).ok();
    let executable: Vec<PathBuf> =
        list.list.iter().map(|command| &command.path).chain(&list.execute).filter_map(real).collect();
    for command in &list.list {
        about(command, list, &executable, &mut all);
    }
    for path in &list.execute {
        if is(path, &INTERPRETERS) {
            all.push(format!("descendants: `{}` runs whatever it is told: the list keeps nothing out", path.display()));
        }
    }
    for path in &executable {
        if let Some(why) = replaceable(policy, path) {
            all.push(format!("commands: `{}` could be replaced: {why}", path.display()));
        }
    }
    all
}

/// Whether it differs from one that nobody wrote.
fn says_something(policy: &Policy) -> bool {
    let variables = policy.variables != Default::default();
    let nowhere = Policy { file: None, ..policy.clone() };
    nowhere.is_given() || variables || policy.limits != Default::default() || policy.when_full.is_some()
}

fn about(command: &Command, list: &Commands, executable: &[PathBuf], all: &mut Vec<String>) {
    let (shown, exact) = (command.path.display(), command.args.as_ref().is_some_and(commands::Args::is_exact));
    if is(&command.path, &INTERPRETERS) {
        if !exact {
            all.push(format!("commands: `{shown}` runs whatever it is told: with it the list keeps nothing out"));
        } else if list.list.len() > 1 || !list.execute.is_empty() {
            all.push(format!("commands: what else is listed may call `{shown}` with any arguments, which it obeys"));
        }
    } else if is(&command.path, &STARTERS) && !exact && !list.bound {
        all.push(format!("commands: `{shown}` starts any program, and `descendants` are not bound"));
    }
    if let Some(Helper::Interpreter(interpreter)) = helper(&command.path)
        && list.bound
        && !std::fs::canonicalize(&interpreter).is_ok_and(|real| executable.iter().any(|path| real.starts_with(path)))
    {
        let interpreter = interpreter.display();
        all.push(format!(
            "commands: `{shown}` cannot run: its interpreter `{interpreter}` is not in `descendants.execute`"
        ));
    }
}

/// Whether the program at `path`, or what it leads to, has one of the names, or one of them with a version.
fn is(path: &Path, names: &[&str]) -> bool {
    let real = std::fs::canonicalize(path).ok();
    [Some(path), real.as_deref()].into_iter().flatten().any(|path| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
        names.contains(&name) || names.contains(&plain)
    })
}

/// Who could put something else in the place of a program.
fn replaceable(policy: &Policy, path: &Path) -> Option<String> {
    // In a directory with the sticky bit one replaces only what is one's own.
    let others = |path: &Path| std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o1002 == 0o002);
    if others(path) || path.parent().is_some_and(others) {
        return Some("everybody may write there".to_owned());
    }
    let roots = policy.roots.as_ref()?;
    [Some(path), path.parent()].into_iter().flatten().find_map(|place| {
        let around = roots.iter().filter(|(root, _)| place.starts_with(root));
        let (root, access) = around.max_by_key(|(root, _)| root.as_os_str().len())?;
        (*access == Access::Write).then(|| format!("clients may write below the root `{}`", root.display()))
    })
}

#[cfg(test)]
mod tests {
    use exedra_proto::limits::ResourceLimits;

    use super::*;
    use crate::policy::commands::Args;

    fn listed(commands: &[(&str, Option<&[&str]>)]) -> Policy {
        let command = |(path, args): &(&str, Option<&[&str]>)| Command {
            path: path.into(),
            args: args.map(|args| Args::new(args.iter().map(|arg| (*arg).to_owned()).collect()).unwrap()),
        };
        let list = commands.iter().map(command).collect();
        Policy { commands: Some(Commands { list, bound: true, execute: Vec::new() }), ..Policy::default() }
    }

    fn of(policy: &Policy, argv: &[&str]) -> Explanation {
        let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
        explain(policy, &argv, Path::new("/"), Some(OsStr::new("/usr/bin:/bin")))
    }

    #[test]
    fn decisions_and_their_rules() {
        let policy = listed(&[("/bin/true", None), ("/bin/echo", Some(&["a", "**"]))]);
        let fits = of(&policy, &["echo", "a", "b"]);
        assert!(fits.allowed && fits.rule == "commands[1]" && fits.why.ends_with("fits `/bin/echo a **`"), "{fits:?}");
        assert_eq!(fits.held.len(), 1);
        let not = of(&policy, &["echo", "b"]);
        assert!(!not.allowed && not.rule == "commands" && not.why.contains("do not fit"), "{not:?}");
        assert!(!of(&policy, &["cat"]).allowed && !of(&policy, &[]).allowed);
        assert!(of(&Policy::default(), &["anything"]).allowed);
        assert_eq!(of(&Policy { read_only: true, ..policy }, &["true"]).rule, "read_only");
    }

    #[test]
    fn warnings_where_a_list_is_pointless() {
        let of = |commands: &[(&str, Option<&[&str]>)]| {
            let mut told = warnings(&listed(commands));
            told.retain(|told| !told.starts_with("roots: "));
            told.join("\n")
        };
        assert_eq!(of(&[("/bin/true", None), ("/usr/bin/env", None)]), "");
        assert!(of(&[("/bin/sh", None)]).contains("keeps nothing out"));
        assert!(of(&[("/bin/sh", Some(&["-c", "*"]))]).contains("keeps nothing out"));
        assert_eq!(of(&[("/bin/sh", Some(&["-c", "make"]))]), "");
        assert!(of(&[("/bin/sh", Some(&["-c", "make"])), ("/bin/true", None)]).contains("may call `/bin/sh`"));
        let mut free = listed(&[("/usr/bin/env", None)]);
        free.commands.as_mut().unwrap().bound = false;
        assert!(warnings(&free).join("").contains("starts any program"));
        assert!(is(Path::new("/nope/python3.12"), &INTERPRETERS) && !is(Path::new("/nope/pythonic"), &INTERPRETERS));
    }

    #[test]
    fn warnings_about_what_is_not_held() {
        assert!(warnings(&listed(&[("/bin/true", None)])).join("").contains("roots: there are none: file methods"));
        assert_eq!(warnings(&Policy::default()), Vec::<String>::new());
        let file = Policy { file: Some("/etc/policy.toml".into()), ..Policy::default() };
        assert_eq!(warnings(&file), ["the policy says nothing: everything is allowed"]);
        let limits = ResourceLimits { processes: Some(5), ..ResourceLimits::default() };
        let told = warnings(&Policy { limits, ..file }).join("");
        assert_eq!(told.contains("they can leave the group"), rustix::process::geteuid().is_root(), "{told}");
    }

    #[test]
    fn warnings_about_what_does_not_run_or_could_be_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().canonicalize().unwrap().join("script");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        let shown = script.to_str().unwrap();
        let policy = Policy { roots: Some(vec![(dir.path().to_owned(), Access::Write)]), ..listed(&[(shown, None)]) };
        let told = warnings(&policy).join("\n");
        assert!(
            told.contains("its interpreter `/bin/sh` is not in") && told.contains("clients may write below"),
            "{told}"
        );
        assert!(told.contains("roots: they hold file methods alone") && !told.contains("there are none"));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(warnings(&listed(&[(shown, None)])).join("").contains("everybody may write there"));
    }
}
