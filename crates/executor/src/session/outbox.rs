//! From the events of a session's processes to the socket that holds the session.
//!
//! In flow events as the process table hands them out, out flow notifications; the connection's queue is the
//! back-pressure: while it is full nothing is pulled, and in the end the commands wait. Where the connection knows marks,
//! an event counts as delivered when one behind it was answered, else when it is in the queue. The events of a process
//! whose start is not answered yet wait for the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use exedra_host::process::{Delivery, Event, EventKind};
use exedra_link::{Disconnect, Message, Sender};
use exedra_proto::envelope::notification;
use exedra_proto::ids::ProcessId;
use exedra_proto::method::{Notification as _, ProcessClosed, ProcessExited};
use exedra_proto::process::{ClosedParams, ExitedParams, binary_output, output_notification};
use exedra_proto::session::ExedraOne;
use tokio::sync::Notify;

use super::store::Session;
use super::tally::Tally;

/// Output pulled at a time, in bytes: enough to keep a fast socket busy, little enough that no process waits long for
/// its turn.
const BATCH_BYTES: usize = 64 * 1024;

/// Processes of which nothing may be told yet.
#[derive(Clone, Debug, Default)]
pub struct Holds(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    starts: Mutex<HashMap<ProcessId, usize>>,
    released: Notify,
}

/// Keeps the events of one process back until it is dropped.
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    process: ProcessId,
}

/// Longest process id, in bytes, that goes into the header of a binary message.
const MAX_BINARY_ID: usize = 4096;

/// Sends what happens in a session until the connection ends.
#[derive(Debug)]
pub struct Outbox {
    /// The session.
    pub session: Arc<Session>,
    /// Where to.
    pub sender: Sender,
    /// Which processes wait.
    pub holds: Holds,
    /// Output goes in binary messages, and limits to a client that knows of them, as this says.
    pub agreed: ExedraOne,
    /// When an event counts as delivered.
    pub delivery: Delivery,
}

impl Outbox {
    /// How delivery is noticed on the connection of `sender`, whose client acknowledges or does not.
    pub fn delivery(sender: &Sender, acknowledges: bool) -> Delivery {
        match (acknowledges, sender.marks()) {
            (true, _) => Delivery::Acknowledged,
            (false, true) => Delivery::Read,
            (false, false) => Delivery::Sent,
        }
    }

    /// Sends until the connection ends.
    pub async fn run(self) -> Disconnect {
        let mut tally = Tally::default();
        loop {
            let due = tally.due();
            let end = tokio::select! {
                biased;
                number = self.sender.answered(tally.answered()) => {
                    self.session.processes.delivered(&tally.answer(number));
                    Ok(())
                }
                () = until(due) => self.sender.mark().await.map(|number| {
                    tally.marked(number);
                    self.session.processes.delivered(&tally.answer(0));
                }),
                events = self.session.processes.next_events(BATCH_BYTES) => self.pass(events, &mut tally).await,
            };
            if let Err(end) = end {
                return end;
            }
            // A flood of output must leave the requests on the same connection their turn.
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&self, events: Vec<Event>, tally: &mut Tally) -> Result<(), Disconnect> {
        let (held, free): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| self.holds.contains(&event.process));
        self.send(free, tally).await?;
        // Pulling on would need room for what else these processes say; their answer is on its way.
        for event in held {
            self.holds.wait(&event.process).await;
            self.send(vec![event], tally).await?;
        }
        Ok(())
    }

    async fn send(&self, events: Vec<Event>, tally: &mut Tally) -> Result<(), Disconnect> {
        for event in events {
            self.sender.send(encode(&event, self.agreed)).await?;
            match self.delivery {
                Delivery::Read => tally.sent(&event, Instant::now()),
                Delivery::Sent => self.session.processes.delivered(&[event.run()]),
                Delivery::Acknowledged => {}
            }
        }
        Ok(())
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn encode(event: &Event, agreed: ExedraOne) -> Message {
    let (process_id, seq) = (event.process.clone(), event.seq);
    if let EventKind::Output { stream, bytes } = &event.kind
        && agreed.binary
        && process_id.as_str().len() <= MAX_BINARY_ID
    {
        return Message::Binary(binary_output(&process_id, seq, *stream, bytes));
    }
    let text = match &event.kind {
        EventKind::Output { stream, bytes } => Ok(output_notification(&process_id, seq, *stream, bytes)),
        EventKind::Exited { code, limit, denied } => notification(
            ProcessExited::NAME,
            &ExitedParams {
                process_id,
                seq,
                exit_code: *code,
                sandbox_denied: *denied,
                limit: limit.filter(|_| agreed.limits),
            },
        ),
        EventKind::Closed => notification(ProcessClosed::NAME, &ClosedParams { process_id, seq }),
    };
    // Ids and numbers: encoding them cannot fail.
    Message::text(text.unwrap_or_default())
}

impl Holds {
    /// Keeps the events of `process` back.
    pub fn hold(&self, process: ProcessId) -> Hold {
        *self.starts().entry(process.clone()).or_default() += 1;
        Hold { holds: self.clone(), process }
    }

    fn contains(&self, process: &ProcessId) -> bool {
        self.starts().contains_key(process)
    }

    async fn wait(&self, process: &ProcessId) {
        loop {
            let mut released = std::pin::pin!(self.0.released.notified());
            released.as_mut().enable();
            if !self.contains(process) {
                return;
            }
            released.await;
        }
    }

    fn starts(&self) -> MutexGuard<'_, HashMap<ProcessId, usize>> {
        self.0.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut starts = self.holds.starts();
        if let Some(count) = starts.get_mut(&self.process) {
            *count -= 1;
            if *count == 0 {
                starts.remove(&self.process);
            }
        }
        drop(starts);
        self.holds.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use exedra_proto::limits::Limit;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_process_is_held_until_its_last_hold_is_dropped() {
        let holds = Holds::default();
        let process = ProcessId::new("p");
        let (first, second) = (holds.hold(process.clone()), holds.hold(process.clone()));
        drop(first);
        assert!(timeout(Duration::from_millis(20), holds.wait(&process)).await.is_err());
        let (ended, ()) = tokio::join!(timeout(Duration::from_secs(5), holds.wait(&process)), async { drop(second) });
        assert!(ended.is_ok());
        assert!(!holds.contains(&process));
        holds.wait(&process).await;
    }

    #[test]
    fn events_become_the_three_notifications() {
        let told = |kind, agreed| {
            let event = Event { process: ProcessId::new("p"), seq: 3, kind };
            encode(&event, agreed).as_text().unwrap().to_owned()
        };
        let event = |kind| told(kind, ExedraOne { limits: false, ..ExedraOne::SUPPORTED });
        let exited =
            r#"{"method":"process/exited","params":{"processId":"p","seq":3,"exitCode":7,"sandboxDenied":false}}"#;
        assert_eq!(event(EventKind::Exited { code: 7, limit: None, denied: false }), exited);
        let limited = EventKind::Exited { code: 7, limit: Some(Limit::Memory), denied: false };
        assert_eq!(event(limited.clone()), exited, "a stock client knows of no limits");
        assert!(told(limited, ExedraOne::SUPPORTED).contains(r#""limit":"memory""#));
        assert_eq!(event(EventKind::Closed), r#"{"method":"process/closed","params":{"processId":"p","seq":3}}"#);
    }
}
