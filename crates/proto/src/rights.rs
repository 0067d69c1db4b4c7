//! What a token allows on the executors that it reaches.
//!
//! In flow the words of a flag, a record or a message, out flows a set that can be asked. It knows no method and no
//! transport: what needs which right, and whether a set can be enforced somewhere, is for others to decide.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that may be done on an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Commands.
    Exec,
    /// Files, beyond what commands do.
    Files,
    /// HTTP requests from there.
    Http,
    /// Terminals, for those who may start commands.
    Pty,
}

/// A set of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

/// Why a text is no set of rights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rights are one or more of exec, files, http and pty, with commas between")]
pub struct InvalidRights;

impl Right {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Exec, Self::Files, Self::Http, Self::Pty];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Files => "files",
            Self::Http => "http",
            Self::Pty => "pty",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl Rights {
    /// All of them.
    pub const ALL: Self = Self(0b1111);

    /// Reads words with commas between.
    ///
    /// # Errors
    /// A word is unknown, or there is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRights> {
        text.split(',').try_fold(Self(0), |rights, word| {
            let right = Right::ALL.into_iter().find(|right| right.as_str() == word.trim()).ok_or(InvalidRights)?;
            Ok(Self(rights.0 | right.bit()))
        })
    }

    /// Whether `right` is among them.
    pub fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Whether all of `others` are among them.
    pub fn cover(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// These and `others`.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether none is missing.
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// Their words.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Right::ALL.into_iter().filter(move |right| self.has(*right)).map(Right::as_str)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(","))
    }
}

impl Serialize for Rights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

/// A word that is not known is a right that nobody here can give: it is left out.
impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let known = Right::ALL.into_iter().filter(|right| words.iter().any(|word| word == right.as_str()));
        Ok(known.fold(Self(0), |rights, right| Self(rights.0 | right.bit())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_its_words() {
        assert_eq!(Rights::parse("exec,files,http,pty"), Ok(Rights::ALL));
        let some = Rights::parse(" pty, exec,exec").unwrap();
        assert_eq!(some.to_string(), "exec,pty");
        assert_eq!(Rights::parse(&some.to_string()), Ok(some));
        assert!(some.has(Right::Pty) && !some.has(Right::Files) && !some.is_all());
        assert_eq!(serde_json::to_string(&some).unwrap(), r#"["exec","pty"]"#);
        let read = |text| serde_json::from_str::<Rights>(text);
        assert_eq!(read(r#"["pty","fly","exec"]"#).unwrap(), some);
        assert_eq!(read("[]").unwrap().words().count(), 0);
        assert!(read(r#""exec""#).is_err() && read("null").is_err());
        assert!(Rights::ALL.cover(some) && some.cover(some) && !some.cover(Rights::ALL));
        assert!(!some.cover(read(r#"["files"]"#).unwrap()), "one of them is not there");
        assert_eq!(some.with(Rights::parse("http,files").unwrap()), Rights::ALL);
        for bad in ["", ",", "exec,", "Exec", "all", "exec files"] {
            assert_eq!(Rights::parse(bad), Err(InvalidRights), "{bad}");
        }
    }
}
