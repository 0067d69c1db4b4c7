//! How paths are written for an executor: stock ones up to 0.133 take native paths alone, later ones than 0.142 `file:` URIs
//! alone, and ours both.
//!
//! In flow paths as a caller has them, out flow paths as the executor reads them. Which kind it is, the opening of the session
//! finds out.

use exedra_proto::path::{AbsolutePath, CwdPath, PathForm};

/// What an executor takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paths {
    /// Either form.
    #[default]
    Any,
    /// Native ones.
    Native,
    /// URIs.
    Uris {
        /// Its own working directory, as far as it tells; relative paths begin there.
        base: Option<AbsolutePath>,
    },
}

impl Paths {
    /// `path` as the executor reads it.
    pub(crate) fn write(&self, path: &AbsolutePath) -> AbsolutePath {
        let path = path.clone();
        match self {
            Self::Any => path,
            Self::Native => path.with_form(PathForm::Native),
            Self::Uris { .. } => path.with_form(PathForm::Uri),
        }
    }

    /// The same for a working directory, which may be relative to the executor's own. One that has no such form stays as it is, and
    /// the executor refuses it.
    pub(crate) fn write_cwd(&self, cwd: &CwdPath) -> CwdPath {
        let whole = match self {
            Self::Any => None,
            Self::Native => AbsolutePath::native(cwd.as_path()).ok(),
            Self::Uris { base } => match base {
                Some(base) => AbsolutePath::native(base.as_path().join(cwd.as_path())).ok(),
                None => AbsolutePath::native(cwd.as_path()).ok(),
            },
        };
        whole.map_or_else(|| cwd.clone(), |path| self.write(&path).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &impl serde::Serialize) -> String {
        serde_json::to_value(path).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn each_executor_reads_its_own_form() {
        let native = AbsolutePath::native("/a b").unwrap();
        let uri = AbsolutePath::parse("file:///a%20b").unwrap();
        let base = Some(AbsolutePath::parse("file:///home/x").unwrap());
        for (paths, of_native, of_uri, relative) in [
            (Paths::Any, "/a b", "file:///a%20b", "w/../v"),
            (Paths::Native, "/a b", "/a b", "w/../v"),
            (Paths::Uris { base }, "file:///a%20b", "file:///a%20b", "file:///home/x/v"),
            (Paths::Uris { base: None }, "file:///a%20b", "file:///a%20b", "w/../v"),
        ] {
            assert_eq!((text(&paths.write(&native)), text(&paths.write(&uri))), (of_native.into(), of_uri.into()));
            assert_eq!(text(&paths.write_cwd(&CwdPath::native("w/../v"))), relative);
            assert_eq!(text(&paths.write_cwd(&native.clone().into())), of_native);
            assert_eq!(text(&paths.write_cwd(&uri.clone().into())), of_uri);
        }
    }
}
