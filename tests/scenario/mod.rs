//! Stories about the machine that a person can read: event lines, `----`, then the state and the effects. It plays a
//! story through the public `agentcom::machine` and judges every step by the properties; it does not know what a story
//! ought to say, that stands in `tests/scenarios/*.txt`.
//!
//! - [`words`]: a line of a story as something that happens.
//! - [`player`]: one life after another: a machine, a clock, a disk.
//! - [`print`]: states and effects in the wire's words.
//! - [`story`]: a file of blocks, played, compared, rewritten.

// Each test binary compiles all of this and uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod player;
pub mod print;
pub mod story;
pub mod words;
