//! The command line as it was typed: flags and their checks that need nothing but the text.
//!
//! In flow the arguments, out flows one [`Cli`]. What a missing flag means (environment, default) is for `settings`;
//! what a command does is for `commands`. Tokens have no flag, since arguments are visible to everybody on the machine; a join
//! token has one, because it is used up by the time somebody looks.

pub mod audit;
pub mod backup;
pub mod duration;
pub mod fleet;
pub mod join;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod policy;
pub mod sessions;
pub mod token;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use exedra_proto::path::CwdPath;
use ipnet::IpNet;
use url::Url;

use crate::exit::Exit;
use crate::plane::ProxyHeader;

/// Reads the arguments. Help, version and mistakes are printed here.
///
/// # Errors
/// How the process ends without having done anything.
pub fn parse() -> Result<Cli, Exit> {
    Cli::try_parse().map_err(|error| {
        // Nobody may be there to read it.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Success }
    })
}

/// Run commands on machines that accept no inbound connection.
#[derive(Debug, Parser)]
#[command(name = "exedra", version, about, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// Trust the certificates in this file (PEM) and no others, instead of the system's [default: the variable
    /// EXEDRA_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One per command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine: server, one executor, credentials
    ///
    /// With a command: run it the whole way round (registry, ticket, rendezvous, executor), pass its output and exit
    /// code through, and stop. Without: stay, and print how to use it.
    Up(UpArgs),
    /// Serve the registry and the rendezvous
    Serve(ServeArgs),
    /// Make, list, renew and revoke the tokens of a server on this machine
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Let another key have an executor's name, where the server binds names to keys (serve --bind-key)
    ForgetKey(ForgetKeyArgs),
    /// Let others run commands on this machine, through a server or on a listener
    ExecServer(Box<ExecServerArgs>),
    /// Run a command on an executor; ends with the command's exit code
    ///
    /// The exit code is that of the command; 255 if Exedra itself failed; 2 for wrong usage. The token is read from
    /// the variable EXEDRA_TOKEN, or from --token-file or the file that EXEDRA_TOKEN_FILE names.
    Exec(ExecArgs),
    /// List the executors of a server
    Ls(fleet::LsArgs),
    /// Show one executor, and who is on it
    Show(fleet::ShowArgs),
    /// Let no new client in to an executor; those who are there stay
    Drain(fleet::DrainArgs),
    /// Forget an executor that is gone for good, so that its name is free
    Forget(fleet::ForgetArgs),
    /// Print what happened at a server
    Events(fleet::EventsArgs),
    /// List, replace and revoke the keys with which a server signs tickets
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Print who asked a server for what; needs the token of an administrator
    AccessLog(fleet::AccessLogArgs),
    /// Tell what works and what does not: on this machine (sandboxes, limits), on the way to a server, in a data directory
    ///
    /// Each line is ok, warn or fail. Ends with 0 if nothing fails, else with 1.
    Doctor(DoctorArgs),
    /// Save the records of a server on this machine, which may be running, into a directory
    ///
    /// The database and the signing keys, for their owner alone: whoever has them can make tickets.
    Backup(backup::BackupArgs),
    /// Put a backup into an empty data directory, after it was found whole
    Restore(backup::BackupArgs),
    /// Check the policy of an executor's owner, and explain what it decides
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Read and verify what an executor has written down
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// Flags of `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where the server listens [default: 127.0.0.1:8900, with a command any free port]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where the records are kept [default: as for serve; with a command a temporary one]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one line of JSON for scripts
    #[arg(long, conflicts_with = "argv")]
    pub json: bool,
    /// How long sessions stay, and what becomes of output that nobody reads.
    #[command(flatten)]
    pub sessions: sessions::SessionArgs,
    /// What may be done on this machine, whoever asks; read again on SIGHUP [default: anything]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub argv: Vec<String>,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at the way to this server instead: name, connection, certificate, clock, version, websockets
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Look at this data directory of a server instead, which may be running: disk, files, records, keys
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen, unless systemd holds a socket for us; anything but loopback needs --public-url
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8900")]
    pub listen: SocketAddr,
    /// Where the records are kept [default: $XDG_DATA_HOME/exedra or ~/.local/share/exedra]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The URL by which executors and clients reach this server
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Serve metrics for Prometheus at http://ADDR/metrics, to everybody who can reach that address
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Send a trace of each request to the OpenTelemetry collector at this URL (OTLP over HTTP)
    #[arg(long, value_name = "URL", value_parser = collector)]
    pub otlp: Option<Url>,
    /// Certificate chain for TLS (PEM); read again when it changes, and on SIGHUP, which then ends nothing
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Believe this proxy, or those of this network, whom they speak for; may be repeated. Without one nobody is believed
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub trusted_proxy: Vec<IpNet>,
    /// The header in which the trusted proxies tell it; any other is the client's own and counts for nothing
    #[arg(long, value_enum, default_value = "x-forwarded-for", requires = "trusted_proxy")]
    pub proxy_header: ProxyHeader,
    /// Connections of one address, an IPv6 network of 64 bits counting as one; one more gets 429. Loopback has no limit
    /// [default: half of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: Option<u32>,
    /// Requests in a second with one token, ten seconds' worth at once; more get 429, registrations wait. 0: without limit
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub rate_per_token: u32,
    /// The same for requests without a good token from one address, an IPv6 network of 64 bits counting as one. A good token is
    /// served whatever its address did
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub rate_per_address: u32,
    /// Let only the first key that registered a name register it again
    ///
    /// Executors without a key are refused such a name. A stock executor makes a new key at each start.
    #[arg(long)]
    pub bind_key: bool,
    /// Take signed tokens (OIDC) of other issuers by the rules in this file (TOML), so that CI jobs and pods need no secret;
    /// read again on SIGHUP, which then ends nothing
    #[arg(long, value_name = "FILE")]
    pub workloads: Option<PathBuf>,
    /// The region that requests signed as AWS does have to name
    #[arg(long, value_name = "REGION", default_value = "us-east-1")]
    pub aws_region: String,
    /// For how many days lines of the access log are kept
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    pub access_log_keep: u32,
    /// Print the URL as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `forget-key`. It works on the data directory, whether or not the server runs.
#[derive(Debug, Args)]
pub struct ForgetKeyArgs {
    /// The executor's id
    pub executor: String,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `exec-server`.
#[derive(Debug, Args)]
pub struct ExecServerArgs {
    /// Listen on ws://IP:PORT, unix:///PATH or stdio; the first line on stdout is the URL
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:0")]
    pub listen: String,
    /// Register with the server at this URL instead, and be reached through it
    ///
    /// The token is read from --token-file, from the variable EXEDRA_TOKEN, from the file that EXEDRA_TOKEN_FILE names, or
    /// from CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN. A file is read again for each registration. Without any of them it is the
    /// credential that this executor got when it joined.
    #[arg(long, value_name = "URL", conflicts_with = "listen", requires = "executor_id")]
    pub remote: Option<String>,
    /// The id under which clients find this executor
    #[arg(long, value_name = "ID", visible_alias = "environment-id", requires = "remote")]
    pub executor_id: Option<String>,
    /// What it is called, for people [default: codex-exec-server]
    #[arg(long, requires = "remote")]
    pub name: Option<String>,
    /// A label for people, as in gpu=h100; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable, requires = "remote")]
    pub label: Vec<(String, String)>,

    /// What to offer the server, best first; may be repeated. `relay`: many clients at once; `direct`: one at a time
    #[arg(long, value_enum, value_name = "TRANSPORT", requires = "remote")]
    pub transport: Vec<TransportName>,
    /// Read the token from this file; it is read again when the server refuses the token
    #[arg(long, value_name = "FILE", requires = "remote")]
    pub token_file: Option<PathBuf>,
    /// How it comes by a credential of its own.
    #[command(flatten)]
    pub join: join::JoinArgs,
    /// Send the token over plain http to a host that is not loopback
    #[arg(long, requires = "remote")]
    pub insecure_http: bool,
    /// Who may connect to the listener, and how.
    #[command(flatten)]
    pub listener: listen::ListenArgs,
    /// What may be done on this machine, whoever asks (docs/policy.md); read again on SIGHUP, which then ends nothing
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// How much there may be.
    #[command(flatten)]
    pub limits: listen::LimitArgs,
    /// What is written down.
    #[command(flatten)]
    pub audit: audit::AuditArgs,
    /// How long sessions stay, and what becomes of output that nobody reads.
    #[command(flatten)]
    pub sessions: sessions::SessionArgs,
}

/// Flags of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The executor's id
    #[arg(required_unless_present = "url")]
    pub executor: Option<String>,
    /// URL of the server [default: the variable EXEDRA_SERVER]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Read the token from this file, again before each request [default: the variable EXEDRA_TOKEN, then the file that
    /// EXEDRA_TOKEN_FILE names; with --url none]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Send the token over plain http or ws to a host that is not loopback
    #[arg(long)]
    pub insecure_http: bool,
    /// Go straight to a listener, ws://… or unix://…, without a server
    #[arg(long, value_name = "URL", conflicts_with_all = ["executor", "server"])]
    pub url: Option<String>,
    /// Working directory there, absolute, relative to the executor's own, or a file: URI
    #[arg(long, value_name = "DIR", default_value = ".", value_parser = CwdPath::parse)]
    pub cwd: CwdPath,
    /// Set a variable there; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Pass stdin, and its end
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Run it on a terminal (a PTY); with stdin on a terminal, what is typed goes there
    #[arg(short = 't', long)]
    pub tty: bool,
    /// How long to wait for an executor that is away or held by another client
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub wait: Duration,
    /// How long to seek another connection when one is lost; the command runs on meanwhile, 0s gives up at once
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub reconnect: Duration,
    /// What it may use.
    #[command(flatten)]
    pub limits: limits::CommandLimits,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub argv: Vec<String>,
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from).ok();
    text.parse().ok().or_else(alone).ok_or_else(|| "expected an address or a network, as in 10.0.0.0/8".to_owned())
}

/// Where a collector is.
fn collector(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    url.ok_or_else(|| "expected a URL of http or https, as in http://127.0.0.1:4318".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// How an executor is reached through a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TransportName {
    /// Relay frames: many clients at once.
    Relay,
    /// One client at a time.
    Direct,
}

impl From<TransportName> for exedra_proto::registry::Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Relay => Self::Relay,
            TransportName::Direct => Self::Direct,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn kind(args: &[&str]) -> ErrorKind {
        Cli::try_parse_from([&["exedra"], args].concat()).unwrap_err().kind()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_told_before_anything_happens() {
        let remote = ["exec-server", "--remote", "http://127.0.0.1:1"];
        assert_eq!(kind(&remote), ErrorKind::MissingRequiredArgument);
        let both = [&remote[..], &["--executor-id", "a", "--listen", "stdio"]].concat();
        assert_eq!(kind(&both), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["exec", "box"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["exec", "--", "true"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["exec", "box", "--url", "ws://x", "--", "true"]), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["exec", "box", "--wait", "soon", "--", "true"]), ErrorKind::ValueValidation);
        assert_eq!(kind(&["exec", "box", "--env", "=x", "--", "true"]), ErrorKind::ValueValidation);
        assert_eq!(kind(&["up", "--json", "--", "true"]), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["nope"]), ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn the_environment_id_is_the_executor_id() {
        let cli = Cli::try_parse_from(["exedra", "exec-server", "--remote", "http://x", "--environment-id", "e"]);
        let Command::ExecServer(args) = cli.unwrap().command else { panic!("exec-server") };
        assert_eq!(args.executor_id.as_deref(), Some("e"));
    }
}
