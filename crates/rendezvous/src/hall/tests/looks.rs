//! Who is looked at in a hall, and how often it is written to, over pipes in memory.

use std::io;
use std::sync::atomic::AtomicUsize;

use exedra_proto::ticket::{Role, Shape};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

use super::super::*;
use crate::frames::header;
use crate::hub::Hub;
use crate::limits::STALL;
use crate::piped::{self, Nobody};
use crate::router::Fences;

/// A pipe whose writes are counted.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, room)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self(pipe, writes) = self.get_mut();
        writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(pipe).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// A connection, its other end, and how often we write to it.
fn connect(hub: &Arc<Hub>, role: Role) -> (Box<Link>, DuplexStream, Arc<AtomicUsize>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let writes = Arc::<AtomicUsize>::default();
    let ours = Counted(ours, Arc::clone(&writes));
    (piped::link(hub, &piped::claims(role, Shape::Streams), false, ours), theirs, writes)
}

/// A message with the mask 0, as a peer sends it.
pub(super) fn message(stream: &StreamId, len: usize) -> Vec<u8> {
    let body = Body::Data { seq: 0, payload: vec![7; len].into() };
    let mut frame = header::frame(true, Opcode::Binary, &Relay { stream: stream.clone(), body }.encode());
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame[1] |= 0x80;
    frame.splice(head..head, [0; 4]);
    frame
}

pub(super) async fn once(hall: &mut Hall) {
    tokio::task::yield_now().await;
    assert!(poll_fn(|cx| Poll::Ready(hall.poll(cx).is_pending())).await);
}

/// One end of a client, its stream, and how often it is written to.
pub(super) type Guest = (DuplexStream, StreamId, Arc<AtomicUsize>);

/// A hall at rest with so many clients, each with a stream.
pub(super) async fn hall_with(clients: usize) -> (Hall, DuplexStream, Vec<Guest>) {
    let hub = Arc::new(Hub::new(100, Fences::default(), Arc::new(Nobody), STALL));
    let (link, executor, _) = connect(&hub, Role::Executor);
    let mut hall = Hall::new(hub.opened(link).unwrap(), Times::default());
    let mut guests = Vec::new();
    for _ in 0..clients {
        let (link, mut client, writes) = connect(&hub, Role::Harness);
        hall.join(link);
        let stream = StreamId::fresh();
        client.write_all(&message(&stream, 2)).await.unwrap();
        guests.push((client, stream, writes));
    }
    while hall.switch.open() < guests.len() || !hall.busy.is_empty() {
        once(&mut hall).await;
    }
    (hall, executor, guests)
}

#[tokio::test]
async fn who_was_given_all_is_not_looked_at_again_while_others_are_busy() {
    let (mut hall, mut executor, mut guests) = hall_with(20).await;
    for (_, stream, _) in guests.iter().cycle().take(60) {
        executor.write_all(&message(stream, 10_000)).await.unwrap();
    }
    let mut most = 0;
    for _ in 0..100 {
        once(&mut hall).await;
        most = most.max(hall.busy.len());
    }
    assert_eq!(most, 0);
    for (client, ..) in &mut guests {
        client.read_exact(&mut vec![0; 30_000]).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_is_read_in_several_parts_is_written_once() {
    let (mut hall, mut executor, mut guests) = hall_with(12).await;
    let before = guests.iter().map(|(.., writes)| writes.load(Ordering::Relaxed)).collect::<Vec<_>>();
    for (_, stream, _) in &guests {
        executor.write_all(&message(stream, 30_000)).await.unwrap();
    }
    for _ in 0..20 {
        once(&mut hall).await;
    }
    for ((client, _, writes), before) in guests.iter_mut().zip(before) {
        assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
        client.read_exact(&mut vec![0; 30_000]).await.unwrap();
    }
}
