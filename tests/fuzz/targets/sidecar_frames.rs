//! Feeds `checks::sidecar_frames` with inputs.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| checks::sidecar_frames::check(text));
