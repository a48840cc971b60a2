//! The HTTP client of `onboard` and `check`: single requests. It never sends `identify`, so it cannot displace the
//! connection of a running sidecar.

pub(super) mod ask;
pub(super) mod token;

pub(super) use ask::{Question, ask};
