//! What the docs promise to list is listed.

#![expect(clippy::unwrap_used, reason = "the lints know tests by #[test], not what those call")]

use std::path::Path;

use serde_json::Value;

/// Weaknesses that the protocol description counts.
const WEAKNESSES: usize = 27;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    std::fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn every_intended_difference_is_explained() {
    let doc = read("docs/compatibility.md");
    let intended = read("crates/proto/fixtures/intended-0.130.jsonl");
    let cases: Vec<Value> = intended.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!cases.is_empty());
    for case in cases {
        let name = case["case"].as_str().unwrap();
        assert!(doc.contains(&format!("`{name}`")), "docs/compatibility.md does not name `{name}`");
    }
}

#[test]
fn every_known_weakness_is_answered() {
    let doc = read("docs/compatibility.md");
    for number in 1..=WEAKNESSES {
        assert!(doc.contains(&format!("\n{number}. *")), "docs/compatibility.md does not answer weakness {number}");
    }
}

#[test]
fn the_readme_begins_with_its_two_commands() {
    let readme = read("README.md");
    let screen: Vec<&str> = readme.lines().take(20).collect();
    for command in ["cargo run --release -- up -- uname -a", "cargo test --workspace"] {
        assert!(screen.iter().any(|line| line.starts_with(command)), "the first screen lacks {command:?}");
    }
}

#[test]
fn relative_links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let files: Vec<_> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .map(|name| root.join(name))
        .into_iter()
        .chain(pages)
        .collect();
    assert!(files.len() > 8);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.with_file_name(path) };
            assert!(target.exists(), "{} links to {link}", file.display());
            if !heading.is_empty() {
                let there = std::fs::read_to_string(&target).unwrap();
                assert!(there.lines().any(|line| anchor(line) == heading), "{} links to {link}", file.display());
            }
        }
    }
}

/// What a heading is called in links: small letters, no punctuation, hyphens for spaces. Empty for other lines.
fn anchor(line: &str) -> String {
    let Some(heading) = line.strip_prefix('#') else { return String::new() };
    let kept = heading.trim_start_matches('#').trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
