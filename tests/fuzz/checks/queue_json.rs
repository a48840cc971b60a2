//! `queue.json`, as found on disk.
//!
//! Asserted: what is read, written and read again is the same journal; fields of other writers survive; a machine that
//! goes on from it keeps the properties while its deadlines come.

use super::life::{BOOT, Life, assert_read_back};
use agentcom::protocol::{JsonFields, read_stored, repair};
use agentcom::sidecar::journal::{Found, from_bytes, to_bytes};

/// The file's own fields.
const OURS: &[&str] =
    &["schema", "active", "recovering", "outbox", "shelf", "latecomers", "restarts", "cordoned", "stopped"];

/// Checks what becomes of one input.
pub fn check(bytes: &[u8]) {
    let Ok(Found::Journal { journal, other, unread: _, replaced: _ }) = from_bytes(bytes, BOOT) else { return };
    let whole: JsonFields = read_stored(repair(bytes).text.as_bytes()).expect("a file that was read");
    let unknown = |mut file: JsonFields| {
        file.retain(|name, _| !OURS.contains(&name));
        file
    };
    assert_eq!(other, unknown(whole), "a field of another writer is lost");
    assert_read_back(&journal);

    let written = to_bytes(&journal, &other);
    let rewritten: JsonFields = read_stored(&written).expect("our own file");
    assert_eq!(unknown(rewritten), other, "a field of another writer is not written back");
    let Ok(Found::Journal { journal: again, other: kept, unread: _, replaced: 0 }) = from_bytes(&written, BOOT) else {
        panic!("our own file is not read: {}", String::from_utf8_lossy(&written))
    };
    assert_eq!((&again, &kept), (&journal, &other));
    assert_eq!(to_bytes(&again, &kept), written, "the second writing differs");

    let mut life = Life::of(*journal, 1_795_000_000_000);
    for _ in 0..20 {
        life.due();
    }
}
