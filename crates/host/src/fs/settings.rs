//! `environmentConfig/read`: the parts of this machine's Codex settings that a client asks for, as they stand.
//!
//! In flow wanted keys, out flow TOML texts, one for each file that holds any of them. The files are those of a stock
//! executor: of the system, of the account, and what administrators require. Whatever is beyond the roots does not exist.

use std::path::{Path, PathBuf};

use exedra_proto::environment::{ConfigReadParams, ConfigReadResult, Layer, Layers};
use toml::{Table, Value};

use super::regular::open_to_read;
use super::resolve::Way;
use crate::error::{FsError, FsErrorKind};
use crate::facts::uri;

/// The largest file of settings, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Where administrators put theirs.
const SYSTEM: &str = "/etc/codex";

/// Where settings are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The home of the account.
    pub home: Option<PathBuf>,
    /// The account's own settings.
    pub codex_home: Option<PathBuf>,
    /// Those of the system.
    pub system: PathBuf,
}

/// What is asked of one file.
struct Source {
    name: String,
    path: PathBuf,
}

impl Places {
    /// As a stock executor has them, with the variables `HOME` and `CODEX_HOME` of the children.
    pub fn usual(home: Option<PathBuf>, codex_home: Option<PathBuf>) -> Self {
        let codex_home = codex_home.or_else(|| home.as_ref().map(|home| home.join(".codex")));
        Self { home, codex_home, system: PathBuf::from(SYSTEM) }
    }
}

/// What `params` ask for.
///
/// # Errors
/// A file is there and cannot be read or understood.
pub fn read(way: Way<'_>, places: &Places, params: &ConfigReadParams) -> Result<ConfigReadResult, FsError> {
    let system = places.system.join("config.toml");
    let managed = places.system.join("managed_config.toml");
    let required = places.system.join("requirements.toml");
    let named = |kind: &str, path: PathBuf| Source { name: format!("{kind} ({})", path.display()), path };
    let user = places.codex_home.as_ref().map(|home| named("user", home.join("config.toml")));
    let before = layers(way, [named("system", system)], &params.config_paths)?;
    let after = user.into_iter().chain([named("legacy managed_config.toml", managed)]);
    let after = layers(way, after, &params.config_paths)?;
    let cloud_insertion_index = before.len();
    let config = Layers { layers: before.into_iter().chain(after).collect(), cloud_insertion_index };
    let required = Source { name: required.display().to_string(), path: required };
    let required = layers(way, [required], &params.requirements_paths)?;
    let requirements = Layers { cloud_insertion_index: required.len(), layers: required };
    Ok(ConfigReadResult {
        user_home_dir: places.home.clone().and_then(uri),
        codex_home_dir: places.codex_home.clone().and_then(uri),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        config,
        requirements,
    })
}

fn layers(
    way: Way<'_>,
    sources: impl IntoIterator<Item = Source>,
    wanted: &[Vec<String>],
) -> Result<Vec<Layer>, FsError> {
    let mut layers = Vec::new();
    if wanted.is_empty() {
        return Ok(layers);
    }
    for Source { name, path } in sources {
        let Some(text) = text(way, &path)? else { continue };
        let table: Table = text.parse().map_err(|error| bad(&format!("{}: {error}", path.display())))?;
        let found = pick(&table, wanted);
        if let Some(base_dir) = path.parent().map(Path::to_owned).and_then(uri).filter(|_| !found.is_empty()) {
            let toml = toml::to_string(&found).map_err(|error| bad(&format!("{}: {error}", path.display())))?;
            layers.push(Layer { source: name, base_dir, toml });
        }
    }
    Ok(layers)
}

/// The content of a file; none if there is none, as far as the roots let see.
fn text(way: Way<'_>, path: &Path) -> Result<Option<String>, FsError> {
    use std::io::Read as _;

    let cannot =
        |cause: &dyn std::fmt::Display| bad(&format!("Failed to read config file {}: {cause}", path.display()));
    let (file, _) = match open_to_read(way, path) {
        Ok(opened) => opened,
        Err(error) if error.kind == FsErrorKind::NotFound || error.text.starts_with("policy:") => return Ok(None),
        Err(error) => return Err(cannot(&error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(cannot(&format_args!("it exceeds the limit of {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| cannot(&error.utf8_error()))
}

fn bad(text: &str) -> FsError {
    FsError { kind: FsErrorKind::Other, text: format!("failed to load executor-local config: {text}") }
}

/// The parts of `table` that `wanted` names. A path that goes on within what is no table names the whole of that.
fn pick(table: &Table, wanted: &[Vec<String>]) -> Table {
    let mut found = Table::new();
    for path in wanted {
        take(table, path, &mut found);
    }
    found
}

fn take(from: &Table, path: &[String], into: &mut Table) {
    let Some((key, rest)) = path.split_first() else { return };
    match from.get(key) {
        None => {}
        Some(Value::Table(inner)) if !rest.is_empty() => {
            let mut part = match into.remove(key) {
                Some(Value::Table(part)) => part,
                _ => Table::new(),
            };
            take(inner, rest, &mut part);
            if !part.is_empty() {
                into.insert(key.clone(), Value::Table(part));
            }
        }
        Some(value) => drop(into.insert(key.clone(), value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::roots::{Access, Roots};
    use super::*;

    fn picked(wanted: &[&[&str]]) -> String {
        let text = "model = \"m\"\n[a.b]\nc = 1\nd = 2\n[[list]]\nz = 1\n";
        let wanted: Vec<Vec<String>> =
            wanted.iter().map(|path| path.iter().map(|key| (*key).to_owned()).collect()).collect();
        toml::to_string(&pick(&text.parse().unwrap(), &wanted)).unwrap()
    }

    #[test]
    fn only_what_is_wanted() {
        assert_eq!(picked(&[&["model"]]), "model = \"m\"\n");
        assert_eq!(picked(&[&["a", "b", "c"], &["model"]]), "model = \"m\"\n\n[a.b]\nc = 1\n");
        assert_eq!(picked(&[&["a"], &["a", "b", "c"]]), "[a.b]\nc = 1\nd = 2\n");
        assert_eq!(picked(&[&["a", "b", "c"], &["a", "b", "d"]]), "[a.b]\nc = 1\nd = 2\n");
        assert_eq!(picked(&[&["list", "z"]]), "[[list]]\nz = 1\n");
        assert_eq!(picked(&[&["nope"], &["model", "x", "y"], &["a", "q"]]), "model = \"m\"\n");
    }

    #[test]
    fn layers_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            home: Some(dir.path().to_owned()),
            codex_home: Some(dir.path().join("own")),
            system: dir.path().join("etc"),
        };
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let wanted = vec![vec!["m".to_owned()]];
        let cwd = uri(PathBuf::from("/")).unwrap();
        let params = ConfigReadParams { cwd, config_paths: wanted.clone(), requirements_paths: wanted };
        let sources = |result: &ConfigReadResult| {
            let name = |layer: &Layer| layer.source.split(' ').next().unwrap_or_default().to_owned();
            result.config.layers.iter().map(name).collect::<Vec<_>>()
        };
        let everything = Roots::everything();
        let way = Way::new(&everything);
        let nothing = read(way, &places, &params).unwrap();
        assert_eq!((nothing.config, nothing.requirements), (Layers::default(), Layers::default()));
        for file in ["own/config.toml", "etc/config.toml", "etc/managed_config.toml", "etc/requirements.toml"] {
            write(file, "m = 1\nn = 2\n");
        }
        let all = read(way, &places, &params).unwrap();
        assert_eq!(sources(&all), ["system", "user", "legacy"]);
        assert_eq!((all.config.cloud_insertion_index, all.requirements.cloud_insertion_index), (1, 1));
        assert!(all.config.layers.iter().chain(&all.requirements.layers).all(|layer| layer.toml == "m = 1\n"));
        let only = Roots::only([(dir.path().join("own").canonicalize().unwrap(), Access::Read)]);
        assert_eq!(sources(&read(Way::new(&only), &places, &params).unwrap()), ["user"]);
        write("own/config.toml", "m = \n");
        let text = read(way, &places, &params).unwrap_err().text;
        assert!(text.starts_with("failed to load executor-local config: "), "{text}");
    }
}
