//! Introductions: by which a server tells an executor who a client is, before anything of that client's arrives.
//!
//! An executor asks for them with the header [`HEADER`] in its websocket request, and has them once the answer repeats it;
//! a peer that did not ask never sees one. Each is one text message of the server's own. In a pair it is the first message of
//! the executor's websocket, and only that: all others are the client's. Among streams it is every text message, and it comes
//! right before a stream's first frame: clients' messages are binary there, and a text of theirs goes nowhere.
//! In flow texts, out flow their members, and back.

use serde::{Deserialize, Serialize};

use crate::frame::StreamId;
use crate::ids::TokenId;
use crate::rights::Rights;

/// The header of the websocket request and of its answer.
pub const HEADER: &str = "exedra-introductions";
/// Its value.
pub const VERSION: &str = "1";

/// What the token of a client says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// What the token is for, for people; may be empty.
    pub name: String,
    /// The token's client labels, each `name=value`, or the name alone where there is no value.
    pub labels: Vec<String>,
    /// What the token allows on executors.
    pub rights: Rights,
}

/// A client of whose token nothing is told: no name, no labels, and no right less than all.
impl Default for Client {
    fn default() -> Self {
        Self { name: String::new(), labels: Vec::new(), rights: Rights::ALL }
    }
}

/// A client, as the server that checked its ticket introduces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The token's id.
    pub token: TokenId,
    /// What it says.
    #[serde(flatten)]
    pub client: Client,
}

/// Why a text is no introduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no introduction of a client")]
pub struct NoIntroduction;

#[derive(Serialize, Deserialize)]
struct Text<T> {
    introduction: Body<T>,
}

#[derive(Serialize, Deserialize)]
struct Body<T> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(flatten)]
    who: T,
}

impl Introduction {
    /// The text for whoever has the executor to itself, or opens this stream.
    pub fn encode(&self, stream: Option<&StreamId>) -> String {
        let stream = stream.map(|stream| stream.as_str().to_owned());
        // Texts and lists of texts: there is nothing that JSON could not hold.
        serde_json::to_string(&Text { introduction: Body { stream, who: self } }).unwrap_or_default()
    }

    /// Reads the introduction of whoever has the executor to itself.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(text: &str) -> Result<Self, NoIntroduction> {
        match read(text)? {
            Body { stream: None, who } => Ok(who),
            Body { stream: Some(_), .. } => Err(NoIntroduction),
        }
    }

    /// Reads the introduction of whoever opens a stream, and which.
    ///
    /// # Errors
    /// It is none.
    pub fn decode_stream(text: &str) -> Result<(StreamId, Self), NoIntroduction> {
        let Body { stream, who } = read(text)?;
        let stream = StreamId::new(stream.ok_or(NoIntroduction)?).map_err(|_| NoIntroduction)?;
        Ok((stream, who))
    }
}

fn read(text: &str) -> Result<Body<Introduction>, NoIntroduction> {
    serde_json::from_str::<Text<Introduction>>(text).map(|text| text.introduction).map_err(|_| NoIntroduction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction() -> Introduction {
        let client = Client {
            name: "ci \"7\"".into(),
            labels: vec!["team=ml".into(), "ci".into()],
            rights: Rights::parse("exec,pty").unwrap(),
        };
        Introduction { token: TokenId::new("tok-1"), client }
    }

    #[test]
    fn an_introduction_is_read_as_written_and_for_its_place_alone() {
        let expected =
            r#"{"introduction":{"token":"tok-1","name":"ci \"7\"","labels":["team=ml","ci"],"rights":["exec","pty"]}}"#;
        let text = introduction().encode(None);
        assert_eq!(text, expected);
        assert_eq!(Introduction::decode(&text), Ok(introduction()));
        assert_eq!(Introduction::decode_stream(&text), Err(NoIntroduction));

        let stream = StreamId::new("a \u{1b}\"b").unwrap();
        let text = introduction().encode(Some(&stream));
        assert_eq!(Introduction::decode_stream(&text), Ok((stream, introduction())));
        assert_eq!(Introduction::decode(&text), Err(NoIntroduction));
    }

    #[test]
    fn what_says_too_little_is_none() {
        let whole = introduction().encode(Some(&StreamId::new("s").unwrap()));
        for member in ["token", "name", "labels", "rights", "introduction"] {
            let text = whole.replace(&format!("\"{member}\""), "\"other\"");
            assert_eq!(Introduction::decode_stream(&text), Err(NoIntroduction), "{member}");
        }
        for bad in ["", "{}", "[]", r#"{"method":"initialize","id":1}"#, &whole[1..], &format!("{whole}{whole}")] {
            assert_eq!(Introduction::decode_stream(bad), Err(NoIntroduction), "{bad}");
            assert_eq!(Introduction::decode(bad), Err(NoIntroduction), "{bad}");
        }
        let blank = whole.replace("\"s\"", "\" \"");
        assert_eq!(Introduction::decode_stream(&blank), Err(NoIntroduction));
        let twice = whole.replace(r#""token":"tok-1""#, r#""token":"tok-1","token":"tok-2""#);
        assert_eq!(Introduction::decode_stream(&twice), Err(NoIntroduction));
    }
}
