//! Where a program is found: the paths to try for a child on pipes, the one path for a child on a PTY.
//!
//! In flow the name, the child's `PATH` and its directory, out flow paths or the text that stock has for the case. For a
//! PTY the disk is looked at, since its texts say what was found there; for pipes the trying itself decides.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

/// The path that is searched on pipes when the child has no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// What to try in order, as `execvp` does. Relative ones are meant in the child's directory.
pub fn candidates(program: &str, path: Option<&OsStr>) -> Vec<OsString> {
    if program.contains('/') {
        return vec![program.into()];
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let join = |directory: &[u8]| match directory {
        b"" => OsString::from(program),
        directory => Path::new(OsStr::from_bytes(directory)).join(program).into_os_string(),
    };
    path.as_bytes().split(|byte| *byte == b':').map(join).collect()
}

/// The one path of a program on a PTY.
///
/// # Errors
/// The text of stock: what was found instead, if anything.
pub fn resolve(program: &str, path: Option<&OsStr>, cwd: &Path) -> Result<PathBuf, String> {
    if Path::new(program).is_absolute() {
        return check(Path::new(program)).map_err(|found| found.of_absolute(program));
    }
    if program.starts_with("./") || program.starts_with("../") || program == "." || program == ".." {
        let at = cwd.join(program);
        return check(&at).map_err(|found| found.of_relative(&at));
    }
    if program.contains('/')
        && let Ok(found) = check(&cwd.join(program))
    {
        return Ok(found);
    }
    let fail = |lines: &[String]| Err(format!("Unable to spawn {program} because:\n{}", lines.join("\n")));
    let Some(path) = path else { return fail(&["Unable to resolve the PATH".to_owned()]) };
    let mut lines = Vec::new();
    for directory in std::env::split_paths(path) {
        let at = cwd.join(directory).join(program);
        match check(&at) {
            Ok(found) => return Ok(found),
            Err(Found::Directory) => lines.push(format!("{} exists but is a directory.", at.display())),
            Err(Found::NotExecutable(_)) => lines.push(format!("{} exists but is not executable.", at.display())),
            Err(Found::Nothing(_)) => {}
        }
    }
    lines.push(format!("No viable candidates found in PATH {path:?}"));
    fail(&lines)
}

/// What is there instead of a program.
enum Found {
    Directory,
    NotExecutable(Errno),
    Nothing(Errno),
}

fn check(at: &Path) -> Result<PathBuf, Found> {
    if at.is_dir() {
        return Err(Found::Directory);
    }
    let Err(refusal) = access(at, Access::EXEC_OK) else { return Ok(at.to_owned()) };
    match access(at, Access::EXISTS) {
        Ok(()) => Err(Found::NotExecutable(refusal)),
        Err(errno) => Err(Found::Nothing(errno)),
    }
}

impl Found {
    fn of_absolute(&self, program: &str) -> String {
        match self {
            Self::Directory => format!("Unable to spawn {program} because it is a directory"),
            Self::NotExecutable(errno) => {
                format!("Unable to spawn {program} because it is not executable ({})", named(*errno))
            }
            Self::Nothing(errno) => {
                format!("Unable to spawn {program} because it doesn't exist on the filesystem ({})", named(*errno))
            }
        }
    }

    fn of_relative(&self, at: &Path) -> String {
        let at = at.display();
        match self {
            Self::Directory => format!("Unable to spawn {at} because it is a directory"),
            Self::NotExecutable(_) => format!("Unable to spawn {at} because it is not executable"),
            Self::Nothing(_) => format!("Unable to spawn {at} because it does not exist"),
        }
    }
}

/// `ENOENT: No such file or directory`
fn named(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match errno {
        Errno::NOENT => format!("ENOENT: {text}"),
        Errno::ACCESS => format!("EACCES: {text}"),
        Errno::NOTDIR => format!("ENOTDIR: {text}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn candidates_as_execvp_has_them() {
        let of = |program: &str, path: Option<&str>| candidates(program, path.map(OsStr::new));
        assert_eq!(of("a/b", Some("/x")), ["a/b"]);
        assert_eq!(of("b", Some("/x:/y/")), ["/x/b", "/y/b"]);
        assert_eq!(of("b", Some("/x::rel")), ["/x/b", "b", "rel/b"]);
        assert_eq!(of("b", Some("")), ["b"]);
        assert_eq!(of("b", None), ["/bin/b", "/usr/bin/b"]);
    }

    /// Texts recorded from stock 0.130.
    #[test]
    fn texts_for_a_pty() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let name = at.display();
        std::fs::create_dir(at.join("sub")).unwrap();
        for (file, mode) in [("plain", 0o644), ("prog", 0o755), ("sub/prog", 0o755)] {
            std::fs::write(at.join(file), "").unwrap();
            std::fs::set_permissions(at.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let resolve = |program: &str, path: Option<&str>| resolve(program, path.map(OsStr::new), at);
        let fails = |program: &str, path: Option<&str>, text: String| {
            assert_eq!(resolve(program, path).unwrap_err(), format!("Unable to spawn {text}"));
        };
        let bin = Some("/usr/bin:/bin");
        fails(
            "/nonexistent/x",
            bin,
            "/nonexistent/x because it doesn't exist on the filesystem (ENOENT: No such file or directory)".into(),
        );
        fails(
            &format!("{name}/plain"),
            bin,
            format!("{name}/plain because it is not executable (EACCES: Permission denied)"),
        );
        fails(&format!("{name}/sub"), bin, format!("{name}/sub because it is a directory"));
        fails("./plain", bin, format!("{name}/./plain because it is not executable"));
        fails("./nope", bin, format!("{name}/./nope because it does not exist"));
        fails("./sub", bin, format!("{name}/./sub because it is a directory"));
        let none = "because:\nNo viable candidates found in PATH";
        fails("sub/x", bin, format!("sub/x {none} \"/usr/bin:/bin\""));
        fails("nonesuch", bin, format!("nonesuch {none} \"/usr/bin:/bin\""));
        fails("true", None, "true because:\nUnable to resolve the PATH".into());
        let here = at.to_str();
        fails(
            "plain",
            here,
            format!(
                "plain because:\n{name}/plain exists but is not executable.\nNo viable candidates found in PATH \"{name}\""
            ),
        );
        assert_eq!(resolve("prog", Some("/nope:")).unwrap(), at.join("prog"));
        assert_eq!(resolve("sub/prog", bin).unwrap(), at.join("sub/prog"));
        assert_eq!(resolve("./prog", bin).unwrap(), at.join("./prog"));
    }
}
