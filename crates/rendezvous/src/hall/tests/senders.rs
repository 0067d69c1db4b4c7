//! Who is in the middle of a large message: what it may take, and when it is in the way.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::advance;

use super::super::*;
use super::looks::{hall_with, message, once};
use crate::limits::{STALL, STALL_BYTES};

const MIB: usize = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);

/// A sender, whose message of 4 MiB has come for a half, and another client.
struct Scene {
    hall: Hall,
    executor: DuplexStream,
    sender: DuplexStream,
    rest: Vec<u8>,
    other: DuplexStream,
    others: StreamId,
    /// Bytes that came to the executor.
    came: usize,
}

impl Scene {
    async fn new() -> Self {
        let (hall, executor, guests) = hall_with(2).await;
        let [(sender, stream, _), (other, others, _)] = guests.try_into().map_err(|_| "two").unwrap();
        let rest = message(&stream, 4 * MIB);
        let mut scene = Self { hall, executor, sender, rest, other, others, came: 0 };
        scene.goes_on(2 * MIB).await;
        assert!(scene.hall.passing.is_some());
        scene
    }

    /// The sender writes so much more.
    async fn goes_on(&mut self, bytes: usize) {
        let rest = self.rest.split_off(bytes.min(self.rest.len()));
        for piece in std::mem::replace(&mut self.rest, rest).chunks(64 * 1024) {
            self.sender.write_all(piece).await.unwrap();
            self.settle().await;
        }
    }

    async fn asks(&mut self) {
        self.other.write_all(&message(&self.others, 10)).await.unwrap();
        self.settle().await;
    }

    async fn settle(&mut self) {
        let mut room = vec![0; 64 * 1024];
        for _ in 0..4 {
            once(&mut self.hall).await;
            while let Some(Ok(read)) = self.executor.read(&mut room).now_or_never() {
                self.came += read;
            }
        }
    }

    fn is_there(&self) -> bool {
        self.hall.members.len() == 2
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_message_may_take_its_time_as_long_as_it_goes_on() {
    let mut scene = Scene::new().await;
    scene.asks().await;
    let piece = STALL_BYTES.div_ceil(9);
    for second in 0..4 * STALL.as_secs() {
        advance(SECOND).await;
        scene.goes_on(piece).await;
        assert!(scene.is_there(), "after {second} s");
    }
    scene.goes_on(4 * MIB).await;
    assert!(scene.hall.passing.is_none() && scene.is_there());
    assert!(scene.came > 4 * MIB, "{}", scene.came);
}

#[tokio::test(start_paused = true)]
async fn who_stops_in_a_large_message_goes_once_another_has_waited_for_it() {
    let mut scene = Scene::new().await;
    for _ in 0..3 * STALL.as_secs() {
        advance(SECOND).await;
        scene.settle().await;
    }
    assert!(scene.is_there(), "it is in nobody's way");
    scene.asks().await;
    for second in 0..STALL.as_secs() {
        assert!(scene.is_there(), "after {second} s");
        advance(SECOND).await;
        scene.settle().await;
    }
    assert!(!scene.is_there());
}
