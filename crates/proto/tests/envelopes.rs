//! The decoders of JSON-RPC messages, from the envelope to a method's params, under random and mutated input: no panic,
//! and no more memory than the input asks for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use exedra_proto::envelope::{self, Message};
use exedra_proto::method::Request;
use serde_json::Value;

/// How many inputs: a cut here, 1,000,000 in `cargo xtask soak`.
fn inputs() -> u64 {
    std::env::var("EXEDRA_CASES").ok().and_then(|n| n.parse::<u64>().ok()).map_or(10_000, |cases| cases * 100)
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Every message that a client sends in the recordings.
fn recorded() -> Vec<String> {
    let fixture = include_str!("../fixtures/codex-0.130.jsonl");
    let cases = fixture.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let sent = cases.flat_map(|case| case["send"].as_array().cloned().unwrap_or_default());
    let messages: Vec<String> = sent.filter(Value::is_object).map(|message| message.to_string()).collect();
    assert!(messages.len() > 100, "{}", messages.len());
    messages
}

/// One text made of another, often still JSON.
fn mutated(text: &str, random: &mut fastrand::Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.usize(0..4) {
        let at = random.usize(0..bytes.len().max(1));
        match random.u8(0..8) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] = b"{}[]\",:0-9e.ntf\\u"[random.usize(0..17)],
            2 => bytes.truncate(at),
            3 => bytes.insert(at.min(bytes.len()), b"{}[]\",:\\"[random.usize(0..8)]),
            4 => {
                let numbers =
                    ["null", "-1", "1e999", "18446744073709551616", "-9223372036854775809", "1.5", "\"\"", "{}"];
                if let Some(digit) = bytes.iter().position(u8::is_ascii_digit) {
                    bytes.splice(digit..=digit, numbers[random.usize(0..8)].bytes());
                }
            }
            5 => {
                let end = random.usize(at.min(bytes.len())..=bytes.len());
                bytes.drain(at.min(end)..end);
            }
            6 => {
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), vec![b'['; random.usize(0..300)]).for_each(drop)
            }
            _ => bytes.extend_from_within(at.min(bytes.len())..),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn no_input_makes_the_decoders_panic_or_grow() {
    let seeds = recorded();
    let mut random = fastrand::Rng::with_seed(4);
    let (mut requests, mut decoded) = (0u64, 0u64);
    let before = resident();
    for round in 0..inputs() {
        let text = if round % 8 == 0 {
            let length = random.usize(0..200);
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            mutated(&seeds[random.usize(0..seeds.len())], &mut random)
        };
        match envelope::parse(&text) {
            Ok(Message::Request { id, method, params }) => {
                requests += 1;
                if let Ok(request) = Request::decode(&method, params) {
                    decoded += 1;
                    assert!(!request.row().name.is_empty());
                }
                let _ = id.to_string();
            }
            Ok(_) => {}
            Err(cause) => {
                assert!(
                    cause.to_string().len() < text.len() + 500,
                    "round {round}: an error longer than what it is about"
                )
            }
        }
    }
    assert!(
        requests > inputs() / 20 && decoded > 0,
        "{requests} requests, {decoded} decoded: too wild to say anything"
    );
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "the process grew by {grown} bytes");
}
