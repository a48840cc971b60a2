//! What holds for every input from outside, a module for each kind. The fuzzer draws inputs (`.ci/fuzz`); `tests/fuzz_seeds.rs`
//! plays the seeds.

pub mod config_json;
pub mod documents;
pub mod hub_frames;
pub mod life;
pub mod pm2_lists;
pub mod queue_json;
pub mod sidecar_frames;
