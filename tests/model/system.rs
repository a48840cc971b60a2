//! The whole as a stateright model: which states there are at first, and what each action makes of one. The sidecar's
//! part goes through `process`, the hub's through `hub`; this only carries words and facts between them.

use std::sync::Arc;

use agentcom::machine::{Event, Jitter, Journal, Outcome, Ownership, Policy, StopSignal, Timestamp, WakeOutcome};
use stateright::{Model, Property};

use super::action::{Action, Die, Found};
use super::asked::{Asked, OPEN, STALE};
use super::connection::{End, Up};
use super::facts::{Fact, Facts};
use super::hub::{Hub, Out, Outs};
use super::hub_legacy::LegacyHub;
use super::hub_ours::OurHub;
use super::process::{Handling, points_to_die, process_ends};
use super::rebase::{NOW, Shift};
use super::scope::{Budget, HubKind, RESTART_WINDOW_MS, Scope};
use super::story::Beat;
use super::violation::{Violation, violated};
use super::world::{DiskFault, Files, Ghost, Process, ResultFile, Session, World, task_id};

/// A scope, ready to be explored.
pub struct System {
    pub scope: Scope,
    /// By the number of reboots.
    policies: Vec<Policy>,
    pub facts: Facts,
}

type Beats<'a> = Option<&'a mut Vec<Beat>>;

impl System {
    /// The names of the properties, for stateright.
    pub const HOLDS: &str = "every property holds";
    pub const GOOD_END: &str = "everything ends well";

    pub fn new(scope: Scope) -> Self {
        let policies = (0..=scope.budget.reboots).map(|reboots| scope.policy(reboots)).collect();
        Self { scope, policies, facts: Facts::default() }
    }

    pub fn with_policy(scope: Scope, change: impl Fn(&mut Policy)) -> Self {
        let mut system = Self::new(scope);
        system.policies.iter_mut().for_each(change);
        system
    }

    pub fn policy(&self, world: &World) -> &Policy {
        &self.policies[usize::from(world.reboots)]
    }

    pub fn beginning(&self) -> World {
        let hub = match self.scope.hub {
            HubKind::Ours => Hub::Ours(OurHub::new()),
            HubKind::Legacy => Hub::Legacy(LegacyHub::new()),
        };
        let mut world = World {
            process: Process::Down,
            run: 0,
            reboots: 0,
            disk: Arc::new(Journal::default()),
            disk_fault: None,
            asked: Asked::default(),
            conns: Vec::new(),
            dials: 0,
            hub: Arc::new(hub),
            commands: 0,
            tasks: 0,
            wakes: Vec::new(),
            sessions: Vec::new(),
            files: Vec::new(),
            left_behind: self.scope.budget,
            ghost: Ghost::default(),
            violation: None,
        };
        let submitted = self.submit(&mut world);
        world.violation = submitted.err();
        world
    }

    /// What `action` makes of `world`; a broken property is noted in the state.
    pub fn after(&self, world: &World, action: Action, beats: Beats<'_>) -> World {
        let mut next = world.clone();
        if let Err(violation) = self.act(&mut next, action, beats).and_then(|()| self.judge(&mut next)) {
            next.violation = Some(violation);
        }
        // What nobody at either end can tell from never having been.
        next.conns.retain(|conn| {
            let unseen = conn.side == End::Closed && conn.hub == End::Opening && conn.up.is_empty();
            !conn.is_over() && !unseen
        });
        next
    }

    /// What must hold of every state.
    fn judge(&self, world: &mut World) -> Result<(), Violation> {
        for id in world.task_ids() {
            let Some((_, generation, true)) = world.hub.task(&id) else { continue };
            if world.ghost.promised.contains(&(id.clone(), generation)) && !world.disk_answers_for(&id) {
                let detail = format!("the hub counts on {id} generation {generation}, and the disk does not hold it");
                return Err(violated("accepted_is_kept", detail));
            }
        }
        if let Some(id) = world.waits_for_nobody() {
            return Err(violated("awaited_is_there", format!("{id} counts as running, and nobody is at work on it")));
        }
        if let Some((hub, machine)) = world.books().filter(|(hub, machine)| hub != machine) {
            let detail = format!("the hub names {hub:?}, and the sidecar {machine:?}, and nobody says anything more");
            return Err(violated("books_agree", detail));
        }
        if world.ghost.gone_by.is_some_and(|by| by < NOW) {
            return Err(violated("bounded_exit", "the process is still there after what was promised".to_string()));
        }
        if world.is_well() {
            self.saw(Fact::Well);
        }
        Ok(())
    }

    fn act(&self, world: &mut World, action: Action, beats: Beats<'_>) -> Result<(), Violation> {
        match action {
            Action::TimePasses { late } => {
                if late {
                    pay(&mut world.left_behind.delays);
                }
                self.time_passes(world, beats)
            }
            Action::DeadlineFires(die) => self.event(world, Event::DeadlineReached, die, beats),
            Action::ConnOpens(die) => {
                if let Some(index) = world.own_conn() {
                    world.conns[index].side = End::Open;
                }
                self.event(world, Event::HubOpened, die, beats)
            }
            Action::ConnFails(die) | Action::SideLoses(die) => {
                pay(&mut world.left_behind.breaks);
                self.side_closed(world, die, beats)
            }
            Action::SideSeesEnd(die) => self.side_closed(world, die, beats),
            Action::SideHears(die) => {
                let said = world.own_conn().and_then(|index| world.conns[index].down.pop_front());
                let said = said.ok_or_else(|| violated("model", "nothing to hear".to_string()))?;
                self.event(world, Event::HubSaid(said), die, beats)
            }
            Action::WakeLaunches(index) => self.wake_launches(world, index),
            Action::WakeSucceeds(index, die) => {
                if !world.wakes[index].launched {
                    pay(&mut world.left_behind.no_shows);
                }
                self.wake_ends(world, index, WakeOutcome::Succeeded, die, beats)
            }
            Action::WakeFails(index, die) => {
                pay(&mut world.left_behind.failed_wakes);
                self.wake_ends(world, index, WakeOutcome::Failed { error: "exit 1".into() }, die, beats)
            }
            Action::StartedSeen(die) => match self.watched(world) {
                Some(task_id) => self.event(world, Event::Confirmed { task_id }, die, beats),
                None => Ok(()),
            },
            Action::ResultSeen(die) => self.result_seen(world, die, beats),
            Action::StopSignal(die) => {
                pay(&mut world.left_behind.stops);
                self.event(world, Event::StopRequested { signal: StopSignal::Interrupt }, die, beats)
            }
            Action::CheckAnswered(found, die) => {
                world.asked.check = false;
                if found != Found::Well {
                    pay(&mut world.left_behind.bad_checks);
                }
                self.event(world, found.to(OPEN), die, beats)
            }
            Action::StaleCheckAnswered(die) => {
                world.asked.stale_check = false;
                self.event(world, Found::Well.to(STALE), die, beats)
            }
            Action::LookAnswered(die) => {
                world.asked.look = false;
                self.event(world, Event::ResultsLookedFor { number: OPEN }, die, beats)
            }
            Action::HookAnswers(die) => {
                world.asked.review = false;
                let review = world.machine().and_then(|machine| machine.state.job()?.review.clone());
                let outcome =
                    review.map(|review| review.outcome).ok_or_else(|| violated("model", "no review".into()))?;
                self.event(world, Event::ResultReviewed { number: OPEN, outcome }, die, beats)
            }
            Action::Drains(die) => {
                pay(&mut world.left_behind.cordons);
                self.event(world, Event::CordonRequested { on: true, to: None }, die, beats)
            }
            Action::Resumes(die) => self.event(world, Event::CordonRequested { on: false, to: None }, die, beats),
            Action::TakesRestartBack(die) => {
                pay(&mut world.left_behind.take_backs);
                world.ghost.taken_back = matches!(*world.hub, Hub::Legacy(_));
                self.event(world, Event::RestartCancelRequested { to: None }, die, beats)
            }
            Action::Crash => {
                pay(&mut world.left_behind.crashes);
                self.facts.crash(&world.disk, false);
                process_ends(world, false)
            }
            Action::Reboot => self.reboot(world),
            Action::Respawn(die) => {
                if die.is_some() {
                    pay(&mut world.left_behind.crashes);
                }
                Handling::new(self, world, die, beats).start()
            }
            Action::SessionStarts(_) | Action::SessionSucceeds(_) | Action::SessionFails(_) => {
                self.session(world, action);
                Ok(())
            }
            Action::GivesUp => {
                pay(&mut world.left_behind.given_up);
                world.process = Process::GivenUp;
                self.saw(Fact::GivenUp);
                Ok(())
            }
            Action::DiskBreaks(fault) => {
                pay(match fault {
                    DiskFault::Refuses => &mut world.left_behind.disk_faults,
                    DiskFault::Misreports => &mut world.left_behind.misreports,
                });
                world.disk_fault = Some(fault);
                Ok(())
            }
            Action::DiskMends => {
                world.disk_fault = None;
                Ok(())
            }
            Action::HubTicks
            | Action::HubHears(_)
            | Action::HubSeesEnd(_)
            | Action::HubLoses(_)
            | Action::HubSchedules
            | Action::HubPushes
            | Action::HubCrashes
            | Action::HubDrops(_)
            | Action::Command { .. }
            | Action::Cancel(_)
            | Action::Submit => self.hub_acts(world, action),
        }
    }

    fn event(&self, world: &mut World, event: Event, die: Die, beats: Beats<'_>) -> Result<(), Violation> {
        if die.is_some() {
            pay(&mut world.left_behind.crashes);
        }
        Handling::new(self, world, die, beats).event(event)
    }

    fn time_passes(&self, world: &mut World, mut beats: Beats<'_>) -> Result<(), Violation> {
        let Some(ms) = self.next_due(world) else { return Ok(()) };
        if let Some(beats) = &mut beats {
            beats.push(Beat::Passes(ms));
        }
        Arc::make_mut(&mut world.hub).passes(ms);
        let shift = Shift(ms);
        if let Process::Runs(machine) = &mut world.process {
            shift.machine(Arc::make_mut(machine));
        }
        shift.journal(Arc::make_mut(&mut world.disk));
        shift.history(&mut world.ghost.history);
        let Ghost { gone_by, accepted_at, restarts, .. } = &mut world.ghost;
        restarts.retain(|at| NOW.since(*at) + ms < RESTART_WINDOW_MS);
        for at in gone_by.iter_mut().chain(accepted_at).chain(restarts) {
            *at = Timestamp::from_millis(at.as_millis() - ms);
        }
        Ok(())
    }

    fn side_closed(&self, world: &mut World, die: Die, beats: Beats<'_>) -> Result<(), Violation> {
        if let Some(index) = world.own_conn() {
            world.conns[index].side_closes();
        }
        self.event(world, Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None }, die, beats)
    }

    fn watched(&self, world: &World) -> Option<agentcom::machine::TaskId> {
        world.machine().and_then(|machine| machine.watching()).cloned()
    }

    fn result_seen(&self, world: &mut World, die: Die, beats: Beats<'_>) -> Result<(), Violation> {
        let Some(task_id) = self.watched(world) else { return Ok(()) };
        let outcome = match world.files(&task_id).and_then(|files| files.result) {
            Some(ResultFile::Success) => Outcome::Completed { result: "{}".into() },
            Some(ResultFile::Failure) => Outcome::failed("no luck"),
            None => return Ok(()),
        };
        self.event(world, Event::ResultFound { task_id, outcome }, die, beats)
    }

    fn wake_launches(&self, world: &mut World, index: usize) -> Result<(), Violation> {
        let wake = &mut world.wakes[index];
        wake.launched = true;
        let hand_out = (wake.task.clone(), wake.generation);
        world.sessions.push(Session { task: wake.task.clone(), started: false });
        world.sessions.sort();
        if !world.ghost.launched.insert(hand_out.clone()) {
            return Err(violated(
                "run_twice",
                format!("{} was started twice for generation {}", hand_out.0, hand_out.1),
            ));
        }
        Ok(())
    }

    fn wake_ends(
        &self,
        world: &mut World,
        index: usize,
        outcome: WakeOutcome,
        die: Die,
        beats: Beats<'_>,
    ) -> Result<(), Violation> {
        let wake = world.wakes.remove(index);
        if !wake.frame_received {
            return Ok(());
        }
        let (task_id, generation, attempt) = (wake.task, wake.generation, wake.attempt);
        self.event(world, Event::WakeFinished { task_id, generation, attempt, outcome }, die, beats)
    }

    fn session(&self, world: &mut World, action: Action) {
        let (index, result) = match action {
            Action::SessionSucceeds(index) => (index, Some(ResultFile::Success)),
            Action::SessionFails(index) => {
                pay(&mut world.left_behind.failed_sessions);
                (index, Some(ResultFile::Failure))
            }
            Action::SessionStarts(index) => (index, None),
            _ => return,
        };
        let task = world.sessions[index].task.clone();
        if result.is_some() {
            world.sessions.remove(index);
            if world.machine().is_none() {
                self.saw(Fact::ResultWhileDown);
            }
        } else {
            world.sessions[index].started = true;
            world.sessions.sort();
        }
        if let Some(files) = world.files_mut(&task) {
            match result {
                Some(_) => files.result = result,
                None => files.started = true,
            }
        }
    }

    /// Everything that runs ends; files and the hub stay.
    fn reboot(&self, world: &mut World) -> Result<(), Violation> {
        pay(&mut world.left_behind.reboots);
        world.reboots += 1;
        world.ghost.at_work.clear();
        world.wakes.clear();
        world.sessions.clear();
        process_ends(world, true)
    }

    fn submit(&self, world: &mut World) -> Result<(), Violation> {
        let id = task_id(usize::from(world.tasks));
        world.tasks += 1;
        world.files.push(Files::default());
        let outs = Arc::make_mut(&mut world.hub).submit(&id);
        self.carry(world, outs)
    }

    fn hub_acts(&self, world: &mut World, action: Action) -> Result<(), Violation> {
        let outs = match action {
            Action::HubTicks => {
                in_hand_is_not_given_up(world)?;
                Arc::make_mut(&mut world.hub).tick()
            }
            Action::HubHears(index) => return self.hub_hears(world, index),
            Action::HubDrops(index) => {
                pay(&mut world.left_behind.rate_limits);
                world.conns[index].up.pop_front();
                let limited = agentcom::machine::FromHub::RateLimited { retry_after_ms: 1_000 };
                Ok(vec![Out::Outgoing(world.conns[index].id, limited)])
            }
            Action::HubSeesEnd(index) | Action::HubLoses(index) => {
                let conn = &mut world.conns[index];
                let id = conn.id;
                if matches!(action, Action::HubLoses(_)) {
                    pay(&mut world.left_behind.breaks);
                }
                conn.hub_closes();
                Arc::make_mut(&mut world.hub).gone(id)
            }
            Action::HubSchedules => {
                Arc::make_mut(&mut world.hub).schedule();
                Ok(Vec::new())
            }
            Action::HubPushes => {
                if !world.hub.can_command() {
                    self.saw(Fact::PushedToNobody);
                }
                Arc::make_mut(&mut world.hub).push()
            }
            Action::HubCrashes => {
                pay(&mut world.left_behind.hub_crashes);
                self.saw(Fact::HubCrashed);
                world.conns.iter_mut().for_each(super::connection::Conn::hub_closes);
                Arc::make_mut(&mut world.hub).crashes();
                Ok(Vec::new())
            }
            Action::Command { force } => {
                pay(if force { &mut world.left_behind.forced } else { &mut world.left_behind.commands });
                world.commands += 1;
                let number = world.commands;
                Arc::make_mut(&mut world.hub).command(number, force)
            }
            Action::Cancel(index) => {
                pay(&mut world.left_behind.cancels);
                Arc::make_mut(&mut world.hub).cancel(&task_id(index))
            }
            Action::Submit => {
                pay(&mut world.left_behind.submits);
                return self.submit(world);
            }
            other => Err(violated("model", format!("{other:?} is not the hub's"))),
        };
        self.carry(world, outs)
    }

    fn hub_hears(&self, world: &mut World, index: usize) -> Result<(), Violation> {
        let conn = &mut world.conns[index];
        let (id, run) = (conn.id, conn.run);
        conn.hub = End::Open;
        let outs = match conn.up.pop_front() {
            Some(Up::Frame(said)) => Arc::make_mut(&mut world.hub).hears(id, run, &said),
            Some(Up::Close) => {
                conn.graceful = true;
                conn.hub_closes();
                Arc::make_mut(&mut world.hub).gone(id)
            }
            None => Ok(Vec::new()),
        };
        if outs.as_ref().is_ok_and(|outs| outs.contains(&Out::Close(id))) {
            self.saw(Fact::IdentifyReadLate);
        }
        self.carry(world, outs)
    }

    /// The hub's words go on their way.
    fn carry(&self, world: &mut World, outs: Outs) -> Result<(), Violation> {
        for out in outs? {
            match out {
                Out::Outgoing(id, said) => {
                    let open = world.conns.iter_mut().find(|conn| conn.id == id && conn.hub == End::Open);
                    if let Some(conn) = open.filter(|conn| conn.side != End::Closed) {
                        conn.down.push_back(said);
                    }
                }
                Out::Close(id) => {
                    if let Some(conn) = world.conns.iter_mut().find(|conn| conn.id == id) {
                        if conn.side != End::Closed {
                            let detail = format!("connection {id} of the living process was cut off");
                            return Err(violated("newest_wins", detail));
                        }
                        conn.hub_closes();
                        let more = Arc::make_mut(&mut world.hub).gone(id);
                        self.carry(world, more)?;
                    }
                }
                Out::Counted(task, generation) => {
                    self.saw(Fact::VerdictCounted);
                    if !world.ghost.counted.insert((task.clone(), generation)) {
                        let detail = format!("{task} generation {generation} was counted twice");
                        return Err(violated("counted_once", detail));
                    }
                }
            }
        }
        if let Hub::Ours(hub) = &*world.hub {
            for (_, phase) in hub.phases() {
                match phase {
                    agentcom::hub::scheduler::restart::RestartPhase::Back => self.saw(Fact::CommandBack),
                    agentcom::hub::scheduler::restart::RestartPhase::Overdue => self.saw(Fact::CommandOverdue),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether a life is not followed further: the hub has handed out often enough.
    pub fn is_cut(&self, world: &World) -> bool {
        world
            .task_ids()
            .any(|id| world.hub.task(&id).is_some_and(|(_, generation, _)| generation > self.scope.generations))
    }
}

/// A hub's acceptance timer does not run out on work that is in hand, with nothing on its way on the connection that it
/// waits for. (It may not have seen the end of another one yet.)
fn in_hand_is_not_given_up(world: &World) -> Result<(), Violation> {
    let (Hub::Legacy(hub), Some(machine)) = (&*world.hub, world.machine()) else { return Ok(()) };
    let Some((id, generation, conn)) = hub.gives_up_on() else { return Ok(()) };
    let is_quiet = world.own_conn().is_some_and(|index| world.conns[index].id == conn && world.conns[index].is_quiet());
    let in_hand = machine.state.job().is_some_and(|job| {
        job.task().id == id
            && job.task().generation == generation
            && matches!(job.ownership, Ownership::Ours { report: None, .. })
    });
    if in_hand && is_quiet && machine.connection.can_send() {
        return Err(violated(
            "timer_is_stopped",
            format!("{id} generation {generation} is taken back as not accepted"),
        ));
    }
    Ok(())
}

fn pay(budget: &mut u8) {
    *budget = budget.saturating_sub(1);
}

impl Budget {
    pub fn is_spent(&self) -> bool {
        *self == Self::default()
    }
}

impl Model for System {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_some() || self.is_cut(world) {
            return;
        }
        self.possible(world, actions);
        if world.left_behind.crashes == 0 {
            return;
        }
        let whole = actions.len();
        for index in 0..whole {
            let action = actions[index];
            if action.dying(0).is_none() {
                continue;
            }
            let mut beats = Vec::new();
            self.after(world, action, Some(&mut beats));
            actions.extend(points_to_die(&beats).into_iter().filter_map(|die| action.dying(die)));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let next = self.after(world, action, None);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Self::HOLDS, |_: &Self, world: &World| world.violation.is_none()),
            Property::sometimes(Self::GOOD_END, |_: &Self, world: &World| world.is_well()),
        ]
    }
}
