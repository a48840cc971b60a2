//! A line of a story as something that happens. The words are near the wire's; it reads them and decides nothing.

use agentcom::machine::{
    Event, Features, FromHub, Intensity, Jitter, News, Outcome, Policy, RestartMethod, RestartOrder, StopSignal, Task,
    TaskId, Ticket, VerdictName, VerdictRefusal, WakeOutcome,
};
use strum::IntoEnumIterator;

/// Longer than any story.
const NEVER_MS: u64 = 1_000_000_000;

/// What a line says.
#[derive(Debug, Clone)]
pub enum Line {
    /// A process begins, with what the disk holds.
    Start,
    /// The process is killed and the next one begins.
    Crash {
        /// It was handling this, and the write that was ordered then was or was not finished.
        during: Option<(WriteFate, Box<Line>)>,
        /// The machine was rebooted too.
        rebooted: bool,
    },
    /// Something happens.
    Happens(Event),
    /// A question of the machine's is answered: the one that was asked last, or the one of that number.
    Answers(Option<u32>, Told),
    /// The time that the machine waits for comes.
    Due,
    /// Time passes, every deadline on the way is met.
    Passes(u64),
    /// Time passes and nobody looks: the process, or the machine, was stopped.
    Stalls(u64),
    /// The clock is set back while no process runs.
    ClockBack(u64),
    /// The disk changes its ways.
    Disk(Mood),
    /// So do the supervisor and the next program.
    Supervisor(Mood),
    /// So does the results folder.
    Folder(Mood),
    /// The same, several times.
    Repeat(usize, Box<Line>),
}

/// What becomes of a write that is under way when the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFate {
    /// It was not finished.
    Lost,
    /// It was.
    Landed,
}

/// How an order is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// At once, well.
    Works,
    /// At once, badly.
    Fails,
    /// When the story says so: `persisted`, `persist_failed`, `checked`, `looked`.
    Slow,
}

/// The answer to a question.
#[derive(Debug, Clone)]
pub enum Told {
    /// What would follow this process.
    NextRun { restart_method: RestartMethod, cannot_start: Option<String> },
    /// What the hook made of a result.
    Reviewed(Outcome),
    /// The folder was looked at.
    Looked,
}

impl Told {
    /// As the answer to that question.
    pub fn to(&self, number: u32) -> Event {
        match self.clone() {
            Self::NextRun { restart_method, cannot_start } => {
                Event::NextRunChecked { number, restart_method, cannot_start }
            }
            Self::Reviewed(outcome) => Event::ResultReviewed { number, outcome },
            Self::Looked => Event::ResultsLookedFor { number },
        }
    }
}

/// Reads a line.
///
/// # Errors
/// What was found and what was expected.
pub fn line(text: &str) -> Result<Line, String> {
    let mut words = Words::new(text);
    let line = match words.next("a word")? {
        "start" => Line::Start,
        "crash" => Line::Crash { during: during(&mut words)?, rebooted: false },
        "reboot" => Line::Crash { during: during(&mut words)?, rebooted: true },
        "due" => Line::Due,
        "at" => Line::Passes(millis(words.next("+ms")?)?),
        "stall" => Line::Stalls(millis(words.next("+ms")?)?),
        "clock_back" => Line::ClockBack(number(words.next("ms")?)?),
        "disk" => Line::Disk(mood(&mut words)?),
        "supervisor" => Line::Supervisor(mood(&mut words)?),
        "folder" => Line::Folder(mood(&mut words)?),
        "repeat" => {
            let times = number(words.next("how often")?)?;
            Line::Repeat(times, Box::new(line(&words.rest())?))
        }
        first => happening(first, &mut words)?,
    };
    words.end()?;
    Ok(line)
}

fn mood(words: &mut Words<'_>) -> Result<Mood, String> {
    Ok(match words.next("works, fails or slow")? {
        "works" => Mood::Works,
        "fails" => Mood::Fails,
        "slow" => Mood::Slow,
        other => return Err(format!("it works, fails or is slow, not {other:?}")),
    })
}

/// An event, or the answer to a question.
fn happening(first: &str, words: &mut Words<'_>) -> Result<Line, String> {
    let number = |words: &mut Words<'_>| words.value("n").map(number).transpose();
    Ok(match first {
        "checked" => {
            let restart_method =
                if words.flag("in_place") { RestartMethod::InPlace } else { RestartMethod::Supervisor };
            let cannot_start = words.value("cannot").map(|why| why.replace('_', " "));
            Line::Answers(number(words)?, Told::NextRun { restart_method, cannot_start })
        }
        "reviewed" => {
            let number = number(words)?;
            Line::Answers(number, Told::Reviewed(outcome(words)?))
        }
        "looked" => Line::Answers(number(words)?, Told::Looked),
        first => Line::Happens(event(first, words)?),
    })
}

/// `before_write while EVENT` or `after_write while EVENT`.
fn during(words: &mut Words<'_>) -> Result<Option<(WriteFate, Box<Line>)>, String> {
    let Some(fate) = words.maybe_next() else { return Ok(None) };
    let fate = match fate {
        "before_write" => WriteFate::Lost,
        "after_write" => WriteFate::Landed,
        other => return Err(format!("a crash is before_write or after_write, not {other:?}")),
    };
    if words.next("while")? != "while" {
        return Err("expected `while EVENT`".into());
    }
    let first = words.next("an event")?;
    Ok(Some((fate, Box::new(happening(first, words)?))))
}

fn event(first: &str, words: &mut Words<'_>) -> Result<Event, String> {
    Ok(match first {
        "link" => match words.next("opened or closed")? {
            "opened" => Event::HubOpened,
            "closed" => Event::HubClosed {
                retry_after_ms: words.value("retry_after").map(number).transpose()?,
                jitter: Jitter(words.value("jitter").map(number).transpose()?.unwrap_or(0)),
                refusal: words.value("refusal").map(str::to_owned),
            },
            other => return Err(format!("a link is opened or closed, not {other:?}")),
        },
        "hub" => Event::HubSaid(from_hub(words)?),
        "wake" => Event::WakeFinished {
            task_id: task_id(words)?,
            generation: words.required("gen")?,
            attempt: words.required("attempt")?,
            outcome: wake_outcome(words)?,
        },
        "confirmed" => Event::Confirmed { task_id: task_id(words)? },
        "result" => Event::ResultFound { task_id: task_id(words)?, outcome: outcome(words)? },
        "stop" => {
            let signal = words.rest();
            let found = StopSignal::iter().find(|known| known.to_string() == signal);
            Event::StopRequested { signal: found.ok_or_else(|| format!("no stop signal is called {signal:?}"))? }
        }
        "restart" => {
            let to = ticket(words)?;
            Event::RestartRequested { order: order(words)?, to }
        }
        "cancel_restart" => Event::RestartCancelRequested { to: ticket(words)? },
        "drain" => Event::CordonRequested { on: true, to: ticket(words)? },
        "resume" => Event::CordonRequested { on: false, to: ticket(words)? },
        "offers" => Event::NewsOffered(match words.next("output or resources")? {
            "output" => News::Output { task_id: task_id(words)? },
            "resources" => News::Resources,
            other => return Err(format!("no news are called {other:?}")),
        }),
        "persisted" => Event::Persisted,
        "persist_failed" => Event::PersistFailed,
        "kept" => Event::RefusedResultWritten {
            task_id: task_id(words)?,
            generation: words.required("gen")?,
            path: words.value("path").map(str::to_owned),
        },
        other => return Err(format!("nothing is called {other:?}")),
    })
}

fn ticket(words: &mut Words<'_>) -> Result<Option<Ticket>, String> {
    Ok(words.value("ticket").map(number).transpose()?.map(Ticket))
}

/// The verdict that an answer names: `of=TASK gen=N`.
fn named(words: &mut Words<'_>) -> Result<Option<VerdictName>, String> {
    let Some(task_id) = words.value("of").map(str::to_owned) else { return Ok(None) };
    Ok(Some(VerdictName { task_id, generation: words.required("gen")? }))
}

fn from_hub(words: &mut Words<'_>) -> Result<FromHub, String> {
    let raw = |words: &mut Words<'_>| words.next("a task id").map(str::to_owned);
    Ok(match words.next("what the hub says")? {
        "identified" => {
            let named: Vec<&str> = words.value("features").map_or_else(Vec::new, |all| all.split(',').collect());
            FromHub::Identified {
                features: Features {
                    restart_v2: named.contains(&"restart.v2"),
                    task_rejected: named.contains(&"task_rejected"),
                    cordon: named.contains(&"cordon"),
                    task_reassign: named.contains(&"task_reassign"),
                },
            }
        }
        "refuses_identify" => FromHub::IdentifyRefused { error: words.next("an error")?.into() },
        "assign" => assigned(words)?,
        "ack" => {
            let task_id = raw(words)?;
            match words.next("a status")? {
                "accepted" => FromHub::AcceptAcknowledged { task_id },
                "complete" | "failed" | "retried" | "dead_letter" => FromHub::VerdictAcknowledged { task_id },
                other => return Err(format!("a task_ack has no status {other:?}")),
            }
        }
        "refuses_complete" => FromHub::VerdictRefused { complete: true, why: refusal(words)?, of: named(words)? },
        "refuses_fail" => FromHub::VerdictRefused { complete: false, why: refusal(words)?, of: named(words)? },
        "errs" => {
            let complete = match words.value("about") {
                None => None,
                Some("task_complete") => Some(true),
                Some("task_failed") => Some(false),
                Some(other) => return Err(format!("an error is about task_complete or task_failed, not {other:?}")),
            };
            let of = named(words)?;
            FromHub::RefusedInOtherWords { complete, error: words.next("an error")?.into(), of }
        }
        "continue" => {
            FromHub::TaskContinue { task_id: raw(words)?, generation: words.value("gen").map(number).transpose()? }
        }
        "reassign" => {
            FromHub::TaskReassigned { task_id: raw(words)?, generation: words.value("gen").map(number).transpose()? }
        }
        "cancel" => FromHub::TaskCancelled { task_id: raw(words)? },
        "report_ack" => {
            let task_id = raw(words)?;
            let go_on = match words.next("continue or abort")? {
                "continue" => true,
                "abort" => false,
                other => return Err(format!("a state_report_ack says continue or abort, not {other:?}")),
            };
            FromHub::ReportAnswered { task_id, go_on }
        }
        "report_unknown" => FromHub::ReportNotUnderstood,
        "restart" => FromHub::RestartCommanded(order(words)?),
        "rate_limited" => FromHub::RateLimited { retry_after_ms: words.required("retry_after")? },
        "agent_left" => FromHub::Forgotten,
        "pong" => FromHub::SignOfLife,
        other => return Err(format!("a hub does not say {other:?}")),
    })
}

/// As the adapter does it: a task id that is no plain name is told apart.
fn assigned(words: &mut Words<'_>) -> Result<FromHub, String> {
    let raw = words.next("a task id")?;
    let generation = words.required("gen")?;
    let assigned_at = words.value("assigned_at").map(number).transpose()?;
    Ok(match TaskId::new(raw) {
        Ok(id) => {
            FromHub::Assigned { task: Task { id, generation, payload: "{}".into() }, assigned_at, timeout_ms: None }
        }
        Err(why) => FromHub::AssignedInvalid { task_id: raw.into(), generation, why: why.to_string() },
    })
}

fn refusal(words: &mut Words<'_>) -> Result<VerdictRefusal, String> {
    match words.next("why")? {
        "stale_generation" | "invalid_state" => Ok(VerdictRefusal::NotNow),
        "not_found" => Ok(VerdictRefusal::Never),
        other => Err(format!("a verdict is not refused for {other:?}")),
    }
}

fn order(words: &mut Words<'_>) -> Result<RestartOrder, String> {
    Ok(RestartOrder {
        reason: words.value("reason").unwrap_or("hub_commanded").into(),
        command_id: words.value("id").map(str::to_owned),
        deadline_ms: words.value("deadline").map(number).transpose()?,
        force: words.flag("force"),
        by: words.value("by").map(str::to_owned),
    })
}

fn wake_outcome(words: &mut Words<'_>) -> Result<WakeOutcome, String> {
    match words.next("ok, failed, refused or timeout")? {
        "ok" => Ok(WakeOutcome::Succeeded),
        "failed" => Ok(WakeOutcome::Failed { error: "exit 1".into() }),
        "refused" => Ok(WakeOutcome::Refused { reason: "no_executor: nobody".into() }),
        "timeout" => Ok(WakeOutcome::TimedOut { after_ms: 60_000 }),
        other => Err(format!("a wake ends ok, failed, refused or with a timeout, not {other:?}")),
    }
}

fn outcome(words: &mut Words<'_>) -> Result<Outcome, String> {
    let kind = words.next("success or failed")?;
    let note = words.value("note");
    match kind {
        "success" => Ok(Outcome::Completed { result: note.map_or("{}".into(), |note| format!("{{{note}}}").into()) }),
        "failed" => Ok(Outcome::failed(note.unwrap_or("no_luck"))),
        other => Err(format!("a result is a success or failed, not {other:?}")),
    }
}

fn task_id(words: &mut Words<'_>) -> Result<TaskId, String> {
    TaskId::new(words.next("a task id")?).map_err(|why| why.to_string())
}

/// What a story goes by: the machine's figures, and what would follow each process.
#[derive(Debug, Clone)]
pub struct Figures {
    pub policy: Policy,
    pub next_run: Told,
}

impl Default for Figures {
    fn default() -> Self {
        let next_run = Told::NextRun { restart_method: RestartMethod::Supervisor, cannot_start: None };
        Self { policy: Policy::default(), next_run }
    }
}

/// Reads the figures of a `policy` line. `off` is a time that never comes.
///
/// # Errors
/// A key that is none, or a value that does not fit.
pub fn policy(text: &str, figures: &mut Figures) -> Result<(), String> {
    let Figures { policy, next_run } = figures;
    for pair in text.split_whitespace() {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("expected key=value, found {pair:?}"))?;
        let ms = || if value == "off" { Ok(NEVER_MS) } else { number(value) };
        match key {
            "restart_deadline_ms" => policy.restart_deadline_ms = ms()?,
            "drain_deadline_ms" => policy.drain_deadline_ms = ms()?,
            "stop_budget_ms" => policy.stop_budget_ms = ms()?,
            "close_budget_ms" => policy.close_budget_ms = ms()?,
            "restart_intensity" => {
                let (max, window) = value.split_once('/').ok_or("expected max/window_ms")?;
                policy.restart_intensity = Intensity { max: number(max)?, window_ms: number(window)? };
            }
            "comeback" => {
                let restart_method = match value {
                    "in_place" => RestartMethod::InPlace,
                    "supervisor" => RestartMethod::Supervisor,
                    other => return Err(format!("nobody comes back {other:?}")),
                };
                *next_run = Told::NextRun { restart_method, cannot_start: None };
            }
            "no_return" => {
                let cannot_start = Some(value.replace('_', " "));
                *next_run = Told::NextRun { restart_method: RestartMethod::Supervisor, cannot_start };
            }
            "next_run_check_ms" => policy.next_run_check_ms = ms()?,
            "result_hook_ms" => policy.result_hook_ms = Some(ms()?),
            "last_look_ms" => policy.last_look_ms = ms()?,
            "wake_retry_delays_ms" => {
                policy.wake_retry_delays_ms = value.split(',').map(number).collect::<Result<_, _>>()?;
            }
            "task_timeout_ms" => policy.task_timeout_ms = Some(ms()?),
            "confirmation_timeout_ms" => policy.confirmation_timeout_ms = ms()?,
            "look_ms" => policy.look_ms = ms()?,
            "progress_interval_ms" => policy.progress_interval_ms = ms()?,
            "answer_timeout_ms" => policy.answer_timeout_ms = ms()?,
            "persist_retry_ms" => policy.persist_retry_ms = ms()?,
            "ping_interval_ms" => policy.ping_interval_ms = ms()?,
            "pong_timeout_ms" => policy.pong_timeout_ms = ms()?,
            "connect_timeout_ms" => policy.connect_timeout_ms = ms()?,
            "identify_timeout_ms" => policy.identify_timeout_ms = ms()?,
            "reconnect_min_ms" => policy.reconnect_min_ms = ms()?,
            "reconnect_max_ms" => policy.reconnect_max_ms = ms()?,
            other => return Err(format!("a policy has no {other:?}")),
        }
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no fitting number"))
}

fn millis(text: &str) -> Result<u64, String> {
    number(text.strip_prefix('+').ok_or_else(|| format!("expected +ms, found {text:?}"))?)
}

/// The words of a line: plain ones in order, `key=value` ones by name.
struct Words<'a> {
    plain: std::collections::VecDeque<&'a str>,
    named: Vec<(&'a str, &'a str)>,
    all: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        let all: Vec<&str> = text.split_whitespace().collect();
        let named = all.iter().filter_map(|word| word.split_once('=')).collect();
        let plain = all.iter().filter(|word| !word.contains('=')).copied().collect();
        Self { plain, named, all }
    }

    fn maybe_next(&mut self) -> Option<&'a str> {
        self.plain.pop_front()
    }

    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.plain.pop_front().ok_or_else(|| format!("expected {what} in {:?}", self.all.join(" ")))
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.plain.len();
        self.plain.retain(|word| *word != name);
        self.plain.len() != before
    }

    fn value(&mut self, key: &str) -> Option<&'a str> {
        let index = self.named.iter().position(|(name, _)| *name == key)?;
        Some(self.named.remove(index).1)
    }

    fn required<T: std::str::FromStr>(&mut self, key: &str) -> Result<T, String> {
        number(self.value(key).ok_or_else(|| format!("expected {key}=..."))?)
    }

    /// Everything that was not read, as it stood.
    fn rest(&mut self) -> String {
        let unread = self.plain.len();
        let named: Vec<&str> = self.named.iter().map(|(key, _)| *key).collect();
        let mut seen = 0;
        let total_plain = self.all.iter().filter(|word| !word.contains('=')).count();
        let kept: Vec<&str> = self
            .all
            .iter()
            .filter(|word| match word.split_once('=') {
                Some((key, _)) => named.contains(&key),
                None => {
                    seen += 1;
                    seen > total_plain - unread
                }
            })
            .copied()
            .collect();
        self.plain.clear();
        self.named.clear();
        kept.join(" ")
    }

    fn end(self) -> Result<(), String> {
        if self.plain.is_empty() && self.named.is_empty() {
            return Ok(());
        }
        Err(format!("too much was said: {:?} {:?}", self.plain, self.named))
    }
}
