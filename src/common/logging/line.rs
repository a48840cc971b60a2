//! Turns an event's text into a line and replaces secrets before the line is queued. It does not write.

use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

use tracing_subscriber::fmt::MakeWriter;

use crate::common::logging::queue::LineQueue;
use crate::common::secret::{REDACTED, Secret};

/// The least length of a secret, in bytes: replacing shorter texts would damage ordinary words.
const SHORTEST_SECRET: usize = 4;

/// The replacer of secrets in lines.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    needles: Vec<Secret>,
}

/// The most secrets that are learned; the oldest is forgotten first.
const MAX_LEARNED: usize = 16;

/// The secrets that this process has learned since it began, such as a renewed token, the oldest first. Every redactor
/// replaces them too.
static LEARNED: RwLock<Vec<Redactor>> = RwLock::new(Vec::new());

/// Has a secret replaced by every redactor of this process, also by those that exist already.
pub fn learn_secret(secret: &Secret) {
    let mut learned = LEARNED.write().unwrap_or_else(PoisonError::into_inner);
    if learned.len() == MAX_LEARNED {
        learned.remove(0);
    }
    learned.push(Redactor::new(std::slice::from_ref(secret)));
}

impl Redactor {
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let mut needles: Vec<String> = Vec::new();
        for secret in secrets.iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST_SECRET) {
            needles.push(secret.to_owned());
            // As it appears inside a JSON string, and inside a JSON string within a JSON string.
            let mut escaped = secret.to_owned();
            for _ in 0..2 {
                escaped = json_escaped(&escaped);
                needles.push(escaped.clone());
            }
        }
        // The longest first, so that a shorter needle does not leave the rest of a longer one.
        needles.sort_by_key(|needle| core::cmp::Reverse(needle.len()));
        needles.dedup();
        Self { needles: needles.into_iter().map(Secret::new).collect() }
    }

    pub(crate) fn clean(&self, line: String) -> String {
        let learned = LEARNED.read().unwrap_or_else(PoisonError::into_inner);
        learned.iter().fold(self.replace(line), |line, one| one.replace(line))
    }

    fn replace(&self, line: String) -> String {
        self.needles
            .iter()
            .map(Secret::expose)
            .fold(line, |line, needle| if line.contains(needle) { line.replace(needle, REDACTED) } else { line })
    }
}

impl Redactor {
    /// Returns how many bytes at the end of `text` may be the beginning of a secret whose rest is still to come.
    pub fn possible_beginning(&self, text: &str) -> usize {
        let of_one = |needle: &str| {
            let beginnings = needle.char_indices().map(|(at, _)| at).rev();
            beginnings.into_iter().find(|end| text.ends_with(&needle[..*end])).unwrap_or(0)
        };
        let learned = LEARNED.read().unwrap_or_else(PoisonError::into_inner);
        let needles = learned.iter().flat_map(|one| &one.needles).chain(&self.needles);
        needles.map(|needle| of_one(needle.expose())).max().unwrap_or(0)
    }
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted).to_owned()
}

/// The factory that gives the subscriber one writer per event.
#[derive(Debug)]
pub(super) struct LineMaker {
    queues: Vec<Arc<LineQueue>>,
    redactor: Redactor,
}

impl LineMaker {
    pub(super) fn new(queues: Vec<Arc<LineQueue>>, redactor: Redactor) -> Self {
        Self { queues, redactor }
    }
}

impl<'a> MakeWriter<'a> for LineMaker {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine { maker: self, bytes: Vec::new() }
    }
}

/// One event's line; dropping it queues it.
#[derive(Debug)]
pub(super) struct LogLine<'a> {
    maker: &'a LineMaker,
    bytes: Vec<u8>,
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        let clean: Arc<[u8]> = self.maker.redactor.clean(text).into_bytes().into();
        self.maker.queues.iter().for_each(|queue| queue.push(Arc::clone(&clean)));
    }
}
