//! Builds the status document from a snapshot.

use crate::machine::{
    Cause, Connection, ConnectionName, Cordon, Disk, Heartbeat, PersistedJob, RestartMethod, Stage, StageName, State,
    Timestamp,
};
use crate::sidecar::admin::snapshot::{PastRestart, Snapshot};
use crate::sidecar::admin::status::{
    CountsPart, DialingPart, HubPart, IdentityConflictPart, JournalPart, LeavingPart, NextPart, OverriddenPart,
    PreviousRunPart, ProcessPart, RejectedPart, RestartPart, Status, SupervisorPart, TaskPart, VerdictPart,
};
use crate::sidecar::hub_connection::dial::progress::DialState;
use crate::sidecar::journal::state_folder::FolderTrouble;
use crate::sidecar::supervisor::pm2::{OwnProcess, Pm2};

/// The number of past restarts in the document.
const MAX_RESTARTS_SHOWN: usize = 10;

impl Status {
    /// Returns the document for a snapshot.
    pub(crate) fn of(snapshot: &Snapshot, pm2: &Pm2) -> Self {
        let now = snapshot.clock.now();
        let machine = &snapshot.machine;
        let phase: &'static str = machine.state.phase().into();
        let status = Self {
            agent_id: snapshot.about.agent_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: process(snapshot, now),
            phase: phase.to_owned(),
            why: why(snapshot),
            draining: machine.cordon.is_on(),
            task: machine.state.persisted().map(|persisted| task(persisted, snapshot, now)),
            leaving: leaving(&machine.state, now),
            next: snapshot.next.map(|(at, wait)| NextPart { wait: wait.to_string(), in_ms: at.since(now) }),
            hub: hub(snapshot, now),
            identity_conflict: identity_conflict(snapshot, now),
            journal: journal(snapshot),
            rejected: snapshot.about.kept.borrow().as_ref().map(RejectedPart::of),
            supervisor: supervisor(pm2, now),
            restarts: snapshot.past.iter().rev().take(MAX_RESTARTS_SHOWN).map(restart).collect(),
            counts: CountsPart {
                taken: snapshot.counts.taken,
                completed: snapshot.counts.completed,
                failed: snapshot.counts.failed,
                refused: snapshot.counts.refused,
                wakes: snapshot.counts.wakes,
                failed_writes: snapshot.counts.failed_writes,
            },
        };
        status.redacted(&snapshot.about.redactor)
    }
}

fn process(snapshot: &Snapshot, now: Timestamp) -> ProcessPart {
    ProcessPart {
        pid: std::process::id(),
        boot_id: snapshot.about.boot_id.clone(),
        uptime_ms: now.since(snapshot.about.started_at),
        previous_run: snapshot.about.previous.as_ref().map(|run| PreviousRunPart {
            boot_id: run.boot_id.clone(),
            end: run.end.to_string(),
            why: run.why.clone(),
            last_seen_at_ms: snapshot.clock.shown(run.last_seen_at_ms),
        }),
        memory_bytes: OwnProcess::read().memory_bytes,
        config: snapshot.about.config.clone(),
        results_dir: snapshot.about.results_dir.clone(),
    }
}

fn why(snapshot: &Snapshot) -> String {
    let machine = &snapshot.machine;
    if let Some(check) = &machine.check {
        let reason = &check.first.order.reason;
        return format!("is to restart ({reason}), and finds out whether it would come back");
    }
    match &machine.state {
        State::Idle => match (machine.cordon, &machine.disk, &machine.connection) {
            (Cordon::Away, _, _) => "draining, and away from a hub that cannot be told so".into(),
            (Cordon::On, _, _) => "draining: no task is taken before `resume`".into(),
            (Cordon::Off, Disk::Failing { .. }, _) => "no task is taken: the journal cannot be written".into(),
            (Cordon::Off, Disk::Ready | Disk::Writing { .. }, Connection::Online(_)) => "waits for a task".into(),
            (
                Cordon::Off,
                Disk::Ready | Disk::Writing { .. },
                Connection::Down { .. }
                | Connection::Dialing { .. }
                | Connection::Identifying { .. }
                | Connection::Closing { .. },
            ) => match &snapshot.hub_trouble {
                Some(trouble) if trouble.refused => format!("the hub does not know it: {}", trouble.why),
                Some(trouble) if trouble.by_rival => "the hub has another sidecar in its place".into(),
                Some(_) | None => "waits for the hub".into(),
            },
        },
        State::Working { job } if job.is_recovering() => "has a task from before, and asks the hub whose it is".into(),
        State::Working { .. } if machine.cordon.is_on() => "has a task, the last before `resume`".into(),
        State::Working { .. } => "has a task".into(),
        State::RestartPending { order, .. } => format!("restarts once its task has ended: {}", order.reason),
        State::Draining { cause, .. } | State::Exiting { cause, .. } => match cause {
            Cause::Restart { order, .. } => format!("restarts: {}", order.reason),
            Cause::Stop { signal } => format!("stops: {signal}"),
        },
    }
}

fn task(persisted: &PersistedJob, snapshot: &Snapshot, now: Timestamp) -> TaskPart {
    let waits_for = match &persisted.stage {
        Stage::Accepted => "the journal, or the hub, to confirm it".to_owned(),
        Stage::Waking { attempt } => format!("the wake command (attempt {attempt})"),
        Stage::RetryingWake { at, attempt } => {
            format!("the time of the next wake, in {} s (attempt {attempt} failed)", at.since(now).div_ceil(1_000))
        }
        Stage::AwaitingConfirmation { until } => {
            format!("the agent's .started file, for {} s", until.since(now).div_ceil(1_000))
        }
        Stage::Running => "the agent's result file".to_owned(),
        Stage::Interrupted { .. } => "a result from before the machine was rebooted".to_owned(),
    };
    TaskPart {
        task_id: persisted.task.id.to_string(),
        generation: persisted.task.generation,
        stage: StageName::from(&persisted.stage).to_string(),
        waits_for,
        recovering: snapshot.machine.state.job().is_some_and(crate::machine::Job::is_recovering),
        age_ms: snapshot.current_task.as_ref().map_or(0, |(_, since)| now.since(*since)),
        assigned_at_ms: persisted.assigned_at,
        silent_ms: snapshot.session_heard_at.map_or(0, |at| now.since(at)),
        timeout_ms: persisted.limit.map(|limit| limit.limit_ms),
        timeout_in_ms: persisted.limit.map(|limit| limit.until.since(now)),
    }
}

fn leaving(state: &State, now: Timestamp) -> Option<LeavingPart> {
    let (order, signal, deadline) = match state {
        State::Idle | State::Working { .. } => return None,
        State::RestartPending { order, deadline, .. } => (Some(order), None, Some(deadline)),
        State::Draining { cause: Cause::Restart { order, .. }, deadline, .. } => (Some(order), None, Some(deadline)),
        State::Draining { cause: Cause::Stop { signal }, deadline, .. } => (None, Some(signal), Some(deadline)),
        State::Exiting { cause: Cause::Restart { order, .. }, .. } => (Some(order), None, None),
        State::Exiting { cause: Cause::Stop { signal }, .. } => (None, Some(signal), None),
    };
    Some(LeavingPart {
        kind: if order.is_some() { "restart" } else { "stop" }.to_owned(),
        reason: order.map(|order| order.reason.clone()).or(signal.map(ToString::to_string)).unwrap_or_default(),
        command_id: order.and_then(|order| order.command_id.clone()),
        by: order.and_then(|order| order.by.clone()),
        deadline_in_ms: deadline.map(|at| at.since(now)),
    })
}

fn hub(snapshot: &Snapshot, now: Timestamp) -> HubPart {
    let link = &snapshot.machine.connection;
    let dial = snapshot.about.dial.borrow().clone();
    let dialing = dial.as_ref().filter(|_| matches!(link, Connection::Dialing { .. })).map(dialing);
    // Of a connection that is no more, the address is out of date.
    let live = dial.filter(|_| !matches!(link, Connection::Down { .. }));
    let detail = match link {
        Connection::Down { retry_at, attempt, firm } => {
            let named = if *firm { ", a time that the hub named" } else { "" };
            format!("{} failed; the next in {} s{named}", attempts(*attempt), retry_at.since(now).div_ceil(1_000))
        }
        Connection::Dialing { attempt, .. } => match &dialing {
            Some(dialing) => format!("{}, for {} ms{}", dialing.what, dialing.for_ms, failed_before(*attempt)),
            None => format!("begins to dial{}", failed_before(*attempt)),
        },
        Connection::Identifying { attempt, .. } => {
            format!("waits for the hub to know us{}", failed_before(*attempt))
        }
        Connection::Online(online) => match (online.heartbeat, online.limited_until) {
            (_, Some(until)) => format!("rate limited for {} ms", until.since(now)),
            (Heartbeat::Sent { .. }, None) => "a ping waits for its answer".to_owned(),
            (Heartbeat::Due { .. }, None) => "known to the hub".to_owned(),
        },
        Connection::Closing { .. } => "closing".to_owned(),
    };
    let features = link.online().map(|online| online.features).unwrap_or_default();
    let named =
        [("restart.v2", features.restart_v2), ("task_rejected", features.task_rejected), ("cordon", features.cordon)];
    let trouble = snapshot.hub_trouble.as_ref();
    HubPart {
        url: snapshot.about.hub_url.clone(),
        link: ConnectionName::from(link).to_string(),
        detail,
        dialing,
        trouble_age_ms: trouble.map(|trouble| now.since(trouble.at)),
        peer: live.as_ref().and_then(|dial| dial.peer).map(|peer| peer.to_string()),
        proxy: live.and_then(|dial| dial.proxy),
        token_file: snapshot.about.token_file.clone(),
        token_trouble: snapshot.token_trouble.clone(),
        overridden: snapshot.about.overrides.iter().map(overridden).collect(),
        trouble: trouble.map(|trouble| trouble.why.clone()),
        refused: trouble.is_some_and(|trouble| trouble.refused),
        online_for_ms: link.online().map(|online| now.since(online.since)),
        latency_ms: snapshot.latency_ms,
        reconnects: snapshot.counts.connections.saturating_sub(1),
        features: named.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect(),
    }
}

fn attempts(count: u32) -> String {
    if count == 1 { "1 attempt".to_owned() } else { format!("{count} attempts") }
}

/// Returns that so many attempts in a row have failed before this one.
fn failed_before(count: u32) -> String {
    if count == 0 { String::new() } else { format!("; {} failed before", attempts(count)) }
}

fn dialing(dial: &DialState) -> DialingPart {
    let address = dial.peer.or_else(|| dial.attempt.map(|attempt| attempt.address));
    DialingPart {
        what: dial.to_string(),
        address: address.map(|address| address.to_string()),
        number: dial.attempt.map(|attempt| attempt.number),
        of: dial.attempt.map(|attempt| attempt.of),
        for_ms: u64::try_from(dial.began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn overridden((key, by): &(&'static str, &'static str)) -> OverriddenPart {
    OverriddenPart { key: (*key).to_owned(), by: (*by).to_owned() }
}

fn identity_conflict(snapshot: &Snapshot, now: Timestamp) -> Option<IdentityConflictPart> {
    let other = snapshot.identity_conflict.as_ref()?;
    Some(IdentityConflictPart {
        address: other.address.clone(),
        last_at_ms: snapshot.clock.shown(other.last_at.as_millis()),
        age_ms: now.since(other.last_at),
        times: other.times,
        recent: other.is_recent(now),
        in_our_place: snapshot.hub_trouble.as_ref().is_some_and(|trouble| trouble.by_rival),
    })
}

fn journal(snapshot: &Snapshot) -> JournalPart {
    let machine = &snapshot.machine;
    let (folder_lost, folder_moved_to) = match &*snapshot.about.folder_trouble.borrow() {
        None => (None, None),
        Some(FolderTrouble::Lost(why)) => (Some(why.clone()), None),
        Some(FolderTrouble::MovedTo(place)) => (None, Some(place.display().to_string())),
    };
    JournalPart {
        file: snapshot.about.queue_file.clone(),
        writable: folder_lost.is_none()
            && match machine.disk {
                Disk::Ready | Disk::Writing { failing: false, .. } => true,
                Disk::Failing { .. } | Disk::Writing { failing: true, .. } => false,
            },
        folder_lost,
        folder_moved_to,
        outbox: machine.outbox.iter().map(VerdictPart::of).collect(),
        parked: machine.parked.items().iter().map(|item| item.task_id().to_string()).collect(),
    }
}

fn supervisor(pm2: &Pm2, now: Timestamp) -> SupervisorPart {
    let facts = pm2.current_settings();
    let (restart_method, why_in_place) = pm2.restart_method_at(now.as_millis());
    SupervisorPart {
        kind: match (facts.under_pm2, facts.under_systemd) {
            (true, _) => "pm2",
            (false, true) => "systemd",
            (false, false) => "none",
        }
        .to_owned(),
        name: pm2.listed_as().map(str::to_owned),
        pm_id: pm2.identity().pm_id,
        restart_count: facts.restart_time,
        kill_timeout_ms: facts.kill_timeout_ms,
        restart_by: match restart_method {
            RestartMethod::Supervisor => "exit 0",
            RestartMethod::InPlace => "exec in place",
        }
        .to_owned(),
        because: why_in_place.map(|why| why.to_string()),
    }
}

fn restart(past: &PastRestart) -> RestartPart {
    RestartPart {
        reason: past.reason.clone(),
        command_id: past.command_id.clone(),
        forced: past.forced,
        left_at_ms: past.left_at_ms,
        gap_ms: past.gap_ms,
    }
}
