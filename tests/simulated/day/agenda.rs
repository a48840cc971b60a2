//! What happens when, by virtual time. What is planned for the same millisecond happens in the order of its planning.

use std::collections::BTreeMap;

/// The time ahead for which each millisecond has a list of its own, in ms; what is later waits in a tree.
const NEAR_MS: u64 = 1 << 16;
/// A list that became longer than this in a storm gives its memory back.
const KEPT: usize = 32;

/// The planned events.
pub struct Agenda<E> {
    now: u64,
    near: Vec<Vec<E>>,
    /// How many of the present millisecond have happened.
    done: usize,
    far: BTreeMap<u64, Vec<E>>,
    waiting: u64,
}

impl<E: Copy> Agenda<E> {
    pub fn new(now: u64) -> Self {
        let near = (0..NEAR_MS).map(|_| Vec::new()).collect();
        Self { now, near, done: 0, far: BTreeMap::new(), waiting: 0 }
    }

    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Plans an event for this time; for now if that is over.
    pub fn plan(&mut self, at: u64, event: E) {
        let at = at.max(self.now);
        self.waiting += 1;
        if at < self.now + NEAR_MS {
            self.near[place(at)].push(event);
        } else {
            self.far.entry(at).or_default().push(event);
        }
    }

    /// Returns the next event, and moves the time to it.
    pub fn next(&mut self) -> Option<E> {
        loop {
            let present = &mut self.near[place(self.now)];
            if let Some(event) = present.get(self.done) {
                self.done += 1;
                self.waiting -= 1;
                return Some(*event);
            }
            if present.capacity() > KEPT {
                *present = Vec::new();
            } else {
                present.clear();
            }
            self.done = 0;
            if self.waiting == 0 {
                return None;
            }
            self.now += 1;
            // Nothing can have been planned for that millisecond among the near ones yet, so the order stays.
            if let Some(first) = self.far.first_entry().filter(|first| *first.key() < self.now + NEAR_MS) {
                let (at, events) = first.remove_entry();
                self.near[place(at)].extend(events);
            }
        }
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at % NEAR_MS).expect("less than the number of lists")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_their_planning() {
        let mut agenda = Agenda::new(1_000);
        let late = 1_000 + 3 * NEAR_MS;
        for (at, event) in [(late, 5), (1_000, 1), (late, 6), (1_007, 3), (1_000, 2), (0, 4)] {
            agenda.plan(at, event);
        }
        let mut seen = Vec::new();
        while let Some(event) = agenda.next() {
            seen.push((agenda.now(), event));
            if event == 3 {
                agenda.plan(late, 7);
                agenda.plan(agenda.now(), 8);
            }
        }
        let first = [(1_000, 1), (1_000, 2), (1_000, 4), (1_007, 3), (1_007, 8)];
        assert_eq!(seen[..5], first);
        assert_eq!(seen[5..], [(late, 5), (late, 6), (late, 7)]);
    }
}
