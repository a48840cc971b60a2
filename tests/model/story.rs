//! A path through the states as a story a person can read, in the format of `tests/scenarios/*.txt`: what happens to the
//! sidecar as event lines, what happens elsewhere as remarks. It retells; the scenario player says what comes out.

use std::fmt::Write as _;

use agentcom::machine::{
    Effect, Event, FromHub, News, Outcome, RestartMethod, RestartOrder, VerdictRefusal, WakeOutcome,
};

use super::action::Action;
use super::asked::OPEN;
use super::rebase::NEVER_MS;
use super::system::System;
use super::world::World;

/// One thing that happened to the sidecar's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    Starts,
    Event(Event),
    Effect(Effect),
    Dies,
    Passes(u64),
}

/// How the process before the present one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Killed,
    Rebooted,
    Exited,
}

/// Retells `actions` from the beginning; the expectations are what the scenario player sees.
pub fn tell(system: &System, title: &str, actions: &[Action]) -> String {
    let mut teller = Teller { text: format!("# {title}\n"), before: Before::Nothing, open: false };
    teller.policy(system);
    let mut world = system.beginning();
    for action in actions {
        let mut beats = Vec::new();
        let after = system.after(&world, *action, Some(&mut beats));
        teller.action(&world, *action, &beats);
        world = after;
    }
    if let Some(violation) = &world.violation {
        teller.remark(&format!("BROKEN: {}: {}", violation.property, violation.detail));
    }
    let played = crate::scenario::story::play(&teller.text);
    match played.trouble {
        Some(trouble) => format!("{}# the player stops here: {}\n", played.came_out, trouble.replace('\n', "\n# ")),
        None => played.came_out,
    }
}

struct Teller {
    text: String,
    before: Before,
    /// Event lines stand there whose block is not closed.
    open: bool,
}

impl Teller {
    fn policy(&mut self, system: &System) {
        let policy = system.scope.policy(0);
        let ms = |ms: u64| if ms >= NEVER_MS { "off".to_string() } else { ms.to_string() };
        let intensity = policy.restart_intensity;
        let figures = [
            ("restart_deadline_ms", ms(policy.restart_deadline_ms)),
            ("drain_deadline_ms", ms(policy.drain_deadline_ms)),
            ("stop_budget_ms", ms(policy.stop_budget_ms)),
            ("close_budget_ms", ms(policy.close_budget_ms)),
            ("restart_intensity", format!("{}/{}", intensity.max, intensity.window_ms)),
            ("wake_retry_delays_ms", ms(policy.wake_retry_delays_ms.first().copied().unwrap_or_default())),
            ("confirmation_timeout_ms", ms(policy.confirmation_timeout_ms)),
            ("look_ms", ms(policy.look_ms)),
            ("progress_interval_ms", ms(policy.progress_interval_ms)),
            ("answer_timeout_ms", ms(policy.answer_timeout_ms)),
            ("persist_retry_ms", ms(policy.persist_retry_ms)),
            ("ping_interval_ms", ms(policy.ping_interval_ms)),
            ("connect_timeout_ms", ms(policy.connect_timeout_ms)),
            ("identify_timeout_ms", ms(policy.identify_timeout_ms)),
            ("next_run_check_ms", ms(policy.next_run_check_ms)),
            ("last_look_ms", ms(policy.last_look_ms)),
        ];
        for (key, value) in figures {
            let _ = writeln!(self.text, "policy {key}={value}");
        }
        if let Some(limit) = policy.task_timeout_ms {
            let _ = writeln!(self.text, "policy task_timeout_ms={limit}");
        }
        if let Some(hook) = policy.result_hook_ms {
            let _ = writeln!(self.text, "policy result_hook_ms={hook}");
        }
        self.text.push('\n');
        self.line("supervisor slow");
        self.line("folder slow");
    }

    fn action(&mut self, world: &World, action: Action, beats: &[Beat]) {
        match action {
            Action::Crash => self.before = Before::Killed,
            Action::Reboot => self.before = Before::Rebooted,
            Action::DiskBreaks(_) => self.line("disk fails"),
            Action::DiskMends => self.line("disk works"),
            _ => {}
        }
        if world.machine().is_none() || !beats.iter().any(|beat| matches!(beat, Beat::Event(_) | Beat::Starts)) {
            self.remark(&format!("{action:?}"));
        }
        if let Some(Beat::Passes(ms)) = beats.first() {
            // While nothing runs, the clock goes on all the same.
            self.line(&format!("stall +{ms}"));
        }
        if beats.contains(&Beat::Dies) { self.death(beats) } else { self.life(beats) }
    }

    fn life(&mut self, beats: &[Beat]) {
        match beats.first() {
            Some(Beat::Starts) => {
                let start = self.start();
                self.line(start);
            }
            Some(Beat::Event(event)) => self.line(&words(event)),
            Some(Beat::Effect(_) | Beat::Dies | Beat::Passes(_)) | None => return,
        }
        if beats.iter().any(|beat| matches!(beat, Beat::Effect(Effect::Exit { .. }))) {
            self.before = Before::Exited;
        }
        self.close();
    }

    fn start(&mut self) -> &'static str {
        match std::mem::replace(&mut self.before, Before::Killed) {
            Before::Nothing | Before::Exited => "start",
            Before::Killed => "crash",
            Before::Rebooted => "reboot",
        }
    }

    /// The process dies after some of the writes that an event led to.
    fn death(&mut self, beats: &[Beat]) {
        let landed = beats.iter().filter(|beat| matches!(beat, Beat::Effect(Effect::Persist(_)))).count();
        let handled = beats.iter().filter(|beat| matches!(beat, Beat::Event(Event::Persisted))).count();
        match beats.first() {
            Some(Beat::Event(event)) if landed == 1 && handled == 0 => {
                self.remark("the write lands, and the process dies (the next start follows at once)");
                self.line(&format!("crash after_write while {}", words(event)));
                self.close();
                self.remark("the line above has started the process already");
            }
            Some(beat @ (Beat::Event(_) | Beat::Starts)) => {
                self.line("disk slow");
                match beat {
                    Beat::Event(event) => self.line(&words(event)),
                    Beat::Starts | Beat::Effect(_) | Beat::Dies | Beat::Passes(_) => {
                        let start = self.start();
                        self.line(start);
                    }
                }
                for _ in 0..landed {
                    self.line("persisted");
                }
                self.close();
                self.line("disk works");
            }
            Some(Beat::Effect(_) | Beat::Dies | Beat::Passes(_)) | None => {}
        }
        self.before = Before::Killed;
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{line}");
        self.open = true;
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.text.push_str("----\n\n");
        }
    }

    fn remark(&mut self, remark: &str) {
        let _ = writeln!(self.text, "# {remark}");
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::DeadlineReached => "due".into(),
        Event::HubOpened => "link opened".into(),
        Event::HubClosed { .. } => "link closed".into(),
        Event::HubSaid(said) => format!("hub {}", said_words(said)),
        Event::WakeFinished { task_id, generation, attempt, outcome } => {
            let outcome = match outcome {
                WakeOutcome::Succeeded => "ok",
                WakeOutcome::Failed { .. } => "failed",
                WakeOutcome::TimedOut { .. } => "timeout",
                WakeOutcome::Refused { .. } => "refused",
            };
            format!("wake {task_id} gen={generation} attempt={attempt} {outcome}")
        }
        Event::Confirmed { task_id } => format!("confirmed {task_id}"),
        Event::ResultFound { task_id, outcome } => match outcome {
            Outcome::Completed { .. } => format!("result {task_id} success"),
            Outcome::Failed { .. } => format!("result {task_id} failed"),
        },
        Event::StopRequested { signal } => format!("stop {signal}"),
        Event::RestartRequested { order, to: _ } => format!("restart {}", order_words(order)),
        Event::RestartCancelRequested { to: _ } => "cancel_restart".into(),
        Event::CordonRequested { on, to: _ } => if *on { "drain" } else { "resume" }.into(),
        Event::NextRunChecked { number, restart_method, cannot_start } => {
            let in_place = if *restart_method == RestartMethod::InPlace { " in_place" } else { "" };
            let cannot =
                cannot_start.as_ref().map(|why| format!(" cannot={}", why.replace(' ', "_"))).unwrap_or_default();
            format!("checked{}{in_place}{cannot}", which(*number))
        }
        Event::ResultReviewed { number, outcome } => match outcome {
            Outcome::Completed { .. } => format!("reviewed{} success", which(*number)),
            Outcome::Failed { .. } => format!("reviewed{} failed", which(*number)),
        },
        Event::ResultsLookedFor { number } => format!("looked{}", which(*number)),
        Event::NewsOffered(News::Output { task_id }) => format!("offers output {task_id}"),
        Event::NewsOffered(News::Resources) => "offers resources".into(),
        Event::Persisted => "persisted".into(),
        Event::PersistFailed => "persist_failed".into(),
        Event::RefusedResultWritten { task_id, generation, path } => {
            let path = path.as_ref().map_or(String::new(), |path| format!(" path={path}"));
            format!("kept {task_id} gen={generation}{path}")
        }
    }
}

/// The player counts questions anew: an answer is to the last one, or to none.
fn which(number: u32) -> &'static str {
    if number == OPEN { "" } else { " n=0" }
}

fn said_words(said: &FromHub) -> String {
    match said {
        FromHub::Identified { features } => {
            let named = [
                (features.restart_v2, "restart.v2"),
                (features.task_rejected, "task_rejected"),
                (features.cordon, "cordon"),
            ];
            let named: Vec<&str> = named.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
            if named.is_empty() { "identified".into() } else { format!("identified features={}", named.join(",")) }
        }
        FromHub::IdentifyRefused { error } => format!("refuses_identify {error}"),
        FromHub::Assigned { task, assigned_at: _, timeout_ms: _ } => {
            format!("assign {} gen={}", task.id, task.generation)
        }
        FromHub::AssignedInvalid { task_id, generation, why: _ } => format!("assign {task_id} gen={generation}"),
        FromHub::AcceptAcknowledged { task_id } => format!("ack {task_id} accepted"),
        FromHub::VerdictAcknowledged { task_id } => format!("ack {task_id} complete"),
        FromHub::VerdictRefused { complete, why, of: _ } => {
            let kind = if *complete { "refuses_complete" } else { "refuses_fail" };
            let why = match why {
                VerdictRefusal::NotNow => "stale_generation",
                VerdictRefusal::Never => "not_found",
            };
            format!("{kind} {why}")
        }
        FromHub::TaskContinue { task_id, generation } => match generation {
            Some(generation) => format!("continue {task_id} gen={generation}"),
            None => format!("continue {task_id}"),
        },
        FromHub::TaskReassigned { task_id, generation } => match generation {
            Some(generation) => format!("reassign {task_id} gen={generation}"),
            None => format!("reassign {task_id}"),
        },
        FromHub::TaskCancelled { task_id } => format!("cancel {task_id}"),
        FromHub::ReportAnswered { task_id, go_on } => {
            format!("report_ack {task_id} {}", if *go_on { "continue" } else { "abort" })
        }
        FromHub::ReportNotUnderstood => "report_unknown".into(),
        FromHub::RestartCommanded(order) => format!("restart {}", order_words(order)),
        FromHub::RateLimited { retry_after_ms } => format!("rate_limited retry_after={retry_after_ms}"),
        FromHub::Forgotten => "agent_left".into(),
        FromHub::SignOfLife => "pong".into(),
        FromHub::RefusedInOtherWords { complete, error, of: _ } => match complete {
            Some(true) => format!("errs {error} about=task_complete"),
            Some(false) => format!("errs {error} about=task_failed"),
            None => format!("errs {error}"),
        },
    }
}

fn order_words(order: &RestartOrder) -> String {
    let mut words = format!("reason={}", order.reason);
    if let Some(id) = &order.command_id {
        let _ = write!(words, " id={id}");
    }
    if let Some(ms) = order.deadline_ms {
        let _ = write!(words, " deadline={ms}");
    }
    if order.force {
        words.push_str(" force");
    }
    words
}
