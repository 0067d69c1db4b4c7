//! What an executor tells of its machine, its settings, and the plugins and skills that directories hold.

use std::fs;
use std::path::Path;

use exedra_executor::ExecutorConfig;
use exedra_proto::path::to_uri;
use serde_json::{Value, json};

use crate::bench::Bench;

fn put(root: &Path, name: &str, contents: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

fn with_variables(variables: &[(&str, &Path)]) -> ExecutorConfig {
    let mut config = ExecutorConfig::default();
    config.host.environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    config
}

#[tokio::test]
async fn initialize_tells_what_the_method_tells() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::with(with_variables(&[("HOME", home.path()), ("TMPDIR", Path::new("/var/tmp"))]));
    let mut client = bench.connect();
    let early = client.call("environment/status", Value::Null).await;
    let text = "client must call initialize before using environment status methods";
    assert_eq!(early["error"], json!({"code": -32600, "message": text}));
    let opened = client.call("initialize", json!({"clientName": "c"})).await;
    client.text(r#"{"method":"initialized","params":{}}"#).await;
    let info = client.call("environment/info", Value::Null).await;
    assert_eq!(info["result"], opened["result"]["environmentInfo"]);
    assert_eq!(info["result"]["userHomeDir"], to_uri(home.path()));
    assert_eq!(info["result"]["tempDir"], "file:///var/tmp");
    assert_eq!(info["result"]["temporaryDirectories"], json!(["file:///var/tmp"]));
    assert_eq!(client.call("environment/status", json!({})).await["result"], json!({"status": "ready"}));
}

#[tokio::test]
async fn settings_are_those_of_the_account() {
    let home = tempfile::tempdir().unwrap();
    put(home.path(), ".codex/config.toml", "model = \"m\"\nsecret = 1\n[mcp_servers.x]\ncommand = \"c\"\n");
    let mut bench = Bench::with(with_variables(&[("HOME", home.path())]));
    let mut client = bench.open().await;
    let wanted = json!({"cwd": "file:///", "configPaths": [["mcp_servers"]], "requirementsPaths": []});
    let read = client.call("environmentConfig/read", wanted.clone()).await;
    let own = home.path().join(".codex");
    let layers = read["result"]["config"]["layers"].as_array().unwrap();
    let source = format!("user ({})", own.join("config.toml").display());
    let layer = layers.iter().find(|layer| layer["source"] == source).unwrap();
    assert_eq!(layer["toml"], "[mcp_servers.x]\ncommand = \"c\"\n");
    assert_eq!(layer["baseDir"], to_uri(&own));
    assert_eq!(read["result"]["codexHomeDir"], to_uri(&own));
    put(home.path(), ".codex/config.toml", "model = \n");
    let broken = client.call("environmentConfig/read", wanted).await;
    assert_eq!(broken["error"]["code"], -32603);
    assert!(broken["error"]["message"].as_str().unwrap().starts_with("failed to load executor-local config: "));
}

#[tokio::test]
async fn plugins_and_skills_are_found_by_place_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    put(&root, ".codex-plugin/plugin.json", r#"{"mcpServers":"./conf/mcp.json","apps":"../outside.json"}"#);
    put(&root, ".claude-plugin/plugin.json", "not looked at: the first kind counts");
    put(&root, "conf/mcp.json", "{}");
    put(&root, ".app.json", "the usual apps");
    put(&root, "b/SKILL.md", "second");
    put(&root, "a/SKILL.md", "first");
    put(&root, "a/agents/openai.yaml", "x: 1");
    put(&root, "c/SKILL.md", [0xff]);
    put(&root, "d/SKILL.md", vec![b'a'; 1024 * 1024 + 1]);
    put(&root, "1/2/3/4/5/6/7/SKILL.md", "too deep");
    put(&root, "q/.cursor-plugin/plugin.json", "{}");
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let at = |name: &str| to_uri(&root.join(name));
    let roots = json!([{"id": "r", "path": to_uri(&root)}, {"id": "f", "path": at(".app.json")}]);
    let found = client.call("capabilityRoots/discoverV1", json!({"roots": roots})).await;
    let found = &found["result"]["roots"];
    let file = |name: &str, contents: &str| json!({"path": at(name), "contents": contents});
    let manifest = file(".codex-plugin/plugin.json", r#"{"mcpServers":"./conf/mcp.json","apps":"../outside.json"}"#);
    let plugin = json!({
        "manifest": manifest,
        "mcpConfig": file("conf/mcp.json", "{}"),
        "appsConfig": file(".app.json", "the usual apps"),
    });
    assert_eq!(found[0]["plugin"], plugin);
    assert_eq!(found[0]["namespaceManifests"], json!([manifest, file("q/.cursor-plugin/plugin.json", "{}")]));
    let first = json!({"instructions": file("a/SKILL.md", "first"), "metadata": file("a/agents/openai.yaml", "x: 1")});
    let second = json!({"instructions": file("b/SKILL.md", "second"), "metadata": null});
    assert_eq!(found[0]["skills"], json!([first, second]));
    let warnings = json!([
        format!("ignoring apps in {}: path must start with `./`", at(".codex-plugin/plugin.json")),
        format!("capability file {} is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0", at("c/SKILL.md")),
        format!("capability file {} exceeds the 1048576-byte limit", at("d/SKILL.md")),
    ]);
    assert_eq!(found[0]["warnings"], warnings);
    assert_eq!(found[1]["error"], format!("capability root {} is not a directory", at(".app.json")));
    let many: Vec<_> = (0..129).map(|id| json!({"id": id.to_string(), "path": "file:///nope"})).collect();
    let refused = client.call("capabilityRoots/discoverV1", json!({"roots": many})).await;
    let text = "capability root discovery accepts at most 128 roots";
    assert_eq!(refused["error"], json!({"code": -32600, "message": text}));
}

#[tokio::test]
async fn a_sandbox_bounds_what_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    put(&root, "seen/SKILL.md", "seen");
    put(&root, "hidden/SKILL.md", "hidden");
    let entry = |path: &str, access: &str| json!({"path": {"type": "path", "path": to_uri(&root.join(path))}, "access": access});
    let entries = [entry("", "read"), entry("hidden", "deny")];
    let sandbox = json!({
        "permissions": {"type": "managed", "file_system": {"type": "restricted", "entries": entries}, "network": "restricted"},
        "cwd": to_uri(&root),
        "windowsSandboxLevel": "disabled",
    });
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let roots = json!([{"id": "r", "path": to_uri(&root), "sandbox": sandbox}]);
    let found = client.call("capabilityRoots/discoverV1", json!({"roots": roots})).await;
    let skills = found["result"]["roots"][0]["skills"].as_array().unwrap_or_else(|| panic!("{found}"));
    let paths: Vec<_> = skills.iter().map(|skill| skill["instructions"]["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [to_uri(&root.join("seen/SKILL.md"))]);
}
