//! Runs one command on an executor and relays it: local stdin, stdout, stderr and signals on one side, the remote
//! process on the other.
//!
//! In flow an open executor and what to run, out flows how the process ends. The end of a run is the end of all its
//! output. A signal to us ends the remote command, a second one ends us; a local reader that went away ends it quietly.
//! Knows nothing of how the executor was reached.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use exedra_client::line::{Change, Changes};
use exedra_client::process::{Command, Controls, Event, Process};
use exedra_client::{Error, Executor};
use exedra_proto::process::OutputStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::{Signals, Stop};
use crate::stdio::{self, Output, OutputEnd, Target};
use crate::terminal::{self, SizeChanges};

/// How long a command that was told to end may take to tell its end.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How long a reader of our output that is slow, or paused, holds up our end once we were told to end.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(500);
/// A break that is over within this time is not told.
const BREAK_PATIENCE: Duration = Duration::from_secs(2);
/// How long the goodbye to the executor may take.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

/// What is to be run, and with what of ours.
#[derive(Debug)]
pub struct Run {
    /// The command.
    pub command: Command,
    /// Whether our stdin goes there.
    pub stdin: bool,
}

/// Why the command is being ended from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// We got a signal.
    Signal(Stop),
    /// Nobody reads our stdout any more.
    ReaderGone,
}

/// What is known when there is nothing left to wait for.
struct Outcome {
    /// The code of the process or the reason why there is none; neither if it did not tell in time.
    ended: Option<Result<i32, Error>>,
    ending: Option<Ending>,
    /// It was still running when it was told to end.
    was_running: bool,
    /// The rest of the output was thrown away.
    discarded: bool,
    /// A second signal came: no time for anything.
    at_once: bool,
}

/// Runs it. The executor is said goodbye to in every case but a second signal.
///
/// # Errors
/// It did not run, or not to its end as far as is known.
pub async fn run(executor: Executor, run: Run, signals: &mut Signals) -> Result<Exit, Failure> {
    let started = tokio::select! {
        biased;
        stop = signals.next() => return Ok(Exit::Signal(stop.number())),
        started = executor.start(&run.command) => started,
    };
    let mut process = started.map_err(|error| not_started(error, &run.command))?;
    let mut output = Output::start()?;
    let sizes = if run.command.tty { Some(SizeChanges::listen()?) } else { None };
    let resize = follow_size(process.controls(), sizes);
    let tell = tell_of_breaks(executor.changes());
    tokio::pin!(resize, tell);
    let outcome = tokio::select! {
        biased;
        outcome = relay(&mut process, &output, run.stdin, signals) => outcome?,
        never = &mut resize => match never {},
        never = &mut tell => match never {},
    };
    if outcome.at_once {
        return Ok(exit(&outcome));
    }
    let goodbye = tokio::time::timeout(GOODBYE_PATIENCE, executor.close());
    let (written, _) = tokio::join!(finish(&mut output, &outcome, signals), goodbye);
    if let Some(limit) = process.limit() {
        output::note(&format!("exedra: the command was ended: it went beyond its limit of {limit}"));
    }
    conclude(outcome, written)
}

/// Passes bytes both ways until the process has ended, or has been given up.
async fn relay(process: &mut Process, output: &Output, stdin: bool, signals: &mut Signals) -> Result<Outcome, Failure> {
    let source = if stdin { Some(stdio::input()?) } else { None };
    let controls = process.controls();
    let discard = CancellationToken::new();
    let pump = pump(process, output, &discard);
    let feed = feed(&controls, source);
    let terminate = controls.terminate();
    tokio::pin!(pump, feed, terminate);
    let mut outcome = Outcome { ended: None, ending: None, was_running: false, discarded: false, at_once: false };
    let (mut feeding, mut terminating) = (true, false);
    let (mut discard_at, mut give_up_at) = (None, None);
    loop {
        let ending = tokio::select! {
            biased;
            stop = signals.next() => Ending::Signal(stop),
            running = &mut terminate, if terminating => {
                (outcome.was_running, terminating) = (running.unwrap_or(true), false);
                continue;
            }
            ended = &mut pump => {
                (outcome.ended, outcome.discarded) = (Some(ended), discard.is_cancelled());
                return Ok(outcome);
            }
            () = discard.cancelled(), if outcome.ending.is_none() => Ending::ReaderGone,
            () = &mut feed, if feeding => {
                feeding = false;
                continue;
            }
            () = at(discard_at), if !discard.is_cancelled() => {
                discard.cancel();
                continue;
            }
            () = at(give_up_at) => return Ok(outcome),
        };
        match (outcome.ending, ending) {
            (Some(Ending::Signal(_)), _) => {
                outcome.at_once = true;
                return Ok(outcome);
            }
            (None, _) => {
                (feeding, terminating) = (false, true);
                discard_at = Some(Instant::now() + OUTPUT_PATIENCE);
                give_up_at = Some(Instant::now() + END_PATIENCE);
            }
            (Some(Ending::ReaderGone), _) => {}
        }
        outcome.ending = Some(ending);
    }
}

/// Writes what the process says until it has ended, and returns its code. Once `discard` is set, by us or by a reader
/// that went away, the rest is taken and thrown away.
async fn pump(process: &mut Process, output: &Output, discard: &CancellationToken) -> Result<i32, Error> {
    while let Some(event) = process.next().await? {
        let Event::Output { stream, bytes } = event else { continue };
        let target = match stream {
            OutputStream::Stdout | OutputStream::Pty => Target::Stdout,
            OutputStream::Stderr => Target::Stderr,
        };
        tokio::select! {
            biased;
            () = discard.cancelled() => {}
            written = output.write(target, bytes) => if !written { discard.cancel() },
        }
    }
    process.exit_code().ok_or_else(|| Error::Protocol("a process without an exit code".to_owned()))
}

/// Passes stdin on, and its end. Trouble is told and borne: the command may well do without.
async fn feed(controls: &Controls, source: Option<mpsc::Receiver<Bytes>>) {
    let Some(source) = source else { return };
    let fed = match controls.feed(source).await {
        Ok(()) => controls.close_stdin().await,
        Err(error) => Err(error),
    };
    match fed {
        // A command that has read enough is none of our business.
        Ok(()) | Err(Error::StdinClosed) => {}
        // That the connection is gone is told by the other direction.
        Err(Error::NotSent { .. } | Error::Unanswered { .. }) => {}
        Err(Error::StdinCannotBeClosed) => output::note(
            "exedra: the end of input cannot be sent to this executor, which does not speak exedra/1; going on",
        ),
        Err(error) => output::note(&format!("exedra: input was not passed on: {error}")),
    }
}

/// Gives the remote terminal the size of ours, now and whenever it changes.
async fn follow_size(controls: Controls, sizes: Option<SizeChanges>) -> Infallible {
    let Some(mut sizes) = sizes else { return std::future::pending().await };
    loop {
        // An executor that cannot, or is gone: the command goes on without, or somebody else says so.
        if let Some(size) = terminal::size()
            && let Err(error) = controls.resize(size).await
        {
            tracing::debug!(%error, "the size of the terminal was not passed on");
        }
        sizes.next().await;
    }
}

/// Says that the connection is lost if it stays so for a while, and then that it is back.
async fn tell_of_breaks(mut changes: Changes) -> Infallible {
    let mut told = false;
    while let Some(change) = changes.next().await {
        let brief = matches!(change, Change::Lost(_)) && {
            let mut again = changes.clone();
            tokio::time::timeout(BREAK_PATIENCE, again.next()).await.is_ok()
        };
        if !brief && (told || matches!(change, Change::Lost(_))) {
            told = matches!(change, Change::Lost(_));
            output::note(&format!("exedra: {change}"));
        }
    }
    std::future::pending().await
}

/// Waits until the rest of the output is written, for as long as its reader takes; less if we were told to end.
async fn finish(output: &mut Output, outcome: &Outcome, signals: &mut Signals) -> Result<(), OutputEnd> {
    let patience = if outcome.discarded { Duration::ZERO } else { OUTPUT_PATIENCE };
    let give_up_at = outcome.ending.map(|_| Instant::now() + patience);
    tokio::select! {
        biased;
        written = output.finish() => written,
        _ = signals.next() => Ok(()),
        () = at(give_up_at) => Ok(()),
    }
}

fn conclude(outcome: Outcome, written: Result<(), OutputEnd>) -> Result<Exit, Failure> {
    if let Err(OutputEnd::Failed(error)) = written {
        return Err(anyhow::Error::new(error).context("cannot write the command's output to stdout").into());
    }
    if outcome.ended.is_none() {
        output::note("exedra: the executor did not confirm in time that the command has ended");
    }
    if let (None, Some(Ok(..0))) = (outcome.ending, &outcome.ended) {
        output::note("exedra: a signal ended the command; this executor does not tell which");
    }
    match outcome.ended {
        Some(Err(error)) if outcome.ending.is_none() => Err(error.into()),
        _ => Ok(exit(&outcome)),
    }
}

fn exit(outcome: &Outcome) -> Exit {
    match (outcome.ending, &outcome.ended) {
        (Some(Ending::Signal(stop)), _) => Exit::Signal(stop.number()),
        (None, Some(Ok(code))) => Exit::Command(*code),
        // A reader that has seen enough is content, unless the command had ended by itself before.
        (Some(Ending::ReaderGone), Some(Ok(code))) if !outcome.was_running => Exit::Command(*code),
        (Some(Ending::ReaderGone), _) => Exit::Success,
        (None, Some(Err(_)) | None) => Exit::Failed,
    }
}

fn not_started(error: Error, command: &Command) -> Failure {
    let missing = matches!(&error, Error::Refused { source, .. } if source.message.contains("(os error 2)"));
    let program = command.argv.first().map_or("", String::as_str);
    let failure = Failure::from(anyhow::Error::new(error).context(format!("cannot start `{program}`")));
    if missing {
        return failure.with_hint("is it on the executor's PATH, and does the working directory exist there?");
    }
    failure
}

/// Waits until `deadline`; for ever without one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
