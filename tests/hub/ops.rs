//! The files of `docs/ops` for a hub: what they name is what the hub has.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::observed::metrics;
use crate::support::{Hub, folder, hub_command};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What only a hub that speaks TLS has; `over_tls.rs` sees it there.
const OF_TLS: &str = "agentcom_hub_tls_certificate_expires_timestamp_seconds";

/// The names of metrics in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("agentcom_hub_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// The selectors on labels in a text: `status="queued"` and `outcome=~"refused|overdue"`.
fn selectors(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for braces in text.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        for selector in braces.split(',') {
            let Some((label, value)) = selector.split_once('=') else { continue };
            let value = value.trim_start_matches('~').trim_matches(['"', '\\', '\'']);
            if ["status", "state", "outcome", "cause"].contains(&label.trim()) {
                found.insert((label.trim().to_owned(), value.to_owned()));
            }
        }
    }
    found
}

#[tokio::test]
async fn every_metric_that_a_rule_or_the_dashboard_names_is_there() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let families = metrics(&hub).await;
    let samples: Vec<_> = families.values().flat_map(|family| &family.samples).collect();
    let mut used = BTreeSet::new();
    for name in ["agentcom-hub.rules.yml", "agentcom-hub-dashboard.json"] {
        let text = file(name);
        let names = metric_names(&text);
        assert!(names.len() > 5, "{name} names {names:?}");
        for metric in names.iter().filter(|metric| *metric != OF_TLS) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
            let family = family.filter(|family| families.contains_key(*family)).unwrap_or(metric);
            assert!(families.contains_key(family), "{name} names {metric}, which /metrics lacks");
            used.insert(family.to_owned());
        }
        for (label, values) in selectors(&text) {
            let exists = |value: &str| samples.iter().any(|sample| sample.label(&label) == Some(value));
            assert!(values.split('|').all(exists), "{name}: no sample has {label}={values}");
        }
    }
    let own = families.keys().filter(|name| name.starts_with("agentcom_hub_"));
    let unused: Vec<_> = own.filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "neither a rule nor the dashboard shows {unused:?}");
}

#[test]
fn the_dashboard_is_json_with_one_query_a_target_at_least() {
    let dashboard: Value = serde_json::from_str(&file("agentcom-hub-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id twice: {panel}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{panel}");
    }
    assert!(panels.len() >= 8);
}

#[test]
fn each_rule_says_what_is_wrong_and_what_to_do() {
    let text = file("agentcom-hub.rules.yml");
    let rules: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(rules.len() >= 8);
    for rule in rules {
        for key in ["expr: ", "for: ", "severity: ", "summary: ", "description: "] {
            assert!(rule.contains(key), "no {key:?} in {rule}");
        }
    }
    let scrape = file("prometheus.yml");
    assert!(scrape.contains("job_name: agentcom-hub") && scrape.contains("agentcom-hub.rules.yml"));
}

#[test]
fn the_unit_starts_the_hub_with_arguments_that_it_knows() {
    let unit = file("agentcom-hub.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/agentcom-hub ")).unwrap();
    let help = hub_command().args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("serve"));
    for flag in words.filter(|word| word.starts_with("--")) {
        assert!(help.split_whitespace().any(|word| word == flag), "{flag}");
    }
    assert!(unit.contains("LimitNOFILE=") && unit.contains("StateDirectoryMode=0700"));
}
