//! Feeds `checks::pm2_lists` with inputs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::pm2_lists::check(bytes));
