//! What must happen somewhere in an exploration, so that nothing passes because nothing happened. It only counts.

use std::sync::atomic::{AtomicU64, Ordering};

use agentcom::machine::{
    Cause, CloseCode, DrainStep, Effect, Ending, Event, FromHub, Job, Journal, Machine, NextRun, Notice, Outcome,
    ParkedTask, RejectReason, RestartAnswer, Stage, State, ToHub,
};
use strum::IntoEnumIterator;

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
pub enum Fact {
    TaskAccepted,
    VerdictCounted,
    IdleRestart,
    RestartAfterTheTask,
    RestartLeavesTheTask,
    RestartRefused,
    RestartRepeated,
    RestartAnnounced,
    CommandBack,
    CommandOverdue,
    CrashBetweenEffects,
    CrashWithATask,
    ResultWhileDown,
    TaskContinued,
    AdoptedUnderNewGeneration,
    HeldWhileRecovering,
    RejectedWhileLeaving,
    WorkShelved,
    ResultShelved,
    ShelvedResultDelivered,
    WokenAgain,
    WakeGivenUp,
    ConfirmationTimeout,
    TaskTimeout,
    Stopped,
    JournalFailed,
    WrittenAndDenied,
    VerdictWaitsForTheDisk,
    Interrupted,
    GivenUp,
    HubCrashed,
    Cancelled,
    StaleVerdict,
    SaidAgain,
    TakenBack,
    RefusedBehindCordon,
    LeftForACordon,
    IdentifyReadLate,
    LeftForgotten,
    PushedToNobody,
    LatecomerAdopted,
    OldSignDropped,
    CheckRefused,
    CheckTimedOut,
    CheckCancelled,
    CheckStopped,
    CheckOutlivesTheTask,
    CheckJoined,
    HeldDuringCheck,
    StaleCheckAnswered,
    LastWordsWaitForTheCheck,
    SecondCheckUnanswered,
    GoesOnAsItIs,
    EndsInPlace,
    LookedInVain,
    LookUnanswered,
    ResultReviewed,
    HookUnanswered,
    Well,
}

#[derive(Debug, Default)]
pub struct Facts(AtomicU64);

impl Facts {
    pub fn saw(&self, fact: Fact) {
        let bit = 1 << fact as u64;
        if self.0.load(Ordering::Relaxed) & bit == 0 {
            self.0.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub fn seen(&self) -> Vec<Fact> {
        let bits = self.0.load(Ordering::Relaxed);
        Fact::iter().filter(|fact| bits & (1 << *fact as u64) != 0).collect()
    }

    /// Notes what one transition shows.
    pub fn step(&self, before: &Machine, event: &Event, after: &Machine, effects: &[Effect]) {
        self.states(before, event, after);
        for effect in effects {
            self.effect(after, effect);
        }
        let said = |effect: &Effect| {
            matches!(
                effect,
                Effect::Send(ToHub::TaskComplete { .. } | ToHub::TaskFailed { .. } | ToHub::TaskAccepted { .. })
            )
        };
        if matches!(event, Event::DeadlineReached)
            && before.outbox.len() == after.outbox.len()
            && effects.iter().any(said)
        {
            self.saw(Fact::SaidAgain);
        }
        match event {
            Event::Confirmed { .. } if before.state.job().is_some_and(is_expected) => self.saw(Fact::LatecomerAdopted),
            Event::HubSaid(FromHub::TaskContinue { .. }) if before != after => self.saw(Fact::TaskContinued),
            Event::HubSaid(FromHub::TaskCancelled { .. }) if before != after => self.saw(Fact::Cancelled),
            Event::HubSaid(FromHub::Forgotten) if before != after => self.saw(Fact::LeftForgotten),
            Event::HubSaid(FromHub::VerdictRefused { .. }) if before != after => self.saw(Fact::StaleVerdict),
            Event::PersistFailed => {
                self.saw(Fact::JournalFailed);
                if after.outbox.len() > after.durable.outbox.len() {
                    self.saw(Fact::VerdictWaitsForTheDisk);
                }
            }
            _ => {}
        }
    }

    fn states(&self, before: &Machine, event: &Event, after: &Machine) {
        if let (Some(old), Some(new)) = (before.state.job(), after.state.job())
            && old.task().id == new.task().id
            && old.task().generation < new.task().generation
            && new.persisted.is_under_way()
        {
            self.saw(Fact::AdoptedUnderNewGeneration);
        }
        if after.deferred.is_some() {
            self.saw(if after.check.is_some() { Fact::HeldDuringCheck } else { Fact::HeldWhileRecovering });
        }
        self.questions(before, event, after);
        for item in after.parked.items() {
            self.saw(match item {
                ParkedTask::UnderWay(_) => Fact::WorkShelved,
                ParkedTask::Finished { .. } => Fact::ResultShelved,
            });
        }
        if after.outbox.iter().any(|verdict| verdict.accept_first) && !before.parked.items().is_empty() {
            self.saw(Fact::ShelvedResultDelivered);
        }
        if let Some(job) = after.state.job() {
            match job.persisted.stage {
                Stage::Waking { attempt } if attempt > 1 => self.saw(Fact::WokenAgain),
                Stage::Interrupted { .. } => self.saw(Fact::Interrupted),
                Stage::Accepted
                | Stage::Waking { .. }
                | Stage::RetryingWake { .. }
                | Stage::AwaitingConfirmation { .. }
                | Stage::Running => {}
            }
        }
        if let (Event::DeadlineReached | Event::WakeFinished { .. }, true) =
            (event, after.outbox.len() > before.outbox.len())
        {
            self.saw(match has_failed(after, "confirmation_timeout") {
                true => Fact::ConfirmationTimeout,
                false => Fact::WakeGivenUp,
            });
        }
        if has_failed(after, "task_timeout") && !has_failed(before, "task_timeout") {
            self.saw(Fact::TaskTimeout);
        }
        match (&before.state, &after.state) {
            (
                State::RestartPending { .. },
                State::Draining { cause: Cause::Restart { forced: false, .. }, .. } | State::Exiting { .. },
            ) => self.saw(Fact::RestartAfterTheTask),
            (State::Idle, State::Draining { cause: Cause::Restart { .. }, .. }) => self.saw(Fact::IdleRestart),
            _ => {}
        }
    }

    fn questions(&self, before: &Machine, event: &Event, after: &Machine) {
        if let (Some(_), None) = (&before.check, &after.check) {
            match event {
                Event::NextRunChecked { cannot_start: Some(_), .. } => self.saw(Fact::CheckRefused),
                Event::DeadlineReached => self.saw(Fact::CheckTimedOut),
                Event::RestartCancelRequested { .. } => self.saw(Fact::CheckCancelled),
                Event::StopRequested { .. } => self.saw(Fact::CheckStopped),
                _ => {}
            }
        }
        if let (Some(_), Some(check)) = (&before.check, &after.check) {
            if before.state.job().is_some() && after.state.job().is_none() {
                self.saw(Fact::CheckOutlivesTheTask);
            }
            if !check.joined.is_empty() {
                self.saw(Fact::CheckJoined);
            }
        }
        if matches!(event, Event::NextRunChecked { .. }) && before == after {
            self.saw(Fact::StaleCheckAnswered);
        }
        if let State::Draining { step: DrainStep::Checking, .. } = &after.state {
            self.saw(Fact::LastWordsWaitForTheCheck);
        }
        let look = |machine: &Machine| machine.state.job().is_some_and(|job| job.last_look.is_some());
        match event {
            Event::ResultsLookedFor { .. } if look(before) => self.saw(Fact::LookedInVain),
            Event::DeadlineReached if look(before) && !look(after) => self.saw(Fact::LookUnanswered),
            Event::ResultReviewed { .. } if before != after => self.saw(Fact::ResultReviewed),
            Event::DeadlineReached
                if before.state.job().is_some_and(|job| job.review.is_some()) && after.state.job().is_none() =>
            {
                self.saw(Fact::HookUnanswered);
            }
            _ => {}
        }
    }

    fn effect(&self, after: &Machine, effect: &Effect) {
        match effect {
            Effect::Send(ToHub::TaskAccepted { .. }) => self.saw(Fact::TaskAccepted),
            Effect::Send(ToHub::AgentRestarting { .. }) => self.saw(Fact::RestartAnnounced),
            Effect::Send(ToHub::RestartAck { answer, .. }) => match answer {
                RestartAnswer::Accepted { .. } => {}
                RestartAnswer::Duplicate => self.saw(Fact::RestartRepeated),
                RestartAnswer::Refused { .. } => self.saw(Fact::RestartRefused),
            },
            Effect::Notify(Notice::RestartCancelled { .. }) => self.saw(Fact::TakenBack),
            Effect::Send(ToHub::TaskRejected { reason: RejectReason::Draining, .. }) => {
                self.saw(Fact::RefusedBehindCordon);
            }
            Effect::CloseLink(CloseCode::Cordoned) => self.saw(Fact::LeftForACordon),
            Effect::Send(ToHub::TaskRejected { reason: RejectReason::Restarting, .. }) => {
                self.saw(Fact::RejectedWhileLeaving);
            }
            Effect::Exit { cause: Cause::Stop { .. }, .. } => self.saw(Fact::Stopped),
            Effect::Exit { cause: Cause::Restart { next_run, .. }, ending } => {
                match (next_run, ending) {
                    (NextRun::Asked { .. }, Ending::InPlace) => self.saw(Fact::SecondCheckUnanswered),
                    (NextRun::Found(_), Ending::InPlace) => self.saw(Fact::EndsInPlace),
                    (_, Ending::InPlaceAsIs) => self.saw(Fact::GoesOnAsItIs),
                    (_, Ending::Exit) => {}
                }
                if let State::Exiting { left_behind: Some(_), .. } = &after.state {
                    self.saw(Fact::RestartLeavesTheTask);
                }
            }
            _ => {}
        }
    }

    pub fn crash(&self, journal: &Journal, between_effects: bool) {
        if between_effects {
            self.saw(Fact::CrashBetweenEffects);
        }
        if journal.job.is_some() {
            self.saw(Fact::CrashWithATask);
        }
    }
}

/// Nobody was woken for this assignment: whoever shows himself was woken for an earlier one, which was given up.
fn is_expected(job: &Job) -> bool {
    matches!(job.persisted.stage, Stage::AwaitingConfirmation { .. }) && job.persisted.woken.is_none()
}

/// Whether the outbox has a failure for this reason.
fn has_failed(machine: &Machine, why: &str) -> bool {
    let is_why = |outcome: &Outcome| matches!(outcome, Outcome::Failed { reason } if reason.starts_with(why));
    machine.outbox.iter().any(|verdict| is_why(&verdict.outcome))
}
