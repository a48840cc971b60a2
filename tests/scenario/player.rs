//! One life after another: a machine, a clock and a disk. It carries a story's lines out as the shell would, answers
//! writes as the disk's mood says, and judges every transition by the properties; it does not judge the story.

use std::collections::BTreeSet;

use agentcom::machine::invariants::{History, StepRecord, Violation, check_step};
use agentcom::machine::{
    Effect, EffectName, Event, EventName, FromHubName, Journal, Machine, Phase, Policy, Timestamp, ToHubName, Wait,
    transition,
};

use super::print;
use super::words::{Figures, Line, Mood, Told, WriteFate};

/// Where every story's clock begins.
const ORIGIN: Timestamp = Timestamp::from_millis(1_000_000_000);

/// More deadlines than any stretch of time in a story has.
const MANY: usize = 10_000;

/// What was met on the way.
#[derive(Debug, Default)]
pub struct Seen {
    /// States before and after.
    pub edges: BTreeSet<(Phase, Phase)>,
    /// Events, by the state they were met in.
    pub events: BTreeSet<(Phase, &'static str)>,
    /// What hubs said.
    pub from_hub: BTreeSet<&'static str>,
    /// What was said to hubs.
    pub to_hub: BTreeSet<&'static str>,
    /// What was ordered.
    pub effects: BTreeSet<&'static str>,
    /// What was waited for.
    pub waits: BTreeSet<&'static str>,
}

/// A story being played.
pub struct Player {
    /// The figures, which a reboot changes.
    pub policy: Policy,
    /// The present process's machine.
    pub machine: Option<Machine>,
    /// The clock.
    pub now: Timestamp,
    /// What was met.
    pub seen: Seen,
    /// What `+0` means; goes back with the clock.
    origin: Timestamp,
    on_disk: Journal,
    disk: Mood,
    supervisor: Mood,
    folder: Mood,
    next_run: Told,
    writing: Option<Journal>,
    history: History,
    boots: u32,
    told: Vec<String>,
}

impl Player {
    /// Nothing is running yet.
    pub fn new(Figures { policy, next_run }: Figures) -> Self {
        Self {
            policy: Policy { machine_boot: "boot 1".into(), ..policy },
            machine: None,
            now: ORIGIN,
            seen: Seen::default(),
            origin: ORIGIN,
            on_disk: Journal::default(),
            disk: Mood::Works,
            supervisor: Mood::Works,
            folder: Mood::Works,
            next_run,
            writing: None,
            history: History::default(),
            boots: 1,
            told: Vec::new(),
        }
    }

    /// Plays lines and tells what came of them: the state they led to, then everything that was ordered.
    ///
    /// # Errors
    /// A property that does not hold, or a line that does not fit where the story stands.
    pub fn play(&mut self, lines: &[Line]) -> Result<Vec<String>, String> {
        for line in lines {
            self.line(line)?;
        }
        let state = print::state(self.machine()?, self.origin);
        Ok(std::iter::once(state).chain(collapsed(std::mem::take(&mut self.told))).collect())
    }

    /// One line.
    ///
    /// # Errors
    /// As [`Player::play`].
    pub fn line(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Start => self.start(false),
            Line::Crash { during, rebooted } => self.crash(during.as_ref(), *rebooted),
            Line::Happens(event) => self.happens(event),
            Line::Answers(number, told) => {
                let event = self.answer(*number, told)?;
                self.happens(&event)
            }
            Line::Due => {
                let (at, wait) =
                    self.machine()?.deadline(&self.policy).ok_or("the machine waits for nothing, so nothing is due")?;
                self.meet(at, wait)
            }
            Line::Passes(ms) => {
                let until = self.now.plus(*ms);
                for _ in 0..MANY {
                    match self.machine()?.deadline(&self.policy) {
                        Some((at, wait)) if at <= until => self.meet(at, wait)?,
                        Some(_) | None => {
                            self.now = self.now.max(until);
                            return Ok(());
                        }
                    }
                }
                Err(format!("{MANY} deadlines on the way to +{}", until.since(self.origin)))
            }
            Line::Stalls(ms) => {
                self.now = self.now.plus(*ms);
                Ok(())
            }
            Line::ClockBack(ms) => {
                if self.machine()?.state.phase() != Phase::Exiting {
                    return Err("a process keeps its own time: the clock is set back between two".into());
                }
                self.now = self.now.minus(*ms);
                self.origin = self.origin.minus(*ms);
                Ok(())
            }
            Line::Disk(mood) => {
                self.disk = *mood;
                Ok(())
            }
            Line::Supervisor(mood) => {
                self.supervisor = *mood;
                Ok(())
            }
            Line::Folder(mood) => {
                self.folder = *mood;
                Ok(())
            }
            Line::Repeat(times, line) => (0..*times).try_for_each(|_| self.line(line)),
        }
    }

    /// The present process's machine.
    ///
    /// # Errors
    /// None was started.
    pub fn machine(&self) -> Result<&Machine, String> {
        self.machine.as_ref().ok_or_else(|| "nothing runs: a story begins with `start`".to_owned())
    }

    /// The answer to the question that was asked last, unless it is to another.
    fn answer(&self, number: Option<u32>, told: &Told) -> Result<Event, String> {
        Ok(told.to(number.unwrap_or(self.machine()?.questions)))
    }

    fn meet(&mut self, at: Timestamp, wait: Wait) -> Result<(), String> {
        self.now = self.now.max(at);
        self.seen.waits.insert(wait.into());
        self.told.push(format!("* due: {wait} at +{}", self.now.since(self.origin)));
        self.happens(&Event::DeadlineReached)
    }

    /// A process begins with what the disk holds, as the supervisor would start it.
    fn start(&mut self, rebooted: bool) -> Result<(), String> {
        if self.machine.as_ref().is_some_and(|machine| machine.state.phase() != Phase::Exiting) {
            return Err("the process before has not ended".into());
        }
        self.history.crashed(&self.on_disk, rebooted).map_err(|violation| violation.to_string())?;
        let (machine, effects) = Machine::recover(self.on_disk.clone(), self.now, &self.policy);
        self.machine = Some(machine);
        self.writing = None;
        self.carry_out(&effects)
    }

    fn crash(&mut self, during: Option<&(WriteFate, Box<Line>)>, rebooted: bool) -> Result<(), String> {
        if let Some((fate, line)) = during {
            let event = if let Line::Happens(event) = &**line {
                event.clone()
            } else if let Line::Answers(number, told) = &**line {
                self.answer(*number, told)?
            } else {
                return Err(format!("{line:?} is nothing to die of"));
            };
            for effect in self.step(&event)? {
                if let Effect::Persist(journal) = &effect {
                    self.writing = Some((**journal).clone());
                }
                let lost =
                    if matches!(effect, Effect::Persist(_)) && *fate == WriteFate::Lost { " (lost)" } else { "" };
                if !print::is_bookkeeping(&effect) {
                    self.told.push(format!("  {}{lost}", print::effect(&effect)));
                }
            }
            if let (WriteFate::Landed, Some(journal)) = (fate, self.writing.take()) {
                self.on_disk = journal;
            }
        }
        if rebooted {
            self.boots += 1;
            self.policy.machine_boot = format!("boot {}", self.boots);
        }
        self.told.push(if rebooted { "* rebooted".into() } else { "* killed, and started again".into() });
        self.machine = None;
        self.start(rebooted)
    }

    fn happens(&mut self, event: &Event) -> Result<(), String> {
        if let Event::Persisted | Event::PersistFailed = event {
            let journal = self.writing.take().ok_or("no write is under way")?;
            if *event == Event::Persisted {
                self.on_disk = journal;
            }
        }
        let effects = self.step(event)?;
        self.carry_out(&effects)
    }

    fn carry_out(&mut self, effects: &[Effect]) -> Result<(), String> {
        let (mut answer, mut answers) = (None, Vec::new());
        for effect in effects {
            self.seen.effects.insert(EffectName::from(effect).into());
            if let Effect::Send(said) = effect {
                self.seen.to_hub.insert(ToHubName::from(said).into());
            }
            let mut told = format!("  {}", print::effect(effect));
            if let Effect::Persist(journal) = effect {
                self.writing = Some((**journal).clone());
                match self.disk {
                    Mood::Works => answer = Some(Event::Persisted),
                    Mood::Fails => {
                        told.push_str(" (fails)");
                        answer = Some(Event::PersistFailed);
                    }
                    Mood::Slow => {}
                }
            }
            if let Effect::KeepRefused { task_id, generation, .. } = effect {
                let outcome =
                    |path| Event::RefusedResultWritten { task_id: task_id.clone(), generation: *generation, path };
                match self.disk {
                    Mood::Works => answer = Some(outcome(Some(format!("results/rejected/{task_id}.json")))),
                    Mood::Fails => {
                        told.push_str(" (fails)");
                        answer = Some(outcome(None));
                    }
                    Mood::Slow => {}
                }
            }
            if let (Effect::CheckNextRun { number, .. }, Mood::Works) = (effect, self.supervisor) {
                answers.push(self.next_run.to(*number));
            }
            if let (Effect::LookForResults { number }, Mood::Works) = (effect, self.folder) {
                answers.push(Told::Looked.to(*number));
            }
            if !print::is_bookkeeping(effect) {
                self.told.push(told);
            }
        }
        // A write is waited for; everything else is answered when its turn comes.
        answer.into_iter().chain(answers).try_for_each(|event| self.happens(&event))
    }

    fn step(&mut self, event: &Event) -> Result<Vec<Effect>, String> {
        let before = self.machine.take().ok_or("nothing runs: a story begins with `start`")?;
        let (after, effects) = transition(before.clone(), event.clone(), self.now, &self.policy);
        let step = StepRecord {
            before: &before,
            event,
            now: self.now,
            policy: &self.policy,
            after: &after,
            effects: &effects,
        };
        let judged: Result<(), Violation> = check_step(&step).and_then(|()| self.history.observe(&step));
        let (from, to) = (before.state.phase(), after.state.phase());
        self.seen.edges.insert((from, to));
        self.seen.events.insert((from, EventName::from(event).into()));
        if let Event::HubSaid(said) = event {
            self.seen.from_hub.insert(FromHubName::from(said).into());
        }
        self.machine = Some(after);
        judged.map_err(|violation| format!("{violation}\non {event:?}"))?;
        Ok(effects)
    }
}

/// Lines said several times in a row are told once.
fn collapsed(lines: Vec<String>) -> Vec<String> {
    let mut told: Vec<(String, usize)> = Vec::new();
    for line in lines {
        match told.last_mut() {
            Some((last, times)) if *last == line => *times += 1,
            Some(_) | None => told.push((line, 1)),
        }
    }
    told.into_iter().map(|(line, times)| if times == 1 { line } else { format!("{line} ({times} times)") }).collect()
}
