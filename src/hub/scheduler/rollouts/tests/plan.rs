//! What a plan may say.

use serde_json::json;

use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::plan::Plan;

fn plan(text: serde_json::Value) -> Plan {
    serde_json::from_value(text).unwrap()
}

#[test]
fn an_amount_is_a_number_or_a_share_rounded_down() {
    for (amount, total, is) in [("5", 3, 3), ("2", 3, 2), ("0", 3, 0), ("50%", 3, 1), ("33%", 3, 0), ("100%", 3, 3)] {
        assert_eq!(amount.parse::<Amount>().unwrap().of(total), is, "{amount}");
    }
    assert_eq!(Amount::Percent(33).at_least_one_of(3), 1);
    for bad in ["", "%", "-1", "+1", "101%", "5.5%", "5 %", "many", "99999999999"] {
        let why = bad.parse::<Amount>().unwrap_err().to_string();
        assert!(
            why.ends_with("is no amount: write a number of agents, or a share of them from \"0%\" to \"100%\""),
            "{why}"
        );
    }
}

#[test]
fn amounts_are_read_back_as_they_were_written() {
    let text = json!({"canary": 3, "steps": [1, "5%", "100%"], "max_unavailable": "10%"});
    let plan = plan(text);
    assert_eq!((plan.canary, &plan.steps[1]), (Some(Amount::Number(3)), &Amount::Percent(5)));
    let again = serde_json::to_value(&plan).unwrap();
    assert_eq!((&again["steps"], &again["max_unavailable"]), (&json!([1, "5%", "100%"]), &json!("10%")));
    assert_eq!(serde_json::from_value::<Plan>(again).unwrap(), plan);
    assert!(serde_json::from_value::<Plan>(json!({"max_unavailible": 1})).is_err());
}

#[test]
fn a_field_that_cannot_be_is_named_with_what_to_write() {
    let bad = [
        (
            json!({"max_unavailable": 0}),
            "`max_unavailable` is 0, so nothing would be restarted: write at least 1, or \"1%\"",
        ),
        (json!({"canary": "0%"}), "`canary` is 0, so nothing would be restarted: write at least 1, or \"1%\""),
        (json!({"steps": [0]}), "`steps` is 0, so nothing would be restarted: write at least 1, or \"1%\""),
        (json!({"steps": [2, 2]}), "`steps` counts from the beginning, and 2 is not more than the 2 before it"),
        (json!({"steps": ["5%", "5%"]}), "`steps` counts from the beginning, and 5% is not more than the 5% before it"),
        (
            json!({"auto_promote": true}),
            "`auto_promote` is about a canary, and there is none: leave it out, or add `canary`",
        ),
        (json!({"soak_ms": 604_800_001}), "`soak_ms` is longer than 604800000 ms, the most that is possible"),
        (json!({"deadline_ms": 86_400_001}), "`deadline_ms` is longer than 86400000 ms, the most that is possible"),
        (
            json!({"progress_deadline_ms": 10_000}),
            "`progress_deadline_ms` must be longer than `soak_ms`, which is 10000: nothing is through before",
        ),
        (
            json!({"canary": 1, "canary_deadline_ms": 1}),
            "`canary_deadline_ms` must be longer than `soak_ms`, which is 10000: nothing is through before",
        ),
        (json!({"expect_version": ""}), "`expect_version` must have 1 to 256 bytes, or be left out"),
    ];
    for (text, why) in bad {
        assert_eq!(plan(text.clone()).check().unwrap_err().to_string(), why, "{text}");
    }
    plan(json!({"canary": 1, "auto_promote": true, "steps": [1, "5%", 7, "100%"]})).check().unwrap();
}

#[test]
fn a_plan_without_a_progress_deadline_gets_one_that_one_target_can_keep() {
    assert_eq!(plan(json!({"soak_ms": 5})).settled(7).progress_ms(), 600_012);
    assert_eq!(plan(json!({"soak_ms": 5, "deadline_ms": 1})).settled(7).progress_ms(), 600_006);
    assert_eq!(plan(json!({"progress_deadline_ms": 20_000})).settled(7).progress_ms(), 20_000);
}
