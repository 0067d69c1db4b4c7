//! Params and results of `environment/*` and `environmentConfig/read` (protocol 11).
//!
//! What an executor tells of its machine before anything is started there. All paths are written as `file:` URIs, but for
//! that of the shell, which is native.

use std::fmt;

use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::path::AbsolutePath;

/// Params of a method that wants none: null, absent, or an empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoParams;

/// Result of `environment/info`, and `environmentInfo` in the result of `initialize` (0.155 and later).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentInfo {
    /// What commands are given to.
    pub shell: Shell,
    /// The version of the executor's program (0.155).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_version: Option<String>,
    /// The executor's working directory; null when it is gone (0.145).
    #[serde(default)]
    pub cwd: Option<AbsolutePath>,
    /// The home of the account (0.155).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_home_dir: Option<AbsolutePath>,
    /// `linux`, `macos` or `windows` (0.155).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_os: Option<String>,
    /// What belongs in front of `PATH` (0.169).
    #[serde(default)]
    pub prepend_path_dirs: Vec<AbsolutePath>,
    /// Directories for temporary files that the environment names (0.155).
    #[serde(default)]
    pub temporary_directories: Vec<AbsolutePath>,
    /// Where temporary files go (0.155).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_dir: Option<AbsolutePath>,
    /// What it can do beyond the methods that all versions have (0.145).
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// A shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// `bash`, `zsh`, `sh`, `powershell` or `cmd`.
    pub name: String,
    /// Where it is, as a native path.
    pub path: String,
}

/// What an executor can do beyond the methods that all versions have. What is absent is false; other members are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "so it is on the wire")]
pub struct Capabilities {
    /// `sandbox` of the roots of `capabilityRoots/discoverV1`.
    pub capability_discovery_sandbox: bool,
    /// The method `fs/watchMissing`.
    pub fs_watch_missing: bool,
    /// The method `environmentConfig/read`.
    pub environment_config_read: bool,
    /// `valueEnvVar` of the headers of `http/request`.
    pub http_header_env_vars: bool,
    /// `sandbox` of `fs/open`.
    pub sandboxed_file_streaming: bool,
    /// The mode `replace` of `fs/open`, and `fs/writeBlock`.
    pub file_write_streaming: bool,
}

/// Result of `environment/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusResult {
    /// How it is.
    pub status: Status,
}

/// How an environment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It serves.
    Ready,
}

/// Params of `environmentConfig/read` (0.155 and later).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "AnyConfigRead")]
pub struct ConfigReadParams {
    /// Where the client works.
    pub cwd: AbsolutePath,
    /// Keys wanted of the settings, each as a list of segments.
    pub config_paths: Vec<Vec<String>>,
    /// Keys wanted of what administrators require.
    pub requirements_paths: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyConfigRead {
    cwd: AbsolutePath,
    config_paths: Vec<Vec<String>>,
    requirements_paths: Vec<Vec<String>>,
}

/// Result of `environmentConfig/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigReadResult {
    /// The home of the account.
    pub user_home_dir: Option<AbsolutePath>,
    /// The directory of the account's settings.
    pub codex_home_dir: Option<AbsolutePath>,
    /// The name of the machine.
    pub hostname: String,
    /// Of the settings.
    pub config: Layers,
    /// Of what administrators require.
    pub requirements: Layers,
}

/// Settings from several files; later ones win.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layers {
    /// Only those that hold a wanted key.
    pub layers: Vec<Layer>,
    /// Before which of them settings from elsewhere belong.
    pub cloud_insertion_index: usize,
}

/// What one file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Which file, in words.
    pub source: String,
    /// What relative paths in it start from.
    pub base_dir: AbsolutePath,
    /// The wanted keys with their values.
    pub toml: String,
}

impl TryFrom<AnyConfigRead> for ConfigReadParams {
    type Error = &'static str;

    fn try_from(any: AnyConfigRead) -> Result<Self, Self::Error> {
        let AnyConfigRead { cwd, config_paths, requirements_paths } = any;
        if config_paths.is_empty() && requirements_paths.is_empty() {
            return Err("at least one config or requirements path is required");
        }
        if config_paths.iter().chain(&requirements_paths).any(Vec::is_empty) {
            return Err("TOML paths must contain at least one key segment");
        }
        Ok(Self { cwd, config_paths, requirements_paths })
    }
}

impl Serialize for NoParams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for NoParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nothing;
        impl<'de> Visitor<'de> for Nothing {
            type Value = NoParams;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("unit")
            }

            fn visit_unit<E>(self) -> Result<NoParams, E> {
                Ok(NoParams)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NoParams, A::Error> {
                match map.next_key::<serde::de::IgnoredAny>()? {
                    None => Ok(NoParams),
                    Some(_) => Err(serde::de::Error::invalid_type(Unexpected::Map, &self)),
                }
            }
        }
        deserializer.deserialize_any(Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_params_are_null_or_an_empty_object() {
        for text in ["null", "{}"] {
            assert_eq!(serde_json::from_str::<NoParams>(text).unwrap(), NoParams);
        }
        for (text, cause) in [(r#"{"a":1}"#, "map"), ("[]", "sequence")] {
            let error = serde_json::from_str::<NoParams>(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid type: {cause}, expected unit")), "{error}");
        }
    }

    #[test]
    fn the_smallest_answer_is_understood() {
        let info: EnvironmentInfo = serde_json::from_str(r#"{"shell":{"name":"sh","path":"/bin/sh"}}"#).unwrap();
        assert_eq!((info.cwd, info.capabilities), (None, Capabilities::default()));
        let odd = r#"{"shell":{"name":"sh","path":"/bin/sh"},"capabilities":{"fsWatchMissing":true,"later":true}}"#;
        let info: EnvironmentInfo = serde_json::from_str(odd).unwrap();
        assert!(info.capabilities.fs_watch_missing);
    }

    #[test]
    fn a_reading_of_settings_wants_something() {
        let cause = |paths: &str| {
            let text = format!(r#"{{"cwd":"file:///","configPaths":{paths},"requirementsPaths":[]}}"#);
            serde_json::from_str::<ConfigReadParams>(&text).map_err(|error| error.to_string())
        };
        assert!(cause("[]").unwrap_err().starts_with("at least one config or requirements path is required"));
        assert!(cause("[[]]").unwrap_err().starts_with("TOML paths must contain at least one key segment"));
        assert_eq!(cause(r#"[["a","b"]]"#).unwrap().config_paths, [["a", "b"]]);
    }
}
