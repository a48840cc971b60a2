//! The local socket: an operator on this machine looks at a running sidecar and asks it. It passes questions on and
//! answers back; it decides nothing, and nobody but the sidecar's own user (and root) gets a word out of it.
//!
//! One connection, one request: a line of JSON, answered by a line of JSON (`watch`: by lines without end).
//!
//! | request | answer |
//! |---|---|
//! | `{"op":"status"}` | `{"status":{..}}` |
//! | `{"op":"watch"}` | the same at every change, at least once a second |
//! | `{"op":"restart","reason":"..","force":false}`, `cancel_restart`, `drain`, `resume`, `reload` | `{"answer":{"ok":true,"message":".."}}` |
//! | anything else | `{"error":".."}` |

mod absent;
mod client;
mod door;
mod serve;
mod words;

pub use absent::{Absent, Kept, KeptTask};
pub use client::{CallError, Client};
pub(super) use door::{NamePlate, open};
pub(super) use serve::serve;
pub use words::{Reply, Request};
