//! The answers to requests with an `Idempotency-Key`: a request that is sent again is answered with what the first one was
//! answered, and nothing is done twice. Pure; an answer is stored in the same commit as what it tells.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::JsonText;

/// How long an answer is kept, in ms.
pub const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// The largest number of answers that are kept; the oldest are dropped first.
pub const MAX_ANSWERS: usize = 10_000;
/// The largest number of characters in a key.
pub const MAX_KEY_CHARS: usize = 128;

/// A request: who sent it, and the key that it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// The name that the request's token proves.
    pub name: String,
    /// The `Idempotency-Key`.
    pub key: String,
}

impl RequestKey {
    /// Returns the key in the store: names hold no control characters.
    fn stored(&self) -> String {
        format!("{}\n{}", self.name, self.key)
    }
}

/// An answer, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// The name that the request's token proved.
    pub name: String,
    /// The `Idempotency-Key`.
    pub key: String,
    /// The SHA-256 of the request's method, path and body, in hex.
    pub request: String,
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: JsonText,
    /// The time of the answer, in ms since the epoch.
    pub at_ms: u64,
}

impl KeptAnswer {
    fn request_key(&self) -> RequestKey {
        RequestKey { name: self.name.clone(), key: self.key.clone() }
    }
}

/// An answer to store, or (`None`) to delete, by its key in the store.
pub type Change = (String, Option<Arc<KeptAnswer>>);

/// All answers that are kept.
#[derive(Debug, Default)]
pub struct Answers {
    by_key: HashMap<RequestKey, Arc<KeptAnswer>>,
    by_age: BTreeSet<(u64, RequestKey)>,
    dirty: Vec<Change>,
}

impl Answers {
    /// Restores what was stored.
    pub fn load(stored: Vec<KeptAnswer>) -> Self {
        let mut answers = Self::default();
        stored.into_iter().for_each(|answer| answers.insert(answer));
        answers
    }

    /// Returns the answer that a request with this key was given, if it is kept.
    pub fn find(&self, key: &RequestKey, now_ms: u64) -> Option<&Arc<KeptAnswer>> {
        self.by_key.get(key).filter(|answer| now_ms < answer.at_ms.saturating_add(KEPT_MS))
    }

    /// Keeps an answer, and drops those that are too old or too many.
    pub fn keep(&mut self, answer: KeptAnswer) {
        let now_ms = answer.at_ms;
        let stored = answer.request_key().stored();
        self.insert(answer.clone());
        self.dirty.push((stored, Some(Arc::new(answer))));
        while let Some((at_ms, key)) = self.by_age.first().cloned()
            && (self.by_age.len() > MAX_ANSWERS || at_ms.saturating_add(KEPT_MS) <= now_ms)
        {
            self.by_age.remove(&(at_ms, key.clone()));
            self.by_key.remove(&key);
            self.dirty.push((key.stored(), None));
        }
    }

    /// Returns what changed since the last call.
    pub fn take_dirty(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.dirty)
    }

    fn insert(&mut self, answer: KeptAnswer) {
        let key = answer.request_key();
        self.by_age.insert((answer.at_ms, key.clone()));
        if let Some(before) = self.by_key.insert(key.clone(), Arc::new(answer.clone()))
            && before.at_ms != answer.at_ms
        {
            self.by_age.remove(&(before.at_ms, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(key: &str, at_ms: u64) -> KeptAnswer {
        let (name, request) = ("ops".to_owned(), "r".to_owned());
        KeptAnswer { name, key: key.to_owned(), request, status: 201, body: JsonText::empty_object(), at_ms }
    }

    fn key(key: &str) -> RequestKey {
        RequestKey { name: "ops".into(), key: key.into() }
    }

    #[test]
    fn an_answer_is_found_for_a_day_by_the_one_who_got_it() {
        let mut answers = Answers::default();
        answers.keep(answer("a", 5));
        assert_eq!(answers.find(&key("a"), 6).map(|answer| answer.status), Some(201));
        assert!(answers.find(&RequestKey { name: "b".into(), ..key("a") }, 6).is_none());
        assert!(answers.find(&key("a"), 5 + KEPT_MS).is_none());
        assert_eq!(answers.take_dirty().len(), 1);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_their_day_is_over() {
        let mut answers = Answers::default();
        for number in 0..=MAX_ANSWERS as u64 {
            answers.keep(answer(&number.to_string(), number));
        }
        assert!(answers.find(&key("0"), 1).is_none() && answers.find(&key("1"), 1).is_some());
        answers.take_dirty();
        answers.keep(answer("late", 3 + KEPT_MS));
        let gone = answers.take_dirty().into_iter().filter(|(_, answer)| answer.is_none()).count();
        assert_eq!(gone, 3);
    }

    #[test]
    fn what_was_stored_is_found_again() {
        let mut answers = Answers::default();
        answers.keep(answer("a", 5));
        let stored =
            answers.take_dirty().into_iter().filter_map(|(_, answer)| answer.map(|it| (*it).clone())).collect();
        assert!(Answers::load(stored).find(&key("a"), 6).is_some());
    }
}
