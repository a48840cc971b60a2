//! `config.json`, through the real file. Wherever the input says [`SECRET`], it is the token.
//!
//! Asserted: what cannot be used says so without the token, in every form in which it is shown; what can be used shows
//! neither, keeps its numbers in their bounds, and reads the same a second time.

use std::io::Write as _;

use agentcom::sidecar::config::{Config, ConfigError, NUMBERS};

/// Nothing else in a file or a message looks like it.
const SECRET: &str = "s3cr3t-Zq9-7d1f";

/// Checks what becomes of one input.
pub fn check(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("agentcom-fuzz-config-{}.json", std::process::id()));
    let mut file = std::fs::File::create(&path).expect("a temporary file");
    file.write_all(bytes).expect("a temporary file");
    drop(file);
    match Config::load(&path) {
        Ok(loaded) => {
            let shown = format!("{loaded:?} {}", loaded.warnings.iter().map(ToString::to_string).collect::<String>());
            if loaded.config.token.expose() == SECRET && !elsewhere(bytes) {
                assert!(!shown.contains(SECRET), "{shown}");
            }
            let again = Config::load(&path).expect("it was good a moment ago");
            assert_eq!(format!("{again:?}"), format!("{loaded:?}"));
            in_bounds(&loaded.config);
        }
        Err(error) => {
            let shown = format!("{error}\n{error:?}");
            if is_token(bytes) || matches!(error, ConfigError::Syntax { .. }) {
                assert!(!shown.contains(SECRET), "{shown}");
            }
        }
    }
}

/// Whether the file's token is the secret.
fn is_token(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|file| file["token"] == SECRET)
}

/// A file that says its token in another value too shows that value.
fn elsewhere(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).matches("s3cr3t").count() > 1 || bytes.contains(&b'\\')
}

fn in_bounds(config: &Config) {
    let bounds = |key: &str| NUMBERS.iter().find(|number| number.key == key).map(|number| number.min..=number.max);
    for (key, value) in [
        ("restart_deadline_ms", config.restart_deadline_ms),
        ("drain_deadline_ms", config.drain_deadline_ms),
        ("ping_interval_ms", config.ping_interval_ms),
        ("reconnect_min_ms", config.reconnect_min_ms),
        ("reconnect_max_ms", config.reconnect_max_ms),
        ("max_frame_bytes", config.max_frame_bytes),
        ("restart_intensity.window_ms", config.restart_intensity.window_ms),
    ] {
        let bounds = bounds(key).expect("a key of the table");
        assert!(bounds.contains(&value), "{key} is {value}, outside {bounds:?}");
    }
    assert!(config.reconnect_min_ms <= config.reconnect_max_ms);
}
