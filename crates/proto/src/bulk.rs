//! A long member `chunk` of a request, decoded before the rest of the message is looked at.
//!
//! In flows the text of a message, out flow the bytes of its one long piece of base64, and the message without it, in
//! which a word stands in its place. So nobody looks through a megabyte three times to find that it is one string. It is
//! a short cut and no second grammar: whatever is not quite as expected is left to [`crate::envelope`] and [`crate::method`],
//! and so are the words for what is wrong.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::base64::{self, Chunk};
use crate::envelope::{self, RequestId};
use crate::method::{FsWriteBlock, Method as _, ProcessWrite, Request};

/// Messages from this length on are worth it, in bytes.
pub const WORTH: usize = 8 * 1024;
/// How far into a message the long member may begin, in bytes.
const BEGINS: usize = 4 * 1024;
/// How much may follow it, in bytes.
const FOLLOWS: usize = 4 * 1024;
/// The name of the member.
const NAME: &str = r#""chunk""#;
/// What stands in its place meanwhile; no base64 looks like it.
const WORD: &str = "(bulk)";

/// The request that `text` is, if it carries a long chunk and is quite as expected.
pub fn request(text: &str) -> Option<(RequestId, Request)> {
    if text.len() < WORTH {
        return None;
    }
    let (start, end) = find(text)?;
    let rest = [text.get(..start)?, WORD, text.get(end..)?].concat();
    // With escapes in it, or with the word twice, the same text could be read in two ways.
    if rest.contains('\\') || rest.matches(WORD).count() != 1 {
        return None;
    }
    let envelope::Message::Request { id, method, params } = envelope::parse(&rest).ok()? else { return None };
    let request = decode(&method, params)?;
    // Last, since it is the most work.
    let bytes = base64::decode(text.get(start..end)?).ok()?;
    Some((id, with(request, bytes.into())?))
}

fn decode(method: &str, params: Option<&RawValue>) -> Option<Request> {
    if ![ProcessWrite::NAME, FsWriteBlock::NAME].contains(&method) {
        return None;
    }
    Request::decode(method, params).ok()
}

fn with(mut request: Request, bytes: Bytes) -> Option<Request> {
    let chunk = match &mut request {
        Request::ProcessWrite(params) => &mut params.chunk,
        Request::FsWriteBlock(params) => &mut params.chunk,
        _ => return None,
    };
    match chunk {
        Chunk::Text(text) if text.0 == WORD => *chunk = Chunk::Raw(bytes),
        _ => return None,
    }
    Some(request)
}

/// Where the long member is, without its quotes.
fn find(text: &str) -> Option<(usize, usize)> {
    let head = text.as_bytes().get(..BEGINS.min(text.len()))?;
    let named = head.windows(NAME.len()).position(|window| window == NAME.as_bytes())? + NAME.len();
    let spaces = |from: usize| head.get(from..).map(|rest| rest.iter().take_while(|byte| **byte == b' ').count());
    let colon = named + spaces(named)?;
    let quote = colon + 1 + spaces(colon + 1)?;
    if (head.get(colon), head.get(quote)) != (Some(&b':'), Some(&b'"')) {
        return None;
    }
    // From behind: what follows is short, and in what comes before is no other quote.
    let tail = text.len().saturating_sub(FOLLOWS).max(quote + 1);
    let end = tail + text.as_bytes().get(tail..)?.iter().position(|byte| *byte == b'"')?;
    Some((quote + 1, end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base64::Base64Text;

    fn plain(text: &str) -> Option<(RequestId, Request)> {
        match envelope::parse(text) {
            Ok(envelope::Message::Request { id, method, params }) => Some((id, Request::decode(&method, params).ok()?)),
            _ => None,
        }
    }

    fn chunk(request: &Request) -> Bytes {
        match request {
            Request::ProcessWrite(params) => params.chunk.decode().unwrap(),
            Request::FsWriteBlock(params) => params.chunk.decode().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn long(length: usize) -> String {
        Base64Text::encode(&(0..length).map(|at| (at * 7 / 3).to_le_bytes()[0]).collect::<Vec<_>>()).0
    }

    #[test]
    fn a_long_chunk_is_the_same_either_way() {
        for length in [WORTH, WORTH + 1, WORTH + 2, 1 << 20] {
            let chunk_text = long(length);
            for text in [
                json!({"id": 7, "method": "fs/writeBlock", "params": {"handleId": "h", "offset": 9, "chunk": chunk_text}})
                    .to_string(),
                format!(r#"{{"id":"a","method":"fs/writeBlock","params":{{"chunk" : "{chunk_text}","offset":9,"handleId":"ä"}}}}"#),
                format!(r#"{{"params":{{"processId":"p","chunk": "{chunk_text}","writeId":"w"}},"method":"process/write","id":7}}"#),
            ] {
                let (id, request) = request(&text).unwrap();
                let (plain_id, plain_request) = plain(&text).unwrap();
                assert_eq!(id, plain_id);
                assert_eq!(chunk(&request), chunk(&plain_request));
                assert!(request.row().name == plain_request.row().name && chunk(&request).len() == length);
            }
        }
    }

    #[test]
    fn what_is_odd_is_left_to_others() {
        let (chunk, small) = (long(WORTH), "aGVsbG8=");
        let write = |params: &str| format!(r#"{{"id":7,"method":"fs/writeBlock","params":{{{params}}}}}"#);
        let block = r#""handleId":"h","offset":0"#;
        for text in [
            // Short, or another method, or none at all.
            write(&format!(r#"{block},"chunk":"{small}""#)),
            format!(r#"{{"id":7,"method":"fs/readBlock","params":{{{block},"len":1,"chunk":"{chunk}"}}}}"#),
            format!(r#"{{"method":"fs/writeBlock","params":{{{block},"chunk":"{chunk}"}}}}"#),
            // Bad base64, cut off, or with an escape.
            write(&format!(r#"{block},"chunk":"{chunk}!""#)),
            write(&format!(r#"{block},"chunk":"{chunk}"#)),
            write(&format!(r#"{block},"chunk":"{chunk}\u0041AAA""#)),
            write(&format!(r#"{block},"chunk":"{}{chunk}""#, "\n")),
            // Not the chunk that is meant.
            write(&format!(r#"{block},"x":{{"chunk":"{chunk}"}},"chunk":"{small}""#)),
            write(&format!(r#"{block},"x":{{"chunk":"{chunk}"}},"chunk":"{WORD}""#)),
            write(&format!(r#"{block},"x":{{"chunk":"{chunk}"}},"chunk":"\u0028bulk)""#)),
            write(&format!(r#""handleId":"{WORD}","offset":0,"chunk":"{chunk}""#)),
            // Params that do not fit.
            write(&format!(r#""handleId":"h","chunk":"{chunk}""#)),
            write(&format!(r#"{block},"chunk":"{chunk}","chunk":"{chunk}""#)),
            write(&format!(r#"{block},"chunk":["{chunk}"]"#)),
        ] {
            assert!(request(&text).is_none(), "{}", text.chars().take(100).collect::<String>());
        }
    }

    #[test]
    fn a_text_that_was_cut_or_changed_is_read_as_ever_or_not_at_all() {
        let cases = std::env::var("EXEDRA_CASES").ok().and_then(|n| n.parse::<u64>().ok()).map_or(300, |n| n * 10);
        let text = json!({"id": 7, "method": "process/write", "params": {"processId": "p", "chunk": long(WORTH), "writeId": "w"}});
        let text = text.to_string();
        for seed in 0..cases {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = text.clone().into_bytes();
            for _ in 0..random.usize(1..4) {
                // Mostly where the grammar is.
                let at = match random.u8(0..3) {
                    0 => random.usize(0..200),
                    1 => bytes.len() - random.usize(1..60),
                    _ => random.usize(0..bytes.len()),
                };
                match random.bool() {
                    true => bytes[at] = *random.choice(b"\"\\:,{}[] (bulk)A=!\x01\xc3").unwrap(),
                    false => drop(bytes.drain(at..(at + random.usize(1..9)).min(bytes.len()))),
                }
            }
            let Ok(text) = String::from_utf8(bytes) else { continue };
            if let Some((id, request)) = request(&text) {
                let (plain_id, plain_request) = plain(&text).unwrap_or_else(|| panic!("seed {seed}"));
                assert_eq!((id, chunk(&request)), (plain_id, chunk(&plain_request)), "seed {seed}");
            }
        }
    }
}
