//! Meetings over pipes in memory, whose every byte is counted.

use std::sync::Mutex;

use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::introduction::{Client, Introduction};
use exedra_proto::mark;
use exedra_proto::plane::Presence;
use exedra_proto::ticket::{Claims, Shape};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinSet;

use super::*;
use crate::config::Times;
use crate::limits::{CLOSE_DEADLINE, MAX_PIECE};
use crate::piped;
use crate::router::Fences;

/// What a pipe holds in each direction.
const PIPE: usize = 1_000;

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Presence for Recorder {
    fn online(&self, _: &RegistrationId, _: u64) {
        self.0.lock().unwrap().push("online".into());
    }

    fn held(&self, _: &RegistrationId) {
        self.0.lock().unwrap().push("held".into());
    }

    fn offline(&self, _: &RegistrationId, bytes: u64) {
        self.0.lock().unwrap().push(format!("offline {bytes}"));
    }
}

struct Stage {
    hub: Arc<Hub>,
    tasks: JoinSet<()>,
    presence: Arc<Recorder>,
    executor: DuplexStream,
    client: DuplexStream,
}

async fn pair() -> Stage {
    introduced(false, Client::default()).await
}

/// A pair whose executor asked to be told who the client is, or not.
async fn introduced(asks: bool, said: Client) -> Stage {
    let presence = Arc::new(Recorder::default());
    let hub = Arc::new(Hub::new(10, Fences::default(), presence.clone(), crate::limits::STALL));
    let mut tasks = JoinSet::new();
    let mut connect = |role| {
        let claims = Claims { client: said.clone(), ..piped::claims(role, Shape::Pair) };
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let link = piped::link(&hub, &claims, asks, ours);
        let hub = Arc::clone(&hub);
        tasks.spawn(async move { run(link, &hub, Times::default()).await });
        theirs
    };
    let executor = connect(Role::Executor);
    while presence.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let client = connect(Role::Harness);
    while presence.0.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    Stage { hub, tasks, presence, executor, client }
}

/// Writes frames with the mask 0 until nobody takes any more; how many bytes were taken.
async fn fill(stream: &mut DuplexStream, bytes: &[u8]) -> usize {
    let mut taken = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(100), stream.write(&bytes[taken..])).await {
        taken += written.unwrap();
        assert!(taken < bytes.len(), "all was taken");
    }
    taken
}

#[tokio::test]
async fn a_pair_holds_one_buffer_in_each_direction_however_much_is_sent() {
    const MOST: usize = MAX_PIECE + 2 * PIPE + 100;
    let large = [&[0x82, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..], &[7; 1_000_000]].concat();
    let small = [&[0x81, 0x80 | 5, 0, 0, 0, 0][..], b"hello"].concat().repeat(90_000);
    for bytes in [large, small] {
        let mut stage = pair().await;
        let taken = fill(&mut stage.executor, &bytes).await;
        assert!(taken <= MOST, "{taken}");
        let taken = fill(&mut stage.client, &bytes).await;
        assert!(taken <= MOST, "{taken}");
        // Pings go in no queue either.
        let mut got = vec![0; PIPE];
        stage.client.read_exact(&mut got).await.unwrap();
        let taken = fill(&mut stage.executor, &[0x89, 0x80, 0, 0, 0, 0].repeat(100_000)).await;
        assert!(taken <= MOST, "{taken}");
    }
}

/// An introduction that no pipe takes at once.
fn long() -> (Client, Vec<u8>) {
    let client = Client { name: "n".into(), labels: vec!["l".repeat(3 * PIPE)], ..Client::default() };
    let text = Introduction { token: TokenId::new("c"), client: client.clone() }.encode(None);
    (client, header::frame(true, Opcode::Text, text.as_bytes()))
}

#[tokio::test]
async fn nothing_of_a_client_passes_before_all_of_its_introduction() {
    let (client, expected) = long();
    let mut stage = introduced(true, client).await;
    let message = [&[0x81, 0x80 | 5, 0, 0, 0, 0][..], b"hello"].concat();
    stage.client.write_all(&message).await.unwrap();
    let mut got = vec![0; expected.len() + 7];
    stage.executor.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [&expected[..], b"\x81\x05hello"].concat());
}

#[tokio::test]
async fn an_introduction_is_whole_also_if_its_client_is_cut_meanwhile() {
    let (client, expected) = long();
    let mut stage = introduced(true, client).await;
    stage.hub.cut_token(&TokenId::new("c"), CloseReason::Revoked, 0);
    let mut got = vec![0; expected.len() + 1];
    stage.executor.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [&expected[..], b"\x88"].concat(), "and then the close frame");
}

#[tokio::test(start_paused = true)]
async fn a_pair_neither_side_of_which_read_ends_when_both_are_gone() {
    let large = [&[0x82, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..], &[7; 1_000_000]].concat();
    let Stage { hub, mut tasks, presence, mut executor, mut client } = pair().await;
    fill(&mut executor, &large).await;
    fill(&mut client, &large).await;
    drop((executor, client));
    let ended = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(3_600), ended).await.expect("it ends");
    assert_eq!(hub.connections(), 0);
    assert!(presence.0.lock().unwrap()[2].starts_with("offline "));
}

#[tokio::test]
async fn an_aborted_task_reports_its_executor_offline_once() {
    let mut stage = pair().await;
    stage.executor.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).await.unwrap();
    stage.client.read_exact(&mut [0; 3]).await.unwrap();
    stage.tasks.shutdown().await;
    assert_eq!(*stage.presence.0.lock().unwrap(), ["online", "held", "offline 1"]);
}

#[tokio::test]
async fn a_frame_that_is_half_written_is_completed_before_the_close_frame() {
    let frame = [&[0x82, 0xfe, 0x27, 0x10, 0, 0, 0, 0][..], &[7; 10_000]].concat();
    let (broken, close) = ([0x81, 0x01, b'x'].as_slice(), [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9].as_slice());
    for (said, code) in [(broken, [0x03, 0xea]), (close, [0x03, 0xe9])] {
        let mut stage = pair().await;
        stage.executor.write_all(&frame).await.unwrap();
        // The client ends while some of the frame for it is still to be written.
        stage.client.write_all(said).await.unwrap();
        let mut head = [0; 4];
        stage.client.read_exact(&mut head).await.unwrap();
        assert_eq!(head, [0x82, 126, 0x27, 0x10]);
        let mut payload = vec![0; 10_000];
        stage.client.read_exact(&mut payload).await.unwrap();
        assert!(payload == vec![7; 10_000]);
        let mut close = [0; 4];
        stage.client.read_exact(&mut close).await.unwrap();
        assert_eq!((close[0], &close[2..]), (0x88, &code[..]));
    }
}

#[tokio::test]
async fn an_answer_to_a_ping_waits_for_the_end_of_the_frame() {
    let mut stage = pair().await;
    let frame = [&[0x82, 0xfe, 0x27, 0x10, 0, 0, 0, 0][..], &[7; 10_000]].concat();
    stage.executor.write_all(&frame).await.unwrap();
    stage.client.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'?', 0x81, 0x81, 0, 0, 0, 0, b'x']).await.unwrap();
    let mut passed = [0; 3];
    stage.executor.read_exact(&mut passed).await.unwrap();
    assert_eq!(&passed, b"\x81\x01x");
    let mut got = vec![0; 4 + 10_000 + 3];
    stage.client.read_exact(&mut got).await.unwrap();
    assert!(got[4..10_004] == [7; 10_000]);
    assert_eq!(&got[10_004..], b"\x8a\x01?");
}

#[tokio::test]
async fn a_mark_is_answered_when_the_counterpart_has_read_as_far() {
    let ping = |payload: &[u8]| [&[0x89, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], payload].concat();
    let mut stage = pair().await;
    let frame = [&[0x82, 0xfe, 0x27, 0x10, 0, 0, 0, 0][..], &[7; 10_000]].concat();
    let marks = [ping(&mark::encode(1)), ping(&mark::encode(2)), ping(b"alive?")].concat();
    stage.executor.write_all(&frame).await.unwrap();
    stage.executor.write_all(&marks).await.unwrap();
    let mut got = vec![0; 4 + 10_000];
    stage.client.read_exact(&mut got).await.unwrap();
    let mut asked = [0; 10];
    stage.client.read_exact(&mut asked).await.unwrap();
    assert_eq!((asked[..2].to_vec(), u64::from_be_bytes(asked[2..].try_into().unwrap())), (vec![0x89, 8], 10_004));
    let mut pong = [0; 8];
    stage.executor.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\x8a\x06alive?", "another ping waits for nobody");
    // What is behind the mark does not matter; what is before it does.
    stage.executor.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).await.unwrap();
    let mut next = [0; 3];
    stage.client.read_exact(&mut next).await.unwrap();
    let answer = |count: u64| [&[0x8a, 0x88, 0, 0, 0, 0][..], &count.to_be_bytes()].concat();
    stage.client.write_all(&answer(9_000)).await.unwrap();
    let mut nothing = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(50), stage.executor.read(&mut nothing)).await;
    assert!(early.is_err(), "the client has not read it");
    stage.client.write_all(&answer(10_004)).await.unwrap();
    let mut pong = [0; 18];
    stage.executor.read_exact(&mut pong).await.unwrap();
    assert_eq!((pong[..2].to_vec(), mark::decode(&pong[2..])), (vec![0x8a, 16], Some(2)));
}

/// An executor that said 10,000 bytes and close to a client that reads nothing.
async fn last_words() -> Stage {
    let mut stage = pair().await;
    let frame = [&[0x82, 0xfe, 0x27, 0x10, 0, 0, 0, 0][..], &[7; 10_000]].concat();
    stage.executor.write_all(&frame).await.unwrap();
    stage.executor.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut answer = [0; 2];
    stage.executor.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x88, 0], "it is not kept waiting");
    assert_eq!(*stage.presence.0.lock().unwrap(), ["online", "held", "offline 10000"]);
    stage
}

#[tokio::test(start_paused = true)]
async fn last_words_wait_for_a_slow_reader_longer_than_any_deadline() {
    let mut stage = last_words().await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let mut got = Vec::new();
    stage.client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got[..4], [0x82, 126, 0x27, 0x10]);
    assert!(got[4..10_004] == [7; 10_000]);
    let close = &got[got.len() - 2 - CloseReason::PeerDone.text().len()..];
    assert_eq!(close[..2], CloseReason::PeerDone.code().to_be_bytes());
    let waiting = stage.tasks.join_next().await;
    assert!(waiting.is_some_and(|ended| ended.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_for_last_words_can_be_cut() {
    let mut stage = last_words().await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let start = tokio::time::Instant::now();
    stage.hub.cut_token(&TokenId::new("c"), CloseReason::Revoked, 0);
    while let Some(ended) = stage.tasks.join_next().await {
        ended.unwrap();
    }
    assert!(start.elapsed() <= CLOSE_DEADLINE + Duration::from_secs(1));
    assert_eq!(stage.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_side_is_pinged_every_15_s_and_given_up_after_45() {
    let start = tokio::time::Instant::now();
    let mut stage = pair().await;
    let mut got = Vec::new();
    // The executor answers each ping, the client none.
    let answer = async {
        let mut ping = [0; 10];
        while stage.executor.read_exact(&mut ping).await.is_ok() && ping[0] == 0x89 {
            let pong = [&[0x8a, 0x88, 0, 0, 0, 0][..], &ping[2..]].concat();
            stage.executor.write_all(&pong).await.unwrap();
        }
        assert_eq!((ping[0], u16::from_be_bytes([ping[2], ping[3]])), (0x88, CloseReason::PeerLost.code()));
    };
    tokio::join!(answer, async { stage.client.read_to_end(&mut got).await.unwrap() });
    assert!(start.elapsed().abs_diff(Duration::from_secs(50)) < Duration::from_secs(1), "{:?}", start.elapsed());
    let ping = [&[0x89, 8][..], &[0; 8]].concat();
    let close = [&CloseReason::Silent.code().to_be_bytes(), CloseReason::Silent.text().as_bytes()].concat();
    assert_eq!(got, [&ping.repeat(2)[..], &[0x88, close.len() as u8], &close].concat());
}
