//! Translates between the frames and the sidecar's machine: what the hub sends to events, and the machine's messages to
//! frames. Does no I/O.

mod decode;
mod encode;

pub use decode::{CANNOT_START_KEY, decode_frame};
pub use encode::{FoundEnd, Identity, encode_frame, resource_frame};
