//! What the real binary tells about the machine that it is on.

use serde_json::Value;

use crate::program::{exedra, run};

#[test]
fn the_machine_is_described_for_people_and_for_scripts() {
    let json = run(&mut exedra(&["doctor", "--json"]));
    let findings: Vec<Value> = serde_json::from_slice(&json.stdout).unwrap();
    let found = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    assert!(found("kernel")["text"].as_str().unwrap().starts_with("Linux "), "{findings:?}");
    let sound = findings.iter().all(|finding| finding["works"] == true);
    assert_eq!(json.code, i32::from(!sound), "{findings:?}");
    assert_eq!(found("sandbox: filter of system calls")["works"], true, "{findings:?}");
    for finding in &findings {
        assert_ne!(finding["text"], "", "{findings:?}");
    }
    let table = run(&mut exedra(&["doctor"]));
    assert_eq!((table.code, table.out().lines().count()), (json.code, findings.len()), "{}", table.out());
}
