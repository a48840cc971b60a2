//! A path through the states as a story.

use agentcom::machine::{Effect, Event};

/// One thing that happened to the sidecar's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    Starts,
    Event(Event),
    Effect(Effect),
    Dies,
    Note(String),
}
