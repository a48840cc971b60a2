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

/// Every frame of a sidecar, with all its fields.
fn every_sidecar_frame() -> Vec<SidecarFrame> {
    let (task_id, text) = (|| "t1".to_owned(), |text: &str| Some(text.to_owned()));
    let identify = Identify {
        agent_id: "a".into(),
        token: "t".into(),
        name: text("n"),
        status: text("idle"),
        capabilities: vec![JsonText::of("code"), JsonText::of(&json!({"name": "gpu"}))],
        labels: [("pool".to_owned(), "gpu".to_owned())].into(),
        dropped_labels: Vec::new(),
        client_type: text("sidecar"),
        pm2_info: Some(Pm2Info { name: text("p"), restart_count: Some(1), ..Pm2Info::default() }),
        ollama_url: text("http://o"),
        boot_id: text("b"),
        version: text("1"),
        restarted: Some(Restarted { command_id: text("c"), reason: "r".into(), forced: true, gap_ms: 5 }),
        previous_end: Some(PreviousEnd::Restarted),
        previous_end_detail: text("by an operator"),
        silence_bound_ms: Some(40_000),
        features: vec![FEATURE_TASK_REASSIGN.to_owned()],
    };
    let restarting = Restarting {
        reason: "r".into(),
        command_id: text("c"),
        forced: Some(true),
        expected_back_ms: Some(1),
        task_id: text("t1"),
    };
    let answer = RestartAck {
        command_id: "c".into(),
        outcome: RestartAckOutcome::Refused,
        detail: text("d"),
        deadline_ms: Some(7),
        retry_after_ms: Some(8),
    };
    let result = Some(JsonText::of(&json!({"status": "success"})));
    let report = JsonFields::from_iter([("verification_report", JsonText::of(&json!({"status": "pass"})))]);
    vec![
        SidecarFrame::Identify(Box::new(identify)),
        SidecarFrame::Ping {},
        SidecarFrame::Status { status: "s".into() },
        SidecarFrame::TaskAccepted { task_id: task_id(), generation: Some(2) },
        SidecarFrame::TaskRejected { task_id: task_id(), generation: Some(2), reason: "busy".into() },
        SidecarFrame::TaskProgress {
            task_id: task_id(),
            progress: Some(50),
            execution_event: Some(JsonText::of(&json!({"text": "x"}))),
        },
        SidecarFrame::TaskComplete(TaskCompletion { task_id: task_id(), generation: 3, result, rest: report }),
        SidecarFrame::TaskFailed { task_id: task_id(), generation: 3, reason: text("r"), error: text("e") },
        SidecarFrame::TaskRecovering { task_id: task_id(), last_status: text("working"), rest: JsonFields::default() },
        SidecarFrame::StateReport {
            task_id: task_id(),
            status: text("parked"),
            generation: Some(1),
            assigned_at: Some(5),
        },
        SidecarFrame::WakeResult {
            task_id: task_id(),
            status: WakeStatus::Timeout,
            attempt: Some(2),
            error: text("e"),
            reason: text("r"),
        },
        SidecarFrame::ResourceReport { rest: JsonFields::from_iter([("cpu_percent", JsonText::of(&1.5))]) },
        SidecarFrame::Cordon { on: true },
        SidecarFrame::AgentRestarting(restarting),
        SidecarFrame::RestartAck(answer),
    ]
}

/// Every frame of a hub, with all its fields.
fn every_hub_frame() -> Vec<HubFrame> {
    let (task_id, text) = (|| "t1".to_owned(), |text: &str| Some(text.to_owned()));
    let error = HubError {
        error: "e".into(),
        message_type: text("m"),
        task_id: text("t1"),
        generation: Some(1),
        errors: vec![JsonText::of(&json!({"field": "f"}))],
    };
    let command =
        RestartCommand { reason: text("r"), command_id: text("c"), deadline_ms: Some(1), force: true, by: text("ops") };
    let rest = JsonFields::from_iter([("metadata", JsonText::of(&json!({"a": 1})))]);
    vec![
        HubFrame::Identified { agent_id: "a".into(), features: vec![FEATURE_CORDON.to_owned()] },
        HubFrame::Error(error),
        HubFrame::Pong { timestamp: JsonText::of(&7) },
        HubFrame::TaskAssign(Assignment { task_id: task_id(), generation: 2, rest }),
        HubFrame::TaskAck { task_id: task_id(), status: TaskAckStatus::DeadLetter },
        HubFrame::TaskContinue { task_id: task_id(), generation: Some(2) },
        HubFrame::TaskReassign { task_id: task_id(), generation: Some(2) },
        HubFrame::RoomMessage { message: JsonFields::from_iter([("text", JsonText::of("hello"))]) },
        HubFrame::TaskCancelled { task_id: task_id() },
        HubFrame::StateReportAck { task_id: task_id(), action: StateAction::Abort },
        HubFrame::RestartSidecar(command),
        HubFrame::RateLimited { retry_after_ms: Some(5), tier: text("light") },
        HubFrame::RateLimitWarning {},
        HubFrame::AgentLeft { agent_id: "a".into() },
    ]
}

#[test]
fn every_sidecar_frame_survives_the_wire_and_carries_the_version() {
    let kinds: Vec<&str> = every_sidecar_frame().iter().map(SidecarFrame::kind).collect();
    assert_eq!(kinds, <SidecarFrame as strum::VariantNames>::VARIANTS);
    for frame in every_sidecar_frame() {
        let text = frame.to_text();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["protocol_version"], &value["type"]), (&json!(1), &json!(frame.kind())));
        let mut read = SidecarFrame::parse(&text).unwrap();
        if let SidecarFrame::TaskComplete(TaskCompletion { rest, .. })
        | SidecarFrame::TaskRecovering { rest, .. }
        | SidecarFrame::ResourceReport { rest } = &mut read
        {
            rest.remove("protocol_version");
        }
        assert_eq!(read, frame);
        // The hub knows every field.
        let (schema::Incoming::Frame(heard), 0) = schema::read_frame(&text) else { panic!("{text}") };
        assert_eq!(heard, frame);
    }
}

#[test]
fn every_hub_frame_survives_the_wire() {
    for (frame, kind) in every_hub_frame().into_iter().zip(<HubFrame as strum::VariantNames>::VARIANTS) {
        let text = frame.to_text();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["type"], *kind);
        assert_eq!(HubFrame::parse(&text), Ok(frame));
    }
    assert_eq!(every_hub_frame().len(), <HubFrame as strum::VariantNames>::VARIANTS.len());
}

#[test]
fn an_assignment_keeps_what_it_does_not_know() {
    let text = json!({"type": "task_assign", "task_id": "t1", "generation": 2, "description": "d", "novel": {"a": 1}});
    let HubFrame::TaskAssign(assignment) = HubFrame::parse(&text.to_string()).unwrap() else { panic!("wrong frame") };
    assert_eq!((assignment.generation, assignment.rest.string("description").as_deref()), (2, Some("d")));
    assert_eq!(tree(&assignment.rest)["novel"]["a"], 1);
}

#[test]
fn a_task_asks_for_its_time_in_either_place_and_the_shorter_counts() {
    let asked = |more: Value| {
        let mut frame = json!({"type": "task_assign", "task_id": "t1", "generation": 1});
        frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let HubFrame::TaskAssign(assignment) = HubFrame::parse(&frame.to_string()).unwrap() else { panic!("{frame}") };
        assignment.timeout_ms()
    };
    for (more, expected) in [
        (json!({}), None),
        (json!({"timeout_ms": 500}), Some(500)),
        (json!({"timeout_ms": null, "metadata": {"timeout_ms": 400}}), Some(400)),
        (json!({"timeout_ms": 500, "metadata": {"timeout_ms": 400}}), Some(400)),
        (json!({"timeout_ms": 300, "metadata": {"timeout_ms": 0}}), Some(300)),
        // That one is the command's.
        (json!({"metadata": {"timeout_ms": 400, "shell_command": "true"}}), None),
        (json!({"timeout_ms": "soon", "metadata": {"timeout_ms": -1}}), None),
    ] {
        assert_eq!(asked(more.clone()), expected, "{more}");
    }
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
