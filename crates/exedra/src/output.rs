//! What the binary says: results on stdout, all else on stderr.
//!
//! In flow lines, JSON values and failures, out flow bytes. A reader that has gone away (a broken pipe) is no error:
//! it has seen enough. The raw output of remote commands passes through `stdio` instead.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::Failure;
use crate::hint;

/// A line of result.
///
/// # Errors
/// Stdout cannot be written, except because its reader is gone.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A result as one line of JSON.
///
/// # Errors
/// As [`line`].
pub fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// A result as a table, columns aligned.
///
/// # Errors
/// As [`line`].
pub fn table<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> io::Result<()> {
    let rows: Vec<_> = rows.into_iter().collect();
    line(render_table(&rows).trim_end())
}

fn render_table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A line for people, on stderr. If even that fails, nobody is listening.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// A failure: what happened, its causes, and what to do about it.
pub fn failure(failure: &Failure) {
    note(render(failure).trim_end());
}

fn render(failure: &Failure) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for (depth, cause) in failure.error.chain().enumerate() {
        let said = cause.to_string();
        // Errors that pass another one on unchanged would say the same twice.
        if depth > 0 && last.ends_with(&said) {
            continue;
        }
        text.push_str(if depth == 0 { "Error: " } else { "  caused by: " });
        text.push_str(&said);
        text.push('\n');
        last = said;
    }
    if let Some(hint) = failure.hint.clone().or_else(|| hint::of(&failure.error)) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "b"], ["long", ""], ["", "c"]].map(|row| row.map(str::to_owned));
        assert_eq!(render_table(&rows), "a     b\nlong\n      c\n");
    }

    #[test]
    fn a_failure_is_its_chain_and_then_the_hint() {
        let error = anyhow::anyhow!("refused").context("cannot connect: refused").context("no luck");
        let failure = Failure::from(error).with_hint("try again");
        assert_eq!(render(&failure), "Error: no luck\n  caused by: cannot connect: refused\nhint: try again\n");
    }
}
