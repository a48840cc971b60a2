use super::*;
use crate::common::strict_prometheus as strict;

fn seen() -> Seen {
    Seen {
        ready: true,
        agents: vec![("healthy", 3), ("offline", 1)],
        connections: vec![("identified", 3), ("waiting", 0)],
        rollout_targets: vec![("failed", 2)],
        process: ProcessFigures { memory_bytes: Some(1 << 20), open_files: Some(9), max_files: Some(1024) },
        disk_free: Some(1 << 30),
        certificate_expires_at_ms: Some(4_500),
        now_ms: 9_000,
    }
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let metrics = Metrics::new(1_500);
    metrics.committed(Duration::from_millis(2), Some(4_096));
    metrics.handled_after(Duration::from_micros(10));
    metrics.restarted("back", "commanded", Some(36));
    metrics.oldest_queued_since.store(7_500, Ordering::Relaxed);
    let families = strict::parse(&metrics.text(&seen())).unwrap();
    let figure = |name: &str, labels: &[(&str, &str)]| {
        let samples = &families[name].samples;
        let is = |sample: &&strict::Sample| labels.iter().all(|(key, value)| sample.label(key) == Some(value));
        samples.iter().find(is).unwrap_or_else(|| panic!("{name} {labels:?}")).value
    };
    assert_eq!(figure("agentcom_hub_agents", &[("status", "offline")]), 1.0);
    assert_eq!(figure("agentcom_hub_rollout_targets", &[("state", "failed")]), 2.0);
    assert_eq!(figure("agentcom_hub_oldest_queued_seconds", &[]), 1.5);
    assert_eq!(figure("agentcom_hub_restarts_total", &[("outcome", "back"), ("cause", "commanded")]), 1.0);
    assert_eq!(figure("agentcom_hub_restarts_total", &[("outcome", "back"), ("cause", "unplanned")]), 0.0);
    assert_eq!(figure("agentcom_hub_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(figure("process_start_time_seconds", &[]), 1.5);
    assert_eq!(figure("agentcom_hub_store_bytes", &[]), 4_096.0);
    assert_eq!(figure("agentcom_hub_tls_certificate_expires_timestamp_seconds", &[]), 4.0);
    let commits = &families["agentcom_hub_commit_seconds"];
    assert_eq!((commits.kind.as_deref(), commits.count(), commits.sum()), (Some("histogram"), 1.0, 0.002));
    assert_eq!(commits.bucket("0.001"), Some(0.0));
    assert_eq!(commits.bucket("0.0025"), Some(1.0));
    assert_eq!(families["agentcom_hub_restart_gap_seconds"].sum(), 0.036);
}

#[test]
fn what_was_not_measured_has_no_sample_and_what_is_no_more_goes() {
    let metrics = Metrics::new(0);
    metrics.text(&seen());
    let text = metrics.text(&Seen { agents: vec![("stale", 1)], ..Seen::default() });
    let families = strict::parse(&text).unwrap();
    let statuses: Vec<_> =
        families["agentcom_hub_agents"].samples.iter().map(|sample| sample.label("status")).collect();
    assert_eq!(statuses, [Some("stale")]);
    for name in ["process_resident_memory_bytes", "agentcom_hub_disk_free_bytes", "agentcom_hub_store_bytes"] {
        assert!(families.get(name).is_none_or(|family| family.samples.is_empty()), "{name}");
    }
    assert_eq!(families["agentcom_hub_oldest_queued_seconds"].samples[0].value, 0.0);
}

#[test]
fn every_name_is_documented() {
    let page = include_str!("../../../docs/hub.md");
    for name in strict::parse(&Metrics::new(0).text(&seen())).unwrap().keys() {
        assert!(page.contains(&format!("`{name}")), "{name} is not in docs/hub.md");
    }
}
