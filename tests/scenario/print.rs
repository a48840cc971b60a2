//! States and effects in the wire's words, one a line. Every name of a state, stage, link or effect is the code's own;
//! it leaves out what no story turns on (payloads, tokens, figures of the clock, what is only counted).

use agentcom::machine::{
    Cause, ConnectionName, Disk, DrainStep, Effect, EffectName, Ending, Job, Journal, Machine, News, Notice, Outcome,
    ParkedTask, PersistedJob, PreviousEnd, RestartAnswer, ResultFile, Stage, StageName, State, Task, Timestamp, ToHub,
    ToHubName, Verdict, WakeReport,
};

/// Where the machine stands, in one line. `origin` is the story's beginning.
pub fn state(machine: &Machine, origin: Timestamp) -> String {
    let mut parts = vec![life(&machine.state, origin)];
    let mut connection = ConnectionName::from(&machine.connection).to_string();
    if machine.connection.online().is_some_and(|online| online.limited_until.is_some()) {
        connection.push_str(" (rate limited)");
    }
    parts.push(connection);
    if machine.cordon.is_on() {
        parts.push(format!("cordon {}", machine.cordon));
    }
    if let Some(check) = &machine.check {
        let (by, waiting) = (check.deadline.since(origin), check.joined.len());
        let more = if waiting == 0 { String::new() } else { format!(" and {waiting} more") };
        parts.push(format!("checks for {}{more} by +{by}", check.first.order.reason));
    }
    if let Some(deferred) = &machine.deferred {
        parts.push(format!("holds {}", task(&deferred.task)));
    }
    if !machine.outbox.is_empty() {
        parts.push(format!("outbox {}", machine.outbox.len()));
    }
    if !machine.parked.items().is_empty() {
        parts.push(format!("shelf {}", machine.parked.items().len()));
    }
    match &machine.disk {
        Disk::Ready => {}
        Disk::Writing { .. } => parts.push("disk writing".into()),
        Disk::Failing { .. } => parts.push("disk failing".into()),
    }
    parts.join(" | ")
}

fn life(state: &State, origin: Timestamp) -> String {
    let phase = state.phase();
    let left_behind = |left_behind: &Option<PersistedJob>| {
        left_behind.as_ref().map_or(String::new(), |c| format!(", leaves {}", persisted(c)))
    };
    match state {
        State::Idle => phase.to_string(),
        State::Working { job } => format!("{phase} {}{}", persisted(&job.persisted), in_doubt(job)),
        State::RestartPending { job, order, deadline } => {
            let by = deadline.since(origin);
            let job = format!("{}{}", persisted(&job.persisted), in_doubt(job));
            format!("{phase} {job}, restart {} by +{by}", order.reason)
        }
        State::Draining { cause, deadline, step, left_behind: persisted } => {
            let by = deadline.since(origin);
            format!("{phase} {}, {} by +{by}{}", drain_step(*step), why(cause), left_behind(persisted))
        }
        State::Exiting { cause, left_behind: persisted } => format!("{phase} {}{}", why(cause), left_behind(persisted)),
    }
}

fn in_doubt(job: &Job) -> &'static str {
    match (job.is_recovering(), &job.review, &job.last_look) {
        (true, _, _) => " (recovering)",
        (false, Some(_), _) => " (result under review)",
        (false, None, Some(_)) => " (looked for)",
        (false, None, None) => "",
    }
}

fn drain_step(step: DrainStep) -> &'static str {
    step.into()
}

fn why(cause: &Cause) -> String {
    match cause {
        Cause::Restart { order, forced, signalled, next_run: _ } => {
            let forced = if *forced { " forced" } else { "" };
            let signalled = if *signalled { " signalled" } else { "" };
            format!("restart {}{forced}{signalled}", order.reason)
        }
        Cause::Stop { signal } => format!("stop {signal}"),
    }
}

fn task(task: &Task) -> String {
    format!("{} gen={}", task.id, task.generation)
}

fn persisted(persisted: &PersistedJob) -> String {
    let woken = match &persisted.woken {
        Some(woken) if *woken != persisted.task.generation => format!(" (woken gen={woken})"),
        Some(_) | None => String::new(),
    };
    format!("{} {}{woken}", task(&persisted.task), stage(&persisted.stage))
}

fn stage(stage: &Stage) -> String {
    let name = StageName::from(stage);
    match stage {
        Stage::Waking { attempt } | Stage::RetryingWake { attempt, .. } => format!("{name}({attempt})"),
        Stage::Accepted | Stage::AwaitingConfirmation { .. } | Stage::Running | Stage::Interrupted { .. } => {
            name.to_string()
        }
    }
}

/// What the disk is to hold.
pub fn journal(journal: &Journal) -> String {
    let mut parts: Vec<String> = journal.job.iter().map(persisted).collect();
    parts.extend(journal.outbox.iter().map(|item| format!("outbox {}", verdict(item))));
    parts.extend(journal.parked.iter().map(|item| match item {
        ParkedTask::UnderWay(kept) => format!("shelf {}", persisted(kept)),
        ParkedTask::Finished { task_id, .. } => format!("shelf {task_id} finished"),
    }));
    parts.extend(journal.late_sessions.iter().map(|late| format!("latecomer {}", late.task_id)));
    parts.extend(journal.restarts.open.iter().map(|open| {
        let leaving = if open.leaving_at.is_some() { ", leaving" } else { "" };
        format!("restart {}{leaving}", open.reason)
    }));
    parts.extend(journal.restarts.returned.iter().map(|back| format!("returned from {}", back.restart.reason)));
    if journal.cordoned {
        parts.push("cordoned".into());
    }
    if journal.stopped {
        parts.push("stopped".into());
    }
    if parts.is_empty() { "nothing".into() } else { parts.join("; ") }
}

fn verdict(verdict: &Verdict) -> String {
    let ended = match &verdict.outcome {
        Outcome::Completed { .. } => "complete",
        Outcome::Failed { .. } => "failed",
    };
    format!("{} gen={} {ended}", verdict.task_id, verdict.generation)
}

/// Whether it is there to be counted only: what it tells shows in the effects around it.
pub fn is_bookkeeping(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Notify(
            Notice::Connected { .. }
                | Notice::TaskTaken { .. }
                | Notice::VerdictReached { .. }
                | Notice::RestartAccepted { .. }
        )
    )
}

/// An effect, in one line.
pub fn effect(effect: &Effect) -> String {
    let name = EffectName::from(effect);
    match effect {
        Effect::Persist(content) => format!("{name} {}", journal(content)),
        Effect::Send(said) => format!("{name} {}", to_hub(said)),
        Effect::Wake { task: woken, attempt } => format!("{name} {} attempt={attempt}", task(woken)),
        Effect::Dial => name.to_string(),
        Effect::CloseLink(code) => format!("{name} {} {}", code.code(), code.reason()),
        Effect::CleanUp { task_id, result } => {
            let result = match result {
                ResultFile::Read => "",
                ResultFile::Unread => " (a result is kept)",
                ResultFile::OfCancelledTask => " (cancelled)",
            };
            format!("{name} {task_id}{result}")
        }
        Effect::WithdrawWake { task_id } | Effect::DropSign { task_id } => format!("{name} {task_id}"),
        Effect::Notify(notice) => format!("{name} {}", note(notice)),
        Effect::CheckNextRun { number, leaving } => {
            format!("{name} {number}{}", if *leaving { ", leaving" } else { "" })
        }
        Effect::LookForResults { number } => format!("{name} {number}"),
        Effect::RunResultHook { number, task: found, outcome: _ } => format!("{name} {number} {}", task(found)),
        Effect::PassOn(News::Output { task_id }) => format!("{name} output {task_id}"),
        Effect::PassOn(News::Resources) => format!("{name} resources"),
        Effect::Reply { to, answer, not_on_disk } => {
            let not_on_disk = if *not_on_disk { " (not on disk)" } else { "" };
            format!("{name} to {}: {answer:?}{not_on_disk}", to.0)
        }
        Effect::Exit { cause, ending } => {
            let how = match ending {
                Ending::Exit => "",
                Ending::InPlace => ", in place",
                Ending::InPlaceAsIs => ", in place as it is",
            };
            format!("{name} {}{how}", why(cause))
        }
        Effect::KeepRefused { task_id, generation, result: _ } => format!("{name} {task_id} gen={generation}"),
    }
}

fn note(notice: &Notice) -> String {
    let name: &'static str = notice.into();
    match notice {
        Notice::IdentifyRefused { error } => format!("{name} {error}"),
        Notice::AssignmentRefused { task_id, why } => format!("{name} {task_id} {why}"),
        Notice::Connected { returned: _ } => name.into(),
        Notice::TaskTaken { task_id } => format!("{name} {task_id}"),
        Notice::HalfOfTimeout { task_id, limit_ms } => format!("{name} {task_id} of {limit_ms} ms"),
        Notice::VerdictReached { task_id, completed } => {
            format!("{name} {task_id} {}", if *completed { "complete" } else { "failed" })
        }
        Notice::RestartAccepted { reason, command_id: _, by: _ } => format!("{name} {reason}"),
        Notice::GoesOnAsItIs { why } => format!("{name} {why}"),
        Notice::RestartRefused { reason, detail } => format!("{name} {reason}: {detail}"),
        Notice::JournalFailing | Notice::JournalRecovered => name.into(),
        Notice::VerdictRefused { task_id, kept } => {
            format!("{name} {task_id} {}", if *kept { "kept" } else { "dropped" })
        }
        Notice::RestartCancelled { reason } => format!("{name} {reason}"),
        Notice::Cordoned { on } => format!("{name} {}", if *on { "on" } else { "off" }),
        Notice::TaskTakenBack { task_id } => format!("{name} {task_id}"),
        Notice::VerdictRefusedInOtherWords { task_id, times, error } => format!("{name} {task_id} {times}: {error}"),
        Notice::VerdictGivenUp { task_id, error, kept } => {
            let kept = kept.as_ref().map_or(String::new(), |path| format!(", kept in {path}"));
            format!("{name} {task_id}: {error}{kept}")
        }
    }
}

fn to_hub(said: &ToHub) -> String {
    let name = ToHubName::from(said);
    match said {
        ToHub::Identify { status, restarted, previous_end } => {
            let end = match previous_end {
                PreviousEnd::Stopped => ", after a stop",
                // A restart is told in full.
                PreviousEnd::Restarted | PreviousEnd::Unknown => "",
            };
            let back = restarted.as_ref().map_or(String::new(), |back| {
                let id = back.restart.command_id.as_deref().map_or(String::new(), |id| format!(" {id}"));
                let forced = if back.restart.forced { " forced" } else { "" };
                format!(", back from{id} {}{forced} after {} ms", back.restart.reason, back.gap_ms)
            });
            format!("{name} {status}{end}{back}")
        }
        ToHub::Ping => name.to_string(),
        ToHub::Status { status } => format!("{name} {status}"),
        ToHub::TaskAccepted { task_id, generation } => {
            let generation = generation.map_or(String::new(), |generation| format!(" gen={generation}"));
            format!("{name} {task_id}{generation}")
        }
        ToHub::TaskProgress { task_id } | ToHub::ParkedReport { task_id } => format!("{name} {task_id}"),
        ToHub::TaskRejected { task_id, generation, reason } => format!("{name} {task_id} gen={generation} {reason}"),
        ToHub::TaskComplete { task_id, generation, result } => {
            let content = if &**result == "{}" { String::new() } else { format!(" {result}") };
            format!("{name} {task_id} gen={generation}{content}")
        }
        ToHub::TaskFailed { task_id, generation, reason } => format!("{name} {task_id} gen={generation} {reason}"),
        ToHub::TaskRecovering { task: asked, last_status } => format!("{name} {} {last_status}", task(asked)),
        ToHub::StateReport { task_id, generation, status, assigned_at: _ } => {
            format!("{name} {task_id} gen={generation} {status}")
        }
        ToHub::WakeResult { task_id, attempt, report } => {
            let attempt = attempt.map_or(String::new(), |attempt| format!(" attempt={attempt}"));
            let how = match report {
                WakeReport::Success => "success".to_owned(),
                WakeReport::Failed { error } => format!("failed: {error}"),
                WakeReport::TimedOut { error } => format!("timeout: {error}"),
            };
            format!("{name} {task_id}{attempt} {how}")
        }
        ToHub::RestartAck { command_id, answer } => {
            let answer = match answer {
                RestartAnswer::Accepted { deadline_ms } => format!("accepted, deadline {deadline_ms} ms"),
                RestartAnswer::Duplicate => "duplicate".to_owned(),
                RestartAnswer::Refused { detail, retry_after_ms: None } => format!("refused: {detail}"),
                RestartAnswer::Refused { detail, retry_after_ms: Some(ms) } => format!("refused for {ms} ms: {detail}"),
            };
            format!("{name} {command_id} {answer}")
        }
        ToHub::Cordon { on } => format!("{name} {}", if *on { "on" } else { "off" }),
        ToHub::AgentRestarting { restart, task_id, long_form } => {
            let id = restart.command_id.as_deref().filter(|_| *long_form).map_or(String::new(), |id| format!(" {id}"));
            let forced = if restart.forced && *long_form { " forced" } else { "" };
            let task = task_id.as_ref().filter(|_| *long_form).map_or(String::new(), |id| format!(", leaves {id}"));
            format!("{name}{id} {}{forced}{task}", restart.reason)
        }
    }
}
