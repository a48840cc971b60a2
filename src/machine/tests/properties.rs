//! The properties over random lives: arbitrary events, jumped time, failing disks, crashes and reboots at any point.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use strum::IntoEnumIterator;

use crate::machine::invariants::{History, StepRecord, Violation, check_step};
use crate::machine::*;

/// Over the four properties below, at least the 100,000 traces that the project promises.
const TRACES: u32 = 40_000;

/// As many lives, and a failing one made as small, as `PROPTEST_CASES` and `PROPTEST_MAX_SHRINK_ITERS` say where they
/// say so (many mutants are to be tried, each quickly), else the full number.
fn lives() -> Config {
    let mut config = Config { max_global_rejects: TRACES, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = TRACES;
    }
    if std::env::var_os("PROPTEST_MAX_SHRINK_ITERS").is_none() {
        config.max_shrink_iters = 20_000;
    }
    config
}

/// What can happen to a life.
#[derive(Debug, Clone)]
enum Op {
    /// An event out of the blue, at the present time.
    Happens(Event),
    /// Time passes.
    Passes { ms: u64 },
    /// The time that the machine waits for comes.
    Due,
    /// The hub is reached and knows us.
    Connects { features: Features },
    /// The hub answers whatever is in flight.
    Answers { kindly: bool },
    /// The supervisor, the hook and the results folder answer whatever was asked.
    Tells { restart_method: RestartMethod, cannot_start: bool, outcome: Outcome },
    /// The disk fails or works again.
    DiskTurns { bad: bool },
    /// An operator has the figures read again.
    Reloads { figures: Box<Policy> },
    /// The process is killed while it handles `during`; `written` says whether a write under way made it.
    Dies { during: Event, written: bool, rebooted: bool },
}

struct Life {
    machine: Machine,
    now: Timestamp,
    policy: Policy,
    disk_bad: bool,
    history: History,
    pairs: BTreeSet<(Phase, &'static str)>,
    /// The hub's count of assignments: it never gives the same one out twice for work that it has an answer to.
    generations: BTreeMap<TaskId, u64>,
}

impl Life {
    fn new(policy: Policy) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let (machine, effects) = Machine::recover(Journal::default(), now, &policy);
        let mut life = Self {
            machine,
            now,
            policy,
            disk_bad: false,
            history: History::default(),
            pairs: BTreeSet::new(),
            generations: BTreeMap::new(),
        };
        life.answer_disk(&effects).unwrap();
        life
    }

    fn step(&mut self, event: Event) -> Result<Vec<Effect>, Violation> {
        self.pairs.insert((self.machine.state.phase(), EventName::from(&event).into()));
        let before = self.machine.clone();
        let (after, effects) = transition(before.clone(), event.clone(), self.now, &self.policy);
        let again = transition(before.clone(), event.clone(), self.now, &self.policy);
        assert_eq!((&after, &effects), (&again.0, &again.1), "not deterministic");
        let step = StepRecord {
            before: &before,
            event: &event,
            now: self.now,
            policy: &self.policy,
            after: &after,
            effects: &effects,
        };
        check_step(&step)?;
        self.history.observe(&step)?;
        self.machine = after;
        Ok(effects)
    }

    /// The drawn generation is a wish; a hub counts.
    fn as_a_hub_counts(&mut self, mut event: Event) -> Event {
        match &mut event {
            Event::HubSaid(FromHub::Assigned { task, .. }) => {
                let last = self.generations.entry(task.id.clone()).or_insert(0);
                let deferred = self.machine.state.job().is_some_and(|job| job.task().id == task.id)
                    || self.machine.outbox.find(&task.id, *last).is_some();
                match task.generation {
                    4 if deferred => {}
                    5 if deferred && *last > 1 => {
                        task.generation = *last - 1;
                        return event;
                    }
                    _ => *last += 1 + task.generation % 2,
                }
                task.generation = *last;
            }
            Event::HubSaid(FromHub::TaskContinue { task_id, generation: Some(generation) }) => {
                let Ok(id) = TaskId::new(task_id) else { return event };
                let last = self.generations.entry(id).or_insert(0);
                *last += *generation % 2;
                *generation = *last;
            }
            Event::WakeFinished { task_id, generation, .. } => {
                let last = self.generations.get(task_id).copied().unwrap_or(1);
                let woken = self.machine.state.job().and_then(|job| job.persisted.woken);
                *generation = match (*generation, woken) {
                    (1..=3, Some(woken)) => woken,
                    _ => last,
                };
            }
            Event::DeadlineReached
            | Event::HubOpened
            | Event::HubClosed { .. }
            | Event::HubSaid(_)
            | Event::Confirmed { .. }
            | Event::ResultFound { .. }
            | Event::ResultReviewed { .. }
            | Event::ResultsLookedFor { .. }
            | Event::StopRequested { .. }
            | Event::RestartRequested { .. }
            | Event::RestartCancelRequested { .. }
            | Event::CordonRequested { .. }
            | Event::NextRunChecked { .. }
            | Event::NewsOffered(_)
            | Event::Persisted
            | Event::PersistFailed
            | Event::RefusedResultWritten { .. } => {}
        }
        event
    }

    fn answer_disk(&mut self, effects: &[Effect]) -> Result<(), Violation> {
        let mut write = self.outcome_of_write(effects);
        // A write leads to what waited for it, which may be a write again; a handful for each verdict is the most there ever is.
        for _ in 0..8 * OUTBOX_CAP {
            let Some(outcome) = write.take() else { break };
            let effects = self.step(outcome)?;
            write = self.outcome_of_write(&effects);
        }
        assert!(write.is_none(), "the journal never comes to rest");
        if self.machine.disk == Disk::Ready && self.machine.state.phase() != Phase::Exiting {
            assert_eq!(self.machine.journal(), self.machine.durable, "quiet, and the disk differs");
        }
        Ok(())
    }

    /// How the disk answers: at most one order to write is among the effects of a step.
    fn outcome_of_write(&self, effects: &[Effect]) -> Option<Event> {
        let mut outcomes = effects.iter().filter_map(|effect| {
            if let Effect::Persist(_) = effect {
                return Some(if self.disk_bad { Event::PersistFailed } else { Event::Persisted });
            }
            let Effect::KeepRefused { task_id, generation, .. } = effect else { return None };
            let path = (!self.disk_bad).then(|| format!("rejected/{task_id}.json"));
            Some(Event::RefusedResultWritten { task_id: task_id.clone(), generation: *generation, path })
        });
        let outcome = outcomes.next();
        assert_eq!(outcomes.next(), None, "two writes at once");
        outcome
    }

    fn happens(&mut self, event: Event) -> Result<(), Violation> {
        let event = self.as_a_hub_counts(event);
        let effects = self.step(event)?;
        self.answer_disk(&effects)
    }

    fn run(&mut self, op: &Op) -> Result<(), Violation> {
        match op {
            Op::Happens(event) => self.happens(event.clone()),
            Op::Passes { ms } => {
                self.now = self.now.plus(*ms);
                Ok(())
            }
            Op::Due => match self.machine.deadline(&self.policy) {
                Some((at, _)) => {
                    self.now = self.now.max(at);
                    self.happens(Event::DeadlineReached)
                }
                None => Ok(()),
            },
            Op::Connects { features } => {
                if let Connection::Down { retry_at, .. } = self.machine.connection {
                    self.now = self.now.max(retry_at);
                    self.happens(Event::DeadlineReached)?;
                }
                self.happens(Event::HubOpened)?;
                self.happens(Event::HubSaid(FromHub::Identified { features: *features }))
            }
            Op::Answers { kindly } => self.answers(*kindly),
            Op::Tells { restart_method, cannot_start, outcome } => self.tells(*restart_method, *cannot_start, outcome),
            Op::DiskTurns { bad } => {
                self.disk_bad = *bad;
                Ok(())
            }
            Op::Reloads { figures } => {
                self.policy = Policy { machine_boot: self.policy.machine_boot.clone(), ..(**figures).clone() };
                Ok(())
            }
            Op::Dies { during, written, rebooted } => self.dies(during.clone(), *written, *rebooted),
        }
    }

    fn tells(&mut self, restart_method: RestartMethod, cannot_start: bool, outcome: &Outcome) -> Result<(), Violation> {
        let (checks, review, look) = open_questions(&self.machine);
        for number in checks {
            let cannot_start = cannot_start.then(|| "no config".into());
            self.happens(Event::NextRunChecked { number, restart_method, cannot_start })?;
        }
        if let Some(number) = review {
            self.happens(Event::ResultReviewed { number, outcome: outcome.clone() })?;
        }
        match look {
            Some(number) => self.happens(Event::ResultsLookedFor { number }),
            None => Ok(()),
        }
    }

    fn answers(&mut self, kindly: bool) -> Result<(), Violation> {
        if let Some(job) = self.machine.state.job() {
            let task_id = job.task().id.to_string();
            let generation = Some(job.task().generation);
            let sent = match (job.is_recovering(), kindly) {
                (true, true) => FromHub::TaskContinue { task_id, generation },
                (true, false) => FromHub::TaskReassigned { task_id, generation: None },
                (false, true) => FromHub::AcceptAcknowledged { task_id },
                (false, false) => FromHub::ReportAnswered { task_id, go_on: false },
            };
            self.happens(Event::HubSaid(sent))?;
        }
        let Some(head) = self.machine.outbox.head() else { return Ok(()) };
        let task_id = head.verdict.task_id.to_string();
        let complete = matches!(head.verdict.outcome, Outcome::Completed { .. });
        self.happens(Event::HubSaid(if kindly {
            FromHub::VerdictAcknowledged { task_id }
        } else {
            FromHub::VerdictRefused { complete, why: VerdictRefusal::NotNow, of: None }
        }))
    }

    /// What happens next where the hub refuses the verdicts on `task_id`, and takes the others.
    fn next_of_a_hub_that_refuses(&mut self, task_id: &str, by_close: bool) -> Event {
        match self.machine.connection {
            Connection::Dialing { .. } => return Event::HubOpened,
            Connection::Identifying { .. } => {
                return Event::HubSaid(FromHub::Identified { features: Features::default() });
            }
            Connection::Closing { .. } => return closed(0, None),
            Connection::Down { .. } | Connection::Online(_) => {}
        }
        let head = self.machine.outbox.in_flight().filter(|_| self.machine.connection.can_send());
        match head.filter(|head| head.delivery == Delivery::Open).map(|head| head.verdict.task_id.to_string()) {
            Some(sent) if sent != task_id => Event::HubSaid(FromHub::VerdictAcknowledged { task_id: sent }),
            Some(_) if by_close => closed(0, Some("1009".into())),
            Some(_) => Event::HubSaid(FromHub::RefusedInOtherWords { complete: None, error: "no".into(), of: None }),
            None => {
                let waits = self.machine.deadline(&self.policy);
                self.now = waits.map_or(self.now, |(at, _)| self.now.max(at));
                Event::DeadlineReached
            }
        }
    }

    fn dies(&mut self, during: Event, written: bool, rebooted: bool) -> Result<(), Violation> {
        let during = self.as_a_hub_counts(during);
        let effects = self.step(during)?;
        let mut journal = self.machine.durable.clone();
        for effect in &effects {
            if let (Effect::Persist(pending), true) = (effect, written && !self.disk_bad) {
                journal = (**pending).clone();
            }
        }
        if rebooted {
            self.policy.machine_boot.push('+');
        }
        self.history.crashed(&journal, rebooted)?;
        let (machine, effects) = Machine::recover(journal, self.now, &self.policy);
        self.machine = machine;
        self.answer_disk(&effects)
    }
}

/// The numbers of the checks, the review and the last look that are open.
fn open_questions(machine: &Machine) -> (Vec<u32>, Option<u32>, Option<u32>) {
    let check = machine.check.as_ref().map(|check| check.number);
    let last = match &machine.state {
        State::Draining { cause: Cause::Restart { next_run: NextRun::Asked { number }, .. }, .. } => Some(*number),
        State::Draining { .. }
        | State::Idle
        | State::Working { .. }
        | State::RestartPending { .. }
        | State::Exiting { .. } => None,
    };
    let job = machine.state.job();
    let review = job.and_then(|job| job.review.as_ref()).map(|review| review.number);
    let look = job.and_then(|job| job.last_look).map(|look| look.number);
    (check.into_iter().chain(last).collect(), review, look)
}

fn id() -> impl Strategy<Value = TaskId> {
    prop::sample::select(vec!["t1", "t2", "t3"]).prop_map(|raw| TaskId::new(raw).unwrap())
}

fn raw_id() -> impl Strategy<Value = String> {
    id().prop_map(|id| id.to_string())
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => prop::sample::select(vec!["{\"status\":\"success\"}", "{\"status\":\"success\",\"n\":1}"])
            .prop_map(|result| Outcome::Completed { result: result.into() }),
        1 => Just(Outcome::failed("no luck")),
    ]
}

fn order() -> impl Strategy<Value = RestartOrder> {
    let command_id = prop::option::of(prop::sample::select(vec!["c1", "c2", "c3"]).prop_map(str::to_owned));
    (command_id, prop::option::of(0u64..200_000), prop::bool::weighted(0.15)).prop_map(
        |(command_id, deadline_ms, force)| RestartOrder {
            reason: "r".into(),
            command_id,
            deadline_ms,
            force,
            by: None,
        },
    )
}

fn features() -> impl Strategy<Value = Features> {
    prop_oneof![
        Just(Features { restart_v2: true, task_rejected: true, cordon: true, task_reassign: true }),
        Just(Features::default()),
        any::<[bool; 4]>().prop_map(|[restart_v2, task_rejected, cordon, task_reassign]| Features {
            task_reassign,
            restart_v2,
            task_rejected,
            cordon
        }),
    ]
}

fn from_hub() -> impl Strategy<Value = FromHub> {
    let task = (id(), 1u64..6).prop_map(|(id, generation)| Task { id, generation, payload: "{}".into() });
    let why = prop_oneof![Just(VerdictRefusal::NotNow), Just(VerdictRefusal::Never)];
    prop_oneof![
        6 => (task, prop::option::of(Just(7u64)), prop::option::weighted(0.2, 1_000u64..60_000))
            .prop_map(|(task, assigned_at, timeout_ms)| FromHub::Assigned { task, assigned_at, timeout_ms }),
        1 => features().prop_map(|features| FromHub::Identified { features }),
        1 => Just(FromHub::IdentifyRefused { error: "invalid_token".into() }),
        1 => Just(FromHub::AssignedInvalid { task_id: "../x".into(), generation: 1, why: "bad".into() }),
        2 => raw_id().prop_map(|task_id| FromHub::AcceptAcknowledged { task_id }),
        2 => raw_id().prop_map(|task_id| FromHub::VerdictAcknowledged { task_id }),
        1 => (any::<bool>(), why, verdict_name())
            .prop_map(|(complete, why, of)| FromHub::VerdictRefused { complete, why, of }),
        2 => (raw_id(), prop::option::of(1u64..6))
            .prop_map(|(task_id, generation)| FromHub::TaskContinue { task_id, generation }),
        2 => (raw_id(), prop::option::of(1u64..6))
            .prop_map(|(task_id, generation)| FromHub::TaskReassigned { task_id, generation }),
        1 => raw_id().prop_map(|task_id| FromHub::TaskCancelled { task_id }),
        2 => (raw_id(), any::<bool>()).prop_map(|(task_id, go_on)| FromHub::ReportAnswered { task_id, go_on }),
        1 => Just(FromHub::ReportNotUnderstood),
        2 => order().prop_map(FromHub::RestartCommanded),
        1 => (0u64..5_000).prop_map(|retry_after_ms| FromHub::RateLimited { retry_after_ms }),
        1 => Just(FromHub::Forgotten),
        2 => (prop::option::of(any::<bool>()), verdict_name())
            .prop_map(|(complete, of)| FromHub::RefusedInOtherWords { complete, error: "invalid_json".into(), of }),
        1 => Just(FromHub::SignOfLife),
    ]
}

fn verdict_name() -> impl Strategy<Value = Option<VerdictName>> {
    let name = (raw_id(), 1u64..6).prop_map(|(task_id, generation)| VerdictName { task_id, generation });
    prop::option::of(name)
}

fn restart_method() -> impl Strategy<Value = RestartMethod> {
    prop_oneof![2 => Just(RestartMethod::Supervisor), 1 => Just(RestartMethod::InPlace)]
}

fn ticket() -> impl Strategy<Value = Option<Ticket>> {
    prop::option::of(any::<u64>().prop_map(Ticket))
}

fn tells() -> impl Strategy<Value = Op> {
    (restart_method(), prop::bool::weighted(0.2), outcome())
        .prop_map(|(restart_method, cannot_start, outcome)| Op::Tells { restart_method, cannot_start, outcome })
}

fn event() -> impl Strategy<Value = Event> {
    let wake = prop_oneof![
        3 => Just(WakeOutcome::Succeeded),
        1 => Just(WakeOutcome::Failed { error: "exit 1".into() }),
        1 => Just(WakeOutcome::TimedOut { after_ms: 60_000 }),
        1 => Just(WakeOutcome::Refused { reason: "nobody".into() }),
    ];
    prop_oneof![
        12 => from_hub().prop_map(Event::HubSaid),
        4 => (id(), 1u64..6, 1u8..4, wake).prop_map(|(task_id, generation, attempt, outcome)| Event::WakeFinished {
            task_id,
            generation,
            attempt,
            outcome
        }),
        3 => id().prop_map(|task_id| Event::Confirmed { task_id }),
        1 => (0u32..6, outcome()).prop_map(|(number, outcome)| Event::ResultReviewed { number, outcome }),
        1 => (0u32..6).prop_map(|number| Event::ResultsLookedFor { number }),
        2 => (0u32..6, restart_method(), prop::option::weighted(0.3, Just("no config".to_owned())))
            .prop_map(|(number, restart_method, cannot_start)| Event::NextRunChecked { number, restart_method, cannot_start }),
        1 => prop_oneof![Just(News::Resources), id().prop_map(|task_id| News::Output { task_id })]
            .prop_map(Event::NewsOffered),
        2 => (id(), outcome()).prop_map(|(task_id, outcome)| Event::ResultFound { task_id, outcome }),
        1 => Just(Event::DeadlineReached),
        1 => Just(Event::HubOpened),
        2 => (prop::option::of(0u64..40_000), any::<u16>(), prop::option::of(Just("1009".to_owned()))).prop_map(
            |(retry_after_ms, draw, refusal)| Event::HubClosed { retry_after_ms, jitter: Jitter(draw), refusal }
        ),
        1 => prop_oneof![
            Just(StopSignal::Interrupt),
            Just(StopSignal::Terminate),
            Just(StopSignal::SupervisorMessage)
        ]
        .prop_map(|signal| Event::StopRequested { signal }),
        1 => (order(), ticket()).prop_map(|(order, to)| Event::RestartRequested { order, to }),
        1 => ticket().prop_map(|to| Event::RestartCancelRequested { to }),
        1 => (any::<bool>(), ticket()).prop_map(|(on, to)| Event::CordonRequested { on, to }),
        1 => Just(Event::Persisted),
        1 => Just(Event::PersistFailed),
        1 => (id(), 1u64..6, prop::option::of(Just("rejected".to_owned())))
            .prop_map(|(task_id, generation, path)| Event::RefusedResultWritten { task_id, generation, path }),
    ]
}

fn closed(draw: u16, refusal: Option<String>) -> Event {
    Event::HubClosed { retry_after_ms: None, jitter: Jitter(draw), refusal }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => event().prop_map(Op::Happens),
        2 => (0u64..70_000).prop_map(|ms| Op::Passes { ms }),
        5 => Just(Op::Due),
        3 => features().prop_map(|features| Op::Connects { features }),
        3 => any::<bool>().prop_map(|kindly| Op::Answers { kindly }),
        4 => tells(),
        1 => any::<bool>().prop_map(|bad| Op::DiskTurns { bad }),
        1 => figures().prop_map(|figures| Op::Reloads { figures }),
        1 => (event(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(during, written, rebooted)| Op::Dies { during, written, rebooted }),
    ]
}

/// A life as a kind hub and a working agent would let it be: long enough to come through every state.
fn plausible_op() -> impl Strategy<Value = Op> {
    let both = Features { restart_v2: true, task_rejected: true, cordon: true, task_reassign: true };
    let task = (id(), 1u64..4).prop_map(|(id, generation)| Task { id, generation, payload: "{}".into() });
    prop_oneof![
        3 => Just(Op::Connects { features: both }),
        2 => Just(Op::Connects { features: Features::default() }),
        5 => task.prop_map(|task| Op::Happens(Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: None }))),
        3 => (id(), 1u64..4).prop_map(|(task_id, generation)| Op::Happens(Event::WakeFinished {
            task_id,
            generation,
            attempt: 1,
            outcome: WakeOutcome::Succeeded
        })),
        3 => id().prop_map(|task_id| Op::Happens(Event::Confirmed { task_id })),
        3 => (id(), outcome())
            .prop_map(|(task_id, outcome)| Op::Happens(Event::ResultFound { task_id, outcome })),
        4 => any::<bool>().prop_map(|kindly| Op::Answers { kindly }),
        4 => tells(),
        2 => order().prop_map(|order| Op::Happens(Event::HubSaid(FromHub::RestartCommanded(order)))),
        1 => Just(Op::Happens(Event::RestartCancelRequested { to: None })),
        1 => prop::bool::weighted(0.3).prop_map(|on| Op::Happens(Event::CordonRequested { on, to: None })),
        2 => any::<u16>()
            .prop_map(|draw| Op::Happens(closed(draw, None))),
        4 => Just(Op::Due),
        1 => figures().prop_map(|figures| Op::Reloads { figures }),
        1 => (event(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(during, written, rebooted)| Op::Dies { during, written, rebooted }),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let limits = [1_000u64..60_000, 1_000u64..60_000].map(prop::option::of);
    limits.prop_map(|[result_hook_ms, task_timeout_ms]| Policy {
        result_hook_ms,
        task_timeout_ms,
        machine_boot: "boot".into(),
        ..Policy::default()
    })
}

/// Whatever a configuration may say, within its bounds.
fn figures() -> impl Strategy<Value = Box<Policy>> {
    let leaving = (100u64..200_000, 100u64..60_000, 200u64..8_000, 0u32..4, 100u64..120_000);
    let working = (prop::collection::vec(0u64..40_000, 0..4), 100u64..60_000, 100u64..60_000);
    let connection = (100u64..60_000, 100u64..55_000, 100u64..60_000, 100u64..60_000, 10u64..5_000, 0u64..60_000);
    (leaving, working, connection).prop_map(|(leaving, working, connection)| {
        let (restart_deadline_ms, drain_deadline_ms, stop_budget_ms, max, window_ms) = leaving;
        let (wake_retry_delays_ms, confirmation_timeout_ms, progress_interval_ms) = working;
        let (answer_timeout_ms, ping_interval_ms, pong_timeout_ms, identify_timeout_ms, reconnect_min_ms, more) =
            connection;
        let stop_budget_ms = stop_budget_ms.min(drain_deadline_ms);
        Box::new(Policy {
            restart_deadline_ms,
            drain_deadline_ms,
            stop_budget_ms,
            close_budget_ms: (stop_budget_ms / 2).min(400),
            restart_intensity: Intensity { max, window_ms },
            wake_retry_delays_ms,
            confirmation_timeout_ms,
            progress_interval_ms,
            answer_timeout_ms,
            ping_interval_ms,
            pong_timeout_ms,
            identify_timeout_ms,
            reconnect_min_ms,
            reconnect_max_ms: reconnect_min_ms + more,
            ..Policy::default()
        })
    })
}

fn result_of(id: &str, note: u64) -> Verdict {
    let (task_id, generation) = (TaskId::new(id).unwrap(), 1_000);
    let outcome = Outcome::Completed { result: format!("{{\"n\":{note}}}").into() };
    Verdict {
        task_id,
        generation,
        outcome,
        accept_first: false,
        no_session_came: false,
        result_read: false,
        refusals: 0,
    }
}

fn live(policy: Policy, ops: &[Op]) -> Result<Life, TestCaseError> {
    let mut life = Life::new(policy);
    for op in ops {
        life.run(op).map_err(|violation| TestCaseError::fail(format!("{violation}\nin {:?}", life.machine)))?;
    }
    Ok(life)
}

proptest! {
    #![proptest_config(lives())]

    #[test]
    fn every_property_holds_over_arbitrary_lives(policy in policy(), ops in prop::collection::vec(op(), 1..40)) {
        live(policy, &ops)?;
    }

    #[test]
    fn every_property_holds_over_plausible_lives(
        policy in policy(),
        ops in prop::collection::vec(plausible_op(), 1..40),
    ) {
        live(policy, &ops)?;
    }

    /// From whatever a life has come to, with a hub that refuses every verdict on one task, in whatever words, and takes the
    /// others: in bounded time nothing is left to say, and each result that was refused was put aside.
    #[test]
    fn a_refused_verdict_blocks_nothing(
        policy in policy(),
        ops in prop::collection::vec(plausible_op(), 0..25),
        by_close in any::<bool>(),
    ) {
        let mut life = live(policy, &ops)?;
        life.disk_bad = false;
        if life.machine.state.is_leaving() {
            life.run(&Op::Dies { during: Event::HubSaid(FromHub::SignOfLife), written: true, rebooted: false }).unwrap();
        }
        life.happens(Event::CordonRequested { on: false, to: None }).unwrap();
        life.run(&Op::Reloads { figures: Box::default() }).unwrap();
        for (id, note) in [("t1", 1), ("t2", 2)] {
            life.machine.outbox.push(result_of(id, note), false);
        }
        let begin = life.now;
        for _ in 0..2_000 {
            if life.machine.outbox.is_empty() {
                break;
            }
            let event = life.next_of_a_hub_that_refuses("t1", by_close);
            life.happens(event).map_err(|violation| TestCaseError::fail(violation.to_string()))?;
        }
        prop_assert!(life.machine.outbox.is_empty(), "for ever: {:?}", life.machine);
        prop_assert!(life.now.since(begin) <= 3_600_000, "after {} ms", life.now.since(begin));
    }

    /// From whatever a life has come to, a restart command leads to the exit within the promised time, with nothing
    /// but the clock to help.
    #[test]
    fn a_commanded_restart_always_ends_in_time(
        policy in policy(),
        ops in prop::collection::vec(plausible_op(), 0..25),
        order in order(),
        wait in 0u64..6_000,
    ) {
        let mut life = live(policy, &ops)?;
        let commanded = life.now;
        life.disk_bad = false;
        // Figures that were read may refuse every restart; this is about one that is not refused.
        life.policy.restart_intensity.max = 1_000;
        life.happens(Event::RestartRequested { order: order.clone(), to: None }).unwrap();
        life.now = life.now.plus(wait);
        if life.machine.deadline(&life.policy).is_some_and(|(at, _)| at <= life.now) {
            life.happens(Event::DeadlineReached).unwrap();
        }
        life.tells(RestartMethod::Supervisor, false, &Outcome::failed("no luck")).unwrap();
        prop_assume!(life.machine.restarts.open.is_some());
        let drain = life.policy.drain_deadline_ms;
        // A deadline that runs already stays, whatever figures were read since; one that ended during the check is over.
        let promised = match &life.machine.state {
            State::RestartPending { deadline, .. } => deadline.since(commanded).max(wait) + drain,
            State::Draining { deadline, .. } => deadline.since(commanded),
            State::Exiting { .. } => wait,
            State::Idle | State::Working { .. } => 0,
        };
        for _ in 0..2_000 {
            if life.machine.state.phase() == Phase::Exiting {
                break;
            }
            let (at, _) = life.machine.deadline(&life.policy).expect("a leaving machine waits for something");
            life.now = life.now.max(at);
            life.happens(Event::DeadlineReached).map_err(|violation| TestCaseError::fail(violation.to_string()))?;
        }
        prop_assert_eq!(life.machine.state.phase(), Phase::Exiting);
        prop_assert!(life.now.since(commanded) <= promised);
    }
}

#[test]
fn every_event_is_met_in_every_phase() {
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 4_000, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let lives = (policy(), prop::collection::vec(prop_oneof![op(), plausible_op()], 1..60));
    runner
        .run(&lives, |(policy, ops)| {
            seen.borrow_mut().extend(live(policy, &ops)?.pairs);
            Ok(())
        })
        .unwrap();
    let seen = seen.into_inner();
    for phase in Phase::iter() {
        for event in EventName::iter() {
            assert!(seen.contains(&(phase, event.into())), "{event} was never met in {phase}");
        }
    }
}
