//! The opening of a session, and its end.

use exedra_client::{Error, Executor};
use exedra_link::error::Disconnect;
use exedra_link::memory;
use exedra_proto::close::CloseReason;

use crate::peer::{Peer, open};

#[tokio::test]
async fn a_session_that_is_refused_or_lost_means_that_nothing_was_done() {
    let (ours, theirs) = memory::pair();
    let mut peer = Peer::new(theirs);
    let (opened, ()) = tokio::join!(Executor::open(ours, "test"), async {
        let call = peer.call("initialize").await;
        peer.refuse(&call, -32010, "session x is already attached to another connection").await;
    });
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::SessionRefused(_)) && error.is_retryable(), "{error}");

    let (ours, theirs) = memory::pair();
    let mut peer = Peer::new(theirs);
    let (opened, ()) = tokio::join!(Executor::open(ours, "test"), async {
        peer.call("initialize").await;
        peer.vanish();
    });
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::LostBeforeSession(_)) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_close_is_a_goodbye() {
    let (ours, mut theirs) = memory::pair();
    let opening = async {
        let message = theirs.receiver.recv().await.unwrap();
        assert!(message.as_text().unwrap().contains("initialize"));
        theirs.sender.send(r#"{"id":1,"result":{"sessionId":"6a0c"}}"#).await.unwrap();
        theirs.receiver.recv().await.unwrap();
        let message = theirs.receiver.recv().await.unwrap();
        assert!(message.as_text().unwrap().contains("environment/info"));
        theirs.sender.send(r#"{"id":2,"error":{"code":-32601,"message":"no"}}"#).await.unwrap();
    };
    let (executor, ()) = tokio::join!(Executor::open(ours, "test"), opening);
    let executor = executor.unwrap();
    assert_eq!(executor.session().as_str(), "6a0c");
    let (ended, said) = tokio::join!(executor.close(), theirs.receiver.finished());
    assert_eq!(ended, Disconnect::LocalClose(CloseReason::PeerDone));
    assert_eq!(said.reason(), Some(CloseReason::PeerDone));
}

#[tokio::test]
async fn a_dropped_handle_is_a_dropped_connection() {
    let (executor, mut peer) = open(true).await;
    drop(executor);
    assert!(matches!(peer.ended().await, Disconnect::Lost | Disconnect::PeerClosed { .. }));
}
