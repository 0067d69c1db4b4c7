//! The units in `packaging/` under a real systemd, as docs/operate.md tells to install and use them.
//!
//! In flows the binary, out flow PASS and FAIL lines. systemd is the first process of namespaces of its own, with a network of its
//! own and with memory file systems over what it could change; it ends with this. It needs root, and systemd's program.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::geteuid;
use tokio::time::sleep;

use crate::child::{Running, Spawn};
use crate::report::Report;

/// What makes the machine out of new namespaces.
const BOOT: &str = include_str!("units/boot.sh");
/// The first process of a Debian system, and of others.
const SYSTEMD: &str = "/lib/systemd/systemd";
/// For a step.
const STEP: Duration = Duration::from_secs(90);
/// For systemd to be up.
const UP: Duration = Duration::from_secs(30);
/// How often is looked whether it is.
const LOOK: Duration = Duration::from_millis(100);
/// What each step may use.
const WORDS: &str = r#"
set -eu
DIR=/var/lib/exedra
export EXEDRA_SERVER=http://127.0.0.1:8900
[ ! -e /root/client ] || export EXEDRA_TOKEN=$(cat /root/client)
say() { echo "$*" >&2; exit 1; }
is() { [ "$2" = "$3" ] || say "$1: $2, not $3"; }
shown() { systemctl show "$1" --property="$2" --value; }
token() { exedra token create --data-dir "$DIR" "$@" 2>/root/token.err; }
# Until the executor of this name has registered, which its unit does not wait for.
comes() { for _ in $(seq 100); do exedra exec --wait 20s "$1" -- true 2>/dev/null && return; sleep 0.1; done; say "$1 does not come"; }
# Runs a command there that takes four seconds, and meanwhile what is given here; all of its output has to come.
meanwhile() {
  exedra exec build-1 -- sh -c 'for i in $(seq 20); do echo $i; sleep 0.2; done; exit 7' >/root/out 2>/root/err & running=$!
  until [ -s /root/out ]; do sleep 0.1; done
  "$@"
  code=0; wait $running || code=$?
  is "the command's end" "$code" 7
  is "its output" "$(cat /root/out)" "$(seq 20)"
}
"#;

/// One thing to do in the machine, and what has to hold.
struct Step {
    name: &'static str,
    script: &'static str,
}

const STEPS: &[Step] = &[
    Step {
        name: "the server's units start, and it is well",
        script: r#"
            systemctl enable --now exedra.socket exedra.service
            is state "$(systemctl is-active exedra.socket exedra.service | sort -u)" active
            exedra doctor --data-dir "$DIR"
            exedra doctor --server "$EXEDRA_SERVER""#,
    },
    Step {
        name: "root makes tokens in the server's directory, whose files stay the server's",
        script: r#"
            token --role executor --executor build-1 >/etc/exedra/executor.token
            chmod 600 /etc/exedra/executor.token
            token --role client >/root/client
            is owners "$(stat -c %U /var/lib/private/exedra/* | sort -u)" exedra-server"#,
    },
    Step {
        name: "the executor's unit starts; its commands are another user, who cannot read the server's records",
        script: r#"
            echo 'EXECUTOR_OPTIONS=--remote http://127.0.0.1:8900 --executor-id build-1' >/etc/exedra/executor.env
            systemctl start exedra-executor.service
            comes build-1
            is user "$(exedra exec build-1 -- id -un)" exedra
            exedra exec build-1 -- sh -c '! cat /var/lib/private/exedra/registry.db'
            exedra exec build-1 -- sh -c '! cat /etc/exedra/executor.token'"#,
    },
    Step {
        name: "reload hands over to a new process: a running command goes on, and it is no restart",
        script: r#"
            before=$(shown exedra.service MainPID)
            meanwhile systemctl reload exedra.service
            for _ in $(seq 50); do after=$(shown exedra.service MainPID); [ "$after" = "$before" ] || break; sleep 0.1; done
            [ "$after" != "$before" ] || say "the process is the same"
            is restarts "$(shown exedra.service NRestarts)" 0
            is user "$(stat -c %U /proc/$after)" exedra-server"#,
    },
    Step { name: "a restart: a running command goes on", script: "meanwhile systemctl restart exedra.service" },
    Step {
        name: "SIGKILL: a running command goes on",
        script: r#"
            meanwhile systemctl kill --signal=KILL exedra.service
            is restarts "$(shown exedra.service NRestarts)" 1"#,
    },
    Step {
        name: "a server that hangs is replaced by the watchdog: a client that waits gets through",
        script: r#"
            systemctl kill --signal=STOP exedra.service
            is word "$(exedra exec --wait 80s build-1 -- echo through)" through
            is restarts "$(shown exedra.service NRestarts)" 2"#,
    },
    Step {
        name: "backup and restore, as the documentation has them",
        script: r#"
            exedra backup --data-dir "$DIR" /var/backups/exedra-1
            token --role client >/root/later
            systemctl stop exedra.socket exedra.service
            mv /var/lib/private/exedra /var/lib/private/exedra.before
            exedra restore --data-dir /var/lib/private/exedra /var/backups/exedra-1
            systemctl start exedra.socket exedra.service
            is word "$(exedra exec --wait 60s build-1 -- echo back)" back
            is owners "$(stat -c %U /var/lib/private/exedra/* | sort -u)" exedra-server
            ! EXEDRA_TOKEN=$(cat /root/later) exedra exec build-1 -- true"#,
    },
    Step {
        name: "an executor that joins, and comes back without its join token",
        script: r#"
            systemctl stop exedra-executor.service
            rm /etc/exedra/executor.token
            (umask 077; token --role join --executor build-2 >/etc/exedra/executor.join)
            cp -r /run/layers/packaging/exedra-executor.service.d /etc/systemd/system/
            sed -i s/build-1/build-2/ /etc/exedra/executor.env
            systemctl daemon-reload
            systemctl start exedra-executor.service
            comes build-2
            rm /etc/exedra/executor.join
            systemctl restart exedra-executor.service
            is word "$(exedra exec --wait 20s build-2 -- echo again)" again"#,
    },
    Step {
        name: "both stop in good order",
        script: r#"
            systemctl stop exedra-executor.service exedra.socket exedra.service
            is results "$(shown exedra-executor.service Result) $(shown exedra.service Result)" "success success""#,
    },
];

/// Runs all steps, one after the other; tells whether all passed.
///
/// # Errors
/// It cannot be done here, or the machine did not come up.
pub async fn run(exedra: &Path, packaging: &Path, dir: &Path) -> Result<bool> {
    ensure!(geteuid().is_root(), "namespaces with a systemd of their own need root");
    ensure!(Path::new(SYSTEMD).exists(), "there is no {SYSTEMD}: install systemd (it need not run)");
    let report = Report::default();
    let Some(machine) = report.check("units: systemd is up", Machine::boot(exedra, packaging, dir)).await? else {
        return report.finish();
    };
    for step in STEPS {
        if report.check(&format!("units: {}", step.name), machine.does(step.script)).await?.is_none() {
            break;
        }
    }
    report.finish()
}

/// Namespaces with a systemd as their first process, which ends with this.
struct Machine {
    first: String,
    _holder: Running,
}

impl Machine {
    async fn boot(exedra: &Path, packaging: &Path, dir: &Path) -> Result<Self> {
        let exedra: PathBuf = exedra.canonicalize()?;
        let namespaces =
            ["--pid", "--mount", "--cgroup", "--ipc", "--uts", "--net", "--fork", "--kill-child", "--mount-proc"];
        let holder = Spawn::new(Path::new("unshare")).args(namespaces).args(["sh", "-c", BOOT, "sh"]);
        let holder = holder.arg(exedra).arg(packaging).start("machine", dir)?;
        let pid = holder.pid()?;
        let children = format!("/proc/{pid}/task/{pid}/children");
        let deadline = Instant::now() + UP;
        loop {
            let first = std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            let machine = (!first.is_empty()).then(|| machine_command(&first, "systemctl is-active basic.target"));
            if let Some(look) = machine
                && look.output(UP).await?.status.success()
            {
                return Ok(Self { first, _holder: holder });
            }
            ensure!(Instant::now() < deadline, "it does not come up; {}", holder.tail());
            sleep(LOOK).await;
        }
    }

    async fn does(&self, script: &str) -> Result<()> {
        let output = machine_command(&self.first, &format!("{WORDS}{script}")).output(STEP).await?;
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&said).trim());
        Ok(())
    }
}

/// A script in the namespaces of the process `first`.
fn machine_command(first: &str, script: &str) -> Spawn {
    let namespaces = ["--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--wd=/root"];
    Spawn::new(Path::new("nsenter")).args(["--target", first]).args(namespaces).args(["bash", "-c", script])
}
