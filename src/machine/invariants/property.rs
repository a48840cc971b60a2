//! The list of properties, and the violation of one.

use alloc::string::String;

/// The properties of `docs/states.md`, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumIter, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Property {
    /// 1. The same machine, event and time give the same machine and effects.
    Deterministic,
    /// 2. Only the edges of the table; once leaving, never back.
    Edges,
    /// 3. At most one job; none is started in Draining or Exiting, or behind a cordon.
    OneJob,
    /// 4. Nothing is promised or started before the journal holds it.
    DurableFirst,
    /// 5. No accepted task is lost.
    NoLoss,
    /// 6. One verdict per assignment; a failure in place of a refused result, once that result is written elsewhere.
    OneVerdict,
    /// 7. No assignment is woken twice unless the last wake is known to have failed; work under way is adopted.
    NoDoubleWake,
    /// 8. A repeated command changes nothing.
    RepeatsChangeNothing,
    /// 9. `agent_restarting` once, after the last verdict, before the close, whenever the hub is reachable.
    AnnouncedOnce,
    /// 10. No exit with work under way unless the deadline passed, force was asked, or a stop signal came.
    NoWorkLeft,
    /// 11. From the command to the exit: at most the longer of check and restart deadline + drain deadline.
    Bounded,
    /// 12. After a deadline is handled the next is later.
    NoSpin,
    /// 13. At most N commanded restarts in a window.
    Intensity,
    /// 14. No exit without a next run: only on the supervisor's answer a restart begins, or ends by an exit.
    ComesBack,
    /// 15. Every command gets one answer, and so does every operator.
    Answered,
    /// 16. A refused verdict blocks nothing: the others are sent meanwhile, it ends, and no result is dropped for it.
    RefusalBlocksNothing,
    /// 17. Nothing overtakes a restart check: no task is taken meanwhile, and everything that waits waits for an answer.
    OpenQuestions,
    /// 18. Nothing finished is deleted unread: a result is removed only after its verdict was taken, or its task cancelled.
    UnreadIsKept,
}

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("property {} ({property}) does not hold: {detail}", *property as u8 + 1)]
pub struct Violation {
    /// The property.
    pub property: Property,
    /// A description of what was observed.
    pub detail: String,
}
