//! Frames against recorded ones, each rule by example, and the decoders under random and mutated input.

use serde_json::Value;

use super::*;

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn recorded() -> Vec<Value> {
    let fixture = include_str!("../../fixtures/relay-frames.jsonl");
    fixture.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(body: &Value, field: &str) -> Bytes {
    body[field].as_str().unwrap_or_default().to_owned().into_bytes().into()
}

/// What a recorded frame should come to.
fn expected(decoded: &Value) -> Result<Frame, Invalid> {
    let (version, body) = (decoded["v"].as_u64().unwrap(), &decoded["body"]);
    let number = |field: &str| u32::try_from(body[field].as_u64().unwrap_or_default()).unwrap();
    if version != 1 {
        return Err(Invalid::Version(version.try_into().unwrap()));
    }
    let stream = StreamId::new(decoded["stream"].as_str().unwrap())?;
    let body = match decoded["kind"].as_u64().unwrap() {
        5 if number("2") != 0 || number("3") != 1 => return Err(Invalid::Segment),
        5 if text(body, "4").is_empty() => return Err(Invalid::NoPayload),
        5 => Body::Data { seq: number("1"), payload: text(body, "4") },
        6 => Body::Ack,
        7 => Body::Resume { next_seq: number("1") },
        8 => Body::Reset { reason: body["1"].as_str().unwrap().to_owned() },
        9 => Body::Heartbeat,
        10 => Body::Handshake(text(body, "1")),
        kind => panic!("kind {kind}"),
    };
    Ok(Frame { stream, body })
}

#[test]
fn recorded_frames_are_read_and_written_to_the_byte() {
    let (mut good, mut bad) = (0, 0);
    for case in recorded() {
        let Some(hex) = case["hex"].as_str() else { continue };
        let (bytes, name) = (unhex(hex), &case["case"]);
        let frame = Frame::decode(bytes.clone());
        assert_eq!(frame, expected(&case["decoded"]), "{name}");
        match frame {
            Ok(frame) => {
                assert_eq!(frame.encode(), bytes, "{name}");
                good += 1;
            }
            Err(_) => {
                assert_eq!(case["note"], "dropped without a reply", "{name}");
                bad += 1;
            }
        }
    }
    assert_eq!((good, bad), (14, 4));
}

#[test]
fn each_rule_is_kept() {
    let frame = |hex: &str| Frame::decode(unhex(hex));
    assert_eq!(frame(""), Err(Invalid::Version(0)));
    assert_eq!(frame("ff"), Err(Invalid::Undecodable));
    assert_eq!(frame("0801120120"), Err(Invalid::BlankStream), "a space");
    assert_eq!(frame("08011201ff"), Err(Invalid::Undecodable), "an id that is no UTF-8");
    assert_eq!(frame("0801120173"), Err(Invalid::NoBody));
    assert_eq!(frame("08011201735a00"), Err(Invalid::NoBody), "a body of number 11");
    assert_eq!(frame("08011201734200"), Err(Invalid::NoReason));
    assert_eq!(frame("08011201732a03220178"), Err(Invalid::Segment), "a count of 0");
    assert_eq!(frame("08011201732a0710011801220178"), Err(Invalid::Segment), "an index of 1");
    let long = Frame { stream: StreamId("x".repeat(MAX_STREAM_ID + 1).into()), body: Body::Heartbeat };
    assert_eq!(Frame::decode(long.encode()), Err(Invalid::LongStream));
    let longest = Frame { stream: StreamId::new("x".repeat(MAX_STREAM_ID)).unwrap(), body: Body::Heartbeat };
    assert_eq!(Frame::decode(longest.encode()), Ok(longest));
    // What we do not know beside the body does no harm: fields 3, 4 and 15.
    assert!(frame("0801120173180720077a01784a00").is_ok());
}

#[test]
fn a_payload_shares_the_messages_buffer_and_debug_tells_nothing_of_it() {
    let frame = Frame { stream: StreamId::fresh(), body: Body::Data { seq: 7, payload: vec![b'x'; 1 << 16].into() } };
    let bytes = frame.encode();
    assert!(bytes.len() <= (1 << 16) + OVERHEAD);
    let Body::Data { payload, .. } = Frame::decode(bytes.clone()).unwrap().body else { panic!("data") };
    assert!(bytes.as_ptr_range().contains(&payload.as_ptr()), "no copy");
    assert_eq!(format!("{:?}", frame.body), "Data(7, 65536 bytes)");
    assert_eq!(StreamId::new("a\nb").unwrap().to_string(), "a\\nb");
}

/// How many inputs: a cut here, 1,000,000 in `cargo xtask soak`.
fn inputs() -> u64 {
    std::env::var("EXEDRA_CASES").ok().and_then(|n| n.parse::<u64>().ok()).map_or(20_000, |cases| cases * 100)
}

#[test]
fn no_input_makes_the_decoder_panic_or_grow() {
    let seeds: Vec<Bytes> = recorded().iter().filter_map(|case| case["hex"].as_str().map(unhex)).collect();
    let mut random = fastrand::Rng::with_seed(14);
    let mut read = 0u64;
    for round in 0..inputs() {
        let input = if round % 4 == 0 {
            let length = random.usize(0..200);
            std::iter::repeat_with(|| random.u8(..)).take(length).collect()
        } else {
            mutated(seeds[random.usize(0..seeds.len())].to_vec(), &mut random)
        };
        let length = input.len();
        if let Ok(frame) = Frame::decode(input.into()) {
            read += 1;
            let held = match &frame.body {
                Body::Data { payload, .. } | Body::Handshake(payload) => payload.len(),
                Body::Reset { reason } => reason.len(),
                Body::Ack | Body::Resume { .. } | Body::Heartbeat => 0,
            };
            assert!(held + frame.stream.as_str().len() <= length, "round {round}: more came out than went in");
            assert_eq!(Frame::decode(frame.encode()), Ok(frame), "round {round}");
        }
    }
    assert!(read > inputs() / 20, "{read} frames were valid: the mutations are too wild to say anything");
}

fn mutated(mut bytes: Vec<u8>, random: &mut fastrand::Rng) -> Vec<u8> {
    for _ in 0..random.usize(0..4) {
        let at = random.usize(0..bytes.len().max(1));
        match random.u8(0..5) {
            0 if !bytes.is_empty() => bytes[at] = random.u8(..),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << random.u8(0..8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at.min(bytes.len()), random.u8(..)),
            _ => {
                let copy = bytes.clone();
                bytes.extend(copy);
            }
        }
    }
    bytes
}
