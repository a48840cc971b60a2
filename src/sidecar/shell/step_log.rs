//! Logs one line per transition, in the machine's own names.

use crate::machine::{Effect, EffectName, Event, EventName, FromHub, FromHubName, Machine, StageName, ToHubName};

/// Logs the event, the effects, and the machine's new state: at `info` if the phase, the stage, the hub's presence or a
/// restart check changed, at `debug` otherwise, and at `trace` for mere signs of life.
pub(crate) fn log(before: &Machine, event: &Event, after: &Machine, effects: &[Effect]) {
    let (from, to) = (before.state.phase(), after.state.phase());
    let stage = |machine: &Machine| machine.state.job().map(|job| StageName::from(&job.persisted.stage));
    let online = |machine: &Machine| machine.connection.online().is_some();
    let checks = |machine: &Machine| machine.check.is_some();
    let moved = from != to
        || stage(before) != stage(after)
        || online(before) != online(after)
        || checks(before) != checks(after);
    if !moved && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let event_name: &'static str = EventName::from(event).into();
    let said: Option<&'static str> =
        if let Event::HubSaid(said) = event { Some(FromHubName::from(said).into()) } else { None };
    let ordered = effects.iter().map(effect_name).collect::<Vec<_>>().join(" ");
    let task_id = after.state.persisted().or(before.state.persisted()).map(|persisted| persisted.task.id.to_string());
    let stage: Option<&'static str> = stage(after).map(Into::into);
    let (phase, link): (&'static str, &'static str) =
        (to.into(), crate::machine::ConnectionName::from(&after.connection).into());
    if moved {
        tracing::info!(event = event_name, said, from = %from, phase, stage, link, task_id, effects = ordered, "moved");
    } else if let Event::HubSaid(FromHub::SignOfLife) = event {
        tracing::trace!(event = event_name, said, phase, link, "sign of life");
    } else {
        tracing::debug!(event = event_name, said, phase, stage, link, task_id, effects = ordered, "handled");
    }
}

fn effect_name(effect: &Effect) -> String {
    let name: &'static str = EffectName::from(effect).into();
    if let Effect::Send(what) = effect {
        return format!("{name}({})", <&'static str>::from(ToHubName::from(what)));
    }
    name.to_owned()
}
