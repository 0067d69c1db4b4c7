//! What comes to light of a request while it is answered: who asked, and of which executor.
//!
//! Notes flow in from wherever a token is looked at, out they flow to whoever answers the request. Where the request comes from
//! is known from the start. It decides nothing.

use std::cell::RefCell;
use std::net::IpAddr;

use exedra_proto::ids::{ExecutorId, TokenId};

use crate::store::TokenRecord;
use crate::token::Role;

/// What came to light in the course of some work.
#[derive(Debug, Default)]
pub struct Noted {
    /// The token that was shown, if it is one of ours, good or not.
    pub token: Option<(TokenId, Role)>,
    /// The executor that it was about, where a request's path does not say so.
    pub executor: Option<ExecutorId>,
    /// The token was charged for it.
    is_charged: bool,
    /// Where it comes from.
    address: Option<IpAddr>,
}

tokio::task_local! {
    /// What came to light so far.
    static NOTED: RefCell<Noted>;
}

/// Does `work` for a request from there, and says what came to light in its course.
pub async fn noting<T>(address: Option<IpAddr>, work: impl Future<Output = T>) -> (T, Noted) {
    let noted = async {
        let done = work.await;
        (done, NOTED.with(RefCell::take))
    };
    NOTED.scope(RefCell::new(Noted { address, ..Noted::default() }), noted).await
}

/// Where the request comes from.
pub fn address() -> Option<IpAddr> {
    NOTED.try_with(|noted| noted.borrow().address).unwrap_or(None)
}

/// Whether the token was charged for the request before; from now on it was.
pub fn was_charged() -> bool {
    NOTED.try_with(|noted| std::mem::replace(&mut noted.borrow_mut().is_charged, true)).unwrap_or(false)
}

/// Whether a token of ours came to light so far.
pub fn has_noted_token() -> bool {
    NOTED.try_with(|noted| noted.borrow().token.is_some()).unwrap_or(false)
}

/// The work in whose course this is called is about this executor. Outside of a request nobody asks.
pub fn note_executor(executor: &ExecutorId) {
    let _ = NOTED.try_with(|noted| noted.borrow_mut().executor = Some(executor.clone()));
}

/// This token was shown. Outside of a request nobody asks.
pub fn note_token(token: &TokenRecord) {
    let _ = NOTED.try_with(|noted| noted.borrow_mut().token = Some((token.id.clone(), token.role)));
}
