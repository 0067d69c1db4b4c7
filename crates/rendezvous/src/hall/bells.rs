//! Who of a hall has something to do: a bell for each member, whose ringing wakes the hall's task and leaves a name.
//!
//! In flow wakings of whatever a member waits for, out flow the members that were woken since the last look, each once. So
//! a message costs the same among few members and among many. It knows no socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use crate::router::ConnectionId;

/// The bells of one hall.
#[derive(Debug, Default)]
pub struct Bells(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Each member at most once, so that there are never more than members and those who have just left.
    rung: Vec<Arc<Bell>>,
    /// The hall's task, until it is woken.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Bell {
    member: ConnectionId,
    /// It is among those that were rung.
    rung: AtomicBool,
    state: Arc<Mutex<State>>,
}

impl Bells {
    /// What wakes `member`.
    pub fn bell(&self, member: ConnectionId) -> Waker {
        Arc::new(Bell { member, rung: AtomicBool::new(false), state: Arc::clone(&self.0) }).into()
    }

    /// Who was woken; who is woken from now on wakes the task.
    pub fn heard(&self, cx: &Context<'_>) -> impl Iterator<Item = ConnectionId> + use<> {
        let mut state = lock(&self.0);
        state.task = Some(cx.waker().clone());
        let rung = std::mem::take(&mut state.rung);
        drop(state);
        rung.into_iter().map(|bell| {
            // Before the member is looked at: what comes after the look rings again.
            bell.rung.store(false, Ordering::Release);
            bell.member
        })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = lock(&self.state);
        state.rung.push(Arc::clone(self));
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_is_woken_is_named_once_and_the_task_is_woken_once() {
        let (bells, task) = (Bells::default(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let heard = || bells.heard(&Context::from_waker(&waker)).collect::<Vec<_>>();
        let woken = || task.0.load(Ordering::Relaxed);
        let [one, other] = [1, 2].map(ConnectionId::test);
        let [first, second] = [one, other].map(|member| bells.bell(member));
        first.wake_by_ref();
        assert_eq!(woken(), 0, "nobody has listened yet");
        assert_eq!(heard(), [one], "and nothing is lost");
        assert_eq!(heard(), []);
        second.wake_by_ref();
        first.wake_by_ref();
        second.wake_by_ref();
        assert_eq!(woken(), 1);
        assert_eq!(heard(), [other, one]);
        second.wake();
        assert_eq!((woken(), heard()), (2, vec![other]));
    }
}
