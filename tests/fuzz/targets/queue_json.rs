//! `queue.json`, as found on disk.
//!
//! Asserted: what is read, written and read again is the same journal; fields of other writers survive; a machine that
//! goes on from it keeps the properties while its deadlines come.
#![no_main]

mod life;

use agentcom::sidecar::journal::{Found, from_bytes, to_bytes};
use agentcom::protocol::read_stored;
use life::{BOOT, Life, assert_read_back};
use serde_json::{Map, Value};

/// The file's own fields.
const OURS: &[&str] = &["schema", "active", "recovering", "outbox", "shelf", "latecomers", "restarts", "cordoned"];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(Found::Journal { journal, other, unread: _ }) = from_bytes(bytes, BOOT) else { return };
    let whole: Map<String, Value> = read_stored(bytes).expect("a file that was read");
    let unknown = |map: &Map<String, Value>| -> Map<String, Value> {
        map.iter().filter(|(key, _)| !OURS.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    assert_eq!(other, unknown(&whole), "a field of another writer is lost");
    assert_read_back(&journal);

    let written = to_bytes(&journal, &other);
    let rewritten: Map<String, Value> = read_stored(&written).expect("our own file");
    assert_eq!(unknown(&rewritten), other, "a field of another writer is not written back");
    let Ok(Found::Journal { journal: again, other: kept, unread: _ }) = from_bytes(&written, BOOT) else {
        panic!("our own file is not read: {}", String::from_utf8_lossy(&written))
    };
    assert_eq!((&again, &kept), (&journal, &other));
    assert_eq!(to_bytes(&again, &kept), written, "the second writing differs");

    let mut life = Life::of(*journal, 1_795_000_000_000);
    for _ in 0..20 {
        life.due();
    }
});
