//! Every seed of the fuzzer keeps what holds for every input. `.ci/fuzz` draws further inputs from them.

#![allow(clippy::print_stdout, reason = "which seed it was")]

#[allow(unreachable_pub, clippy::wildcard_enum_match_arm, reason = "the fuzzer's package sees it from outside")]
#[path = "fuzz/checks/mod.rs"]
mod checks;

use std::path::Path;

/// Plays each seed of a kind; returns how many there are.
fn play(kind: &str, check: impl Fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(kind);
    let seeds = std::fs::read_dir(&folder).expect("a folder of seeds");
    let played = seeds.map(|seed| {
        let path = seed.expect("a readable folder").path();
        // Of a check that fails, this is printed.
        println!("{}", path.display());
        check(&std::fs::read(path).expect("a readable seed"));
    });
    played.count()
}

/// The text at the beginning of the bytes, which is all that the fuzzer hands to a check of texts.
fn text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

#[test]
fn every_seed_keeps_what_holds_for_every_input() {
    for (kind, seeds) in [
        ("config_json", play("config_json", checks::config_json::check)),
        ("documents", play("documents", checks::documents::check)),
        ("hub_frames", play("hub_frames", |bytes| checks::hub_frames::check(text(bytes)))),
        ("pm2_lists", play("pm2_lists", checks::pm2_lists::check)),
        ("queue_json", play("queue_json", checks::queue_json::check)),
        ("sidecar_frames", play("sidecar_frames", |bytes| checks::sidecar_frames::check(text(bytes)))),
    ] {
        assert!(seeds > 0, "no seeds of {kind}");
    }
}
