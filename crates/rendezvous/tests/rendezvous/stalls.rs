//! Whoever keeps the others of an executor waiting, again and again.

use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, Frame, reset};
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::ticket::{Claims, Role};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::stage::{Peer, Stage, claims, closed, within};
use crate::streams::{data, executor, id, many, next};

const STALL: Duration = Duration::from_secs(1);

fn of(token: &str) -> Claims {
    Claims { token: TokenId::new(token), ..many(Role::Harness) }
}

/// A client of this token, once it is let in; how often it was refused before, each time for the same reason.
async fn let_in(stage: &Stage, token: &str) -> (Peer, usize) {
    let mut refused = 0;
    loop {
        match stage.dial(&stage.sign(&of(token))).await {
            Ok(peer) => return (peer, refused),
            Err(Error::Http(response)) => {
                let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                assert_eq!(response.status(), 503);
                assert_eq!(header("x-codex-rendezvous-rejection-reason").as_deref(), Some("stalled"));
                assert!(header("retry-after").is_some());
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// The executor floods this stream, which nobody reads, until it is told that it is over.
async fn flood((sink, source): (&mut SplitSink<Peer, Message>, &mut SplitStream<Peer>), deaf: &mut Peer, stream: &str) {
    deaf.send(data(stream, 0, "x")).await.unwrap();
    let fill = async {
        for seq in 0.. {
            sink.send(data(stream, seq, vec![7; 64 * 1024])).await.unwrap();
        }
    };
    let over = Frame { stream: id(stream), body: Body::Reset { reason: reset::RECEIVER_STALLED.into() } };
    let told = async {
        loop {
            let message = source.next().await.unwrap().unwrap();
            if let Message::Binary(bytes) = message
                && Frame::decode(bytes).unwrap() == over
            {
                break;
            }
        }
    };
    within(async {
        tokio::select! {
            () = fill => {}
            () = told => {}
        }
    })
    .await;
}

#[tokio::test]
async fn the_third_time_costs_the_others_far_less_than_the_first() {
    let stage = Stage::with(|config| config.times.stall = STALL).await;
    let (mut sink, mut source) = executor(&stage).await.split();
    let (mut other, refused) = let_in(&stage, "other").await;
    assert_eq!(refused, 0);
    let mut waited = Vec::new();
    for round in 0..3 {
        let (mut deaf, refused) = let_in(&stage, "deaf").await;
        assert_eq!(refused > 0, round > 0, "who did it before waits outside");
        let before = stage.rendezvous.figures().stalled;
        flood((&mut sink, &mut source), &mut deaf, &format!("deaf-{round}")).await;
        let figures = stage.rendezvous.figures();
        assert_eq!(figures.stalls, round + 1);
        waited.push(figures.stalled - before);
        assert_eq!(closed(&mut deaf).await.0, CloseReason::Stalled.code());
        // The others go on, and others of other tokens come in.
        let name = format!("other-{round}");
        other.send(data(&name, 0, "x")).await.unwrap();
        sink.send(data(&name, 0, "through")).await.unwrap();
        assert_eq!(next(&mut other).await.stream, id(&name));
        assert_eq!(let_in(&stage, "another").await.1, 0);
    }
    assert_eq!(waited[0], STALL);
    assert!(waited[1] < STALL / 2 && waited[2] < STALL / 2, "{waited:?}");
    // At another executor nothing is known of it.
    let elsewhere = |claims: Claims| Claims { registration: RegistrationId::new("s"), ..claims };
    let _executor = stage.dial(&stage.sign(&elsewhere(claims(Role::Executor)))).await.unwrap();
    stage.presence.told(2).await;
    let direct = Claims { token: TokenId::new("deaf"), ..elsewhere(claims(Role::Harness)) };
    stage.dial(&stage.sign(&direct)).await.unwrap();
}
