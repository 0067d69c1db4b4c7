//! A stock executor of dialect D, and a client of it up to the handshake: the cipher is not ours, so the replies are compared with
//! the recorded ones, and a handshake that is none has to be answered by a reset.
//!
//! In flow a server and the name of an executor, out flows whether a client would get through to it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use exedra_proto::base64::Base64Text;
use exedra_proto::frame::{Body, Frame, StreamId};
use exedra_proto::noise::SUITE;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::World;
use crate::child::Running;
use crate::load::post::post;
use crate::plane::Plane;
use crate::stock::Stock;

/// What stock peers took, as it was recorded.
const RECORDED: &str = include_str!("../../../proto/fixtures/registry-noise.jsonl");
/// For an executor to come and be there.
pub(super) const COMING: Duration = Duration::from_secs(60);

/// Starts one as `id`, with its home in the folder `home` of the run. It says nothing of its success.
pub(super) fn start(
    plane: &Plane,
    world: &World,
    stock: &Stock,
    id: &str,
    (home, dir): (&str, &Path),
) -> Result<Running> {
    let spawn = stock.spawn(&world.folder(home)?).args(["exec-server", "--remote", &plane.url, "--environment-id", id]);
    spawn.env("CODEX_API_KEY", &plane.executor_token).start(&home.replace('/', "-"), dir)
}

/// A client of dialect D up to the handshake: what the registry says, and that frames go to the executor and back.
pub(super) async fn answers(plane: &Plane, id: &str) -> Result<()> {
    let part = |len| Base64Text::encode(&vec![9; len]).0;
    let key = json!({"suite": SUITE, "x25519_public_key": part(32), "mlkem768_public_key": part(1_184)});
    let connecting = json!({"harness_public_key": key});
    let path = |call: &str| format!("/cloud/environment/{id}/{call}");
    let called = timeout(COMING, async {
        loop {
            let (status, reply) = call(plane, &path("connect"), &plane.client_token, &connecting).await?;
            match (status, reply["error"]["code"].as_str()) {
                (200, _) => return anyhow::Ok(reply),
                // It may still be on its way.
                (404, Some("executor_unknown")) | (409, Some("environment_offline")) => {
                    sleep(Duration::from_millis(100)).await;
                }
                _ => bail!("connect was answered {status}: {reply}"),
            }
        }
    });
    let reply = called.await.context("it did not come")??;
    ensure!(members(&reply) == recorded("connect-ok")?, "connect was answered {:?}", members(&reply));
    let asking = json!({
        "executor_registration_id": reply["executor_registration_id"],
        "harness_public_key": key,
        "harness_key_authorization": reply["harness_key_authorization"],
    });
    let (status, verdict) = call(plane, &path("validate"), &plane.executor_token, &asking).await?;
    ensure!(status == 200 && verdict == json!({"valid": true}), "validate was answered {status}: {verdict}");
    let url = reply["url"].as_str().context("no URL")?;
    timeout(COMING, refused_handshake(url)).await.context("no frame came back")?
}

/// Sends a handshake that is none; the executor has to say so.
async fn refused_handshake(url: &str) -> Result<()> {
    let (mut websocket, _) = tokio_tungstenite::connect_async(url).await.context("the rendezvous refused")?;
    let stream = StreamId::new(uuid::Uuid::new_v4().to_string()).context("a stream id")?;
    let handshake = Frame { stream: stream.clone(), body: Body::Handshake(b"no handshake".to_vec().into()) };
    websocket.send(Message::Binary(handshake.encode())).await?;
    while let Some(message) = websocket.next().await {
        if let Message::Binary(bytes) = message? {
            let frame = Frame::decode(bytes).map_err(|fault| anyhow::anyhow!("a frame that is none: {fault:?}"))?;
            ensure!(frame.stream == stream, "a frame of another stream");
            let Body::Reset { reason } = frame.body else { bail!("no reset but {:?}", frame.body) };
            ensure!(reason == "noise_relay_protocol_error", "the reason was {reason}");
            return Ok(());
        }
    }
    bail!("the connection ended")
}

pub(super) async fn call(plane: &Plane, path: &str, token: &str, body: &Value) -> Result<(u16, Value)> {
    let answer = post(plane.address()?, path, token, body.to_string().as_bytes()).await?;
    Ok((answer.status, serde_json::from_slice(&answer.body)?))
}

fn members(value: &Value) -> Vec<String> {
    value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// The members of the recorded reply.
fn recorded(case: &str) -> Result<Vec<String>> {
    for line in RECORDED.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["case"] == case {
            return Ok(members(&line["response"]["body"]));
        }
    }
    bail!("{case} was not recorded")
}
