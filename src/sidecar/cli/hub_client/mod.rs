//! The hub as `onboard` and `check` meet it: its two addresses, and single questions over HTTP. It keeps no connection
//! and never identifies, so it cannot push a running sidecar off its own.

pub(super) mod address;
pub(super) mod ask;
pub(super) mod token;

pub(super) use address::HubAddress;
pub(super) use ask::{AskError, HttpRequest, ask};
