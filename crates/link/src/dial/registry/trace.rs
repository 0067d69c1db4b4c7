//! Which trace our requests belong to, in W3C's words: one for the whole process, so that a server's log shows what one run
//! of a program asked for.
//!
//! In flows randomness, out flow values of `traceparent`. Nothing is sampled and nothing is reported here.

use std::sync::OnceLock;

use uuid::Uuid;

/// The header for one request, with a span of its own.
pub(super) fn parent() -> String {
    static TRACE: OnceLock<String> = OnceLock::new();
    let trace = TRACE.get_or_init(|| {
        let trace = Uuid::new_v4().simple().to_string();
        tracing::debug!(trace, "requests of this process belong to a trace");
        trace
    });
    let span = Uuid::new_v4().simple().to_string();
    format!("00-{trace}-{}-00", &span[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_a_trace_and_no_span() {
        let [first, second] = [parent(), parent()];
        let parts: Vec<usize> = first.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2]);
        assert_eq!(first[..36], second[..36]);
        assert_ne!(first, second);
    }
}
