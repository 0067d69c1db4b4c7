//! Follows a ticket: opens the websocket that a registry's reply named.

use exedra_proto::secret::Secret;

use crate::connection::Connection;
use crate::error::LinkError;
use crate::ws::{DialOptions, dial, dial_asking};

/// Opens the websocket of `ticket`, the `url` of a registry's reply, which [`registry`](super::registry) has checked.
///
/// # Errors
/// As [`dial`]; [`LinkError::is_stale_ticket`] tells when a new registration is needed.
pub async fn join(ticket: &Secret, options: &DialOptions) -> Result<Connection, LinkError> {
    dial(ticket, options).await
}

/// The same as an executor that asks to be told who its clients are ([`exedra_proto::introduction`]); and whether it will be.
///
/// # Errors
/// As [`join`].
pub async fn join_asking(ticket: &Secret, options: &DialOptions) -> Result<(Connection, bool), LinkError> {
    dial_asking(ticket, options).await
}
