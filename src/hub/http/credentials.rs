//! What a request brings to prove who sends it: a bearer token, a session, or the hub's own socket. It proves nothing itself;
//! [`crate::hub::http::reply::caller_of`] does.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::hub::state::audit::{Author, Via};
use crate::hub::state::tokens::TokenHash;

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

/// The token of the session that a page of the hub's own sends along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(pub TokenHash);

/// What a request brings to prove who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The value of its `Authorization` header.
    Header(String),
    /// It came over the hub's own socket, without a token.
    Local(LocalUser),
    /// A session of the page.
    Session(TokenHash),
    /// Nothing.
    None,
}

impl<S: Sync> FromRequestParts<S> for Credentials {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        if let Some(value) = parts.headers.get(AUTHORIZATION) {
            return Ok(Self::Header(String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        let session = || parts.extensions.get::<Session>().map_or(Self::None, |session| Self::Session(session.0));
        Ok(parts.extensions.get::<LocalUser>().map_or_else(session, |user| Self::Local(*user)))
    }
}
