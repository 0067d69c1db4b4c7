//! Files, good and bad.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const GOOD: &str = r#"
[[issuer]]
url = "https://token.actions.githubusercontent.com"
audience = "exedra"

[[issuer]]
url = "https://kubernetes.default.svc"
audience = "https://exedra.example.org"
algorithms = ["RS256", "EdDSA"]
skew_seconds = 5

[[rule]]
name = "ci"
issuer = "https://token.actions.githubusercontent.com"
claims = { sub = "repo:acme/*:ref:refs/heads/main", event_name = ["push", "schedule"] }
role = "executor"
executor = "ci-{run_id}"
labels = { team = "a" }
session = "6h"

[[rule]]
name = "pods"
issuer = "https://kubernetes.default.svc"
claims = { "kubernetes.io/namespace" = "ml" }
role = "client"
executor = "gpu-*"
rights = ["exec", "pty"]
labels = { gpu = "yes" }
client_labels = { team = "ml" }
"#;

const KEYS: &str =
    r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn parsed(text: &str) -> Result<Rules, String> {
    parse(text, Path::new("/etc"))
}

#[test]
fn a_file_is_issuers_and_rules() {
    let Rules { issuers, rules } = parsed(GOOD).unwrap();
    assert_eq!((issuers[0].algorithms.as_slice(), issuers[0].skew), (&USUAL[..], 60));
    assert_eq!((issuers[1].algorithms.as_slice(), issuers[1].skew), (&[Algorithm::RS256, Algorithm::EdDSA][..], 5));
    assert_eq!(
        (rules[0].role, rules[0].session, rules[0].labels.get("team")),
        (Role::Executor, Some(21_600), Some("a"))
    );
    assert_eq!(rules[0].claims[0], ("event_name".to_owned(), vec!["push".to_owned(), "schedule".to_owned()]));
    assert_eq!(
        (rules[1].role, rules[1].rights.to_string().as_str(), rules[1].session),
        (Role::Client, "exec,pty", None)
    );
    assert_eq!((rules[1].labels.get("gpu"), rules[1].client_labels.get("gpu")), (Some("yes"), None));
    assert_eq!((rules[1].labels.get("team"), rules[1].client_labels.get("team")), (None, Some("ml")));
    assert!(rules[0].client_labels.is_empty(), "an executor has none");
    let of_before = parsed(&GOOD.replace("client_labels = { team = \"ml\" }", "")).unwrap().rules;
    assert_eq!(of_before[1].client_labels, of_before[1].labels);
    assert!(parsed("").unwrap().rules.is_empty(), "nobody is let in");
}

#[test]
fn a_mistake_is_named_with_its_line_and_field() {
    for (from, to, line, said) in [
        ("audience = \"exedra\"", "", 2, "missing field `audience`"),
        ("audience = \"exedra\"", "audience = \" \"", 4, "`audience`"),
        (
            "url = \"https://token",
            "url = \"http://token",
            3,
            "`url`: \"http://token.actions.githubusercontent.com\" is not https",
        ),
        (
            "url = \"https://kubernetes.default.svc\"",
            "url = \"https://token.actions.githubusercontent.com\"",
            7,
            "`url`: this issuer is there twice",
        ),
        ("\"EdDSA\"", "\"none\"", 9, "`algorithms`: a token without a signature"),
        ("\"EdDSA\"", "\"HS256\"", 9, "`algorithms`: `HS256` is signed with a secret"),
        ("\"EdDSA\"", "\"RS257\"", 9, "`algorithms`: `RS257` is not known"),
        ("[\"RS256\", \"EdDSA\"]", "[]", 9, "`algorithms`: there is none"),
        ("skew_seconds = 5", "skew_seconds = 601", 10, "`skew_seconds`"),
        ("skew_seconds = 5", "skew_seconds = -1", 10, ""),
        ("skew_seconds = 5", "ca_file = \"/nowhere/ca.pem\"", 10, "`ca_file`: /nowhere/ca.pem: No such file"),
        ("skew_seconds = 5", "jwks_file = \"/nowhere/keys.json\"", 10, "`jwks_file`: /nowhere/keys.json: No such file"),
        ("skew_seconds = 5", "skew = 5", 10, "unknown field `skew`"),
        ("name = \"pods\"", "name = \"ci\"", 22, "`name`: another rule has it"),
        ("name = \"pods\"", "name = \"\"", 22, "`name`"),
        (
            "issuer = \"https://kubernetes.default.svc\"",
            "issuer = \"https://kubernetes.default.svc/\"",
            23,
            "`issuer`: no [[issuer]]",
        ),
        ("claims = { \"kubernetes.io/namespace\" = \"ml\" }", "claims = {}", 24, "`claims`: they say nothing"),
        ("= \"ml\"", "= \"**\"", 24, "`claims`: they say nothing"),
        ("= \"ml\"", "= [\"ml\", \"*\"]", 24, "`claims`: they say nothing"),
        ("= \"ml\"", "= []", 24, "`claims`: `kubernetes.io/namespace`"),
        ("claims = { \"kubernetes.io/namespace\" = \"ml\" }", "", 21, "missing field `claims`"),
        ("role = \"client\"", "role = \"join\"", 25, "`role`"),
        ("executor = \"gpu-*\"", "executor = \"gpu {x}\"", 26, "`executor`"),
        ("executor = \"gpu-*\"", "executor = \"gpu-{x\"", 26, "`executor`"),
        ("executor = \"gpu-*\"", "", 21, "missing field `executor`"),
        ("[\"exec\", \"pty\"]", "[\"root\"]", 27, "`rights`"),
        ("labels = { team = \"a\" }", "rights = [\"exec\"]", 18, "`rights`: they are for clients"),
        ("team = \"a\"", "team = \"a b\"", 18, "`labels`"),
        ("\"6h\"", "\"6 hours\"", 19, "`session`"),
        ("team = \"ml\"", "team = \"m l\"", 29, "`client_labels`: labels are"),
        ("labels = { team = \"a\" }", "client_labels = {}", 18, "`client_labels`: they are for clients"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = parsed(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with(&format!("line {line}: ")) && error.contains(said), "{to}: {error}");
    }
}

#[test]
fn a_rule_says_more_of_its_bearers_than_what_all_tokens_say() {
    for (claims, good) in [
        (r#"iss = "https://kubernetes.default.svc""#, false),
        (r#"aud = "https://exedra.example.org""#, false),
        (r#"exp = "*", iat = "1*", nbf = "1*""#, false),
        (r#"sub = "*", iss = "https*""#, false),
        (r#"sub = "***", aud = "https://exedra.example.org", jti = "a*""#, false),
        (r#"sub = ["a", "*"], "kubernetes.io/pod/name" = "*""#, false),
        (r#"sub = "system:*", iss = "https*""#, true),
        (r#"sub = "*", ref = "main""#, true),
        (r#"sub = "*a""#, true),
        (r#""kubernetes.io/jti" = "a""#, true),
    ] {
        let text = GOOD.replace(r#""kubernetes.io/namespace" = "ml""#, claims);
        assert_ne!(text, GOOD);
        match parsed(&text) {
            Ok(_) => assert!(good, "{claims}"),
            Err(error) => assert!(!good && error.contains("line 24: field `claims`: they say nothing"), "{error}"),
        }
    }
}

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_that_an_issuer_names_are_judged_as_the_file_itself() {
    for (field, content) in [("jwks_file", KEYS), ("ca_file", "certificates")] {
        let dir = tempfile::tempdir().unwrap();
        let (path, inner) = (dir.path().join("workloads.toml"), dir.path().join("inner"));
        std::fs::create_dir(&inner).unwrap();
        let named = inner.join("named");
        std::fs::write(&named, content).unwrap();
        std::fs::write(&path, GOOD.replace("skew_seconds = 5", &format!("{field} = \"inner/named\""))).unwrap();
        load(&path).unwrap();
        for (at, mode, said) in [
            (&named, 0o666, "named: others may write it (mode 666)"),
            (&named, 0o620, "named: others may write it (mode 620)"),
            (&inner, 0o777, "inner holds it, and others may write it (mode 777)"),
        ] {
            let before = at.metadata().unwrap().permissions().mode();
            set(at, mode);
            let error = load(&path).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("line 10: field `{field}`: ")) && text.contains(said), "{text}");
            assert!(error.hint().is_some());
            set(at, before);
        }
        load(&path).unwrap();
    }
}

#[test]
fn what_others_may_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("workloads.toml");
    std::fs::write(&path, GOOD).unwrap();
    for (mode, good) in [(0o600, true), (0o644, true), (0o620, false), (0o602, false)] {
        set(&path, mode);
        assert_eq!(load(&path).is_ok(), good, "{mode:o}");
    }
    set(&path, 0o600);
    set(dir.path(), 0o777);
    let error = load(&path).unwrap_err();
    assert!(error.to_string().contains("others may write it") && error.hint().is_some(), "{error}");
    set(dir.path(), 0o700);
    assert!(load(&dir.path().join("absent")).is_err());
    assert!(load(dir.path()).is_err());
}
