//! What a hub says, into the shipped parser, its translation and the machine. One line is one thing that happens: a
//! frame, or one of the words of [`word`], by which the frames find the machine in any state.
//!
//! Asserted: what parses is written and read as the same frame; every transition keeps the properties; what the machine
//! orders to disk is read back as it was.

use super::life::Life;
use agentcom::codec::decode_frame;
use agentcom::machine::{Event, Jitter, Journal, Outcome, RestartMethod, RestartOrder, StopSignal, WakeOutcome};
use agentcom::protocol::HubFrame;

/// Checks what becomes of one input.
pub fn check(text: &str) {
    let mut life = Life::of(Journal::default(), 1_000_000);
    for line in text.lines().take(200) {
        if !line.starts_with('{') {
            word(&mut life, line);
            continue;
        }
        if let Ok(frame) = HubFrame::parse(line) {
            let again = serde_json::to_string(&frame).expect("a frame is plain JSON");
            assert_eq!(HubFrame::parse(&again).as_ref(), Ok(&frame), "{again}");
        }
        life.happens(Event::HubSaid(decode_frame(line, "a")));
    }
}

/// What else can happen, in a word.
fn word(life: &mut Life, word: &str) {
    match word {
        "due" => life.due(),
        "opened" => life.happens(Event::HubOpened),
        "closed" => life.happens(Event::HubClosed { retry_after_ms: None, jitter: Jitter(7), refusal: None }),
        "disk bad" => life.disk(true),
        "disk good" => life.disk(false),
        "dies" => life.dies(),
        "stop" => life.happens(Event::StopRequested { signal: StopSignal::Terminate }),
        "restart" => life.happens(Event::RestartRequested { order: order(), to: None }),
        "checked" => checked(life, None),
        "cannot start" => checked(life, Some("it is no program".into())),
        "looked" => life.happens(Event::ResultsLookedFor { number: life.machine().questions }),
        "cancel" => life.happens(Event::RestartCancelRequested { to: None }),
        "drain" => life.happens(Event::CordonRequested { on: true, to: None }),
        "resume" => life.happens(Event::CordonRequested { on: false, to: None }),
        "woken" => woken(life, WakeOutcome::Succeeded),
        "not woken" => woken(life, WakeOutcome::Failed { error: "exit 1".into() }),
        "confirmed" => about_job(life, |task_id| Event::Confirmed { task_id }),
        "result" => about_job(life, |task_id| Event::ResultFound {
            task_id,
            outcome: Outcome::Completed { result: "{}".into() },
        }),
        _ => {}
    }
    if life.is_over() {
        life.dies();
    }
}

/// The answer to the question that was asked last.
fn checked(life: &mut Life, cannot_start: Option<String>) {
    let number = life.machine().questions;
    life.happens(Event::NextRunChecked { number, restart_method: RestartMethod::Supervisor, cannot_start });
}

fn order() -> RestartOrder {
    RestartOrder { reason: "r".into(), command_id: None, deadline_ms: None, force: false, by: None }
}

fn about_job(life: &mut Life, event: impl FnOnce(agentcom::machine::TaskId) -> Event) {
    if let Some(job) = life.machine().state.job() {
        let event = event(job.task().id.clone());
        life.happens(event);
    }
}

fn woken(life: &mut Life, outcome: WakeOutcome) {
    let Some(job) = life.machine().state.job() else { return };
    let (Some(woken), agentcom::machine::Stage::Waking { attempt }) = (job.persisted.woken, &job.persisted.stage)
    else {
        return;
    };
    let (task_id, generation, attempt) = (job.task().id.clone(), woken, *attempt);
    life.happens(Event::WakeFinished { task_id, generation, attempt, outcome });
}
