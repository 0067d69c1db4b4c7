//! Reading a request's body within limits: its size, its time, and the depth of its JSON (serde_json's 128 levels).

use std::time::Duration;

use axum::body::{Body, Bytes};
use exedra_proto::registry::MAX_BODY_BYTES;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// A body that took longer to arrive is given up.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The JSON in `body`; `wanted` says what should be there, to somebody who sent nothing.
pub async fn json<T: DeserializeOwned>(body: Body, wanted: &str) -> Result<T, Problem> {
    let bytes = bytes(body).await?;
    if bytes.trim_ascii_start().is_empty() {
        return Err(Problem::body_invalid(format!("the body is empty; {wanted}")));
    }
    object(&bytes, wanted).map_err(Problem::body_invalid)
}

/// The same, where nothing may be there either.
pub async fn json_or_nothing<T: DeserializeOwned>(body: Body, wanted: &str) -> Result<Option<T>, Problem> {
    let bytes = bytes(body).await?;
    if bytes.is_empty() { Ok(None) } else { object(&bytes, wanted).map(Some).map_err(Problem::body_invalid) }
}

/// All of `body`, within the limits.
pub async fn bytes(body: Body) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY_BYTES).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large()),
        Ok(Err(_)) => Err(Problem::body_invalid("the body broke off")),
        Err(_) => Err(Problem::body_late()),
    }
}

/// The JSON object in `bytes`; the error says what is wrong with it.
pub fn object<T: DeserializeOwned>(bytes: &[u8], wanted: &str) -> Result<T, String> {
    // An array would be read as the members' values in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(format!("the body is no JSON object; {wanted}"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // Its text can repeat a value of the body; where it is wrong is enough.
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "has a wrong or missing member" } else { "is no JSON that can be read" };
        format!("the body {what} (line {line}, column {column}); {wanted}")
    })
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use serde_json::Value;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let problem = json::<Value>(Body::from_stream(never), "").await.unwrap_err();
        assert_eq!(problem.into_response().status(), 408);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_told() {
        let broken = futures_util::stream::iter([Ok(b"{".to_vec()), Err(std::io::Error::other("gone"))]);
        let problem = json::<Value>(Body::from_stream(broken), "").await.unwrap_err();
        assert_eq!(problem.into_response().status(), 400);
    }
}
