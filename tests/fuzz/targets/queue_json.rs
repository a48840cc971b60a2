//! Feeds `checks::queue_json` with inputs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::queue_json::check(bytes));
