//! What happened last, for the case that something does not hold.

use std::collections::VecDeque;
use std::fmt::Write as _;

use agentcom::hub::scheduler::task::StatusName;
use agentcom::machine::{EventName, FromHubName, ToHubName};

use super::{About, EPOCH_MS, Options, Violation};

/// The number of notes that are kept: at noon, those of some minutes of 100,000 agents.
const KEPT: usize = 1 << 20;
/// The number of notes in a story.
const TOLD: usize = 120;

#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "what they hold is read where they are told")]
pub enum What {
    Happens(EventName),
    Says(ToHubName),
    Hears(FromHubName),
    Submitted,
    /// The hub has committed the task so, under this generation.
    Stored(StatusName, u64),
    Dropped,
    /// A session of this number is woken for this generation.
    Wakes(u32, u64),
    SessionEnds(u32),
    Dials(u32),
    LinkBreaks,
    Dies,
    /// A run of this number.
    Starts(u32),
    HubDies,
    HubStarts,
}

struct Note {
    at: u64,
    agent: Option<u32>,
    task: Option<u32>,
    what: What,
}

/// The latest notes.
pub struct Log {
    notes: VecDeque<Note>,
    tell: Option<About>,
    pub now: u64,
}

impl Log {
    pub fn new(tell: Option<About>) -> Self {
        Self { notes: VecDeque::new(), tell, now: EPOCH_MS }
    }

    pub fn note(&mut self, agent: Option<u32>, task: Option<u32>, what: What) {
        let note = Note { at: self.now, agent, task, what };
        if self.tell.is_some_and(|about| note.is_about(about)) {
            eprintln!("{}", note.told());
        }
        if self.notes.len() >= KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    /// Whether this agent is to be told of in full.
    pub fn tells_of(&self, agent: u32) -> bool {
        self.tell == Some(About::Agent(agent))
    }

    /// Returns what does not hold, and what happened last to whom it is about.
    pub fn story(&self, violation: &Violation, options: &Options) -> String {
        let about: Vec<&Note> = self.notes.iter().filter(|note| note.is_about(violation.about)).collect();
        let mut story = String::new();
        for note in &about[about.len().saturating_sub(TOLD)..] {
            let _ = writeln!(story, "{}", note.told());
        }
        let tell = match violation.about {
            About::Agent(agent) => format!(" --tell agent:{agent}"),
            About::Task(task) => format!(" --tell task:{task}"),
            About::All => String::new(),
        };
        let (at, Options { agents, seed, .. }) = (time(self.now), options);
        let hour = if options.is_an_hour() { " --hour" } else { "" };
        let _ = writeln!(story, "\n{at} {:?}: {}", violation.about, violation.what);
        let _ = write!(story, "seed {seed}; the same again: npm run day -- {agents} --seed {seed}{hour}{tell}");
        story
    }
}

impl Note {
    fn is_about(&self, about: About) -> bool {
        match about {
            About::Agent(agent) => self.agent == Some(agent) || (self.agent, self.task) == (None, None),
            About::Task(task) => self.task == Some(task) || (self.agent, self.task) == (None, None),
            About::All => true,
        }
    }

    fn told(&self) -> String {
        let agent = self.agent.map_or(String::new(), |agent| format!(" agent {agent}"));
        let task = self.task.map_or(String::new(), |task| format!(" task {task}"));
        format!("{}{agent}{task} {:?}", time(self.at), self.what)
    }
}

/// Returns a time as hours, minutes, seconds and ms since the beginning.
fn time(at: u64) -> String {
    let ms = at - EPOCH_MS;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", ms % 1_000)
}
