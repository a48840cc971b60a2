//! Commands whose end is the task's end, of an executor or of `agentcom-sidecar session`: a supervisor in a session of its
//! own runs one and leaves `<task_id>.started` and `<task_id>.json` in the results folder, as an agent's session would. So
//! the machine needs no state for them, and neither a restart nor a crash of the sidecar affects them. Nothing here
//! chooses the command of a task.
//!
//! The files of a run, in the scratch folder (`<queue_file>.wake`):
//! - `<task_id>.run`, the claim: locked for as long as the supervisor lives, kept until the task's files are cleaned
//!   up. It names the generation, so that none is run twice.
//! - `<task_id>.seen`, the process of a session that is not supervised and names it in its sign, seen alive.
//! - `<task_id>.progress`, the output as it is written, in JSON lines; bounded in size, for readers that follow it.

mod claim_record;
mod ended;
mod escapes;
mod follow;
mod lost;
mod object_scan;
mod output;
mod own_session;
mod pipes;
mod request;
mod supervise;
mod verdict;

pub use follow::{OutputBatch, Runs, Watched};
pub use lost::RunsConfig;
pub use request::{RunRequest, SessionRequest};
pub use supervise::{main_if_asked, program};
pub use verdict::{DroppedText, Printed, printed_result};

pub(crate) use ended::REPLACED;
pub(crate) use supervise::{arguments, start_session};
