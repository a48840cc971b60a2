//! Feeds `checks::documents` with inputs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::documents::check(bytes));
