//! `queue.json`: the machine's journal as a file that people and the legacy sidecar can read. It reads the legacy
//! sidecar's own file too (`{active, recovering}`), and preserves unknown fields.

mod entries;
mod layout;
pub(crate) mod state_folder;
pub mod state_lock;

use entries::{LateSessionEntry, ParkedEntry, RestartsEntry, TaskEntry, VerdictEntry};
use layout::Layout;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::machine::{Journal, OUTBOX_CAP, PARKED_WORK_CAP};
use crate::protocol::{JsonFields, JsonText, Repaired, read_part, read_stored, repair};
use crate::sidecar::agent::results::outcome::MAX_RESULT_BYTES;

/// The schema version that this sidecar writes. A file with a higher one is from a newer sidecar; one with a lower one, or
/// none, gets this one when it is next written, so that an older sidecar refuses it from then on. Version 0.1.0 wrote 1.
const SCHEMA: u32 = 2;

/// The allowance for the restarts, the ids, and the fields of other writers, bytes.
const REST_BYTES: u64 = 16 << 20;

/// Returns the size of the largest file that is written or read, bytes, if the hub's frames have at most
/// `max_frame_bytes`: the current task and the parked work, each with its description and metadata twice (once where
/// the legacy sidecar looks for them), a full outbox, and the rest. With the default of 4 MiB it is 236,912,640 bytes.
///
/// A larger file is not this sidecar's, or `max_frame_bytes` was lowered meanwhile.
pub fn max_bytes(max_frame_bytes: u64) -> u64 {
    // One more of each: the task that the legacy sidecar was recovering, and the verdict on the current task.
    let (tasks, verdicts) = (PARKED_WORK_CAP as u64 + 2, OUTBOX_CAP as u64 + 1);
    2 * tasks * max_frame_bytes + verdicts * MAX_RESULT_BYTES as u64 + REST_BYTES
}

/// The reason why a file is not a journal.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadJournal(String);

/// The machine's boot, which the file cannot know by itself.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// The id of this boot.
    pub id: &'a str,
    /// When this boot began, ms since the epoch, if known.
    pub since_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct File {
    schema: u32,
    active: Option<TaskEntry>,
    recovering: Option<TaskEntry>,
    outbox: Vec<VerdictEntry>,
    #[serde(rename = "shelf")]
    parked: Vec<ParkedEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "latecomers")]
    late_sessions: Vec<LateSessionEntry>,
    restarts: RestartsEntry,
    /// Whether an operator's `drain` is in effect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cordoned: bool,
    /// Whether the process that wrote this was told to stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stopped: bool,
    /// The fields of other writers.
    #[serde(flatten)]
    other: JsonFields,
}

/// Returns the file's text for `journal`; `other` are the fields of other writers, kept as they were.
pub fn to_bytes(journal: &Journal, other: &JsonFields) -> Vec<u8> {
    let file = File {
        schema: SCHEMA,
        active: journal.job.as_ref().map(TaskEntry::from_job),
        recovering: None,
        outbox: journal.outbox.iter().map(VerdictEntry::from_verdict).collect(),
        parked: journal.parked.iter().map(ParkedEntry::from_parked).collect(),
        late_sessions: journal.late_sessions.iter().map(LateSessionEntry::from_late_session).collect(),
        restarts: RestartsEntry::from_ledger(&journal.restarts),
        cordoned: journal.cordoned,
        stopped: journal.stopped,
        other: other.clone(),
    };
    let mut bytes = Vec::new();
    // Maps with string keys and plain values, into memory: this cannot fail.
    let _ = file.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Layout::default()));
    bytes.push(b'\n');
    bytes
}

/// The content of a file.
#[derive(Debug)]
pub enum Found {
    /// A journal of this or an older version, or of the legacy sidecar.
    Journal {
        /// The state from which the machine continues.
        journal: Box<Journal>,
        /// The fields of other writers.
        other: JsonFields,
        /// The invalid parts, which are ignored, each with the reason.
        unread: Vec<String>,
        /// The number of characters that were replaced because they are not Unicode.
        replaced: usize,
    },
    /// A journal of a newer sidecar, which must not be changed.
    Newer {
        /// Its schema version.
        schema: u32,
    },
}

/// Reads the file. An invalid part does not keep the others from being read.
///
/// # Errors
/// [`BadJournal`] if it is not a JSON object.
pub fn from_bytes(bytes: &[u8], boot: Boot<'_>) -> Result<Found, BadJournal> {
    /// The part that any version's file has.
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        schema: Option<u32>,
    }
    // The legacy sidecar's own file may hold whatever its hub sent.
    let Repaired { text, replaced } = repair(bytes);
    if let Ok(Version { schema: Some(schema) }) = serde_json::from_str(&text)
        && schema > SCHEMA
    {
        return Ok(Found::Newer { schema });
    }
    let mut parts = Parts { file: read_stored(text.as_bytes()).map_err(BadJournal)?, unread: Vec::new() };
    // Removed, so that it does not count as another writer's field.
    let _: Option<u32> = parts.take("schema");
    let restarts: RestartsEntry = parts.take("restarts");
    let mut journal = Journal {
        job: None,
        parked: parts.take_list("shelf", |entry: ParkedEntry| entry.into_parked(boot)),
        outbox: parts.take_list("outbox", VerdictEntry::into_verdict),
        late_sessions: parts.take_list("latecomers", LateSessionEntry::into_late_session),
        restarts: restarts.into_ledger(),
        cordoned: parts.take("cordoned"),
        stopped: parts.take("stopped"),
    };
    // The legacy sidecar may have had one task and been recovering another.
    for name in ["active", "recovering"] {
        let entry: Option<TaskEntry> = parts.take(name);
        if let Some(Err(why)) = entry.map(|entry| entry.add_to(&mut journal, boot)) {
            parts.unread.push(format!("at {name}: {why}"));
        }
    }
    let Parts { file, unread } = parts;
    Ok(Found::Journal { journal: Box::new(journal), other: file, unread, replaced })
}

/// The parts of the file that are not read yet.
struct Parts {
    file: JsonFields,
    unread: Vec<String>,
}

impl Parts {
    /// Removes and returns a part; its default if it is absent or invalid.
    fn take<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let part = self.file.remove(name).map_or_else(|| Ok(T::default()), |part| read_part(name, &part));
        part.unwrap_or_else(|why| {
            self.unread.push(why);
            T::default()
        })
    }

    /// Removes and returns the valid entries of a list.
    fn take_list<E: DeserializeOwned, T>(&mut self, name: &str, into: impl Fn(E) -> Result<T, BadJournal>) -> Vec<T> {
        let entries: Vec<JsonText> = self.take(name);
        let mut read = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let name = format!("{name}[{index}]");
            match read_part(&name, &entry).and_then(|entry| into(entry).map_err(|why| format!("at {name}: {why}"))) {
                Ok(entry) => read.push(entry),
                Err(why) => self.unread.push(why),
            }
        }
        read
    }
}

#[cfg(test)]
mod tests;
