//! Feeds `checks::hub_frames` with inputs.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| checks::hub_frames::check(text));
