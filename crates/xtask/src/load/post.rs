//! One HTTP POST on a connection of its own, with the least of memory.
//!
//! In flow an address, a path, a token and JSON, out flow status, `Retry-After` and body.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Most that an answer may have, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// Posts `body` to `http://{address}{path}`.
///
/// # Errors
/// There is nobody, or no whole answer comes.
pub async fn post(address: &str, path: &str, token: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no whole answer"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(answer.get(..end)?).ok()?, answer.get(end + 4..)?);
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let length: usize = header("content-length")?.parse().ok()?;
    let retry_after = header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Some(Answer { status, retry_after, body: body.get(..length)?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_half_of_one_is_not() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\n{}";
        let answer = parse(text).unwrap();
        assert_eq!(
            (answer.status, answer.retry_after, answer.body),
            (503, Some(Duration::from_secs(7)), b"{}".to_vec())
        );
        for length in 0..text.len() {
            assert!(parse(&text[..length]).is_none(), "cut at {length}");
        }
    }
}
