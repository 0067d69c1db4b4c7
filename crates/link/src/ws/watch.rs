//! Whether a peer still lives: `proto::liveness`, fed with what the socket and the kernel know.
//!
//! Silence counts only while we read the socket and owe it nothing. While we do not read, or bytes of ours wait, the peer
//! may be paused, and then the kernel's view of it decides (see `socket`). The judgement is pure; the loop around it sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use exedra_proto::liveness::{Liveness, Verdict};
use tokio::sync::Notify;

use super::limits::Times;
use super::replies::Replies;
use super::socket::{Health, TcpView};
use crate::probe::{Life, Probes};

/// Unanswered probes of a closed window that make a peer dead. They are up to two minutes apart, and one alone may be
/// lost on its way.
const DEAD_PROBES: u8 = 3;
/// Between two looks for a sign of life that somebody waits for.
const LOOK: Duration = Duration::from_millis(20);

/// What reader and writer are doing, as the watch sees it.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The reader waits for the socket, not for room in the queue.
    pub(super) reading: AtomicBool,
    /// The writer waits for the socket to take bytes.
    pub(super) writing: AtomicBool,
    /// Asks the writer for a ping.
    pub(super) ping: Notify,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { reading: AtomicBool::new(true), writing: AtomicBool::new(false), ping: Notify::new() }
    }

    /// Whether the reader waits for the socket.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Counts,
    Excused,
    Dead,
}

/// What silence means at the moment.
fn judge(reading: bool, writing: bool, health: Option<Health>, limit: Duration) -> Judgement {
    let unanswered =
        |health: &Health| health.last_ack >= limit && (health.retransmits > 0 || health.probes >= DEAD_PROBES);
    if health.as_ref().is_some_and(unanswered) {
        return Judgement::Dead;
    }
    let owes = writing || health.is_some_and(|health| health.owed > 0);
    if !reading || owes { Judgement::Excused } else { Judgement::Counts }
}

/// Whether nothing keeps the peer from answering what was sent: we read, and its kernel has all of it.
pub(super) fn may_answer(pulse: &Pulse, tcp: Option<TcpView>, limit: Duration) -> bool {
    let writing = pulse.writing.load(Ordering::Relaxed);
    judge(pulse.is_reading(), writing, tcp.and_then(|tcp| tcp.health()), limit) == Judgement::Counts
}

/// Ends when the peer is gone.
pub(super) async fn watch(pulse: Arc<Pulse>, replies: Arc<Replies>, tcp: Option<TcpView>, times: Times) {
    let mut live = Liveness::with_times(Instant::now(), times.ping, times.silence);
    let mut noted = Instant::now();
    loop {
        let now = Instant::now();
        let heard = replies.heard();
        if heard > noted {
            noted = heard;
            live.heard(heard);
        }
        // Asking the kernel costs a few microseconds, so only those are asked about who missed a ping.
        if now.saturating_duration_since(heard) >= times.ping {
            let reading = pulse.reading.load(Ordering::Relaxed);
            let writing = pulse.writing.load(Ordering::Relaxed);
            let health = tcp.and_then(|tcp| tcp.health());
            match judge(reading, writing, health, times.silence) {
                Judgement::Counts => {}
                Judgement::Excused => live.excuse(now),
                Judgement::Dead => {
                    tracing::debug!(?health, "the peer's kernel does not answer any more");
                    return;
                }
            }
        }
        match live.poll(now) {
            Verdict::Gone => return,
            Verdict::Ping => pulse.ping.notify_one(),
            Verdict::WaitUntil(at) => {
                tokio::time::sleep_until(at.into()).await;
                let now = Instant::now();
                // Our own process stood still (stopped, frozen, starved): what the peer sent meanwhile is not read yet.
                if now.saturating_duration_since(at) >= times.ping {
                    live.excuse(now);
                }
            }
        }
    }
}

/// Answers whoever wants to know at once whether the peer lives, for ever: pings it, and waits for any byte of it.
pub(super) async fn answer(mut probes: Probes, pulse: Arc<Pulse>, replies: Arc<Replies>, tcp: Option<TcpView>) {
    loop {
        let mut probe = probes.next().await;
        let limit = probe.limit;
        let life = tokio::select! {
            life = ask(&pulse, &replies, tcp, limit) => life,
            () = probe.abandoned() => continue,
        };
        probe.answer(life);
    }
}

/// Who gives no sign is silent, unless we keep it from giving one and its kernel answers for it.
async fn ask(pulse: &Pulse, replies: &Replies, tcp: Option<TcpView>, limit: Duration) -> Life {
    let asked = Instant::now();
    pulse.ping.notify_one();
    while asked.elapsed() < limit {
        tokio::time::sleep(LOOK.min(limit)).await;
        if replies.heard() > asked {
            return Life::Heard;
        }
    }
    let (reading, writing) = (pulse.reading.load(Ordering::Relaxed), pulse.writing.load(Ordering::Relaxed));
    // Half of it: the last answer of its kernel may be younger than the question.
    match judge(reading, writing, tcp.and_then(|tcp| tcp.health()), limit / 2) {
        Judgement::Counts | Judgement::Dead => Life::Silent,
        Judgement::Excused => Life::Heard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(45);

    fn health(owed: u32, last_ack: u64, retransmits: u8, probes: u8) -> Option<Health> {
        Some(Health { owed, last_ack: Duration::from_secs(last_ack), retransmits, probes })
    }

    #[test]
    fn silence_counts_only_while_we_read_and_owe_nothing() {
        assert_eq!(judge(true, false, None, LIMIT), Judgement::Counts);
        assert_eq!(judge(false, false, None, LIMIT), Judgement::Excused);
        assert_eq!(judge(true, true, None, LIMIT), Judgement::Excused);
        assert_eq!(judge(true, false, health(0, 60, 0, 0), LIMIT), Judgement::Counts);
        assert_eq!(judge(true, false, health(1, 60, 0, 0), LIMIT), Judgement::Excused);
    }

    #[test]
    fn a_paused_peer_may_stay_for_hours() {
        // Its window is closed, it answers each probe, and probes are two minutes apart by now.
        assert_eq!(judge(true, true, health(4096, 119, 0, 0), LIMIT), Judgement::Excused);
        assert_eq!(judge(true, true, health(4096, 121, 0, 1), LIMIT), Judgement::Excused);
    }

    #[test]
    fn a_dead_peer_with_bytes_of_ours_is_noticed() {
        assert_eq!(judge(true, true, health(4096, 44, 7, 0), LIMIT), Judgement::Excused);
        assert_eq!(judge(true, true, health(4096, 45, 7, 0), LIMIT), Judgement::Dead);
        assert_eq!(judge(true, true, health(4096, 300, 0, 3), LIMIT), Judgement::Dead);
        assert_eq!(judge(false, false, health(6, 50, 6, 0), LIMIT), Judgement::Dead, "an unanswered ping of ours");
    }
}
