//! Rollouts on a bench: one rule a test.

mod bench;
mod crash;
mod fleet;
mod operators;
mod plan;
mod properties;
mod stops;
mod targets;
mod waves;
