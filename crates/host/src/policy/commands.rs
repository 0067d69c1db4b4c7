//! Which commands may be started: an allow-list of programs with patterns for their arguments.
//!
//! In flow the paths that a start would try and what the program would see as its arguments, out flows the one program that
//! may run, or a refusal that names the rule. A program is told by where it really is; since some act by the name that they
//! are called by, that has to be the listed one too. The disk is asked through two functions, so that the rules can be tried
//! without one.

use std::path::{Path, PathBuf};

use super::pattern::Pattern;
use super::program::{self, Helper};

/// What stands at the end of a list of arguments for any number of them.
const REST: &str = "**";
/// A program that every machine has.
const SHELL: &str = "/bin/sh";

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// In the owner's order.
    pub list: Vec<Command>,
    /// Whether what a command starts is held to the list, too.
    pub bound: bool,
    /// What commands may start beside what is listed: programs, or all below directories.
    pub execute: Vec<PathBuf>,
}

/// One of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// As the owner wrote it: absolute.
    pub path: PathBuf,
    /// What its arguments have to be; none: anything.
    pub args: Option<Args>,
}

/// What arguments have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    each: Vec<Pattern>,
    rest: bool,
}

/// A disk, as far as starting commands goes.
#[derive(Clone, Copy, Debug)]
pub struct Disk<E, R> {
    /// Whether a path is a file that may be executed.
    pub executable: E,
    /// Where a path really is.
    pub real: R,
}

/// The disk of this machine.
pub fn machine() -> Disk<impl Fn(&Path) -> bool, impl Fn(&Path) -> Option<PathBuf>> {
    let executable = |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    Disk { executable, real: |path: &Path| std::fs::canonicalize(path).ok() }
}

/// What may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Where it really is.
    pub real: PathBuf,
    /// Which of the list says so.
    pub rule: usize,
}

impl Args {
    /// From patterns, one for each argument; `**` in the end stands for any number of further ones.
    ///
    /// # Errors
    /// It stands elsewhere.
    pub fn new(patterns: Vec<String>) -> Result<Self, String> {
        let rest = patterns.last().is_some_and(|last| last == REST);
        let each: Vec<Pattern> = patterns.into_iter().map(Pattern::new).collect();
        let each = if rest { each[..each.len() - 1].to_vec() } else { each };
        match each.iter().any(|pattern| pattern.as_str() == REST) {
            true => Err(format!("`{REST}` may only be the last of `args`")),
            false => Ok(Self { each, rest }),
        }
    }

    /// Whether `args` are as they have to be.
    pub fn fit(&self, args: &[impl AsRef<str>]) -> bool {
        let enough = if self.rest { args.len() >= self.each.len() } else { args.len() == self.each.len() };
        enough && self.each.iter().zip(args).all(|(pattern, arg)| pattern.fits(arg.as_ref()))
    }

    /// Whether there is only one way to call it.
    pub fn is_exact(&self) -> bool {
        !self.rest && self.each.iter().all(Pattern::is_exact)
    }
}

impl Command {
    /// The rule as a text.
    pub fn shown(&self) -> String {
        let mut text = self.path.display().to_string();
        match &self.args {
            None => text.push_str(" (any arguments)"),
            Some(args) => {
                for pattern in &args.each {
                    text.push_str(&format!(" {}", pattern.as_str()));
                }
                if args.rest {
                    text.push_str(&format!(" {REST}"));
                }
            }
        }
        text
    }
}

impl Commands {
    /// What commands and all that they start may execute, where they are held to the list: what is listed, and the loaders that
    /// the kernel needs for it.
    pub fn executable(&self) -> Option<Vec<PathBuf>> {
        if !self.bound {
            return None;
        }
        let listed = self.list.iter().map(|command| &command.path).chain(&self.execute);
        let mut all: Vec<PathBuf> = listed.filter_map(|path| std::fs::canonicalize(path).ok()).collect();
        let mut loaders: Vec<PathBuf> = all.iter().filter_map(|path| loader(path)).collect();
        // Of programs below directories nothing is known; they have what shells have.
        loaders.extend(self.execute.iter().find(|path| path.is_dir()).and_then(|_| loader(Path::new(SHELL))));
        all.extend(loaders);
        all.sort();
        all.dedup();
        Some(all)
    }

    /// Which program runs if the first of `candidates` that can be executed is; `argv0` is what it sees as its name.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge<E, R>(
        &self,
        disk: &Disk<E, R>,
        candidates: &[PathBuf],
        argv0: &str,
        args: &[impl AsRef<str>],
    ) -> Result<Allowed, String>
    where
        E: Fn(&Path) -> bool,
        R: Fn(&Path) -> Option<PathBuf>,
    {
        let asked = candidates.first().map(|path| path.display().to_string()).unwrap_or_default();
        let found = candidates.iter().find(|path| (disk.executable)(path)).and_then(|path| (disk.real)(path));
        let Some(real) = found else {
            return Err(format!("policy: commands: `{asked}` leads to no program, and only listed ones are started"));
        };
        let listed: Vec<(usize, &Command)> = self
            .list
            .iter()
            .enumerate()
            .filter(|(_, command)| (disk.real)(&command.path).as_ref() == Some(&real))
            .collect();
        let shown = real.display();
        if listed.is_empty() {
            return Err(format!("policy: commands: `{shown}` is not listed"));
        }
        let name = Path::new(argv0).file_name();
        let named: Vec<_> =
            listed.iter().filter(|(_, command)| name.is_some() && command.path.file_name() == name).collect();
        let Some((_, first)) = named.first() else {
            return Err(format!("policy: commands: `{shown}` is listed, but not to be called `{argv0}`"));
        };
        match named.iter().find(|(_, command)| command.args.as_ref().is_none_or(|wanted| wanted.fit(args))) {
            Some((rule, _)) => Ok(Allowed { real, rule: *rule }),
            None if named.len() == 1 => Err(format!("policy: commands: the arguments do not fit `{}`", first.shown())),
            None => Err(format!("policy: commands: the arguments fit none of the {} rules for `{shown}`", named.len())),
        }
    }
}

fn loader(program: &Path) -> Option<PathBuf> {
    match program::helper(program)? {
        Helper::Loader(loader) => std::fs::canonicalize(loader).ok(),
        Helper::Interpreter(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(path: &str, args: Option<&[&str]>) -> Command {
        let args = args.map(|args| Args::new(args.iter().map(|arg| (*arg).to_owned()).collect()).unwrap());
        Command { path: path.into(), args }
    }

    /// `vi` and `sh` are links to `/bin/busybox`, `/tmp/git` one to `/usr/bin/git`; `/usr/bin/data` is no program.
    fn judge(list: &[Command], candidates: &[&str], argv0: &str, args: &[&str]) -> Result<(String, usize), String> {
        let commands = Commands { list: list.to_vec(), ..Commands::default() };
        let real = |path: &Path| match path.to_str()? {
            "/usr/bin/vi" | "/usr/bin/sh" | "/bin/busybox" => Some("/bin/busybox".into()),
            "/usr/bin/git" | "/tmp/git" | "/tmp/x" => Some("/usr/bin/git".into()),
            "/usr/bin/id" => Some("/usr/bin/id".into()),
            _ => None,
        };
        let disk = Disk { executable: |path: &Path| real(path).is_some(), real };
        let candidates: Vec<PathBuf> = candidates.iter().map(PathBuf::from).collect();
        commands
            .judge(&disk, &candidates, argv0, args)
            .map(|allowed| (allowed.real.display().to_string(), allowed.rule))
    }

    #[test]
    fn a_program_is_told_by_where_it_really_is() {
        let list = [command("/usr/bin/git", None)];
        let git = Ok(("/usr/bin/git".to_owned(), 0));
        assert_eq!(judge(&list, &["/usr/bin/git"], "git", &["x"]), git);
        assert_eq!(judge(&list, &["/nope/git", "/usr/bin/git"], "git", &[]), git, "the first that is there");
        assert_eq!(judge(&list, &["/tmp/git"], "/tmp/git", &[]), git, "a link leads to it");
        let not_listed = judge(&list, &["/usr/bin/id", "/usr/bin/git"], "git", &[]).unwrap_err();
        assert_eq!(not_listed, "policy: commands: `/usr/bin/id` is not listed");
        assert!(judge(&list, &["/usr/bin/data"], "data", &[]).unwrap_err().contains("leads to no program"));
        assert!(judge(&[], &["/usr/bin/git"], "git", &[]).is_err());
    }

    #[test]
    fn a_program_is_called_by_its_listed_name() {
        let list = [command("/usr/bin/vi", None)];
        assert!(judge(&list, &["/usr/bin/vi"], "vi", &[]).is_ok());
        for (path, argv0) in
            [("/usr/bin/sh", "sh"), ("/usr/bin/vi", "sh"), ("/bin/busybox", "busybox"), ("/usr/bin/vi", "")]
        {
            let refused = judge(&list, &[path], argv0, &[]).unwrap_err();
            assert_eq!(refused, format!("policy: commands: `/bin/busybox` is listed, but not to be called `{argv0}`"));
        }
        assert!(judge(&[command("/usr/bin/git", None)], &["/tmp/x"], "/tmp/x", &[]).is_err());
    }

    #[test]
    fn arguments() {
        let list = [
            command("/usr/bin/git", Some(&["status", "**"])),
            command("/usr/bin/git", Some(&["log", "-?", "*"])),
            command("/usr/bin/id", Some(&[])),
        ];
        let rule = |args: &[&str]| judge(&list, &["/usr/bin/git"], "git", args).map(|(_, rule)| rule);
        assert_eq!(rule(&["status"]), Ok(0));
        assert_eq!(rule(&["status", "-s", "x"]), Ok(0));
        assert_eq!(rule(&["log", "-p", "HEAD"]), Ok(1));
        for args in
            [&["push"][..], &[], &["log", "-p"], &["log", "-pp", "x"], &["log", "-p", "x", "y"], &["-C", "status"]]
        {
            assert!(rule(args).unwrap_err().ends_with("fit none of the 2 rules for `/usr/bin/git`"), "{args:?}");
        }
        let none = judge(&list, &["/usr/bin/id"], "id", &["-u"]).unwrap_err();
        assert_eq!(none, "policy: commands: the arguments do not fit `/usr/bin/id`");
        assert!(Args::new(vec!["**".into(), "x".into()]).is_err());
        assert_eq!(list[0].shown(), "/usr/bin/git status **");
    }
}
