//! The stock Codex that interop and bench run against: fetched once, checked always, run in a home of its own.
//!
//! In flows `stock.toml`, out flow paths of the programs in a cache outside the checkout. It knows npm and hashes,
//! not what the program is used for.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use exedra_proto::base64::Base64Text;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha512};

use crate::child::Spawn;

/// The one place that pins versions.
const PINNED: &str = include_str!("stock.toml");
/// File name of the program, in the package and in the cache.
const PROGRAM: &str = "codex";

/// What `stock.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    package: String,
    platform: String,
    versions: Vec<Version>,
}

/// One of its versions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    version: String,
    integrity: String,
    program_sha256: String,
}

/// A stock program, ready to run.
#[derive(Clone, Debug)]
pub struct Stock {
    /// Where it is.
    pub program: PathBuf,
    /// Its version.
    pub version: String,
}

impl Stock {
    /// The oldest pinned program: from the cache, or fetched into it.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what was pinned.
    pub fn oldest() -> Result<Self> {
        let pinned = pinned()?;
        ready(&pinned, pinned.versions.first().context("stock.toml pins no version")?)
    }

    /// The newest pinned program.
    ///
    /// # Errors
    /// As [`Stock::oldest`].
    pub fn newest() -> Result<Self> {
        let pinned = pinned()?;
        ready(&pinned, pinned.versions.last().context("stock.toml pins no version")?)
    }

    /// All pinned programs, the oldest first.
    ///
    /// # Errors
    /// As [`Stock::oldest`].
    pub fn all() -> Result<Vec<Self>> {
        let pinned = pinned()?;
        pinned.versions.iter().map(|version| ready(&pinned, version)).collect()
    }

    /// The number in the middle of its version, by which behaviour is told apart.
    pub fn minor(&self) -> u32 {
        self.version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or_default()
    }

    /// A run of it with `home` as `HOME` and `CODEX_HOME`, and nothing else of our environment but `PATH`.
    pub fn spawn(&self, home: &Path) -> Spawn {
        Spawn::new(&self.program).clean_env().env("HOME", home).env("CODEX_HOME", home).dir(home)
    }
}

fn pinned() -> Result<Pinned> {
    toml::from_str(PINNED).context("stock.toml")
}

fn ready(pinned: &Pinned, version: &Version) -> Result<Stock> {
    let home = cache()?.join("stock").join(pinned.build(version));
    let program = home.join(PROGRAM);
    if !program.exists() {
        download(pinned, version, &home)?;
    }
    let found = hex(&file_hash::<Sha256>(&program)?);
    ensure!(
        found == version.program_sha256,
        "{} has SHA-256 {found}, pinned is {}; remove it to fetch it again",
        program.display(),
        version.program_sha256
    );
    Ok(Stock { program, version: version.version.clone() })
}

impl Pinned {
    fn build(&self, version: &Version) -> String {
        format!("{}-{}", version.version, self.platform)
    }
}

/// `$XDG_CACHE_HOME/exedra`, or `~/.cache/exedra`.
fn cache() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(base.context("there is no place for the cache: set HOME or XDG_CACHE_HOME")?.join("exedra"))
}

fn download(pinned: &Pinned, version: &Version, home: &Path) -> Result<()> {
    let parent = home.parent().context("the cache has no parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let temporary = tempfile::tempdir_in(parent).with_context(|| format!("cannot write to {}", parent.display()))?;
    let spec = format!("{}@{}", pinned.package, pinned.build(version));
    run(Command::new("npm").args(["pack", "--silent", "--pack-destination"]).arg(temporary.path()).arg(&spec))
        .with_context(|| format!("cannot fetch {spec}; npm has to be installed and to reach its registry"))?;
    let archive = find(temporary.path(), &|path| path.extension().is_some_and(|extension| extension == "tgz"))?;
    let integrity = format!("sha512-{}", Base64Text::encode(&file_hash::<Sha512>(&archive)?).0);
    ensure!(integrity == version.integrity, "{spec} has integrity {integrity}, pinned is {}", version.integrity);
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(temporary.path()))?;
    let program = find(&temporary.path().join("package/vendor"), &|path| path.is_file() && path.ends_with(PROGRAM))?;

    let staged = temporary.path().join("staged");
    std::fs::create_dir(&staged)?;
    std::fs::rename(&program, staged.join(PROGRAM))?;
    match std::fs::rename(&staged, home) {
        // Somebody else was quicker; theirs is checked like ours.
        Err(_) if home.join(PROGRAM).exists() => Ok(()),
        other => other.with_context(|| format!("cannot move the program to {}", home.display())),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The first file below `dir` that `is_it`.
fn find(dir: &Path, is_it: &dyn Fn(&Path) -> bool) -> Result<PathBuf> {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry?.path();
            if is_it(&path) {
                return Ok(path);
            }
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    anyhow::bail!("the package does not hold what it used to")
}

fn file_hash<H: Digest>(path: &Path) -> Result<Vec<u8>> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hash = H::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().to_vec()),
            count => hash.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
