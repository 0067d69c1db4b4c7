//! Paths in both forms of the protocol: native absolute text (up to 0.142) and `file:` URI (0.142 and later).
//!
//! In flows what a client wrote, out flow the bytes of a normalised native path and the form, so that an answer that
//! names a path can use the form that the client used.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a path is written on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathForm {
    /// `/a b`
    #[default]
    Native,
    /// `file:///a%20b`
    Uri,
}

/// An absolute path, `.` and `..` resolved lexically, and the form in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsolutePath {
    path: PathBuf,
    form: PathForm,
}

/// The working directory of a process: like [`AbsolutePath`], but a native path may be relative to the executor's own
/// directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CwdPath {
    path: PathBuf,
    form: PathForm,
}

/// Stock text of 0.142 and later for what is neither absolute nor a URI.
pub const RELATIVE: &str = "invalid URI: relative URL without a base";
/// How the stock text of 0.142 and later for a URI that names no file begins.
pub const OTHER_SCHEME: &str = "unsupported path URI scheme ";
/// Everything that a URI path segment cannot hold as it is; `/` stays.
const PATH_ESCAPES: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');
/// Leading segments of a URI whose path has no URI form; one segment of base64 follows.
const BAD_PATH_PREFIX: &str = "/%00/bad/path/";

impl AbsolutePath {
    /// From a native path.
    ///
    /// # Errors
    /// The text of stock peers if it is not absolute.
    pub fn native(path: impl Into<PathBuf>) -> Result<Self, String> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(RELATIVE.to_owned());
        }
        Ok(Self { path: normalise(&path), form: PathForm::Native })
    }

    /// From the text of either form.
    ///
    /// # Errors
    /// The text of stock peers.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_uri(text) {
            return Ok(Self { path: from_uri(text)?, form: PathForm::Uri });
        }
        match url::Url::parse(text) {
            Ok(url) if !text.starts_with('/') => Err(format!("{OTHER_SCHEME}`{}`", url.scheme())),
            _ => Self::native(text),
        }
    }

    /// The native path.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// How it was written.
    pub fn form(&self) -> PathForm {
        self.form
    }

    /// The same path, to be written in `form`.
    #[must_use]
    pub fn with_form(mut self, form: PathForm) -> Self {
        self.form = form;
        self
    }
}

impl CwdPath {
    /// From a native path, absolute or relative.
    pub fn native(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), form: PathForm::Native }
    }

    /// From the text of either form.
    ///
    /// # Errors
    /// The text of stock peers for a URI that names no file.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_uri(text) {
            return Ok(Self { path: from_uri(text)?, form: PathForm::Uri });
        }
        Ok(Self::native(text))
    }

    /// The native path.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// How it was written.
    pub fn form(&self) -> PathForm {
        self.form
    }
}

impl From<AbsolutePath> for CwdPath {
    fn from(path: AbsolutePath) -> Self {
        Self { path: path.path, form: path.form }
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for CwdPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for AbsolutePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.path, self.form, serializer)
    }
}

impl Serialize for CwdPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.path, self.form, serializer)
    }
}

fn serialize<S: Serializer>(path: &Path, form: PathForm, serializer: S) -> Result<S::Ok, S::Error> {
    match form {
        PathForm::Uri => serializer.serialize_str(&to_uri(path)),
        PathForm::Native => match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => Err(serde::ser::Error::custom("a path that is not UTF-8 cannot be written in the native form")),
        },
    }
}

/// The `file:` URI of an absolute path.
pub fn to_uri(path: &Path) -> String {
    format!("file://{}", percent_encode(path.as_os_str().as_bytes(), PATH_ESCAPES))
}

fn is_uri(text: &str) -> bool {
    text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"))
}

fn from_uri(text: &str) -> Result<PathBuf, String> {
    let url = url::Url::parse(text).map_err(|e| format!("invalid URI: {e}"))?;
    if url.query().is_some() {
        return Err("query parameters are not allowed in path URIs".to_owned());
    }
    if url.fragment().is_some() {
        return Err("fragments are not allowed in path URIs".to_owned());
    }
    let windows = url.host_str().is_some_and(|host| !host.is_empty() && host != "localhost") || has_drive(url.path());
    if windows {
        return Err(format!("'{text}' is invalid on '{}'", std::env::consts::OS));
    }
    let bytes: Vec<u8> = match url.path().strip_prefix(BAD_PATH_PREFIX) {
        Some(encoded) => unpadded(encoded)?,
        None => percent_decode_str(url.path()).collect(),
    };
    if bytes.contains(&0) {
        return Err("a path cannot hold a NUL byte".to_owned());
    }
    Ok(normalise(Path::new(&OsString::from_vec(bytes))))
}

fn unpadded(encoded: &str) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).map_err(|e| format!("invalid URI: {e}"))
}

fn has_drive(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.len() >= 3 && bytes[1].is_ascii_alphabetic() && bytes[2] == b':' && matches!(bytes.get(3), None | Some(b'/'))
}

/// Removes `.` and resolves `..` without looking at the disk.
fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> (String, PathForm) {
        let path = AbsolutePath::parse(text).unwrap();
        (path.to_string(), path.form())
    }

    #[test]
    fn both_forms() {
        assert_eq!(ok("/a/./b/../c//d/"), ("/a/c/d".into(), PathForm::Native));
        assert_eq!(ok("file:///a%20b/%2E%2e/c/"), ("/c".into(), PathForm::Uri));
        assert_eq!(ok("file://localhost/x"), ("/x".into(), PathForm::Uri));
        assert_eq!(ok("file:///../x"), ("/x".into(), PathForm::Uri));
        assert_eq!(ok("file:///%00/bad/path/L3gveQ"), ("/x/y".into(), PathForm::Uri));
    }

    #[test]
    fn refusals_in_stock_words() {
        let cause = |text: &str| AbsolutePath::parse(text).unwrap_err();
        for text in ["", "f.txt", "~"] {
            assert_eq!(cause(text), RELATIVE, "{text}");
        }
        assert_eq!(cause("http://x/y"), "unsupported path URI scheme `http`");
        assert_eq!(cause("file:///x?q"), "query parameters are not allowed in path URIs");
        assert_eq!(cause("file:///x#f"), "fragments are not allowed in path URIs");
        assert_eq!(cause("file:///C:/x"), "'file:///C:/x' is invalid on 'linux'");
        assert_eq!(cause("file://host/x"), "'file://host/x' is invalid on 'linux'");
        assert_eq!(cause("file:///a%00b"), "a path cannot hold a NUL byte");
    }

    #[test]
    fn bytes_that_are_not_utf8_survive_the_uri_form() {
        let path = AbsolutePath::parse("file:///a%FFb%20%25").unwrap();
        assert_eq!(path.as_path().as_os_str().as_bytes(), b"/a\xffb %");
        assert_eq!(serde_json::to_string(&path).unwrap(), r#""file:///a%FFb%20%25""#);
        assert_eq!(AbsolutePath::parse(&to_uri(path.as_path())).unwrap(), path);
    }
}
