//! What the owner's policy makes of commands, whatever a client asks for.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exedra_host::fs::Files;
use exedra_host::policy::program::{Helper, helper};
use exedra_host::policy::{Current, Policy};
use exedra_host::process::StartError;
use exedra_host::{Host, HostConfig};
use serde_json::{Value, json};

use crate::rig::{Rig, special};

/// A rig whose owner says `text`, where `{dir}` is the rig's directory.
fn owned(text: &str) -> Rig {
    owned_with(text, HostConfig::default())
}

fn owned_with(text: &str, mut config: HostConfig) -> Rig {
    let current = Current::default();
    config.launcher = Some(env!("CARGO_BIN_EXE_exedra-launcher").into());
    config.policy = current.clone();
    let rig = Rig::with(config);
    let file = rig.path("policy.toml");
    std::fs::write(&file, text.replace("{dir}", &rig.text(""))).unwrap();
    current.set(Policy::load(&file).unwrap());
    rig
}

async fn refusal(rig: &Rig, over: Value) -> String {
    let error = rig.start(&Value::Null, over).await.unwrap_err();
    assert!(matches!(error, StartError::Refused(_)), "{error:?}");
    error.to_string()
}

fn sh(script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script]})
}

const ROOTS: &str =
    "[[roots]]\npath = \"{dir}w\"\naccess = \"write\"\n[[roots]]\npath = \"/etc/passwd\"\naccess = \"none\"\n";

#[tokio::test]
async fn roots_hold_commands_without_their_client_asking() {
    let rig = owned(ROOTS);
    let script = "echo in > $W/in && ! cat $OUT/secret && ! (echo x > $OUT/new) && ! cat /etc/passwd && \
        ! cat /proc/self/root$OUT/secret && ln -s $OUT $W/link && ! cat $W/link/secret && ! cat $W/../out/secret && \
        ls $W && echo end";
    let story = rig.start(&Value::Null, sh(script)).await.unwrap();
    assert!(story.code == 0 && story.output.contains("in\nlink\n") && story.output.contains("end\n"), "{story:?}");
    assert_eq!(std::fs::read_to_string(rig.path("w/in")).unwrap(), "in\n");
    assert!(!rig.path("out/new").exists());
}

#[tokio::test]
async fn a_client_narrows_and_never_widens() {
    let rig = owned(&format!("{ROOTS}[sandbox]\nnetwork = \"restricted\"\n"));
    let everything = rig.sandbox("enabled", &[special("root", "write")]);
    let script = "! cat $OUT/secret && ! (echo x > $OUT/new) && echo x > $W/new && ! ls /proc/sys/net/ipv4/conf/eth0 && echo end";
    for sandbox in [everything, json!({"permissions": {"type": "disabled"}, "windowsSandboxLevel": "disabled"})] {
        let story = rig.run(&sandbox, script).await;
        assert!(story.code == 0 && story.output.contains("end\n"), "{story:?}");
    }
    let reading = rig.sandbox("enabled", &[special("root", "read")]);
    let story = rig.run(&reading, "! (echo x > $W/newer) && cat $W/new && ! cat $OUT/secret").await;
    assert_eq!((story.code, rig.path("w/newer").exists()), (0, false), "{story:?}");
}

#[tokio::test]
async fn a_directory_for_temporary_files_is_the_owners() {
    let rig = owned(&format!("{ROOTS}[sandbox]\ntmp = true\n"));
    let over = json!({"argv": ["/bin/sh", "-c", "cat $TMPDIR/secret"],
        "env": {"PATH": "/usr/bin:/bin", "TMPDIR": rig.text("out")}});
    let story = rig.start(&Value::Null, over).await.unwrap();
    assert!(story.code != 0 && !story.output.starts_with("secret"), "{story:?}");
}

#[tokio::test]
async fn roots_hold_file_methods_too() {
    let rig = owned(ROOTS);
    let files = Files::new(rig.host.clone());
    symlink(rig.path("out"), rig.path("w/link")).unwrap();
    std::fs::write(rig.path("w/mine"), "mine").unwrap();
    let read = |path: String| {
        let params = serde_json::from_value(json!({"path": path})).unwrap();
        let files = &files;
        async move { files.read_file(params).await }
    };
    assert!(read(rig.text("w/mine")).await.is_ok());
    for path in ["w/link/secret", "out/secret", "w/../out/secret"] {
        let error = read(rig.text(path)).await.unwrap_err();
        assert!(error.text.starts_with("policy: ") && error.text.contains("no root holds it"), "{path}: {error}");
    }
    for path in [format!("/proc/self/root{}", rig.text("w/mine")), "/proc/self/environ".into(), "/etc/passwd".into()] {
        assert!(read(path.clone()).await.is_err(), "{path}");
    }
}

const COMMANDS: &str =
    "[[commands]]\npath = \"/bin/echo\"\nargs = [\"hello\", \"**\"]\n[[commands]]\npath = \"/usr/bin/env\"\n";

#[tokio::test]
async fn only_listed_commands_with_fitting_arguments() {
    let rig = owned(COMMANDS);
    let story = rig.start(&Value::Null, json!({"argv": ["echo", "hello", "you"]})).await.unwrap();
    assert_eq!((story.code, story.output.as_str()), (0, "hello you\n"));
    symlink("/bin/echo", rig.path("w/echo")).unwrap();
    symlink("/bin/echo", rig.path("w/other")).unwrap();
    symlink("/bin/cat", rig.path("w/cat")).unwrap();
    let linked = rig.start(&Value::Null, json!({"argv": ["./echo", "hello"]})).await.unwrap();
    assert_eq!(linked.output, "hello\n", "it is the same program");
    for (over, why) in [
        (json!({"argv": ["echo", "bye"]}), "the arguments do not fit `/bin/echo hello **`"),
        (json!({"argv": ["echo"]}), "the arguments do not fit"),
        (json!({"argv": ["./other", "hello"]}), "not to be called `./other`"),
        (json!({"argv": ["echo", "hello"], "arg0": "cat"}), "not to be called `cat`"),
        (json!({"argv": ["./cat", "hello"], "arg0": "echo"}), "is not listed"),
        (json!({"argv": ["../w/cat", "hello"]}), "is not listed"),
        (json!({"argv": ["cat", "hello"]}), "is not listed"),
        (json!({"argv": ["/bin/cat", "hello"]}), "is not listed"),
        (json!({"argv": ["nonesuch", "hello"]}), "leads to no program"),
        (json!({"argv": ["cat"], "env": {"PATH": rig.text("w")}}), "is not listed"),
        (json!({"argv": ["echo", "hello"], "env": {"PATH": "/bin", "LD_PRELOAD": "x"}}), "LD_PRELOAD may not be set"),
    ] {
        let text = refusal(&rig, over.clone()).await;
        assert!(text.starts_with("policy: ") && text.contains(why), "{over}: {text}");
    }
    let on_a_terminal = json!({"argv": ["cat", "hello"], "tty": true});
    assert!(refusal(&rig, on_a_terminal).await.contains("is not listed"));
}

/// However the race between the look and the start ends, what runs is listed.
#[tokio::test]
async fn a_link_that_is_swapped_meanwhile_starts_nothing_else() {
    let rig = owned(COMMANDS);
    std::fs::write(rig.path("w/hello"), "not to be read").unwrap();
    let (link, stop) = (rig.path("w/echo"), Arc::new(AtomicBool::new(false)));
    symlink("/bin/echo", &link).unwrap();
    let (swapped, until) = (link.clone(), stop.clone());
    let swapper = std::thread::spawn(move || {
        let spare = swapped.with_extension("new");
        for target in ["/bin/cat", "/bin/echo"].iter().cycle().take_while(|_| !until.load(Ordering::Relaxed)) {
            symlink(target, &spare).unwrap();
            std::fs::rename(&spare, &swapped).unwrap();
        }
    });
    for _ in 0..40 {
        match rig.start(&Value::Null, json!({"argv": ["./echo", "hello"]})).await {
            Ok(story) => assert_eq!(story.output, "hello\n"),
            Err(error) => assert!(matches!(error, StartError::Refused(_)), "{error:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
}

#[tokio::test]
async fn what_a_command_starts_is_held_to_the_list() {
    let rig = owned(COMMANDS);
    let listed = rig.start(&Value::Null, json!({"argv": ["env", "/bin/echo", "anything"]})).await.unwrap();
    assert_eq!((listed.code, listed.output.as_str()), (0, "anything\n"), "listed, and arguments are not looked at");
    std::fs::write(rig.path("w/script"), "#!/bin/sh\necho script\n").unwrap();
    std::fs::copy("/bin/cat", rig.path("w/copy")).unwrap();
    for name in ["w/script", "w/copy"] {
        std::fs::set_permissions(rig.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for program in ["/bin/cat", "./script", "./copy"] {
        let story = rig.start(&Value::Null, json!({"argv": ["env", program, "/etc/hostname"]})).await.unwrap();
        assert!(story.code == 126 && story.output.contains("Permission denied"), "{program}: {story:?}");
    }
    // Within a sandbox, too.
    let sandbox = rig.workspace(&[]);
    let story = rig.start(&sandbox, json!({"argv": ["env", "/bin/cat", "/etc/hostname"]})).await.unwrap();
    assert_eq!(story.code, 126, "{story:?}");
    let story = rig.start(&sandbox, json!({"argv": ["env", "/bin/echo", "x"]})).await.unwrap();
    assert_eq!((story.code, story.output.as_str()), (0, "x\n"));
}

#[tokio::test]
async fn a_listed_command_outside_of_the_roots_is_told_as_the_policys() {
    let rig = Rig::new();
    let program = rig.path("out/program");
    std::fs::copy("/bin/echo", &program).unwrap();
    let owned = owned(&format!("{ROOTS}[[commands]]\npath = {program:?}\n[[commands]]\npath = \"/bin/echo\"\n"));
    let text = refusal(&owned, json!({"argv": [program, "x"]})).await;
    assert!(text.starts_with("policy: roots: ") && text.contains("no root holds it"), "{text}");
    let story = owned.start(&Value::Null, json!({"argv": ["echo", "x"]})).await.unwrap();
    assert_eq!((story.code, story.output.as_str()), (0, "x\n"));
    let argv = [program.display().to_string()];
    let told = exedra_host::process::explain(&owned.host.policy(), &argv, Path::new("/"), None);
    assert!(!told.allowed && told.rule == "roots", "{told:?}");
}

#[tokio::test]
async fn a_listed_command_moves_files_as_it_would() {
    let rig = owned("[[commands]]\npath = \"/bin/ln\"\n");
    std::fs::create_dir(rig.path("w/sub")).unwrap();
    std::fs::write(rig.path("w/file"), "x").unwrap();
    let story = rig.start(&Value::Null, json!({"argv": ["ln", "file", "sub/file"]})).await.unwrap();
    assert!(story.code == 0 && rig.path("w/sub/file").exists(), "{story:?}");
}

#[tokio::test]
async fn the_loader_starts_nothing_that_is_not_listed() {
    let rig = owned(COMMANDS);
    let Some(Helper::Loader(loader)) = helper(Path::new("/bin/cat")) else { return };
    std::fs::copy("/bin/cat", rig.path("w/copy")).unwrap();
    for sandbox in [Value::Null, rig.workspace(&[])] {
        for program in ["/bin/cat", "./copy"] {
            let story = rig.start(&sandbox, json!({"argv": ["env", loader, program, "/etc/passwd"]})).await.unwrap();
            assert!(story.code != 0 && !story.output.contains("root:"), "{program}: {story:?}");
        }
        let listed = rig.start(&sandbox, json!({"argv": ["env", loader, "/bin/echo", "x"]})).await.unwrap();
        assert_eq!((listed.code, listed.output.as_str()), (0, "x\n"));
    }
}

#[tokio::test]
async fn descendants_are_free_only_where_the_owner_says_so() {
    let rig = owned(&format!("{COMMANDS}[descendants]\nbound = false\n"));
    let story = rig.start(&Value::Null, json!({"argv": ["env", "/bin/cat", "/dev/null"]})).await.unwrap();
    assert_eq!(story.code, 0, "{story:?}");
    let rig = owned(&format!("{COMMANDS}[descendants]\nexecute = [\"/bin/cat\"]\n"));
    let story = rig.start(&Value::Null, json!({"argv": ["env", "/bin/cat", "/dev/null"]})).await.unwrap();
    assert_eq!(story.code, 0, "{story:?}");
    assert!(refusal(&rig, json!({"argv": ["/bin/cat", "/dev/null"]})).await.contains("is not listed"));
}

#[tokio::test]
async fn without_the_means_to_confine_nothing_runs() {
    for (text, rule) in [(ROOTS, "policy: sandbox: "), (COMMANDS, "policy: descendants: ")] {
        let current = Current::default();
        let mut config = HostConfig::default();
        config.policy = current.clone();
        let rig = Rig::with(config);
        std::fs::write(rig.path("policy.toml"), text.replace("{dir}", &rig.text(""))).unwrap();
        current.set(Policy::load(&rig.path("policy.toml")).unwrap());
        let text = refusal(&rig, json!({"argv": ["echo", "hello"]})).await;
        assert!(text.starts_with(rule) && text.contains("cannot be enforced"), "{text}");
    }
}

#[tokio::test]
async fn hidden_variables_are_not_inherited() {
    let mut config = HostConfig::default();
    for name in ["SEEN", "AWS_KEY", "OTHER"] {
        config.environment.insert(name.into(), "v".into());
    }
    let rig = owned_with(
        "[env]\npass = [\"SEEN\", \"AWS_*\", \"PATH\"]\nhide = [\"*KEY\"]\nset = [\"PATH\", \"W\", \"OUT\"]\n",
        config,
    );
    let all = json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {}, "includeOnly": []});
    let story = rig.start(&Value::Null, json!({"argv": ["/usr/bin/env"], "envPolicy": all})).await.unwrap();
    assert!(story.output.contains("SEEN=v"), "{story:?}");
    assert!(!story.output.contains("AWS_KEY") && !story.output.contains("OTHER="), "{story:?}");
    let text = refusal(&rig, json!({"argv": ["/usr/bin/env"], "env": {"AWS_KEY": "mine"}})).await;
    assert_eq!(text, "policy: env: `set` does not have AWS_KEY");
}

#[tokio::test]
async fn a_new_policy_counts_for_the_next_start() {
    let current = Current::default();
    let mut config = HostConfig::default();
    config.launcher = Some(env!("CARGO_BIN_EXE_exedra-launcher").into());
    config.policy = current.clone();
    let rig = Rig::with(config);
    assert_eq!(rig.start(&Value::Null, json!({"argv": ["true"]})).await.unwrap().code, 0);
    let mut policy = Policy::default();
    policy.commands = Some(exedra_host::policy::Commands::default());
    current.set(policy);
    assert!(refusal(&rig, json!({"argv": ["true"]})).await.contains("is not listed"));
    assert!(Path::new(&rig.text("w")).is_dir());
    let _: &Host = &rig.host;
}
