//! Reading a request's body within limits: its size, its time, and the depth of its JSON (serde_json's 128 levels).

use std::time::Duration;

use axum::body::Body;
use exedra_proto::registry::MAX_BODY_BYTES;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// A body that took longer to arrive is given up.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The JSON in `body`; `wanted` says what should be there, to somebody who sent nothing.
pub async fn json<T: DeserializeOwned>(body: Body, wanted: &str) -> Result<T, Problem> {
    let collected = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY_BYTES).collect());
    let bytes = match collected.await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Problem::body_too_large()),
        Ok(Err(_)) => return Err(Problem::body_invalid("the body broke off")),
        Err(_) => return Err(Problem::body_late()),
    };
    match bytes.trim_ascii_start().first() {
        None => return Err(Problem::body_invalid(format!("the body is empty; {wanted}"))),
        // An array would be read as the members' values in their order.
        Some(b'[') => return Err(Problem::body_invalid(format!("the body is an array; {wanted}"))),
        Some(_) => {}
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        // Its text can repeat a value of the body; where it is wrong is enough.
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "has a wrong or missing member" } else { "is no JSON that can be read" };
        Problem::body_invalid(format!("the body {what} (line {line}, column {column}); {wanted}"))
    })
}
