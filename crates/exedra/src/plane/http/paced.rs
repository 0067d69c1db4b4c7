//! The body of an answer, which tells whose turn it is while it is sent.
//!
//! In flow frames of the body, out flow the same frames. While the body has nothing to say it is the server's turn, however
//! long that lasts; once it has given a frame it is the client's, for the next one is asked for only when there is room.
//! So an answer without an end is not cut, and a client that takes none of it is.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::Response;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Turn;

/// See the module.
struct Paced {
    body: Body,
    turn: watch::Sender<Turn>,
}

/// The same answer, with such a body if it has one.
pub fn pace(answer: Response<Body>, turn: &watch::Sender<Turn>) -> Response<Body> {
    // One whose size is known has an end.
    if answer.body().size_hint().exact().is_some() {
        return answer;
    }
    answer.map(|body| Body::new(Paced { body, turn: turn.clone() }))
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.turn.send_replace(match polled {
            Poll::Pending => Turn::Server,
            Poll::Ready(_) => Turn::Client(Instant::now()),
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
