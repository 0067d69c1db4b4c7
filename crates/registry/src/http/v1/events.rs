//! Events: in pages, or as they come (server-sent events), from any id on that is still kept.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{one, only, query, wrong};
use crate::auth::Caller;
use crate::http::credentials;
use crate::http::problem::{Problem, ProblemBody};
use crate::service::events::{FOLLOWED, Heard, PAGE};
use crate::service::{Listener, Service};
use crate::store::Event as Kept;

/// Time between two looks for news.
const LOOK: Duration = Duration::from_millis(500);
/// Time between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What happened.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// Its place; no event before has a higher one.
    id: u64,
    /// When, seconds since 1970.
    at: u64,
    /// What, in one stable word.
    kind: String,
    /// Of which executor.
    executor_id: Option<String>,
    /// More of it; the members belong to the kind.
    #[schema(value_type = Object)]
    detail: Value,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// The oldest first.
    events: Vec<Event>,
    /// The value of `after` for the next page; there may be nothing on it yet.
    next: u64,
    /// Where events after `after` are not kept any more, or `after` is beyond the last that there is, as after the
    /// restore of a backup: the id of the oldest that is kept, or of the next, with which the page begins.
    gap: Option<u64>,
}

impl From<Kept> for Event {
    fn from(event: Kept) -> Self {
        Self {
            id: event.id,
            at: event.at,
            kind: event.kind,
            executor_id: event.executor.map(|executor| executor.as_str().to_owned()),
            detail: event.detail,
        }
    }
}

/// Events of the executors that the token reaches
#[utoipa::path(
    get, operation_id = "list_events", path = "/v1/events", tag = "events",
    params(("after" = Option<u64>, Query, description = "events with ids above this one; all that are kept, if not given")),
    responses((status = 200, body = EventPage), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn list(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<EventPage>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    let query = query(&uri);
    only(&query, &["after"])?;
    let after = one(&query, "after", |text| text.parse().ok())?.unwrap_or(0);
    let Heard { events, next, gap } = service.events_for(&caller, after, PAGE).await?;
    Ok(Json(EventPage { events: events.into_iter().map(Event::from).collect(), next, gap }))
}

/// The same, as they come
///
/// Server-sent events: `id`, `event` with the kind, `data` with the event as JSON. `gap` says that events in between are no
/// longer kept, or that `after` is beyond the last that there is, as after the restore of a backup: then all that are kept
/// follow. Its `until` is the id of the first that follows. `events_missing` is an event as others: in its place `count`
/// were left out while the database could not be written. `end` is the last message, with the reason.
#[utoipa::path(
    get, operation_id = "follow_events", path = "/v1/events/stream", tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "events with ids above this one; all that are kept, if not given"),
        ("Last-Event-ID" = Option<u64>, Header, description = "the same; counts over `after`"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody),
    ),
)]
pub async fn follow(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    caller.sees_any().map_err(crate::service::Refusal::from)?;
    let query = query(&uri);
    only(&query, &["after"])?;
    let after = one(&query, "after", |text| text.parse().ok())?;
    let last = headers.get("last-event-id").map(|value| value.to_str().ok()?.parse().ok());
    let after = match last {
        Some(last) => last.ok_or_else(|| wrong("Last-Event-ID"))?,
        None => after.unwrap_or(0),
    };
    let place = service.listen(&caller)?;
    let follower = Follower { service, caller, after, waiting: VecDeque::new(), has_ended: false, _place: place };
    let messages = stream::unfold(follower, async |mut follower| {
        let message = follower.next().await?;
        Some((Ok(message), follower))
    });
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Somebody who waits for events.
struct Follower {
    service: Arc<Service>,
    caller: Caller,
    after: u64,
    waiting: VecDeque<Message>,
    has_ended: bool,
    _place: Listener,
}

impl Follower {
    /// The next message; none after the last.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            if self.has_ended {
                return None;
            }
            let before = self.after;
            if let Err(problem) = self.look().await {
                self.has_ended = true;
                let (code, message) = problem.words();
                return Some(
                    Message::default().event("end").data(json!({"code": code, "message": message}).to_string()),
                );
            }
            // A page may have been full of what this caller may not hear of.
            if self.waiting.is_empty() && self.after == before {
                self.service.pause(LOOK).await;
            }
        }
    }

    async fn look(&mut self) -> Result<(), Problem> {
        self.service.still(&self.caller).await?;
        let Heard { events, next, gap } = self.service.events_for(&self.caller, self.after, FOLLOWED).await?;
        if let Some(gap) = gap {
            self.waiting.push_back(Message::default().event("gap").data(json!({"until": gap}).to_string()));
        }
        self.after = next;
        for event in events.into_iter().map(Event::from) {
            let data = serde_json::to_string(&event).unwrap_or_default();
            self.waiting.push_back(Message::default().id(event.id.to_string()).event(event.kind).data(data));
        }
        Ok(())
    }
}
