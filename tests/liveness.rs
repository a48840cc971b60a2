//! Whatever a life has come to, it comes right: with a hub that answers, a disk that works and an agent that finishes,
//! every verdict is answered, held work ends and the sidecar is idle in bounded time, ready for the next task.
//! The lives before that are wilder than any hub's (generations that jump, repeat or are 0); what holds of a single
//! life at every step is the property tests' business.

#[path = "liveness/wild.rs"]
mod wild;

use std::collections::VecDeque;

use agentcom::machine::invariants::{StepRecord, check_step};
use agentcom::machine::*;
use proptest::prelude::*;
use proptest::test_runner::Config;

use wild::{Op, features, op};

/// A restart deadline (at most 200 s here), a wake with its retries, a reconnect after a cooldown, and some air.
const BOUND_MS: u64 = 600_000;

/// Enough for every deadline in that time; more is a machine that turns in circles.
const MOVES: usize = 5_000;

/// How a kind hub answers: every way is one that an existing hub or ours has.
#[derive(Debug, Clone, Copy)]
struct KindHub {
    features: Features,
    /// `task_accepted` is answered.
    acks_accept: bool,
    /// A task it is asked about is still ours; else it has it no more, and may hand it out to us anew.
    says_continue: bool,
    /// It hands a task that it took back out to us again.
    hands_out_again: bool,
    /// It drops so many frames for their rate before it listens.
    drops: u8,
    /// It calls so many verdicts stale.
    stale: u8,
}

struct World {
    machine: Machine,
    now: Timestamp,
    policy: Policy,
    disk_bad: bool,
    on_disk: Journal,
}

impl World {
    fn new(policy: Policy) -> Self {
        let now = Timestamp::from_millis(1_000_000_000);
        let (machine, effects) = Machine::recover(Journal::default(), now, &policy);
        assert!(matches!(effects[..], [Effect::Dial]));
        Self { machine, now, policy, disk_bad: false, on_disk: Journal::default() }
    }

    /// One event and the writes that follow from it; all the other orders are returned.
    fn happens(&mut self, event: Event) -> Result<Vec<Effect>, TestCaseError> {
        let mut others = Vec::new();
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let before = self.machine.clone();
            let (after, effects) = transition(before.clone(), event.clone(), self.now, &self.policy);
            let (now, policy) = (self.now, &self.policy);
            check_step(&StepRecord { before: &before, event: &event, now, policy, after: &after, effects: &effects })
                .map_err(|violation| TestCaseError::fail(format!("{violation}\non {event:?}\nin {before:?}")))?;
            self.machine = after;
            for effect in effects {
                match self.outcome_of_write(&effect) {
                    Some(outcome) => next = Some(outcome),
                    None => others.push(effect),
                }
            }
        }
        Ok(others)
    }

    /// What the disk makes of an order to write, if it is one.
    fn outcome_of_write(&mut self, effect: &Effect) -> Option<Event> {
        if let Effect::KeepRefused { task_id, generation, .. } = effect {
            let path = (!self.disk_bad).then(|| "rejected".to_owned());
            return Some(Event::RefusedResultWritten { task_id: task_id.clone(), generation: *generation, path });
        }
        let Effect::Persist(journal) = effect else { return None };
        if self.disk_bad {
            return Some(Event::PersistFailed);
        }
        self.on_disk = (**journal).clone();
        Some(Event::Persisted)
    }

    /// The next process.
    fn recover(&mut self) -> Result<Vec<Effect>, TestCaseError> {
        let (machine, mut effects) = Machine::recover(self.on_disk.clone(), self.now, &self.policy);
        self.machine = machine;
        let outcomes: Vec<Event> = effects.iter().filter_map(|effect| self.outcome_of_write(effect)).collect();
        effects.retain(|effect| !matches!(effect, Effect::Persist(_) | Effect::KeepRefused { .. }));
        for outcome in outcomes {
            effects.extend(self.happens(outcome)?);
        }
        Ok(effects)
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Happens(event) => drop(self.happens(event.clone())?),
            Op::Passes(ms) => self.now = self.now.plus(*ms),
            Op::Due => drop(self.due()?),
            Op::Connects(features) => {
                if let Connection::Down { .. } = self.machine.connection {
                    self.due()?;
                }
                self.happens(Event::HubOpened)?;
                self.happens(Event::HubSaid(FromHub::Identified { features: *features }))?;
            }
            Op::Disk { bad } => self.disk_bad = *bad,
            Op::Dies { rebooted, set_back_ms } => {
                self.now = self.now.minus(*set_back_ms);
                if *rebooted {
                    self.policy.machine_boot.push('+');
                }
                self.recover()?;
            }
        }
        Ok(())
    }

    fn due(&mut self) -> Result<Vec<Effect>, TestCaseError> {
        let Some((at, _)) = self.machine.deadline(&self.policy) else { return Ok(Vec::new()) };
        self.now = self.now.max(at);
        self.happens(Event::DeadlineReached)
    }

    fn at_rest(&self) -> bool {
        self.machine.state == State::Idle
            && self.machine.outbox.is_empty()
            && self.machine.deferred.is_none()
            && self.machine.check.is_none()
            && self.machine.replies.is_empty()
            && self.machine.disk == Disk::Ready
            && self.machine.connection.can_send()
    }

    /// What the world owes the machine already: connections and wake commands under way.
    fn owed(&self) -> Vec<Event> {
        let mut owed = Vec::new();
        match &self.machine.connection {
            Connection::Down { .. } | Connection::Online(_) => {}
            Connection::Dialing { .. } => owed.push(Event::HubOpened),
            // Who asked before is not known any more: the hub hangs up.
            Connection::Identifying { .. } | Connection::Closing { .. } => owed.push(closed()),
        }
        if let Some(job) = self.machine.state.job()
            && let (Stage::Waking { attempt }, true, Some(woken)) =
                (&job.persisted.stage, job.wake_ordered, job.persisted.woken)
        {
            let (task_id, generation, attempt) = (job.task().id.clone(), woken, *attempt);
            owed.push(Event::WakeFinished { task_id, generation, attempt, outcome: WakeOutcome::Succeeded });
        }
        let job = self.machine.state.job();
        owed.extend(self.machine.check.as_ref().map(|check| well(check.number)));
        if let State::Draining { cause: Cause::Restart { next_run: NextRun::Asked { number }, .. }, .. } =
            &self.machine.state
        {
            owed.push(well(*number));
        }
        owed.extend(job.and_then(|job| job.review.as_ref()).map(reviewed));
        owed.extend(job.and_then(|job| job.last_look).map(|look| Event::ResultsLookedFor { number: look.number }));
        owed
    }

    /// Everybody is kind until the machine is at rest.
    fn comes_to_rest(&mut self, hub: &mut KindHub) -> Result<(), TestCaseError> {
        self.disk_bad = false;
        let begin = self.now;
        if self.machine.state.phase() == Phase::Exiting {
            // Its orders are among what is owed.
            self.recover()?;
        }
        // The operator is kind too.
        let mut todo: VecDeque<Event> =
            [Event::CordonRequested { on: false, to: None }].into_iter().chain(self.owed()).collect();
        for _ in 0..MOVES {
            let effects = match todo.pop_front() {
                Some(event) => self.happens(event)?,
                None if self.at_rest() => return Ok(()),
                None => match self.agent_finishes() {
                    Some(event) => self.happens(event)?,
                    None => {
                        let waits = self.machine.deadline(&self.policy);
                        prop_assert!(waits.is_some(), "waits for nothing: {:?}", self.machine);
                        self.due()?
                    }
                },
            };
            let took = self.now.since(begin);
            prop_assert!(took <= BOUND_MS, "not at rest after {took} ms: {:?}", self.machine);
            let mut orders: VecDeque<Effect> = effects.into();
            while let Some(effect) = orders.pop_front() {
                if let Effect::Exit { .. } = effect {
                    todo.clear();
                    orders = self.recover()?.into();
                } else {
                    self.answer(&effect, hub, &mut todo);
                }
            }
        }
        Err(TestCaseError::fail(format!("{MOVES} moves and not at rest: {:?}", self.machine)))
    }

    fn answer(&self, effect: &Effect, hub: &mut KindHub, todo: &mut VecDeque<Event>) {
        match effect {
            Effect::Dial => todo.push_back(Event::HubOpened),
            Effect::CloseLink(_) => todo.push_back(closed()),
            Effect::Wake { task, attempt } => {
                let (task_id, generation) = (task.id.clone(), task.generation);
                let outcome = WakeOutcome::Succeeded;
                todo.push_back(Event::WakeFinished { task_id, generation, attempt: *attempt, outcome });
                todo.push_back(Event::Confirmed { task_id: task.id.clone() });
            }
            Effect::Send(said) => todo.extend(hub.answer(said).into_iter().map(Event::HubSaid)),
            Effect::CheckNextRun { number, .. } => todo.push_back(well(*number)),
            Effect::RunResultHook { number, outcome, .. } => {
                todo.push_back(Event::ResultReviewed { number: *number, outcome: outcome.clone() });
            }
            Effect::LookForResults { number } => todo.push_back(Event::ResultsLookedFor { number: *number }),
            Effect::Persist(_)
            | Effect::CleanUp { .. }
            | Effect::WithdrawWake { .. }
            | Effect::DropSign { .. }
            | Effect::PassOn(_)
            | Effect::Reply { .. }
            | Effect::Notify(_)
            | Effect::Exit { .. }
            | Effect::KeepRefused { .. } => {}
        }
    }

    /// An agent that has shown itself finishes. One that has not, never does: the wait for it has an end.
    fn agent_finishes(&self) -> Option<Event> {
        let task_id = self.machine.watching()?.clone();
        let job = self.machine.state.job()?;
        (job.persisted.stage == Stage::Running)
            .then(|| Event::ResultFound { task_id, outcome: Outcome::Completed { result: "{}".into() } })
    }
}

impl KindHub {
    fn answer(&mut self, said: &ToHub) -> Vec<FromHub> {
        if let ToHub::Identify { .. } = said {
            return vec![FromHub::Identified { features: self.features }];
        }
        if self.drops > 0 {
            self.drops -= 1;
            return vec![FromHub::RateLimited { retry_after_ms: 2_000 }];
        }
        match said {
            ToHub::Ping => vec![FromHub::SignOfLife],
            ToHub::TaskAccepted { task_id, generation: _ } if self.acks_accept => {
                vec![FromHub::AcceptAcknowledged { task_id: task_id.to_string() }]
            }
            ToHub::TaskComplete { task_id, generation, .. } if self.stale > 0 => {
                self.stale -= 1;
                let mut said = vec![FromHub::VerdictRefused { complete: true, why: VerdictRefusal::NotNow, of: None }];
                said.extend(self.again(task_id, *generation));
                said
            }
            ToHub::TaskComplete { task_id, .. } => vec![FromHub::VerdictAcknowledged { task_id: task_id.to_string() }],
            ToHub::TaskFailed { task_id, .. } => vec![FromHub::VerdictAcknowledged { task_id: task_id.clone() }],
            ToHub::TaskRecovering { task, .. } => {
                let task_id = task.id.to_string();
                let mut said = vec![if self.says_continue {
                    FromHub::TaskContinue { task_id, generation: Some(task.generation) }
                } else {
                    FromHub::TaskReassigned { task_id, generation: None }
                }];
                said.extend(self.again(&task.id, task.generation));
                said
            }
            ToHub::StateReport { task_id, generation, .. } => {
                let answer = FromHub::ReportAnswered { task_id: task_id.to_string(), go_on: self.says_continue };
                std::iter::once(answer).chain(self.again(task_id, *generation)).collect()
            }
            ToHub::Identify { .. }
            | ToHub::Status { .. }
            | ToHub::TaskAccepted { .. }
            | ToHub::TaskRejected { .. }
            | ToHub::TaskProgress { .. }
            | ToHub::WakeResult { .. }
            | ToHub::RestartAck { .. }
            | ToHub::ParkedReport { .. }
            | ToHub::Cordon { .. }
            | ToHub::AgentRestarting { .. } => Vec::new(),
        }
    }

    fn again(&self, task_id: &TaskId, generation: u64) -> Option<FromHub> {
        let task = Task { id: task_id.clone(), generation: generation + 1, payload: "{}".into() };
        (self.hands_out_again && !self.says_continue).then_some(FromHub::Assigned {
            task,
            assigned_at: None,
            timeout_ms: None,
        })
    }
}

/// The next run would be started, and can start.
fn well(number: u32) -> Event {
    Event::NextRunChecked { number, restart_method: RestartMethod::Supervisor, cannot_start: None }
}

/// A hook that changes nothing.
fn reviewed(review: &Review) -> Event {
    Event::ResultReviewed { number: review.number, outcome: review.outcome.clone() }
}

fn closed() -> Event {
    Event::HubClosed { retry_after_ms: None, jitter: Jitter(30_000), refusal: None }
}

fn hub() -> impl Strategy<Value = KindHub> {
    (features(), any::<bool>(), any::<bool>(), any::<bool>(), 0u8..4, 0u8..3).prop_map(
        |(features, acks_accept, says_continue, hands_out_again, drops, stale)| KindHub {
            features,
            acks_accept,
            says_continue,
            hands_out_again,
            drops,
            stale,
        },
    )
}

proptest! {
    #![proptest_config(Config { cases: 20_000, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn with_everybody_kind_it_comes_to_rest_and_takes_the_next_task(
        ops in prop::collection::vec(op(), 0..40),
        mut hub in hub(),
        result_hook_ms in prop::option::of(1_000u64..60_000),
        task_timeout_ms in prop::option::of(1_000u64..60_000),
    ) {
        let mut world = World::new(Policy { result_hook_ms, task_timeout_ms, machine_boot: "boot".into(), ..Policy::default() });
        for op in &ops {
            world.run(op)?;
        }
        world.comes_to_rest(&mut hub)?;

        let task = Task { id: TaskId::new("next").unwrap(), generation: 1, payload: "{}".into() };
        world.happens(Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: None }))?;
        prop_assert!(world.machine.state.job().is_some(), "the next task was not taken: {:?}", world.machine);
        // The wake that was ordered a moment ago is owed.
        world.comes_to_rest(&mut hub)?;
    }
}
