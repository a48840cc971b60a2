//! The HTTP client of `onboard` and `check`: the hub's two addresses, and single requests. It keeps no connection open
//! and never sends `identify`, so it cannot displace the connection of a running sidecar.

pub(super) mod address;
pub(super) mod ask;
pub(super) mod token;

pub(super) use address::HubAddress;
pub(super) use ask::{AskError, HttpRequest, ask};
pub(super) use token::percent_encoded;
