//! What the executor does while nobody is there: it gives back memory that it does not need.
//!
//! In flow clients that come and go, out flow calls of `exedra_host::rest`: once when the start is over, and whenever the
//! last client has been gone for a moment. Whoever is there pays nothing for it.

use std::time::Duration;

use exedra_host::rest::{give_back, keep_little};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long nobody is there before the executor rests: clients that run one command after the other, each on a
/// connection of its own, find it awake.
const CALM: Duration = Duration::from_millis(500);

/// How many clients are there.
#[derive(Clone, Debug)]
pub(crate) struct Clients(watch::Sender<usize>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Here(watch::Sender<usize>);

impl Default for Clients {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Clients {
    /// One more.
    pub(crate) fn come(&self) -> Here {
        self.0.send_modify(|count| *count += 1);
        Here(self.0.clone())
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Rests whenever it is time, for ever.
pub(crate) async fn run(clients: Clients) {
    keep_little();
    let mut clients = clients.0.subscribe();
    sleep(CALM).await;
    give_back();
    while clients.changed().await.is_ok() {
        absence(&mut clients).await;
        give_back();
    }
}

/// Waits until nobody has been there for a while.
async fn absence(clients: &mut watch::Receiver<usize>) {
    while clients.wait_for(|count| *count == 0).await.is_ok() {
        if timeout(CALM, clients.changed()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_calm_when_nobody_has_been_there_for_a_while() {
        let clients = Clients::default();
        let mut seen = clients.0.subscribe();
        let began = Instant::now();
        let (first, second) = (clients.come(), clients.come());
        let come_and_go = async {
            sleep(CALM * 3).await;
            drop(first);
            sleep(CALM * 3).await;
            drop(second);
            sleep(CALM / 2).await;
            drop(clients.come());
        };
        tokio::join!(absence(&mut seen), come_and_go);
        assert_eq!(began.elapsed(), CALM * 7 + CALM / 2);
    }
}
