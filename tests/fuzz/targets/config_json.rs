//! Feeds `checks::config_json` with inputs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::config_json::check(bytes));
