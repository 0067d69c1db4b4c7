//! `tidy.toml`: what may be larger than the rules say, up to how many lines, and why.
//!
//! In flow the file and the lengths that were counted, out flows the limit that a length breaks. An exception without
//! a reason, or one that nothing needs any more, is a finding.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use toml::Spanned;

use super::source::line_of;
use super::{Finding, Rule};

/// Where the exceptions are.
const FILE: &str = "tidy.toml";

/// The exceptions, and which of them were needed.
pub(super) struct Ledger {
    exceptions: Vec<(Exception, usize)>,
    used: Vec<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<Spanned<Exception>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// Relative to the checkout.
    file: PathBuf,
    /// `function` or `Type::function`; absent: the file as a whole.
    function: Option<String>,
    /// How long it may be.
    lines: usize,
    /// Why it is better long.
    reason: String,
}

impl Ledger {
    /// Reads the ledger at `root`; without the file there are no exceptions.
    pub(super) fn read(root: &Path, findings: &mut Vec<Finding>) -> Result<Self> {
        let text = match std::fs::read_to_string(root.join(FILE)) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).context(FILE),
        };
        let parsed: Exceptions = toml::from_str(&text).unwrap_or_else(|e| {
            let line = e.span().map_or(1, |span| line_of(&text, span.start));
            findings.push(finding(Rule::Syntax, line, e.message().to_owned()));
            Exceptions { exception: Vec::new() }
        });
        let mut exceptions = Vec::new();
        for spanned in parsed.exception {
            let line = line_of(&text, spanned.span().start);
            let exception = spanned.into_inner();
            if exception.reason.trim().is_empty() {
                findings.push(finding(Rule::Ledger, line, "an exception needs a reason".to_owned()));
            }
            exceptions.push((exception, line));
        }
        let used = vec![false; exceptions.len()];
        Ok(Self { exceptions, used })
    }

    /// The limit that `length` breaks, if it does: `usual`, or that of an exception.
    pub(super) fn limit(&mut self, file: &Path, function: Option<&str>, length: usize, usual: usize) -> Option<usize> {
        if length <= usual {
            return None;
        }
        let listed = self.exceptions.iter().position(|(e, _)| e.file == file && e.function.as_deref() == function);
        let Some(at) = listed else { return Some(usual) };
        let limit = self.exceptions.get(at).map_or(usual, |(exception, _)| exception.lines);
        if let Some(used) = self.used.get_mut(at) {
            *used = true;
        }
        (length > limit).then_some(limit)
    }

    /// Adds a finding for every exception that was not needed.
    pub(super) fn stale(&self, findings: &mut Vec<Finding>) {
        for ((exception, line), used) in self.exceptions.iter().zip(&self.used) {
            if !used {
                let name = exception.function.as_deref().unwrap_or("the file");
                let message = format!("{name} in {} needs no exception any more", exception.file.display());
                findings.push(finding(Rule::Ledger, *line, message));
            }
        }
    }
}

fn finding(rule: Rule, line: usize, message: String) -> Finding {
    Finding { file: PathBuf::from(FILE), line, rule, message }
}
