//! What a message from a client is, decoded as far as its method's params.
//!
//! In flows the text of one message, out flows an owned value or the refusal to send back. It knows no state but which
//! methods of `exedra/1` were agreed on: a method that was not is as unknown as to stock.

use bytes::Bytes;
use exedra_proto::binary;
use exedra_proto::bulk;
use exedra_proto::dialect::Dialect;
use exedra_proto::envelope::{self, RequestId, RpcError};
use exedra_proto::method::{INITIALIZED, PROCESS_ACK, Request, is_agreed, unknown_method};
use exedra_proto::process::AckParams;
use exedra_proto::session::ExedraOne;

use super::errors;

/// A message from a client.
#[derive(Debug)]
pub enum Incoming {
    /// Wants an answer; what could not be decoded already has one.
    Request(RequestId, Box<Result<Request, RpcError>>),
    /// Events of a process were received.
    Ack(AckParams),
    /// The handshake is confirmed.
    Initialized,
    /// Cannot be served, and is answered without an id of its own.
    Odd(RpcError),
    /// Cannot be served, and is not answered: it answers an answer of ours.
    Ignored,
}

/// Decodes `text` of a client that has shown to speak `dialect`; `label` is how errors name it.
pub fn decode(text: &str, agreed: ExedraOne, dialect: Dialect, label: impl Fn() -> String) -> Incoming {
    match bulk(text) {
        Some(incoming) => incoming,
        None => decode_any(text, agreed, dialect, label),
    }
}

/// Decodes a request that is large because of its bytes, and quite as expected; it takes as long as copying it does.
pub fn bulk(text: &str) -> Option<Incoming> {
    bulk::request(text).map(|(id, request)| Incoming::Request(id, Box::new(Ok(request))))
}

fn decode_any(text: &str, agreed: ExedraOne, dialect: Dialect, label: impl Fn() -> String) -> Incoming {
    match envelope::parse(text) {
        Ok(envelope::Message::Request { id, method, .. }) if !is_agreed(&method, agreed) => {
            Incoming::Request(id, Box::new(Err(unknown_method(&method))))
        }
        Ok(envelope::Message::Request { id, method, params }) => {
            Incoming::Request(id, Box::new(Request::decode(&method, params).map_err(|error| dialect.refusal(error))))
        }
        Ok(envelope::Message::Notification { method, .. }) if method == INITIALIZED => Incoming::Initialized,
        Ok(envelope::Message::Notification { method, params }) if method == PROCESS_ACK && agreed.ack => {
            match envelope::decode_params(params) {
                Ok(params) => Incoming::Ack(params),
                Err(cause) => Incoming::Odd(errors::bad_notification(&method, &cause)),
            }
        }
        Ok(envelope::Message::Notification { method, .. }) => Incoming::Odd(errors::unknown_notification(&method)),
        Ok(envelope::Message::Response { id, .. }) => Incoming::Odd(errors::unexpected_answer(&id)),
        // Two servers joined by mistake would otherwise answer each other for ever.
        Ok(envelope::Message::Error { id: RequestId::UNKNOWN, .. }) => Incoming::Ignored,
        Ok(envelope::Message::Error { id, .. }) => Incoming::Odd(errors::unexpected_answer(&id)),
        Err(cause) => Incoming::Odd(errors::unreadable(&label(), &dialect.unreadable(&cause))),
    }
}

/// Decodes a binary message; only for a client with whom they were agreed on.
pub fn decode_binary(message: Bytes, agreed: ExedraOne, dialect: Dialect, label: impl Fn() -> String) -> Incoming {
    let unreadable = |cause: String| Incoming::Odd(errors::unreadable(&label(), &cause));
    let parts = match binary::split(message) {
        Ok(parts) => parts,
        Err(malformed) => return unreadable(malformed.to_string()),
    };
    match envelope::parse(parts.header()) {
        Ok(envelope::Message::Request { id, method, params }) => {
            let request = match is_agreed(&method, agreed) {
                true => Request::decode_binary(&method, params, parts.payload.clone()),
                false => Err(unknown_method(&method)),
            };
            Incoming::Request(id, Box::new(request.map_err(|error| dialect.refusal(error))))
        }
        Ok(_) => unreadable("a binary message of a client is a request".to_owned()),
        Err(cause) => unreadable(dialect.unreadable(&cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(text: &str) -> String {
        match decode(text, ExedraOne::default(), Dialect::default(), || "X".to_owned()) {
            Incoming::Odd(error) => error.message,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(text: &str, agreed: ExedraOne) -> i64 {
        match decode(text, agreed, Dialect::default(), String::new) {
            Incoming::Request(_, result) => result.unwrap_err().code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn odd_input_has_clear_words() {
        assert_eq!(odd("{bad"), "failed to parse X: key must be a string at line 1 column 2");
        assert_eq!(odd(r#"{"method":"nope"}"#), "the exec-server knows no notification `nope`");
        assert_eq!(odd(r#"{"id":7,"result":{}}"#), "the exec-server sent no request with id 7");
        assert_eq!(
            odd(r#"{"id":"a","error":{"code":1,"message":""}}"#),
            "the exec-server sent no request with id \"a\""
        );
    }

    #[test]
    fn an_answer_to_our_own_refusal_is_not_answered() {
        let text = r#"{"error":{"code":-32600,"message":"failed to parse"},"id":-1}"#;
        let incoming = decode(text, ExedraOne::default(), Dialect::default(), String::new);
        assert!(matches!(incoming, Incoming::Ignored));
    }

    #[test]
    fn an_ack_is_as_unknown_as_to_stock_unless_it_was_agreed_on() {
        let text = r#"{"method":"process/ack","params":{"processId":"p","seq":7}}"#;
        assert_eq!(odd(text), "the exec-server knows no notification `process/ack`");
        let decoded = |text: &str| decode(text, ExedraOne::SUPPORTED, Dialect::default(), String::new);
        let expected = AckParams { process_id: exedra_proto::ids::ProcessId::new("p"), seq: 7 };
        assert!(matches!(decoded(text), Incoming::Ack(params) if params == expected));
        assert!(matches!(decoded(r#"{"method":"process/ack","params":{}}"#), Incoming::Odd(_)));
    }

    #[test]
    fn methods_of_the_extension_exist_only_where_they_were_agreed_on() {
        for method in ["process/closeStdin", "process/resize", "process/list"] {
            let text = format!(r#"{{"id":1,"method":"{method}","params":[1]}}"#);
            assert_eq!(refusal(&text, ExedraOne::default()), envelope::METHOD_NOT_FOUND);
            assert_eq!(refusal(&text, ExedraOne::SUPPORTED), envelope::INVALID_PARAMS);
        }
    }
}
