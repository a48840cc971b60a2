//! What a file of rules may say, and how a wrong one is refused.

use serde_json::json;

use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::healing::rules::{Budget, Condition, CrashLoop, RuleSet};

#[test]
fn what_a_rule_leaves_out_is_careful() {
    let read = RuleSet::parse(r#"{"rules": [{"name": "stuck", "when": {"task_silent_ms": 5}, "action": "restart"}]}"#);
    let read = read.unwrap();
    let rule = &read.rules[0];
    assert_eq!((read.max_unavailable, rule.blast_radius), (Amount::Number(1), Amount::Percent(10)));
    assert_eq!((rule.act, rule.for_ms, rule.cooldown_ms), (false, 60_000, 600_000));
    assert_eq!(rule.max_per_agent, Budget { times: 3, within_ms: 86_400_000 });
    assert_eq!((rule.selector.to_string(), &rule.when), ("all".to_owned(), &Condition::TaskSilent(5)));
}

#[test]
fn every_field_is_read_and_written_as_it_was() {
    let file = json!({"max_unavailable": "5%", "rules": [
        {"name": "a", "selector": {"labels": {"pool": "gpu"}}, "when": {"silent_ms": 1}, "for_ms": 0, "action": "notify", "act": false,
         "cooldown_ms": 1, "max_per_agent": {"times": 1, "within_ms": 1}, "blast_radius": 2},
        {"name": "b", "selector": {"all": true}, "when": {"memory_over_bytes": 9}, "for_ms": 2, "action": "drain", "act": true,
         "cooldown_ms": 1, "max_per_agent": {"times": 1, "within_ms": 1}, "blast_radius": "50%"},
        {"name": "c", "selector": {"all": true}, "when": {"crash_loop": {"restarts": 3, "within_ms": 60000}}, "for_ms": 2, "action": "drain",
         "act": true, "cooldown_ms": 1, "max_per_agent": {"times": 1, "within_ms": 1}, "blast_radius": "50%"},
        {"name": "d", "selector": {"all": true}, "when": {"version_not": "1.2.3"}, "for_ms": 2, "action": "restart", "act": true,
         "cooldown_ms": 1, "max_per_agent": {"times": 1, "within_ms": 1}, "blast_radius": "50%"},
    ]});
    let read = RuleSet::parse(&file.to_string()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), file);
    assert_eq!(read.rules[2].when, Condition::CrashLoop(CrashLoop { restarts: 3, within_ms: 60_000 }));
    let text =
        r#"{"rules": [{"name": "a", "selector": "label.pool=gpu", "when": {"silent_ms": 1}, "action": "notify"}]}"#;
    assert_eq!(RuleSet::parse(text).unwrap().rules[0].selector, read.rules[0].selector);
}

#[test]
fn a_wrong_file_is_refused_with_the_field_and_the_place() {
    let rule = |fields: &str| format!("{{\"rules\": [\n  {{\"name\": \"a\", {fields}}}\n]}}");
    let fine = "\"when\": {\"silent_ms\": 1}, \"action\": \"notify\"";
    let cases = [
        ("".to_owned(), "line 1, column 1: expected an object"),
        ("[]".to_owned(), "line 1, column 1: expected an object"),
        ("{\"rules\": [] // none\n}".to_owned(), "line 1, column 14: expected `,` or `}`"),
        ("{\"rules\": []} x".to_owned(), "line 1, column 15: trailing characters"),
        ("{\"rulez\": []}".to_owned(), "`rulez`: unknown field `rulez`, expected `max_unavailable` or `rules`"),
        ("{\"rules\": [], \"rules\": []}".to_owned(), "duplicate field `rules`"),
        ("{\"rules\": [], \"max_unavailable\": 0}".to_owned(), "`max_unavailable`: that would be none"),
        ("{\"rules\": [], \"max_unavailable\": \"101%\"}".to_owned(), "`max_unavailable`: \"101%\" is no amount"),
        (rule("\"action\": \"notify\""), "`rules[0]`: missing field `when`"),
        (rule("\"when\": {}, \"action\": \"notify\""), "`rules[0].when`: expected one of `silent_ms`"),
        (
            rule("\"when\": {\"silent_ms\": 1, \"version_not\": \"1\"}, \"action\": \"notify\""),
            "and no other beside it",
        ),
        (rule("\"when\": {\"silent\": 1}, \"action\": \"notify\""), "`rules[0].when.silent`: unknown field `silent`"),
        (
            rule("\"when\": {\"silent_ms\": 0}, \"action\": \"notify\""),
            "line 2, column 40: `rules[0].when.silent_ms`: found 0; allowed: 1 to 2592000000",
        ),
        (rule("\"when\": {\"silent_ms\": \"1s\"}, \"action\": \"notify\""), "expected u64"),
        (
            rule("\"when\": {\"crash_loop\": {\"restarts\": 9, \"within_ms\": 5}}, \"action\": \"notify\""),
            "`rules[0].when.crash_loop.restarts`: found 9; allowed: 1 to 8",
        ),
        (
            rule("\"when\": {\"version_not\": \"\"}, \"action\": \"notify\""),
            "`version_not`: expected 1 to 256 characters",
        ),
        (
            rule("\"when\": {\"silent_ms\": 1}, \"action\": \"reboot\""),
            "`rules[0].action`: unknown variant `reboot`, expected one of `restart`, `drain`, `notify`",
        ),
        (rule(&format!("{fine}, \"selector\": \"status=asleep\"")), "`rules[0].selector`: \"asleep\" is no status"),
        (rule(&format!("{fine}, \"selector\": {{}}")), "`rules[0].selector`: it names no agents"),
        (
            rule(&format!("{fine}, \"selector\": 5")),
            "`rules[0].selector`: invalid type: integer `5`, expected a selector",
        ),
        (rule(&format!("{fine}, \"blast_radius\": \"0%\"")), "`rules[0].blast_radius`: that would be none"),
        (
            rule(&format!("{fine}, \"max_per_agent\": {{\"times\": 0, \"within_ms\": 5}}")),
            "`rules[0].max_per_agent.times`: found 0; allowed: 1 to 100",
        ),
        (rule(&format!("{fine}, \"act\": true")), "`rules[0].act`: `notify` changes nothing"),
        (
            rule("\"when\": {\"silent_ms\": 1}, \"action\": \"restart\""),
            "`rules[0].action`: an agent that is away cannot be told anything",
        ),
        (
            format!("{{\"rules\": [{{\"name\": \"a/b\", {fine}}}]}}"),
            "`rules[0].name`: found \"a/b\"; expected 1 to 64 characters",
        ),
        (
            format!("{{\"rules\": [{{\"name\": \"a\", {fine}}}, {{\"name\": \"a\", {fine}}}]}}"),
            "`rules[1].name`: \"a\" is the name of rules[0], too",
        ),
    ];
    let refused = |text: &str| RuleSet::parse(text).map_or_else(|bad| bad.to_string(), |_| "read".to_owned());
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(text, expected)| !refused(text).contains(expected))
        .map(|(text, expected)| format!("{text}\n  says:     {}\n  expected: {expected}\n", refused(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}
