//! A selector means the same as text and as JSON, and says what is wrong with what is none.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parse(text: &str) -> Result<Selector, BadSelector> {
    text.parse()
}

fn from_json(json: Value) -> Result<Selector, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let id = "[ a-z,=\\\\é]{0,6}[a-z,\\\\][ a-z]{0,3}";
    let key = "[a-z0-9][a-z0-9._/-]{0,8}";
    let value = "[ a-zé,=\\\\\"']{0,8}";
    let statuses = proptest::sample::subsequence(AgentStatus::VARIANTS, 0..=AgentStatus::VARIANTS.len());
    let named = (
        proptest::option::of(proptest::collection::btree_set(id, 1..4)),
        proptest::collection::btree_map(key, value, 0..4),
        proptest::option::of("[ a-z,=\\\\]{0,4}[a-z,]"),
        proptest::option::of("[ 0-9.,\\\\-]{1,8}"),
        statuses,
    );
    let matching = named.prop_filter_map("nothing is named", |(ids, labels, capability, version, statuses)| {
        let statuses = statuses.into_iter().collect();
        Selector::try_from(Criteria { ids, labels, capability, version, statuses }).ok()
    });
    prop_oneof![1 => Just(Selector::All), 20 => matching]
}

proptest! {
    #[test]
    fn both_forms_are_read_back_as_the_same(selector in any_selector()) {
        prop_assert_eq!(parse(&selector.to_string()), Ok(selector.clone()), "{}", selector);
        let json = serde_json::to_value(&selector).unwrap();
        prop_assert_eq!(from_json(json), Ok(selector));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}|[a-z=,\\\\ .]{0,40}") {
        if let Ok(selector) = parse(&text) {
            prop_assert_eq!(parse(&selector.to_string()), Ok(selector));
        }
    }
}

#[test]
fn a_text_and_json_mean_the_same() {
    for (text, json) in [
        ("all", json!({"all": true})),
        ("label.pool=gpu,status=offline", json!({"labels": {"pool": "gpu"}, "status": "offline"})),
        ("status=stale,status=offline,status=stale", json!({"status": ["offline", "stale"]})),
        ("status=stale", json!({"status": ["stale"]})),
        (" id = a , id=b ", json!({"ids": ["b", "a", "a"]})),
        (r"id=a\,b,label.x=", json!({"ids": ["a,b"], "labels": {"x": ""}})),
        ("capability=code,version=0.2.0", json!({"all": false, "capability": "code", "version": "0.2.0"})),
        ("label.site/rack=a=b", json!({"labels": {"site/rack": "a=b"}})),
    ] {
        assert_eq!(from_json(json), Ok(parse(text).unwrap()), "{text}");
    }
}

#[test]
fn what_is_no_selector_is_told_apart() {
    for (text, said) in [
        ("", "it names no agents"),
        ("all,status=stale", "`all` stands alone"),
        ("gpu", "\"gpu\" is no criterion: expected KEY=VALUE"),
        ("pool=gpu", "\"pool=gpu\" is no criterion"),
        ("status=offline,", "\"\" is no criterion"),
        ("status=offline,status=", "\"\" is no status"),
        ("version=1,version=2", "`version` is named twice"),
        ("label.a=1,label.a=2", "`label.a` is named twice"),
        ("version=", "`version` has no value"),
        ("id=", "\"\" is no agent's name"),
        ("status=gone", "\"gone\" is no status: expected one of healthy, degraded"),
        ("label.Pool=a", "label \"Pool\": a key is 1 to 64"),
    ] {
        let found = parse(text).unwrap_err().to_string();
        assert!(found.starts_with(said), "{text}: {found}");
    }
    for (json, said) in [
        (json!({}), "it names no agents"),
        (json!({"all": true, "status": "stale"}), "`all` stands alone"),
        (json!({"label": {}}), "unknown field `label`, expected one of"),
        (json!({"status": "gone"}), "unknown variant `gone`, expected one of"),
        (json!({"status": ["offline", "gone"]}), "unknown variant `gone`, expected one of"),
        (json!({"status": []}), "`status` has no value"),
        (json!({"status": 7}), "invalid type: integer `7`, expected a status, or a list of them"),
        (json!({"labels": {"a": 7}}), "invalid type: integer `7`"),
        (json!({"labels": {"a": "b\n"}}), "label \"a\": a value is a text"),
    ] {
        let found = from_json(json.clone()).unwrap_err();
        assert!(found.starts_with(said), "{json}: {found}");
    }
    assert_eq!(status_names(), ["healthy", "degraded", "offline", "stale", "never_seen"]);
}

#[test]
fn one_of_several_statuses_is_enough() {
    let away = parse("status=offline,status=stale").unwrap();
    let matching: Vec<&str> = AgentStatus::VARIANTS
        .iter()
        .filter(|status| away.matches(Subject { agent_id: "a", record: None, status: **status }))
        .map(|status| status.name())
        .collect();
    assert_eq!(matching, ["offline", "stale"]);
    assert!(away.asks_status() && !parse("id=a").unwrap().asks_status());
}
