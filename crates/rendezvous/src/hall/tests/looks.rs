//! Who is looked at in a hall, over pipes in memory.

use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::introduction::Client;
use exedra_proto::plane::Presence;
use exedra_proto::ticket::{Claims, Role, Shape};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::super::*;
use crate::frames::header;
use crate::hub::Hub;
use crate::limits::STALL;
use crate::router::Fences;
use crate::socket::Socket;
use crate::socket::io::Io;

struct Nobody;

impl Presence for Nobody {
    fn online(&self, _: &RegistrationId, _: u64) {}
    fn held(&self, _: &RegistrationId) {}
    fn offline(&self, _: &RegistrationId, _: u64) {}
}

fn connect(hub: &Arc<Hub>, role: Role) -> (Box<Link>, DuplexStream) {
    let claims = Claims {
        registration: RegistrationId::new("r"),
        role,
        shape: Shape::Streams,
        epoch: 1,
        token: TokenId::new("t"),
        issued_at: 0,
        expires_at: 1,
        ticket_id: String::new(),
        client: Client::default(),
    };
    let (seat, mailbox) = hub.admit(&claims, "k", false, 0).unwrap();
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let socket = Socket::new(Io::Other(Box::new(ours)), bytes::Bytes::new(), Times::default());
    (Box::new(Link { seat, socket, mailbox }), theirs)
}

/// A message with the mask 0, as a peer sends it.
fn message(stream: &StreamId, len: usize) -> Vec<u8> {
    let body = Body::Data { seq: 0, payload: vec![7; len].into() };
    let mut frame = header::frame(true, Opcode::Binary, &Relay { stream: stream.clone(), body }.encode());
    let head = if frame[1] < 126 { 2 } else { 4 };
    frame[1] |= 0x80;
    frame.splice(head..head, [0; 4]);
    frame
}

#[tokio::test]
async fn who_was_given_all_is_not_looked_at_again_while_others_are_busy() {
    let hub = Arc::new(Hub::new(100, Fences::default(), Arc::new(Nobody), STALL));
    let (link, mut executor) = connect(&hub, Role::Executor);
    let mut hall = Hall::new(hub.opened(link).unwrap(), Times::default());
    let once = async |hall: &mut Hall| {
        tokio::task::yield_now().await;
        poll_fn(|cx| Poll::Ready(hall.poll(cx).is_pending())).await
    };
    let mut clients = Vec::new();
    for _ in 0..20 {
        let (link, mut client) = connect(&hub, Role::Harness);
        hall.join(link);
        let stream = StreamId::fresh();
        client.write_all(&message(&stream, 2)).await.unwrap();
        clients.push((client, stream));
    }
    while hall.switch.open() < clients.len() || !hall.busy.is_empty() {
        assert!(once(&mut hall).await);
    }
    for (_, stream) in clients.iter().cycle().take(60) {
        executor.write_all(&message(stream, 10_000)).await.unwrap();
    }
    let mut most = 0;
    for _ in 0..100 {
        assert!(once(&mut hall).await);
        most = most.max(hall.busy.len());
    }
    assert_eq!(most, 0);
    for (client, _) in &mut clients {
        let mut got = vec![0; 30_000];
        client.read_exact(&mut got).await.unwrap();
    }
}
