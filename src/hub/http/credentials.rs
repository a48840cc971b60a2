//! What a request brings to prove who sends it: a bearer token, or the hub's own socket. It proves nothing itself;
//! [`crate::hub::http::reply::caller_of`] does.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::hub::state::audit::{Author, Via};

/// The user at the other end of the hub's own socket, which only its owner (and root) may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalUser {
    /// The user's number.
    pub uid: u32,
    /// Whether a hub runs, or only the command that serves itself.
    pub via: Via,
}

impl LocalUser {
    /// Returns the author of the user's acts.
    pub fn author(&self) -> Author {
        Author::on_this_machine(self.uid, self.via)
    }
}

/// What a request brings to prove who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The value of its `Authorization` header.
    Header(String),
    /// It came over the hub's own socket, without a token.
    Local(LocalUser),
    /// Nothing.
    None,
}

impl<S: Sync> FromRequestParts<S> for Credentials {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(match (parts.headers.get(AUTHORIZATION), parts.extensions.get::<LocalUser>()) {
            (Some(value), _) => Self::Header(String::from_utf8_lossy(value.as_bytes()).into_owned()),
            (None, Some(user)) => Self::Local(*user),
            (None, None) => Self::None,
        })
    }
}
