//! `queue.json`: the machine's journal as a file that people and the existing Node sidecar can read. It reads the Node
//! sidecar's own file too (`{active, recovering}`), and puts what it does not know back where it found it.

mod entries;
mod layout;

use core::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::report::MAX_RESULT_BYTES;
use crate::machine::{Journal, OUTBOX_CAP, SHELF_CAP};
use entries::{LatecomerEntry, RestartsEntry, ShelfEntry, TaskEntry, VerdictEntry};
use layout::Layout;

/// The version of the file's own fields. A higher one is from a newer sidecar.
const SCHEMA: u32 = 1;

/// For the restarts, the names, and what other writers keep in the file, bytes.
const REST_BYTES: u64 = 16 << 20;

/// The largest file that is written or read, bytes, where the hub's frames have at most `max_frame_bytes`: the task in
/// hand and the shelf, each with its description and metadata twice (once where the Node sidecar looks for them), a full
/// outbox, and the rest. With the default of 4 MiB it is 236,912,640 bytes.
///
/// A file that is larger is not this sidecar's, or `max_frame_bytes` was lowered meanwhile.
pub fn max_bytes(max_frame_bytes: u64) -> u64 {
    // One more of each: what the Node sidecar was asking about, and the verdict on the task in hand.
    let (tasks, verdicts) = (SHELF_CAP as u64 + 2, OUTBOX_CAP as u64 + 1);
    2 * tasks * max_frame_bytes + verdicts * MAX_RESULT_BYTES as u64 + REST_BYTES
}

/// Why a file is no journal.
#[derive(Debug)]
pub struct BadJournal(String);

impl fmt::Display for BadJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the file cannot know by itself.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// This boot of the machine.
    pub id: &'a str,
    /// When it began, ms since the epoch, where that can be told.
    pub since_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    schema: Option<u32>,
    active: Option<TaskEntry>,
    #[serde(default)]
    recovering: Option<TaskEntry>,
    #[serde(default)]
    outbox: Vec<VerdictEntry>,
    #[serde(default)]
    shelf: Vec<ShelfEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    latecomers: Vec<LatecomerEntry>,
    #[serde(default)]
    restarts: RestartsEntry,
    /// An operator's `drain`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cordoned: bool,
    /// Fields of other writers.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The file's text for `journal`; `other` are fields of other writers, kept as they were.
pub fn to_bytes(journal: &Journal, other: &Map<String, Value>) -> Vec<u8> {
    let file = File {
        schema: Some(SCHEMA),
        active: journal.job.as_ref().map(TaskEntry::from_carried),
        recovering: None,
        outbox: journal.outbox.iter().map(VerdictEntry::from_verdict).collect(),
        shelf: journal.shelf.iter().map(ShelfEntry::from_shelved).collect(),
        latecomers: journal.latecomers.iter().map(LatecomerEntry::from_latecomer).collect(),
        restarts: RestartsEntry::from_ledger(&journal.restarts),
        cordoned: journal.cordoned,
        other: other.clone(),
    };
    let mut bytes = Vec::new();
    // Maps with string keys and plain values into memory: nothing here can fail.
    let _ = file.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Layout::default()));
    bytes.push(b'\n');
    bytes
}

/// What a file held.
#[derive(Debug)]
pub enum Found {
    /// A journal.
    Journal {
        /// What the machine goes on from.
        journal: Box<Journal>,
        /// Fields of other writers.
        other: Map<String, Value>,
    },
    /// A journal of a newer sidecar: not ours to touch.
    Newer {
        /// Its version.
        schema: u32,
    },
}

/// Reads the file.
///
/// # Errors
/// [`BadJournal`] says what makes no sense and where.
pub fn from_bytes(bytes: &[u8], boot: Boot<'_>) -> Result<Found, BadJournal> {
    /// As much as can be read of any version's file.
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        schema: Option<u32>,
    }
    if let Ok(Version { schema: Some(schema) }) = serde_json::from_slice(bytes)
        && schema > SCHEMA
    {
        return Ok(Found::Newer { schema });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let file: File = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        BadJournal(match error.path().to_string().as_str() {
            // Of the whole, which has no name.
            "." => error.inner().to_string(),
            path => format!("at {path}: {}", error.inner()),
        })
    })?;
    deserializer.end().map_err(|error| BadJournal(error.to_string()))?;
    let mut journal = Journal {
        job: None,
        shelf: file.shelf.into_iter().map(|entry| entry.into_shelved(boot)).collect::<Result<_, _>>()?,
        outbox: file.outbox.into_iter().map(VerdictEntry::into_verdict).collect::<Result<_, _>>()?,
        latecomers: file.latecomers.into_iter().map(LatecomerEntry::into_latecomer).collect::<Result<_, _>>()?,
        restarts: file.restarts.into_ledger(),
        cordoned: file.cordoned,
    };
    // The Node sidecar may have had one task and been asking about another.
    for entry in file.active.into_iter().chain(file.recovering) {
        entry.place(&mut journal, boot)?;
    }
    Ok(Found::Journal { journal: Box::new(journal), other: file.other })
}

#[cfg(test)]
mod tests;
