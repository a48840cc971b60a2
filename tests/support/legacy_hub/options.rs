//! The knobs of the double; the defaults are what the existing hub does.

/// When a returning agent's own task is handed to it again. All three were recorded; which one happens is a race there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReturn {
    /// Right after `identified`, before the agent has asked. The usual case.
    AtOnce,
    /// Assigned at once, but pushed only after `task_recovering` was answered with `task_continue` (or a `state_report`
    /// with `abort`: its generation is stale already).
    AfterContinue,
    /// Assigned only after `task_recovering` was answered with `task_reassign`.
    AfterReassign,
}

/// What becomes of `task_complete` and `task_failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdicts {
    /// Taken and answered.
    Answer,
    /// Taken, and the answer is lost.
    LoseAnswer,
    /// Lost on the way, as a rate-limited frame is.
    LoseVerdict,
    /// A `task_complete` of a task whose description has `unwanted` in it is met so; others are taken and answered.
    RefuseResults(Refusal),
}

/// How a hub refuses what it cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// By an error of that name, which says nothing of what it is about.
    Error(&'static str),
    /// It ends the connection with that close code.
    Close(u16),
    /// It breaks the connection off.
    Drop,
}

/// See [`Options::default`] for the existing hub's own figures.
#[derive(Debug, Clone)]
pub struct Options {
    pub on_return: OnReturn,
    /// How long [`OnReturn::AfterContinue`] and [`OnReturn::AfterReassign`] wait for an agent that does not ask.
    pub hold_ms: u64,
    pub verdicts: Verdicts,
    /// False: `task_recovering` and `state_report` are lost, as rate-limited frames are.
    pub answer_questions: bool,
    /// How long after a verdict the scheduler hands out the next task. A connection that closes meanwhile is still taken
    /// for that of an idle agent: the task is assigned and pushed to nobody, and only the acceptance timer that begins
    /// with the agent's return frees it.
    pub next_task_ms: u64,
    /// An assignment not accepted for so long is taken back.
    pub acceptance_ms: u64,
    /// A connection silent for so long is closed with 1002; `None`: never.
    pub silence_ms: Option<u64>,
    /// An agent that has not said `ping` for so long is dropped; `None`: never.
    pub evict_after_ms: Option<u64>,
    /// A task without a sign of life for so long is taken back; `None`: never.
    pub stuck_after_ms: Option<u64>,
    /// The first, second and every later cooldown after a 1008.
    pub cooldowns_ms: [u64; 3],
    pub rate_limits: bool,
    /// `agent_joined`, `agent_left`, `status_changed` to everybody.
    pub presence_pushes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            on_return: OnReturn::AtOnce,
            hold_ms: 1_000,
            verdicts: Verdicts::Answer,
            answer_questions: true,
            // Some milliseconds there; here no test depends on chance.
            next_task_ms: 0,
            acceptance_ms: 60_000,
            silence_ms: Some(60_000),
            evict_after_ms: Some(60_000),
            stuck_after_ms: Some(300_000),
            cooldowns_ms: [30_000, 60_000, 300_000],
            rate_limits: true,
            presence_pushes: true,
        }
    }
}
