//! Mistakes to make on purpose, so that a check can be checked: one at a time, chosen by `Policy::bug`. Only with the
//! feature `seeded-bugs`; without it [`seeded`] is `false` and nothing of this is compiled.

/// Whether this mistake is to be made.
#[cfg(feature = "seeded-bugs")]
macro_rules! seeded {
    ($policy:expr, $bug:ident) => {
        $policy.bug == Some($crate::machine::SeededBug::$bug)
    };
}

/// Nothing is done wrong on purpose.
#[cfg(not(feature = "seeded-bugs"))]
macro_rules! seeded {
    ($policy:expr, $bug:ident) => {
        false
    };
}

/// A mistake that a hurried engineer could make.
#[cfg(feature = "seeded-bugs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumIter, strum::IntoStaticStr)]
pub enum SeededBug {
    /// `task_accepted` is said before the journal holds the task.
    AcceptBeforePersist,
    /// A verdict is said before the journal holds it.
    VerdictBeforePersist,
    /// A verdict leaves the outbox when it is said, not when it is answered.
    OutboxClearedAtSend,
    /// A repeated restart command moves the deadline.
    DeadlineMovedByRepeat,
    /// An assignment is taken while draining.
    AssignedWhileDraining,
    /// A cancelled task takes the restart that waited for it along.
    RestartForgottenOnCancel,
    /// A task that has ended takes the restart that waited for it along.
    RestartForgottenOnResult,
    /// The journal does not bring the task's generation back.
    JournalWithoutGeneration,
    /// The process goes as soon as the close frame is sent.
    ExitBeforeClose,
    /// A wake that a crash left unknown is made again.
    WakeRepeatedAfterCrash,
    /// The restart is announced when it is accepted, and again when it happens.
    AnnouncedTwice,
    /// The link is closed without a word.
    NeverAnnounced,
    /// An answer to an older question takes the job back that was adopted since.
    StaleAbortDropsAdopted,
    /// The journal does not hold the shelf.
    ShelfNotJournalled,
    /// `force` on top of a pending restart changes nothing.
    ForceIgnored,
    /// The journal does not hold when restarts happened.
    IntensityNotJournalled,
    /// An assignment that waits for the hub's answer is dropped when the answer is no.
    HeldAssignmentLost,
    /// After the hub's "go on" the task is not accepted anew.
    ContinueWithoutReaccept,
    /// A stop signal drops the task in hand.
    StopDropsTheJob,
    /// The drain waits for the last answer, however long.
    DrainWithoutEnd,
    /// The files of a task are removed when its result is seen, before the journal holds it.
    CleanUpBeforePersist,
    /// A failed write counts as done.
    FailedWriteCounts,
    /// Work under way is started anew when the task is handed out anew.
    AdoptedWorkWokenAgain,
    /// A sign from before a reboot counts as if somebody were at work, and so does one that nobody remembers.
    OldSignBelieved,
    /// What a session that came late has left is cleaned up once more after a crash.
    LatecomerForgotten,
    /// The deadline of a restart does not make the task be left behind.
    RestartDeadlineIgnored,
}

/// What a journal that leaves something out brings back.
#[cfg(feature = "seeded-bugs")]
pub(super) fn forgetful(mut journal: super::Journal, policy: &super::Policy) -> super::Journal {
    if seeded!(policy, ShelfNotJournalled) {
        journal.shelf.clear();
    }
    if seeded!(policy, IntensityNotJournalled) {
        journal.restarts.recent.clear();
    }
    if let (true, Some(carried)) = (seeded!(policy, JournalWithoutGeneration), &mut journal.job) {
        carried.task.generation = 0;
        carried.woken = carried.woken.map(|_| 0);
    }
    journal
}

/// What a journal's verdicts still want cleaned up.
#[cfg(feature = "seeded-bugs")]
pub(super) fn untidy(mut outbox: super::Outbox, policy: &super::Policy) -> super::Outbox {
    if seeded!(policy, LatecomerForgotten) {
        outbox.pending_mut().for_each(|pending| pending.cleaned = false);
    }
    outbox
}

pub(super) use seeded;
