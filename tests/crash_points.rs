//! The real sidecar, killed at the places where a crash may matter, in every story: they are counted first and then tried,
//! each in a run of its own against the real hub. Each story must end well all the same: every task done once, every restart
//! ended, no assignment started twice, nothing left in the journal.
//!
//! - `AGENTCOM_CRASH_STORY=NAME` tries one story only, `AGENTCOM_CRASH_AT=17` one place of it, with all its logs.
//! - `AGENTCOM_CRASH_EVERY=1` tries every place (nightly), where otherwise it is each eighth.
//! - `AGENTCOM_CRASH_PAIRS=1` tries every pair of places: a crash, and another one on the way back from it (nightly).
//! - `AGENTCOM_CRASH_WORKERS=N` runs so many at a time; most of a story is waiting.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
#![allow(clippy::print_stderr, reason = "the report")]

#[path = "crash_points/enumerate.rs"]
mod enumerate;
#[path = "support/example_binary.rs"]
mod example_binary;
#[path = "crash_points/stage.rs"]
mod stage;
#[path = "crash_points/stories.rs"]
mod stories;
mod support;

/// The least number of places in all stories together: with fewer, something is not tried any more.
const PLACES_AT_LEAST: u64 = 1_000;

#[test]
fn a_story_ends_well_whichever_place_it_crashed_at() {
    let binary = example_binary::build("agentcom-sidecar-crash-points", "crash-points");
    let report = enumerate::enumerate(&binary, &stories::chosen());
    eprint!("{report}");
    assert!(report.is_clean(), "{}", report.failures());
    let is_whole = ["AGENTCOM_CRASH_STORY", "AGENTCOM_CRASH_AT"].iter().all(|only| std::env::var_os(only).is_none());
    let places = report.places();
    assert!(!is_whole || places >= PLACES_AT_LEAST, "{places} places were counted, fewer than {PLACES_AT_LEAST}");
}

#[test]
#[cfg(not(feature = "crash-points"))]
fn the_shipped_sidecar_has_no_crash_points() {
    let switch = b"AGENTCOM_CRASH_AT";
    let has = |path: &std::path::Path| {
        let binary = std::fs::read(path).unwrap();
        binary.windows(switch.len()).any(|bytes| bytes == switch)
    };
    assert!(!has(std::path::Path::new(support::sidecar::SIDECAR)), "it can be told to kill itself");
    assert!(
        has(&example_binary::build("agentcom-sidecar-crash-points", "crash-points")),
        "the search finds nothing where there is something to find"
    );
}
