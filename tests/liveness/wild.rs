//! Lives wilder than any hub's: generations that jump, repeat or are 0, clocks that are set back, disks that fail.
//! It draws what happens; it judges nothing.

use agentcom::machine::*;
use proptest::prelude::*;

/// What can happen before everybody turns kind.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// An event out of the blue.
    Happens(Event),
    /// Time passes, ms.
    Passes(u64),
    /// The time that the machine waits for comes.
    Due,
    /// The hub is reached and knows us.
    Connects(Features),
    /// The disk fails, or works again.
    Disk { bad: bool },
    /// The next process finds a clock that was set back by so much.
    Dies { rebooted: bool, set_back_ms: u64 },
}

fn id() -> impl Strategy<Value = TaskId> {
    prop::sample::select(vec!["t1", "T1", "t2"]).prop_map(|raw| TaskId::new(raw).expect("a plain name"))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Completed { result: "{}".into() }),
        1 => Just(Outcome::failed("no luck")),
    ]
}

fn order() -> impl Strategy<Value = RestartOrder> {
    let command_id = prop::option::of(prop::sample::select(vec!["c1", "c2"]).prop_map(str::to_owned));
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

fn ticket() -> impl Strategy<Value = Option<Ticket>> {
    prop::option::of(any::<u64>().prop_map(Ticket))
}

pub(crate) fn features() -> impl Strategy<Value = Features> {
    prop_oneof![
        Just(Features { restart_v2: true, task_rejected: true, cordon: true, task_reassign: true }),
        Just(Features::default()),
    ]
}

fn from_hub() -> impl Strategy<Value = FromHub> {
    let task = (id(), 0u64..4).prop_map(|(id, generation)| Task { id, generation, payload: "{}".into() });
    let raw = || id().prop_map(|id| id.to_string());
    let why = prop_oneof![Just(VerdictRefusal::NotNow), Just(VerdictRefusal::Never)];
    prop_oneof![
        8 => task.prop_map(|task| FromHub::Assigned { task, assigned_at: None, timeout_ms: None }),
        1 => Just(FromHub::IdentifyRefused { error: "invalid_token".into() }),
        1 => Just(FromHub::AssignedInvalid { task_id: "../x".into(), generation: 1, why: "bad".into() }),
        2 => raw().prop_map(|task_id| FromHub::AcceptAcknowledged { task_id }),
        1 => raw().prop_map(|task_id| FromHub::VerdictAcknowledged { task_id }),
        1 => (any::<bool>(), why).prop_map(|(complete, why)| FromHub::VerdictRefused { complete, why, of: None }),
        2 => (raw(), prop::option::of(0u64..4))
            .prop_map(|(task_id, generation)| FromHub::TaskContinue { task_id, generation }),
        1 => (raw(), prop::option::of(0u64..4))
            .prop_map(|(task_id, generation)| FromHub::TaskReassigned { task_id, generation }),
        1 => raw().prop_map(|task_id| FromHub::TaskCancelled { task_id }),
        2 => (raw(), any::<bool>()).prop_map(|(task_id, go_on)| FromHub::ReportAnswered { task_id, go_on }),
        2 => order().prop_map(FromHub::RestartCommanded),
        1 => Just(FromHub::Forgotten),
        2 => (0u64..70_000).prop_map(|retry_after_ms| FromHub::RateLimited { retry_after_ms }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let wake = prop_oneof![Just(WakeOutcome::Succeeded), Just(WakeOutcome::Failed { error: "exit 1".into() })];
    prop_oneof![
        14 => from_hub().prop_map(Event::HubSaid),
        4 => (id(), 0u64..4, 1u8..3, wake).prop_map(|(task_id, generation, attempt, outcome)| Event::WakeFinished {
            task_id,
            generation,
            attempt,
            outcome
        }),
        3 => id().prop_map(|task_id| Event::Confirmed { task_id }),
        1 => (0u32..6, outcome()).prop_map(|(number, outcome)| Event::ResultReviewed { number, outcome }),
        1 => (0u32..6).prop_map(|number| Event::ResultsLookedFor { number }),
        2 => (0u32..6, any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(number, in_place, cannot)| {
            let restart_method = if in_place { RestartMethod::InPlace } else { RestartMethod::Supervisor };
            Event::NextRunChecked { number, restart_method, cannot_start: cannot.then(|| "no config".into()) }
        }),
        2 => (id(), outcome()).prop_map(|(task_id, outcome)| Event::ResultFound { task_id, outcome }),
        3 => (prop::option::of(0u64..120_000), any::<u16>(), prop::option::of(Just("1009".to_owned()))).prop_map(
            |(retry_after_ms, draw, refusal)| Event::HubClosed { retry_after_ms, jitter: Jitter(draw), refusal }
        ),
        1 => Just(Event::StopRequested { signal: StopSignal::Terminate }),
        1 => (order(), ticket()).prop_map(|(order, to)| Event::RestartRequested { order, to }),
        1 => ticket().prop_map(|to| Event::RestartCancelRequested { to }),
        1 => (any::<bool>(), ticket()).prop_map(|(on, to)| Event::CordonRequested { on, to }),
    ]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        14 => event().prop_map(Op::Happens),
        1 => (0u64..70_000).prop_map(Op::Passes),
        4 => Just(Op::Due),
        4 => features().prop_map(Op::Connects),
        2 => any::<bool>().prop_map(|bad| Op::Disk { bad }),
        1 => (prop::bool::weighted(0.2), prop_oneof![4 => Just(0), 1 => Just(100_000_000)])
            .prop_map(|(rebooted, set_back_ms)| Op::Dies { rebooted, set_back_ms }),
    ]
}
