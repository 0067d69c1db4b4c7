//! How many clients a second a server on one processor lets in, by the processor time that each takes; and the check
//! of a ticket alone, in this process.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, anyhow};
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::introduction::Client;
use exedra_proto::registry::Transport;
use exedra_proto::secret::Secret;
use exedra_proto::ticket::{Claims, KeyRing, Role, Shape, SigningKey};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::{connect, register};
use crate::bench::ends::End;
use crate::bench::figures::{per_second, time};
use crate::bench::{Goal, Row, Table};
use crate::plane::Plane;

/// Clients that come at the same time, and executors that they are for: an executor has 128 places, and those of clients that have gone
/// are free only once the server has noticed.
const CROWD: usize = 16;
/// Checks of a ticket.
const CHECKS: u32 = 20_000;

pub(super) async fn run(plane: &Plane, clients: usize, table: &mut Table) -> Result<()> {
    match rates(plane, clients).await {
        Ok((tickets, websockets)) => {
            let rows =
                [("tickets for clients, on one core", tickets), ("websockets of clients, on one core", websockets)];
            for (what, ours) in rows {
                table.add(&Row { what, ours, theirs: None, unit: per_second, goal: Goal::AtLeast(2_000.0) })?;
            }
        }
        Err(why) => table.lacks("connects", &why)?,
    }
    table.add(&Row { what: "check of a ticket", ours: check()?, theirs: None, unit: time, goal: Goal::AtMost(10e-6) })
}

/// Tickets and websockets for each second of processor time of the server, which stays on one processor.
async fn rates(plane: &Plane, clients: usize) -> Result<(f64, f64)> {
    let name = fastrand::u64(..);
    let id = |number: usize| format!("busy-{name}-{}", number % CROWD);
    let mut readers = JoinSet::new();
    for number in 0..CROWD {
        let mut executor = End::follow(plane, &register(plane, &id(number), Transport::Relay).await?.url).await?;
        readers.spawn(async move { executor.discard(usize::MAX).await });
    }
    let server = plane.server()?;
    server.keep_to_one_processor()?;
    let before = server.processor_time()?;
    let ask = stream::iter(0..clients).map(|number| {
        let id = id(number);
        async move { anyhow::Ok(connect(plane, &id).await?.url) }
    });
    let tickets: Vec<Secret> = ask.buffer_unordered(CROWD).try_collect().await?;
    let between = server.processor_time()?;
    let come = stream::iter(&tickets).map(|ticket| async { End::follow(plane, ticket).await.map(drop) });
    come.buffer_unordered(CROWD).try_collect::<()>().await?;
    let after = server.processor_time()?;
    let rate = |begin, end| clients as f64 / std::time::Duration::saturating_sub(end, begin).as_secs_f64();
    Ok((rate(before, between), rate(between, after)))
}

/// Seconds that the check of a good ticket takes.
fn check() -> Result<f64> {
    let ring = KeyRing::new(vec![SigningKey::generate(1_000)?]);
    let claims = Claims {
        registration: RegistrationId::new("reg-01234567-89ab-cdef-0123-456789abcdef"),
        role: Role::Harness,
        shape: Shape::Streams,
        epoch: 7,
        token: TokenId::new("tok-0123456789abcdef"),
        issued_at: 1_000,
        expires_at: 1_060,
        ticket_id: "0123456789abcdef0123456789abcdef".to_owned(),
        client: Client { name: "ci".to_owned(), labels: vec!["team=ml".to_owned()], ..Client::default() },
    };
    let url = ring.sign("ws://127.0.0.1:8900", &claims)?;
    let (_, query) = url.expose().split_once('?').unwrap_or_default();
    let begin = Instant::now();
    for _ in 0..CHECKS {
        let checked = ring.verify(claims.registration.as_str(), black_box(query), 1_001);
        checked.map_err(|rejection| anyhow!("a good ticket is refused: {rejection}"))?;
    }
    Ok(begin.elapsed().as_secs_f64() / f64::from(CHECKS))
}
