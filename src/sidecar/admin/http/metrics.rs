//! The sidecar's metrics for Prometheus, from the status document and the system. Names, units and meanings are
//! documented in `docs/operating.md`.

use strum::IntoEnumIterator as _;

use crate::machine::Phase;
use crate::sidecar::admin::http::prometheus::{Kind, Text};
use crate::sidecar::admin::status::Status;
use crate::sidecar::supervisor::pm2::OwnProcess;

/// Returns all metrics in Prometheus' text format.
pub(super) fn write(status: &Status) -> String {
    let mut text = Text::default();
    state(&mut text, status);
    task(&mut text, status);
    hub(&mut text, status);
    journal(&mut text, status);
    restarts(&mut text, status);
    process(&mut text, status);
    text.finish()
}

fn state(text: &mut Text, status: &Status) {
    text.family(
        "agentcom_sidecar_info",
        Kind::Gauge,
        "Always 1; the labels tell which sidecar, version and supervisor this is.",
    )
    .labelled(
        &[
            ("agent_id", &status.agent_id),
            ("version", &status.version),
            ("supervisor", &status.supervisor.kind),
            ("restart_by", &status.supervisor.restart_by),
        ],
        1,
    );
    let mut phases =
        text.family("agentcom_sidecar_phase", Kind::Gauge, "1 for the phase that the sidecar is in, 0 for the others.");
    for phase in Phase::iter() {
        let name: &'static str = phase.into();
        phases.labelled(&[("phase", name)], u8::from(status.phase == name));
    }
    text.family("agentcom_sidecar_ready", Kind::Gauge, "1 where a new task would be taken now, as /ready says.")
        .sample(u8::from(status.is_ready()));
    text.family("agentcom_sidecar_draining", Kind::Gauge, "1 after an operator's drain, until resume.")
        .sample(u8::from(status.draining));
}

fn task(text: &mut Text, status: &Status) {
    text.family("agentcom_sidecar_task_in_hand", Kind::Gauge, "1 with a task in hand, 0 without.")
        .sample(u8::from(status.task.is_some()));
    text.family(
        "agentcom_sidecar_task_age_seconds",
        Kind::Gauge,
        "How long this run has had the task in hand; 0 without one.",
    )
    .sample(seconds(status.task.as_ref().map_or(0, |task| task.age_ms)));
    text.family(
        "agentcom_sidecar_task_silent_seconds",
        Kind::Gauge,
        "How long the session of the task in hand has shown and printed nothing; 0 without one.",
    )
    .sample(seconds(status.task.as_ref().map_or(0, |task| task.silent_ms)));
    text.family("agentcom_sidecar_tasks_taken_total", Kind::Counter, "Tasks taken since this run began.")
        .sample(status.counts.taken);
    let mut verdicts =
        text.family("agentcom_sidecar_tasks_total", Kind::Counter, "Verdicts reached since this run began.");
    verdicts.labelled(&[("verdict", "completed")], status.counts.completed);
    verdicts.labelled(&[("verdict", "failed")], status.counts.failed);
    text.family(
        "agentcom_sidecar_assignments_refused_total",
        Kind::Counter,
        "Assignments not taken since this run began.",
    )
    .sample(status.counts.refused);
    text.family("agentcom_sidecar_wakes_total", Kind::Counter, "Wake commands started since this run began.")
        .sample(status.counts.wakes);
}

fn hub(text: &mut Text, status: &Status) {
    text.family("agentcom_sidecar_hub_up", Kind::Gauge, "1 while the hub knows us on a connection.")
        .sample(u8::from(status.hub.link == "online"));
    // Without a measurement there is no sample, rather than a wrong one.
    let mut latency =
        text.family("agentcom_sidecar_hub_latency_seconds", Kind::Gauge, "From the last ping to the hub's next word.");
    if let Some(ms) = status.hub.latency_ms.filter(|_| status.hub.online_for_ms.is_some()) {
        latency.sample(seconds(ms));
    }
    text.family(
        "agentcom_sidecar_hub_reconnects_total",
        Kind::Counter,
        "Connections after the first since this run began.",
    )
    .sample(status.hub.reconnects);
    text.family(
        "agentcom_sidecar_identity_conflicts_total",
        Kind::Counter,
        "Connections that the hub ended in favour of another sidecar with this identity since this run began.",
    )
    .sample(status.identity_conflict.as_ref().map_or(0, |other| other.times));
}

fn journal(text: &mut Text, status: &Status) {
    text.family("agentcom_sidecar_journal_writable", Kind::Gauge, "1 where the last write of the journal succeeded.")
        .sample(u8::from(status.journal.writable));
    text.family("agentcom_sidecar_journal_failed_writes_total", Kind::Counter, "Failed writes since this run began.")
        .sample(status.counts.failed_writes);
    text.family("agentcom_sidecar_outbox_verdicts", Kind::Gauge, "Verdicts that the hub has not answered.")
        .sample(status.journal.outbox.len());
    text.family("agentcom_sidecar_shelf_tasks", Kind::Gauge, "Tasks that the hub reclaimed and whose work is kept.")
        .sample(status.journal.parked.len());
}

fn restarts(text: &mut Text, status: &Status) {
    let mut kept = text.family(
        "agentcom_sidecar_recent_restarts",
        Kind::Gauge,
        "Of the last ten commanded restarts, across runs: how many left a task under way (forced) and how many did not.",
    );
    for (label, forced) in [("false", false), ("true", true)] {
        let count = status.restarts.iter().filter(|restart| restart.forced == forced).count();
        kept.labelled(&[("forced", label)], count);
    }
    let mut at = text.family(
        "agentcom_sidecar_last_restart_timestamp_seconds",
        Kind::Gauge,
        "When the last commanded restart left, since the epoch.",
    );
    let last = status.restarts.first();
    if let Some(ms) = last.and_then(|restart| restart.left_at_ms) {
        at.sample(seconds(ms));
    }
    let mut gap = text.family(
        "agentcom_sidecar_last_restart_gap_seconds",
        Kind::Gauge,
        "How long the hub was without us then; absent until it knows us again.",
    );
    if let Some(ms) = last.and_then(|restart| restart.gap_ms) {
        gap.sample(seconds(ms));
    }
}

fn process(text: &mut Text, status: &Status) {
    text.family(
        "agentcom_sidecar_run_age_seconds",
        Kind::Gauge,
        "How long this run has lasted; a restart in place begins a new one.",
    )
    .sample(seconds(status.process.uptime_ms));
    let own = OwnProcess::read();
    let mut memory = text.family("process_resident_memory_bytes", Kind::Gauge, "Resident set.");
    if let Some(bytes) = own.memory_bytes {
        memory.sample(bytes);
    }
    let mut cpu = text.family("process_cpu_seconds_total", Kind::Counter, "User and system time of this process.");
    if let Some(ms) = own.cpu_ms {
        cpu.sample(seconds(ms));
    }
    let mut files = text.family("process_open_fds", Kind::Gauge, "Open file descriptors.");
    if let Some(count) = own.open_files {
        files.sample(count);
    }
    let mut start = text.family(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, since the epoch; a restart in place does not change it.",
    );
    if let Some(ms) = own.started_at_ms() {
        start.sample(seconds(ms));
    }
}

/// Formats milliseconds as seconds with three decimals.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::strict_prometheus as strict;
    use crate::sidecar::admin::status::example;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut status = example();
        status.agent_id = "a \"b\" \\ c\nd}".into();
        let families = strict::parse(&write(&status)).unwrap();
        let info = &families["agentcom_sidecar_info"].samples[0];
        assert_eq!(info.label("agent_id"), Some("a \"b\" \\ c\nd}"));
        let up: f64 = families["agentcom_sidecar_phase"].samples.iter().map(|sample| sample.value).sum();
        assert_eq!(up, 1.0);
        assert_eq!(families["agentcom_sidecar_last_restart_gap_seconds"].samples[0].value, 0.036);
        assert_eq!(families["agentcom_sidecar_task_age_seconds"].samples[0].value, 0.0);
    }

    #[test]
    fn every_name_is_documented() {
        let page = include_str!("../../../../docs/operating.md");
        for name in strict::parse(&write(&example())).unwrap().keys() {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
