//! A machine that is fed with events and judged after each by the shipped properties. It answers for the disk, which
//! holds what the shipped writer writes and the shipped reader reads back; it decides nothing else.

use agentcom::machine::invariants::{StepRecord, check_step};
use agentcom::machine::{Disk, Effect, Event, Journal, Machine, Phase, Policy, Timestamp, transition};
use agentcom::sidecar::journal::{Boot, Found, from_bytes, to_bytes};

/// The machine's boot, the same in every life: what woke in it may still be under way.
pub const BOOT: Boot<'static> = Boot { id: "boot", since_ms: Some(0) };

/// A life.
pub struct Life {
    machine: Machine,
    now: Timestamp,
    policy: Policy,
    on_disk: Journal,
    disk_bad: bool,
}

impl Life {
    /// The life of a process that found `journal` at `now_ms`.
    pub fn of(journal: Journal, now_ms: u64) -> Self {
        let policy = Policy { machine_boot: BOOT.id.into(), ..Policy::default() };
        let now = Timestamp::from_millis(now_ms);
        let (machine, effects) = Machine::recover(journal.clone(), now, &policy);
        let mut life = Self { machine, now, policy, on_disk: journal, disk_bad: false };
        life.write(effects);
        life
    }

    /// Something happens, and the disk answers what is ordered of it.
    pub fn happens(&mut self, event: Event) {
        let effects = self.step(event);
        self.write(effects);
    }

    /// The time that the machine waits for comes.
    pub fn due(&mut self) {
        if let Some((at, _)) = self.machine.deadline(&self.policy) {
            self.now = self.now.max(at);
            self.happens(Event::DeadlineReached);
        }
    }

    /// The disk fails, or works again.
    pub fn disk(&mut self, bad: bool) {
        self.disk_bad = bad;
    }

    /// The process dies; the next one finds what is on disk.
    pub fn dies(&mut self) {
        let (machine, effects) = Machine::recover(self.on_disk.clone(), self.now, &self.policy);
        self.machine = machine;
        self.write(effects);
    }

    /// Whether it is there to hear anything.
    pub fn is_over(&self) -> bool {
        self.machine.state.phase() == Phase::Exiting
    }

    /// The machine as it is.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let before = self.machine.clone();
        let (after, effects) = transition(before.clone(), event.clone(), self.now, &self.policy);
        let (now, policy) = (self.now, &self.policy);
        let step = StepRecord { before: &before, event: &event, now, policy, after: &after, effects: &effects };
        if let Err(violation) = check_step(&step) {
            panic!("{violation}\non {event:?}\nin {before:#?}");
        }
        self.machine = after;
        effects
    }

    fn write(&mut self, mut effects: Vec<Effect>) {
        // A write lets out what waited for it, which may order a write again; a handful is the most there ever is.
        for _ in 0..8 {
            let journal = effects
                .into_iter()
                .find_map(|effect| if let Effect::Persist(journal) = effect { Some(*journal) } else { None });
            let Some(journal) = journal else { return self.at_peace_with_the_disk() };
            assert_read_back(&journal);
            effects = if self.disk_bad {
                self.step(Event::PersistFailed)
            } else {
                self.on_disk = journal;
                self.step(Event::Persisted)
            };
        }
        panic!("the journal never comes to rest: {:#?}", self.machine);
    }

    fn at_peace_with_the_disk(&self) {
        if self.machine.disk == Disk::Ready && !self.is_over() {
            assert_eq!(self.machine.journal(), self.on_disk, "nothing is being written, and the disk differs");
        }
    }
}

/// What is written is read as what it was.
pub fn assert_read_back(journal: &Journal) {
    let bytes = to_bytes(journal, &agentcom::protocol::JsonFields::default());
    match from_bytes(&bytes, BOOT) {
        Ok(Found::Journal { journal: read, other, unread, replaced: _ }) => {
            assert_eq!(&*read, journal, "{}", String::from_utf8_lossy(&bytes));
            assert!(other.is_empty() && unread.is_empty(), "{other:?} {unread:?}");
        }
        Ok(Found::Newer { schema }) => panic!("our own file is of schema {schema}"),
        Err(error) => panic!("our own file makes no sense: {error}\n{}", String::from_utf8_lossy(&bytes)),
    }
}
