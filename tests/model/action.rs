//! Everything that can happen next. What need not happen costs something from the budget; the rest is always possible.

use agentcom::machine::{Connection, Event, Machine, Phase, RestartMethod, Stage};

use super::connection::End;
use super::rebase::{NOW, comes};
use super::scope::Budget;
use super::system::System;
use super::world::{DiskFault, Process, World};

/// What is found out of the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    Well,
    /// The supervisor would not start it.
    Nobody,
    /// Its program cannot start.
    CannotStart,
}

impl Found {
    /// As the answer to the question of that number.
    pub fn to(self, number: u32) -> Event {
        let restart_method = match self {
            Self::Well | Self::CannotStart => RestartMethod::Supervisor,
            Self::Nobody => RestartMethod::InPlace,
        };
        let cannot_start = (self == Self::CannotStart).then(|| "it is no program".into());
        Event::NextRunChecked { number, restart_method, cannot_start }
    }
}

/// After how many effects the process is killed; never, if none.
pub type Die = Option<u8>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes until something is due.
    TimePasses {
        late: bool,
    },
    /// The sidecar's deadline.
    DeadlineFires(Die),
    /// The hub's timers.
    HubTicks,
    ConnOpens(Die),
    ConnFails(Die),
    /// The sidecar hears the next frame.
    SideHears(Die),
    /// The sidecar sees the end that the other side made.
    SideSeesEnd(Die),
    /// The sidecar's end breaks.
    SideLoses(Die),
    HubHears(usize),
    HubSeesEnd(usize),
    /// The hub's end breaks.
    HubLoses(usize),
    /// The scheduler enters an assignment.
    HubSchedules,
    /// The socket is told of it.
    HubPushes,
    HubCrashes,
    /// The next frame to the hub is dropped for its rate.
    HubDrops(usize),
    WakeLaunches(usize),
    WakeSucceeds(usize, Die),
    WakeFails(usize, Die),
    SessionStarts(usize),
    SessionSucceeds(usize),
    SessionFails(usize),
    /// The watcher reports `.started`.
    StartedSeen(Die),
    /// The watcher reports the result.
    ResultSeen(Die),
    /// What would follow the process was found out.
    CheckAnswered(Found, Die),
    /// The same, of a check that nobody waits for any more.
    StaleCheckAnswered(Die),
    /// The folder was looked at once more.
    LookAnswered(Die),
    HookAnswers(Die),
    StopSignal(Die),
    /// An operator on the machine.
    Drains(Die),
    Resumes(Die),
    TakesRestartBack(Die),
    Crash,
    Reboot,
    Respawn(Die),
    GivesUp,
    DiskBreaks(DiskFault),
    DiskMends,
    Command {
        force: bool,
    },
    Cancel(usize),
    Submit,
}

impl Action {
    /// Whether it happens at once where nothing delays it: a frame or an end arrives, a file is noticed.
    fn is_prompt(&self) -> bool {
        matches!(
            self,
            Self::ConnOpens(_)
                | Self::SideHears(_)
                | Self::SideSeesEnd(_)
                | Self::HubHears(_)
                | Self::HubSeesEnd(_)
                | Self::HubSchedules
                | Self::HubPushes
                | Self::StartedSeen(_)
                | Self::ResultSeen(_)
                | Self::CheckAnswered(..)
                | Self::LookAnswered(_)
                | Self::HookAnswers(_)
                | Self::DiskMends
        )
    }

    /// The same, with the process killed after `die` effects; none where the process has no part in it.
    pub fn dying(self, die: u8) -> Option<Self> {
        let die = Some(die);
        match self {
            Self::DeadlineFires(_) => Some(Self::DeadlineFires(die)),
            Self::ConnOpens(_) => Some(Self::ConnOpens(die)),
            Self::ConnFails(_) => Some(Self::ConnFails(die)),
            Self::SideHears(_) => Some(Self::SideHears(die)),
            Self::SideSeesEnd(_) => Some(Self::SideSeesEnd(die)),
            Self::SideLoses(_) => Some(Self::SideLoses(die)),
            Self::WakeSucceeds(index, _) => Some(Self::WakeSucceeds(index, die)),
            Self::WakeFails(index, _) => Some(Self::WakeFails(index, die)),
            Self::StartedSeen(_) => Some(Self::StartedSeen(die)),
            Self::ResultSeen(_) => Some(Self::ResultSeen(die)),
            Self::CheckAnswered(found, _) => Some(Self::CheckAnswered(found, die)),
            Self::StaleCheckAnswered(_) => Some(Self::StaleCheckAnswered(die)),
            Self::LookAnswered(_) => Some(Self::LookAnswered(die)),
            Self::HookAnswers(_) => Some(Self::HookAnswers(die)),
            Self::StopSignal(_) => Some(Self::StopSignal(die)),
            Self::Drains(_) => Some(Self::Drains(die)),
            Self::Resumes(_) => Some(Self::Resumes(die)),
            Self::TakesRestartBack(_) => Some(Self::TakesRestartBack(die)),
            Self::Respawn(_) => Some(Self::Respawn(die)),
            Self::TimePasses { .. }
            | Self::HubTicks
            | Self::HubHears(_)
            | Self::HubSeesEnd(_)
            | Self::HubLoses(_)
            | Self::HubSchedules
            | Self::HubPushes
            | Self::HubCrashes
            | Self::HubDrops(_)
            | Self::WakeLaunches(_)
            | Self::SessionStarts(_)
            | Self::SessionSucceeds(_)
            | Self::SessionFails(_)
            | Self::Crash
            | Self::Reboot
            | Self::GivesUp
            | Self::DiskBreaks(_)
            | Self::DiskMends
            | Self::Command { .. }
            | Self::Cancel(_)
            | Self::Submit => None,
        }
    }
}

/// Whether the agent's sign would change anything; the watcher says it once.
fn awaits_sign(machine: &Machine) -> bool {
    machine.state.job().is_some_and(|job| match job.persisted.stage {
        Stage::Waking { .. } | Stage::RetryingWake { .. } | Stage::AwaitingConfirmation { .. } => true,
        Stage::Accepted | Stage::Running | Stage::Interrupted { .. } => false,
    })
}

/// Whether the agent's result was not reported yet; the watcher reports it once.
fn awaits_result(machine: &Machine) -> bool {
    machine.state.job().is_some_and(|job| job.review.is_none())
}

/// What an operator on the machine may say where it changes something.
fn operator(machine: &Machine, left_behind: &Budget, out: &mut Vec<Action>) {
    if machine.cordon.is_on() {
        out.push(Action::Resumes(None));
    } else if left_behind.cordons > 0 {
        out.push(Action::Drains(None));
    }
    let pending = machine.state.phase() == Phase::RestartPending || machine.check.is_some();
    if left_behind.take_backs > 0 && pending {
        out.push(Action::TakesRestartBack(None));
    }
}

impl System {
    /// What can happen in `world`, without the deaths in between.
    pub fn possible(&self, world: &World, out: &mut Vec<Action>) {
        self.process(world, out);
        self.connections(world, out);
        if world.hub.can_schedule() {
            out.push(Action::HubSchedules);
        }
        if world.hub.can_push() {
            out.push(Action::HubPushes);
        }
        // So far: what takes no time unless something delays it.
        let pending = out.iter().any(Action::is_prompt);
        self.time(world, pending, out);
        self.agent(world, out);
        self.people(world, out);
    }

    fn time(&self, world: &World, pending: bool, out: &mut Vec<Action>) {
        let policy = self.policy(world);
        let machine_due = world.machine().and_then(|machine| machine.deadline(policy)).map(|(at, _)| at);
        let hub_due = world.hub.due_in();
        let fires = machine_due.is_some_and(|at| at <= NOW);
        if fires {
            out.push(Action::DeadlineFires(None));
        }
        if hub_due == Some(0) {
            out.push(Action::HubTicks);
        }
        if !fires && hub_due != Some(0) && self.next_due(world).is_some() && (!pending || world.left_behind.delays > 0)
        {
            out.push(Action::TimePasses { late: pending });
        }
    }

    /// How long until the next deadline of anybody, ms.
    pub fn next_due(&self, world: &World) -> Option<u64> {
        let machine = world.machine().and_then(|machine| machine.deadline(self.policy(world)));
        let machine = machine.filter(|(at, _)| comes(*at)).map(|(at, _)| at.since(NOW));
        let hub = world.hub.due_in().filter(|ms| comes(NOW.plus(*ms)));
        machine.into_iter().chain(hub).min()
    }

    /// What was asked is answered, a look into the folder after everything that is there was reported.
    fn answers(&self, machine: &Machine, world: &World, out: &mut Vec<Action>) {
        if world.asked.check {
            out.push(Action::CheckAnswered(Found::Well, None));
            if world.left_behind.bad_checks > 0 {
                out.push(Action::CheckAnswered(Found::Nobody, None));
                out.push(Action::CheckAnswered(Found::CannotStart, None));
            }
        }
        if world.asked.stale_check {
            out.push(Action::StaleCheckAnswered(None));
        }
        if world.asked.review {
            out.push(Action::HookAnswers(None));
        }
        let files = machine.watching().and_then(|id| world.files(id));
        let unreported = files.is_some_and(|files| {
            (files.result.is_some() && awaits_result(machine)) || (files.started && awaits_sign(machine))
        });
        if world.asked.look && !unreported {
            out.push(Action::LookAnswered(None));
        }
    }

    fn process(&self, world: &World, out: &mut Vec<Action>) {
        match &world.process {
            Process::Runs(machine) => {
                if world.left_behind.crashes > 0 {
                    out.push(Action::Crash);
                }
                if world.left_behind.reboots > 0 {
                    out.push(Action::Reboot);
                }
                if world.left_behind.stops > 0 {
                    out.push(Action::StopSignal(None));
                }
                operator(machine, &world.left_behind, out);
                if let Some(files) = machine.watching().and_then(|id| world.files(id)) {
                    if files.started && awaits_sign(machine) {
                        out.push(Action::StartedSeen(None));
                    }
                    if files.result.is_some() && awaits_result(machine) {
                        out.push(Action::ResultSeen(None));
                    }
                }
                self.answers(machine, world, out);
            }
            Process::Down => {
                out.push(Action::Respawn(None));
                if world.left_behind.given_up > 0 {
                    out.push(Action::GivesUp);
                }
            }
            Process::GivenUp => {}
        }
        if world.disk_fault.is_some() {
            out.push(Action::DiskMends);
        } else {
            let budgets = [
                (DiskFault::Refuses, world.left_behind.disk_faults),
                (DiskFault::Misreports, world.left_behind.misreports),
            ];
            out.extend(
                budgets
                    .into_iter()
                    .filter(|(_, left_behind)| *left_behind > 0)
                    .map(|(fault, _)| Action::DiskBreaks(fault)),
            );
        }
    }

    fn connections(&self, world: &World, out: &mut Vec<Action>) {
        for (index, conn) in world.conns.iter().enumerate() {
            if conn.hub == End::Open || (conn.hub == End::Opening && !conn.up.is_empty()) {
                if !conn.up.is_empty() {
                    out.push(Action::HubHears(index));
                    if world.left_behind.rate_limits > 0 && conn.hub == End::Open {
                        out.push(Action::HubDrops(index));
                    }
                }
                if conn.hub == End::Open && conn.side != End::Closed && world.left_behind.breaks > 0 {
                    out.push(Action::HubLoses(index));
                }
            }
            if conn.side == End::Closed && conn.hub != End::Closed {
                out.push(Action::HubSeesEnd(index));
            }
        }
        let Some((machine, conn)) = world.machine().zip(world.own_conn().map(|index| &world.conns[index])) else {
            return;
        };
        match conn.side {
            End::Opening if matches!(machine.connection, Connection::Closing { .. }) => {
                out.push(Action::SideSeesEnd(None))
            }
            End::Opening => {
                out.push(Action::ConnOpens(None));
                if world.left_behind.breaks > 0 {
                    out.push(Action::ConnFails(None));
                }
            }
            End::Open => {
                if !conn.down.is_empty() {
                    out.push(Action::SideHears(None));
                }
                if conn.hub == End::Closed && (conn.down.is_empty() || !conn.graceful) {
                    out.push(Action::SideSeesEnd(None));
                } else if conn.hub != End::Closed && world.left_behind.breaks > 0 {
                    out.push(Action::SideLoses(None));
                }
            }
            End::Closed => {}
        }
    }

    fn agent(&self, world: &World, out: &mut Vec<Action>) {
        for (index, wake) in world.wakes.iter().enumerate() {
            if !wake.launched {
                out.push(Action::WakeLaunches(index));
                if world.left_behind.failed_wakes > 0 {
                    out.push(Action::WakeFails(index, None));
                }
            }
            if wake.launched || world.left_behind.no_shows > 0 {
                out.push(Action::WakeSucceeds(index, None));
            }
        }
        for (index, session) in world.sessions.iter().enumerate() {
            if session.started {
                out.push(Action::SessionSucceeds(index));
                if world.left_behind.failed_sessions > 0 {
                    out.push(Action::SessionFails(index));
                }
            } else {
                out.push(Action::SessionStarts(index));
            }
        }
    }

    fn people(&self, world: &World, out: &mut Vec<Action>) {
        if world.hub.can_command() {
            if world.left_behind.commands > 0 {
                out.push(Action::Command { force: false });
            }
            if world.left_behind.forced > 0 {
                out.push(Action::Command { force: true });
            }
        }
        if world.left_behind.cancels > 0 {
            let open = |id| world.hub.task(&id).is_some_and(|(over, _, _)| !over);
            let indices = world.task_ids().enumerate().filter(|(_, id)| open(id.clone()));
            out.extend(indices.map(|(index, _)| Action::Cancel(index)));
        }
        if world.left_behind.submits > 0 {
            out.push(Action::Submit);
        }
        if world.left_behind.hub_crashes > 0 {
            out.push(Action::HubCrashes);
        }
    }
}
