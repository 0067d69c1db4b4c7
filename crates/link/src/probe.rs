//! Asking a peer for a sign of life, now: what stands between [`Sender::probe`](crate::Sender::probe) and the driver of
//! a transport.
//!
//! In flow questions with the time that an answer may take, out flows a [`Life`]. How a peer is asked is the driver's
//! business; one that has no means to ask drops the questions.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::queue;

/// Beyond its own time, an answer comes at once or not at all.
const SLACK: Duration = Duration::from_secs(1);

/// What a peer did when it was asked for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It gave one; or it takes its time with what we sent, and its kernel answers for it.
    Heard,
    /// It gave none, or the connection has ended.
    Silent,
    /// It cannot be asked.
    Unknown,
}

/// Where questions go in.
#[derive(Clone, Debug)]
pub(crate) struct Asker(queue::Tx<Probe>);

/// Where a driver takes them from.
#[derive(Debug)]
pub(crate) struct Probes(queue::Rx<Probe>);

/// One question.
#[derive(Debug)]
pub(crate) struct Probe {
    /// How long the answer may take.
    pub(crate) limit: Duration,
    answer: oneshot::Sender<Life>,
}

/// Both ends. One question waits at a time; whoever asks beside it waits for its turn.
pub(crate) fn channel() -> (Asker, Probes) {
    let (asker, probes) = queue::channel(1);
    (Asker(asker), Probes(probes))
}

impl Asker {
    /// The answer; none if nobody can give one.
    pub(crate) async fn ask(&self, limit: Duration) -> Option<Life> {
        let (answer, answered) = oneshot::channel();
        let ask = async {
            self.0.send(Probe { limit, answer }, 1).await.ok()?;
            answered.await.ok()
        };
        timeout(limit + SLACK, ask).await.ok().flatten()
    }
}

impl Probes {
    /// The next question; pends for ever when nobody can ask any more.
    pub(crate) async fn next(&mut self) -> Probe {
        match self.0.recv().await {
            Some(probe) => probe,
            None => std::future::pending().await,
        }
    }
}

impl Probe {
    /// Waits until nobody wants the answer.
    pub(crate) async fn abandoned(&mut self) {
        self.answer.closed().await;
    }

    /// Answers it.
    pub(crate) fn answer(self, life: Life) {
        let _ = self.answer.send(life);
    }
}
