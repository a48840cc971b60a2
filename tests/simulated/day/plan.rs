//! What is done to the fleet: tasks in a daily curve, links that fail alone and together, processes and hosts that die, a
//! hub that is killed, operators, a rollout.

use agentcom::hub::scheduler::task::Priority;

use super::books::{Nature, Needs, TaskBook};
use super::hub::Message;
use super::link::LinkFault;
use super::log::What;
use super::{Checked, Day, EPOCH_MS, Ev, Violation};
use crate::rng::Rng;

/// How many tasks come in each 24th of the day, of a hundred on average.
const CURVE: [u64; 24] =
    [40, 30, 25, 25, 30, 45, 70, 100, 140, 165, 170, 160, 140, 155, 170, 165, 150, 130, 110, 100, 90, 80, 70, 45];
/// When a part of the fleet loses its link, in thousandths of the day, and how many of a hundred do.
const STORMS: [(u64, u64); 8] = [(80, 10), (210, 30), (345, 5), (425, 20), (455, 40), (600, 15), (720, 60), (880, 25)];
/// When the hub dies, in thousandths of the day, and whether its host goes with it.
const HUB_DEATHS: [(u64, bool); 5] = [(150, false), (432, false), (470, true), (650, false), (930, true)];
/// When the rollout begins, in thousandths of the day.
const ROLLOUT: u64 = 420;
/// How often each of these comes to an agent in a day, in thousandths.
const BREAKS: u64 = 1_000;
const DEATHS: u64 = 300;
const REBOOTS: u64 = 40;
const COMMANDS: u64 = 20;

/// Draws how often something happens in this second that happens so often in so many seconds.
fn drawn(rng: &mut Rng, times: u64, seconds: u64) -> u64 {
    let (whole, rest) = (times / seconds, times % seconds);
    whole + u64::from(rng.between(0, seconds) < rest)
}

impl Day {
    pub(super) fn plan_day(&mut self) {
        let (begin, length_ms) = (EPOCH_MS, self.options.length_ms);
        self.books.version = 1;
        // The fleet is switched on within half a minute.
        for agent in 0..self.options.agents {
            let ms = self.fleet[agent as usize].rng.between(0, 30_000);
            self.agenda.plan(begin + ms, Ev::Start(agent, 0));
        }
        for (at, with_its_host) in HUB_DEATHS {
            self.agenda.plan(begin + length_ms * at / 1_000, Ev::HubDies(with_its_host));
        }
        for (number, (at, _)) in (0..).zip(STORMS) {
            self.agenda.plan(begin + length_ms * at / 1_000, Ev::Storm(number));
        }
        self.wake_hub(begin);
        self.agenda.plan(begin + 60_000, Ev::Second);
        self.agenda.plan(begin + 60_000, Ev::Minute);
    }

    /// A part of the fleet loses its link, each in its own way and for a time of its own.
    pub(super) fn storm(&mut self, number: u32) -> Checked {
        let now = self.now();
        let (_, percent) = STORMS[number as usize];
        self.figures.storms += 1;
        let longest_ms = self.rng.between(10_000, 180_000);
        for agent in 0..self.options.agents {
            let rng = &mut self.fleet[agent as usize].rng;
            if rng.between(0, 100) < percent {
                let ms = rng.between(1_000, longest_ms);
                self.one_link_fails(agent, now + ms)?;
            }
        }
        Ok(())
    }

    fn one_link_fails(&mut self, agent: u32, until: u64) -> Checked {
        let now = self.now();
        self.figures.link_faults += 1;
        match self.fleet[agent as usize].rng.between(0, 4) {
            0 | 1 => self.link_fails(agent, LinkFault::Break, until),
            2 => self.link_fails(agent, LinkFault::Silence, until),
            _ => self.link_fails(agent, LinkFault::Hold, until.min(now + 45_000)),
        }
    }

    /// What comes in a second.
    pub(super) fn second(&mut self) -> Checked {
        let now = self.now();
        let (length_ms, agents) = (self.options.length_ms, u64::from(self.options.agents));
        let passed = now - EPOCH_MS;
        if passed >= length_ms {
            self.calm = true;
            return Ok(());
        }
        let seconds = length_ms / 1_000;
        let weight = CURVE[usize::try_from(passed * 24 / length_ms).unwrap_or_default().min(23)];
        // Bursts: a second has up to twice as many.
        let tasks = self.options.tasks * weight / 100 * self.rng.between(0, 200) / 100;
        for _ in 0..drawn(&mut self.rng, tasks, seconds) {
            let at = now + self.rng.between(0, 1_000);
            self.plan_task(at);
        }
        for _ in 0..drawn(&mut self.rng, agents * BREAKS / 1_000, seconds) {
            let (agent, ms) = (self.any_agent(), self.rng.between(100, 60_000));
            self.one_link_fails(agent, now + ms)?;
        }
        for _ in 0..drawn(&mut self.rng, agents * DEATHS / 1_000, seconds) {
            let agent = self.any_agent();
            match self.rng.between(0, 2) {
                0 => self.dies(agent, false)?,
                _ => {
                    let effects = self.rng.between(0, 6);
                    self.dies_after(agent, effects);
                }
            }
        }
        for _ in 0..drawn(&mut self.rng, agents * REBOOTS / 1_000, seconds) {
            let agent = self.any_agent();
            self.figures.reboots += 1;
            self.dies(agent, true)?;
        }
        for _ in 0..drawn(&mut self.rng, agents * COMMANDS / 1_000, seconds) {
            let (agent, force) = (self.any_agent(), self.rng.one_in(4));
            let command_id = format!("by-hand-{:016x}", self.rng.next());
            self.tell_hub(Message::Restart { command_id, agent, force });
        }
        self.agenda.plan(now + 1_000, Ev::Second);
        Ok(())
    }

    fn any_agent(&mut self) -> u32 {
        u32::try_from(self.rng.between(0, self.options.agents.into())).expect("one of them")
    }

    fn plan_task(&mut self, at: u64) {
        let task = u32::try_from(self.books.tasks.len()).expect("fewer than four billion");
        let nature = match self.rng.between(0, 10_000) {
            0..10 => Nature::Poison,
            10..13 => Nature::Killer,
            _ => Nature::Good,
        };
        let needs = match self.rng.between(0, 100) {
            0 => Needs::Agent(self.any_agent()),
            1..6 => Needs::Gpu,
            _ => Needs::Anybody,
        };
        let priority = match self.rng.between(0, 100) {
            0..3 => Priority::Urgent,
            3..15 => Priority::High,
            15..80 => Priority::Normal,
            _ => Priority::Low,
        };
        let work_ms = match self.rng.between(0, 100) {
            0..60 => self.rng.between(10_000, 180_000),
            60..90 => self.rng.between(180_000, 900_000),
            90..99 => self.rng.between(900_000, 3_600_000),
            _ => self.rng.between(3_600_000, 4 * 3_600_000),
        };
        self.books.tasks.push(TaskBook::new(nature, needs, priority, work_ms / self.options.haste, at));
        self.agenda.plan(at, Ev::Submit(task));
        if self.rng.one_in(100) {
            let ms = self.rng.between(100, 600_000);
            self.agenda.plan(at + ms, Ev::Cancel(task));
        }
    }

    /// A client submits a task, again while the hub does not answer.
    pub(super) fn submit(&mut self, task: u32) {
        if self.hub.state.is_some() {
            self.log.note(None, Some(task), What::Submitted);
            self.tell_hub(Message::Submit(task));
        } else {
            let ms = self.rng.between(1_000, 5_000);
            self.agenda.plan(self.agenda.now() + ms, Ev::Submit(task));
        }
    }

    /// The hub died before it answered: the client submits the same once more, as another task.
    pub(super) fn submit_again(&mut self, task: u32) {
        let again = u32::try_from(self.books.tasks.len()).expect("fewer than four billion");
        let book = &mut self.books.tasks[task as usize];
        book.is_repeated = true;
        let book = book.again();
        self.books.tasks.push(book);
        self.figures.submitted_again += 1;
        let ms = self.rng.between(1_000, 5_000);
        self.agenda.plan(self.agenda.now() + ms, Ev::Submit(again));
    }

    pub(super) fn cancel(&mut self, task: u32) {
        self.tell_hub(Message::Cancel(task));
    }

    /// An operator looks once a minute. Returns whether the day is over.
    pub(super) fn minute(&mut self) -> Result<bool, Violation> {
        let (now, passed) = (self.now(), self.now() - EPOCH_MS);
        if self.hub.state.is_some() && passed >= self.options.length_ms * ROLLOUT / 1_000 {
            match self.rollout() {
                None => self.tell_hub(Message::StartRollout),
                Some(_) if self.rollout_halted() => self.tell_hub(Message::ResumeRollout),
                Some(rollout) => {
                    let ended_at = rollout.ended_at;
                    self.figures.rollout_ended = self.figures.rollout_ended.or(ended_at);
                }
            }
        }
        let is_full_hour = (passed / 60_000).is_multiple_of(60);
        if is_full_hour || self.options.is_an_hour() {
            self.look_for_waits();
        }
        if is_full_hour {
            self.each_hour()?;
        }
        self.agenda.plan(now + 60_000, Ev::Minute);
        Ok(self.calm && self.unfinished().is_none())
    }
}
