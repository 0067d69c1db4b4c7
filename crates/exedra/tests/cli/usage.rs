//! Help, version, wrong usage.

use crate::program::{exedra, run};

#[test]
fn version_and_help_are_results() {
    let version = run(&mut exedra(&["--version"]));
    assert_eq!((version.code, version.out()), (0, concat!("exedra ", env!("CARGO_PKG_VERSION"), "\n")));
    for args in [&["--help"][..], &["exec", "--help"], &["token", "create", "--help"]] {
        let help = run(&mut exedra(args));
        assert_eq!(help.code, 0, "{args:?}");
        assert!(help.out().contains("Usage: exedra"), "{args:?}");
        assert_eq!(help.stderr, "", "{args:?}");
    }
}

#[test]
fn wrong_usage_is_2_and_says_so_on_stderr() {
    let cases: &[&[&str]] = &[
        &[],
        &["nope"],
        &["exec", "box"],
        &["exec", "--", "true"],
        &["exec", "box", "--nope", "--", "true"],
        &["exec", "box", "--wait", "soon", "--", "true"],
        &["exec", "box", "--env", "novalue", "--", "true"],
        &["exec", "box", "--url", "ws://127.0.0.1:1", "--", "true"],
        &["exec-server", "--remote", "http://127.0.0.1:1"],
        &["exec-server", "--remote", "http://127.0.0.1:1", "--executor-id", "a", "--listen", "stdio"],
        &["exec-server", "--executor-id", "a"],
        &["exec-server", "--listen", "tcp://127.0.0.1:1"],
        &["exec-server", "--listen", "ws://localhost:1"],
        &["token", "create"],
        &["token", "create", "--role", "king"],
        &["serve", "--listen", "127.0.0.1"],
        &["up", "--json", "--", "true"],
    ];
    for args in cases {
        let wrong = run(&mut exedra(args));
        assert_eq!(wrong.code, 2, "{args:?}: {}", wrong.stderr);
        assert_eq!(wrong.out(), "", "{args:?}");
        assert!(!wrong.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn missing_settings_are_named_with_the_way_out() {
    let no_server = run(exedra(&["exec", "box", "--", "true"]).env("EXEDRA_TOKEN", "t"));
    assert_eq!(no_server.code, 2);
    assert!(no_server.stderr.contains("EXEDRA_SERVER") && no_server.stderr.contains("hint: "), "{}", no_server.stderr);
    let no_token = run(exedra(&["exec", "box", "--", "true"]).env("EXEDRA_SERVER", "http://127.0.0.1:1"));
    assert_eq!(no_token.code, 2);
    assert!(no_token.stderr.contains("EXEDRA_TOKEN") && no_token.stderr.contains("hint: "), "{}", no_token.stderr);
    let no_id = run(exedra(&["exec", "../x", "--server", "http://127.0.0.1:1", "--", "true"]).env("EXEDRA_TOKEN", "t"));
    assert_eq!(no_id.code, 2);
    assert!(no_id.stderr.contains("`../x` is no executor id"), "{}", no_id.stderr);
}

#[test]
fn serving_others_needs_a_public_url() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let refused = run(&mut exedra(&["serve", "--listen", "0.0.0.0:0", "--data-dir", data_dir.to_str().unwrap()]));
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--public-url"), "{}", refused.stderr);
    assert!(!data_dir.exists(), "nothing was made");
}

#[test]
fn a_log_filter_that_is_none_is_told() {
    let wrong = run(exedra(&["exec", "--url", "ws://127.0.0.1:1", "--", "true"]).env("EXEDRA_LOG", "a=b=c"));
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("EXEDRA_LOG"), "{}", wrong.stderr);
}

#[test]
fn the_configuration_file_fills_what_is_missing() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("exedra/config.toml");
    std::fs::create_dir(dir.path().join("exedra")).unwrap();
    std::fs::write(&file, "server = \"http://192.0.2.1:1\"\ntoken = \"hunter2\"\n").unwrap();
    let mut exec = exedra(&["exec", "box", "--wait", "0", "--", "true"]);
    exec.env("XDG_CONFIG_HOME", dir.path());
    let open = run(&mut exec);
    assert_eq!(open.code, 255);
    assert!(open.stderr.contains("chmod 600") && !open.stderr.contains("hunter2"), "{}", open.stderr);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let resolved = run(&mut exec);
    assert_eq!(resolved.code, 255);
    assert!(resolved.stderr.contains("insecure-http"), "the server of the file is meant: {}", resolved.stderr);
}
