pub(crate) mod any_text;

use serde_json::{Value, json};

use super::*;

/// Returns the fields of an object.
pub(crate) fn fields(object: &Value) -> JsonFields {
    JsonText::of(object).read().unwrap()
}

/// Returns the tree of a value.
pub(crate) fn tree(value: &impl serde::Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

#[test]
fn every_sidecar_frame_survives_the_wire_and_carries_the_version() {
    let frames = [
        SidecarFrame::Identify(Box::new(Identify { agent_id: "a".into(), token: "t".into(), ..Identify::default() })),
        SidecarFrame::Ping {},
        SidecarFrame::TaskAccepted { task_id: "t1".into(), generation: Some(2) },
        SidecarFrame::TaskComplete(TaskCompletion {
            task_id: "t1".into(),
            generation: 3,
            result: Some(JsonText::of(&json!({"status": "success"}))),
            rest: Default::default(),
        }),
        SidecarFrame::AgentRestarting(Restarting { reason: "r".into(), ..Restarting::default() }),
    ];
    for frame in frames {
        let text = frame.to_text();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["protocol_version"], 1, "{text}");
        assert_eq!(value["type"], frame.kind());
        let parsed = SidecarFrame::parse(&text).unwrap();
        if let SidecarFrame::TaskComplete(verdict) = &parsed {
            // What it does not know it keeps, the version too.
            assert_eq!((verdict.generation, verdict.rest.read::<u64>("protocol_version")), (3, Some(1)));
        } else {
            assert_eq!(parsed, frame);
        }
    }
}

#[test]
fn an_assignment_keeps_what_it_does_not_know() {
    let text = json!({"type": "task_assign", "task_id": "t1", "generation": 2, "description": "d", "novel": {"a": 1}});
    let HubFrame::TaskAssign(assignment) = HubFrame::parse(&text.to_string()).unwrap() else { panic!("wrong frame") };
    assert_eq!((assignment.generation, assignment.rest.string("description").as_deref()), (2, Some("d")));
    assert_eq!(tree(&assignment.rest)["novel"]["a"], 1);
}

#[test]
fn garbage_is_told_apart_from_the_unknown_and_the_malformed() {
    assert!(matches!(HubFrame::parse("nonsense"), Err(FrameError::NotAFrame(_))));
    assert!(matches!(HubFrame::parse("[1]"), Err(FrameError::NotAFrame(_))));
    assert_eq!(HubFrame::parse(r#"{"type":"agent_joined"}"#), Err(FrameError::UnknownType("agent_joined".into())));
    let error = HubFrame::parse(r#"{"type":"task_assign","task_id":7}"#).unwrap_err();
    assert!(error.to_string().contains("task_assign"), "{error}");
}

#[test]
fn a_clipped_text_fits_and_says_so() {
    let long = "é".repeat(3_000);
    let cut = clip(&long, Limit::Reason);
    assert_eq!(cut.chars().count(), Limit::Reason.chars());
    assert!(cut.ends_with('…'));
    assert_eq!(clip("short", Limit::Status), "short");
}

#[test]
fn a_number_of_the_agents_is_passed_on_as_it_came() {
    let text = r#"{"type":"task_complete","task_id":"t","generation":1,"result":{"n":9932337612512.865}}"#;
    let frame = SidecarFrame::parse(text).unwrap();
    assert!(frame.to_text().contains("9932337612512.865"), "{}", frame.to_text());
}
