//! The answers to requests with an `Idempotency-Key`: a request that is sent again is answered with what the first one was
//! answered, and nothing is done twice. Pure; an answer is stored in the same commit as what it tells.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::JsonText;

/// How long an answer is kept, in ms.
pub const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// The largest number of answers that are kept.
pub const MAX_ANSWERS: usize = 10_000;
/// The largest size of all of them together, in bytes.
pub const MAX_BYTES: u64 = 32 << 20;
/// What an answer takes beside its texts, in bytes.
const WEIGHT_OF_REST: u64 = 256;
/// The largest number of characters in a key.
pub const MAX_KEY_CHARS: usize = 128;

/// Who sends requests. The next owner of a name is another sender.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sender {
    /// The name that the request's token proves.
    pub name: String,
    /// The time since which the name has its owner, in ms since the epoch; 0 for who needs no token.
    pub owned_since: u64,
}

/// A request: who sent it, and the key that it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// Who sent it.
    pub sender: Sender,
    /// The `Idempotency-Key`.
    pub key: String,
}

impl RequestKey {
    /// Returns the key in the store: names hold no control characters.
    fn stored(&self) -> String {
        let Sender { name, owned_since } = &self.sender;
        format!("{name}\n{owned_since}\n{}", self.key)
    }
}

/// An answer, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// Who sent the request.
    #[serde(flatten)]
    pub sender: Sender,
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
    /// Returns what it takes, in bytes, in memory and on the disk.
    fn weight(&self) -> u64 {
        let texts = self.body.as_str().len() + self.sender.name.len() + self.key.len();
        u64::try_from(texts).unwrap_or(u64::MAX).saturating_add(WEIGHT_OF_REST)
    }

    /// Moves its time.
    pub fn move_by(&mut self, ms: i64) {
        self.at_ms = self.at_ms.saturating_add_signed(ms);
    }

    /// Returns the key under which it is stored.
    pub fn stored_key(&self) -> String {
        self.request_key().stored()
    }

    fn request_key(&self) -> RequestKey {
        RequestKey { sender: self.sender.clone(), key: self.key.clone() }
    }
}

/// An answer to store, or (`None`) to delete, by its key in the store.
pub type Change = (String, Option<Arc<KeptAnswer>>);

/// All answers that are kept. Where there is no room for one more, the sender whose answers take the most loses its oldest:
/// nobody can make the hub forget what it answered to others.
#[derive(Debug, Default)]
pub struct Answers {
    by_key: HashMap<RequestKey, Arc<KeptAnswer>>,
    by_age: BTreeSet<(u64, RequestKey)>,
    senders: HashMap<Sender, Share>,
    /// The senders by the size of their answers.
    by_size: BTreeSet<(u64, Sender)>,
    bytes: u64,
    dirty: Vec<Change>,
}

/// What is kept of one sender.
#[derive(Debug, Default)]
struct Share {
    by_age: BTreeSet<(u64, String)>,
    bytes: u64,
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
        self.dirty.push((answer.stored_key(), Some(Arc::new(answer.clone()))));
        self.insert(answer);
        while let Some((at_ms, key)) = self.by_age.first().cloned()
            && at_ms.saturating_add(KEPT_MS) <= now_ms
        {
            self.drop(&key);
        }
        while self.by_age.len() > MAX_ANSWERS || self.bytes > MAX_BYTES {
            let Some((_, largest)) = self.by_size.last().cloned() else { return };
            let Some((_, key)) = self.senders.get(&largest).and_then(|share| share.by_age.first()).cloned() else {
                return;
            };
            self.drop(&RequestKey { sender: largest, key });
        }
    }

    /// Moves the times of all answers `ms` later, or earlier if that is negative, because the clock was set: each is kept for
    /// as long as it would have been.
    pub fn move_by(&mut self, ms: i64) {
        let answers: Vec<Arc<KeptAnswer>> = self.by_key.values().cloned().collect();
        for answer in answers {
            let mut moved = (*answer).clone();
            moved.move_by(ms);
            self.dirty.push((moved.stored_key(), Some(Arc::new(moved.clone()))));
            self.insert(moved);
        }
    }

    /// Returns what changed since the last call.
    pub fn take_dirty(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.dirty)
    }

    fn insert(&mut self, answer: KeptAnswer) {
        let key = answer.request_key();
        self.remove(&key);
        self.by_age.insert((answer.at_ms, key.clone()));
        self.resize(&key.sender, |share| {
            share.by_age.insert((answer.at_ms, key.key.clone()));
            share.bytes += answer.weight();
        });
        self.by_key.insert(key, Arc::new(answer));
    }

    fn drop(&mut self, key: &RequestKey) {
        if self.remove(key) {
            self.dirty.push((key.stored(), None));
        }
    }

    fn remove(&mut self, key: &RequestKey) -> bool {
        let Some(answer) = self.by_key.remove(key) else { return false };
        self.by_age.remove(&(answer.at_ms, key.clone()));
        self.resize(&key.sender, |share| {
            share.by_age.remove(&(answer.at_ms, key.key.clone()));
            share.bytes -= answer.weight();
        });
        true
    }

    fn resize(&mut self, sender: &Sender, change: impl FnOnce(&mut Share)) {
        let share = self.senders.entry(sender.clone()).or_default();
        let before = share.bytes;
        change(share);
        let after = share.bytes;
        if share.by_age.is_empty() {
            self.senders.remove(sender);
        }
        self.bytes = self.bytes - before + after;
        self.by_size.remove(&(before, sender.clone()));
        if after > 0 {
            self.by_size.insert((after, sender.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &str) -> Sender {
        Sender { name: name.into(), owned_since: 1 }
    }

    fn answer(key: &str, at_ms: u64) -> KeptAnswer {
        let (request, body) = ("r".to_owned(), JsonText::empty_object());
        KeptAnswer { sender: sender("ops"), key: key.to_owned(), request, status: 201, body, at_ms }
    }

    fn key(key: &str) -> RequestKey {
        RequestKey { sender: sender("ops"), key: key.into() }
    }

    #[test]
    fn an_answer_is_found_for_a_day_by_the_one_who_got_it() {
        let mut answers = Answers::default();
        answers.keep(answer("a", 5));
        assert_eq!(answers.find(&key("a"), 6).map(|answer| answer.status), Some(201));
        let next_owner = Sender { owned_since: 2, ..sender("ops") };
        for other in [sender("b"), next_owner] {
            assert!(answers.find(&RequestKey { sender: other, ..key("a") }, 6).is_none());
        }
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
    fn who_asks_for_much_loses_its_own_answers_and_nobody_elses() {
        let mut answers = Answers::default();
        answers.keep(answer("mine", 1));
        let body = JsonText::of(&"x".repeat(1 << 20));
        for number in 0..100 {
            let greedy = KeptAnswer { sender: sender("greedy"), body: body.clone(), ..answer(&number.to_string(), 2) };
            answers.keep(greedy);
            assert!(answers.bytes <= MAX_BYTES);
        }
        assert!(answers.find(&key("mine"), 3).is_some());
        for number in 0..MAX_ANSWERS {
            answers.keep(KeptAnswer { sender: sender("many"), ..answer(&number.to_string(), 4) });
        }
        assert!(answers.find(&key("mine"), 5).is_some());
        assert_eq!(answers.bytes, answers.by_key.values().map(|answer| answer.weight()).sum::<u64>());
        assert_eq!(answers.by_size.len(), answers.senders.len());
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
