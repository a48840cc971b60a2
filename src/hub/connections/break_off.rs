//! Requests that are not answered: their connection breaks instead. What a client knows then is what it knows of a hub that
//! died: the request may have been carried out.

use axum::body::Body;
use axum::response::Response;

/// The mark of an answer that is not given.
#[derive(Debug, Clone, Copy)]
struct NotGiven;

/// The reason why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    /// The hub that was asked in turn did not answer.
    #[error("the hub that was asked did not answer")]
    NotGiven,
    /// The answer did not begin in time.
    #[error("the answer took too long")]
    TooSlow,
}

/// Returns, in place of an answer, the wish to break the connection off.
pub(in crate::hub) fn break_off() -> Response {
    let mut mark = Response::new(Body::empty());
    mark.extensions_mut().insert(NotGiven);
    mark
}

/// Returns the answer.
///
/// # Errors
/// The connection is to be broken off instead.
pub(super) fn given(answer: Response) -> Result<Response, BrokenOff> {
    if answer.extensions().get::<NotGiven>().is_some() { Err(BrokenOff::NotGiven) } else { Ok(answer) }
}
