//! Compares a received JSON value with a recorded one that holds placeholders such as `<uuid>` or `<ms>`.
//!
//! Members must be equal in both directions; what a richer server may add is listed in [`RICHER`].

use std::collections::BTreeMap;

use serde_json::Value;

/// Members that our answers may have beyond the recorded ones, because newer dialects have them.
pub const RICHER: &[&str] = &["size", "environmentInfo", "sandboxType", "sandboxDenied"];

/// What placeholders such as `<dir>` or `<uuid:A>` stand for in one run. Unbound ones match what they describe.
#[derive(Clone, Debug, Default)]
pub struct Bindings(BTreeMap<String, String>);

impl Bindings {
    /// Binds `placeholder` (with its angle brackets) to `value`.
    pub fn bind(&mut self, placeholder: &str, value: impl Into<String>) {
        self.0.insert(placeholder.to_owned(), value.into());
    }

    /// `value` with every bound placeholder replaced.
    pub fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.fill(item)).collect()),
            Value::Object(members) => members.iter().map(|(k, v)| (k.clone(), self.fill(v))).collect(),
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value))
    }

    /// Whether `got` fits `expected`.
    ///
    /// # Errors
    /// Where and how they differ.
    pub fn compare(&self, expected: &Value, got: &Value) -> Result<(), String> {
        self.compare_at("$", expected, got)
    }

    fn compare_at(&self, at: &str, expected: &Value, got: &Value) -> Result<(), String> {
        let differ = || Err(format!("at {at}: expected {expected}, got {got}"));
        match (expected, got) {
            (Value::String(text), _) if text == "<any>" => Ok(()),
            // Shown in full in the cases that are about it.
            (Value::String(text), Value::Object(info)) if text == "<environmentInfo>" => match info.get("shell") {
                Some(Value::Object(_)) => Ok(()),
                _ => differ(),
            },
            (Value::String(text), Value::Number(n)) if text == "<ms>" && n.is_i64() => Ok(()),
            (Value::String(text), Value::String(got)) if self.compare_text(text, got) => Ok(()),
            (Value::Array(e), Value::Array(g)) if e.len() == g.len() => {
                e.iter().zip(g).enumerate().try_for_each(|(i, (e, g))| self.compare_at(&format!("{at}[{i}]"), e, g))
            }
            (Value::Object(e), Value::Object(g)) => {
                if let Some(extra) = g.keys().find(|k| !e.contains_key(*k) && !RICHER.contains(&k.as_str())) {
                    return Err(format!("at {at}: unexpected member {extra:?} in {got}"));
                }
                e.iter().try_for_each(|(name, value)| match g.get(name) {
                    Some(got) => self.compare_at(&format!("{at}.{name}"), value, got),
                    None => Err(format!("at {at}: member {name:?} is missing in {got}")),
                })
            }
            (e, g) if e == g && !e.is_string() => Ok(()),
            _ => differ(),
        }
    }

    fn compare_text(&self, expected: &str, got: &str) -> bool {
        let expected = self.fill_text(expected);
        let Some(start) = expected.find('<') else { return expected == got };
        let Some(end) = expected[start..].find('>').map(|end| start + end + 1) else { return expected == got };
        let placeholder = &expected[start..end];
        let Some(rest) = got.strip_prefix(&expected[..start]) else { return false };
        let tail = expected[end..].to_owned();
        // The longest value first, so that a text which goes on is not cut short.
        (1..=rest.len()).rev().filter(|cut| rest.is_char_boundary(*cut)).any(|cut| {
            let (value, after) = rest.split_at(cut);
            fits(placeholder, value) && self.compare_text(&tail, after)
        })
    }
}

fn fits(placeholder: &str, value: &str) -> bool {
    let hex = |n: usize| value.len() == n && value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match placeholder {
        "<peer>" => value.parse::<std::net::SocketAddr>().is_ok(),
        "<sha256 hex>" | "<hex>" => hex(64),
        "<32 hex>" => hex(32),
        p if p.starts_with("<uuid") => {
            let dashes = [8, 13, 18, 23];
            value.len() == 36 && value.bytes().enumerate().all(|(i, b)| (b == b'-') == dashes.contains(&i))
        }
        "<any>" | "<date>" => true,
        // Not a placeholder, just text in angle brackets.
        other => other == value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders() {
        let mut bindings = Bindings::default();
        bindings.bind("<dir>", "/t");
        bindings.bind("<uuid:B>", "b");
        let id = "6a0c2f0e-0000-4000-8000-000000000000";
        let ok = [
            (json!({"a": "<uuid>"}), json!({"a": id})),
            (json!("x <peer>: y"), json!("x 127.0.0.1:80: y")),
            (json!("<ms>"), json!(5)),
            (json!({"p": "<dir>/f"}), json!({"p": "/t/f", "size": 3})),
            (json!(["<any>", 1.5, null]), json!([{}, 1.5, null])),
            (json!("s <uuid:A>"), json!(format!("s {id}"))),
        ];
        for (expected, got) in ok {
            bindings.compare(&expected, &got).unwrap();
        }
        let bad = [
            (json!("<uuid:B>"), json!(id)),
            (json!("<uuid>"), json!("x")),
            (json!("<ms>"), json!("5")),
            (json!({"a": 1}), json!({})),
            (json!({}), json!({"b": 1})),
            (json!([1]), json!([1, 2])),
            (json!("x <peer>"), json!("x y")),
            (json!("<dir>/f"), json!("/u/f")),
        ];
        for (expected, got) in bad {
            assert!(bindings.compare(&expected, &got).is_err(), "{expected} {got}");
        }
    }
}
