//! The sidecar's metrics in the form in which pm2 shows them in `pm2 monit` and `pm2 show`.

use serde::Serialize;

use crate::common::text::is_unsafe_in_terminal;
use crate::sidecar::admin::status::Status;

/// The longest text in pm2's tables, in characters.
const MAX_TEXT_CHARS: usize = 120;

/// The placeholder for an absent value.
pub(super) const NONE: &str = "-";

/// The metrics, in the order in which pm2 shows them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Monitor {
    #[serde(rename = "State")]
    state: Figure,
    #[serde(rename = "Why")]
    why: Figure,
    #[serde(rename = "Takes tasks")]
    takes_tasks: Figure,
    #[serde(rename = "Task")]
    task: Figure,
    #[serde(rename = "Task age")]
    task_age: Figure,
    #[serde(rename = "Hub")]
    hub: Figure,
    #[serde(rename = "Hub latency")]
    hub_latency: Figure,
    #[serde(rename = "Reconnects")]
    reconnects: Figure,
    #[serde(rename = "Outbox")]
    outbox: Figure,
    #[serde(rename = "Restarts by pm2")]
    restarts_by_pm2: Figure,
    #[serde(rename = "Restarts on command")]
    restarts_on_command: Figure,
    #[serde(rename = "Last restart")]
    last_restart: Figure,
    #[serde(rename = "Last gap")]
    last_gap: Figure,
}

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Figure {
    value: FigureValue,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum FigureValue {
    Number(u64),
    Text(String),
}

impl Figure {
    fn text(text: &str) -> Self {
        Self { value: FigureValue::Text(printable(text)), kind: "metric", unit: None }
    }

    fn number(number: impl Into<Option<u64>>, unit: Option<&'static str>) -> Self {
        match number.into() {
            Some(number) => Self { value: FigureValue::Number(number), kind: "metric", unit },
            None => Self::text(NONE),
        }
    }
}

/// Returns a text that is safe to show in a terminal: a text from a hub or an operator must neither move the cursor nor
/// contain one of `pm2 monit`'s tags (`{bold}`).
pub(super) fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        '{' => '(',
        '}' => ')',
        c if is_unsafe_in_terminal(c) => ' ',
        c => c,
    };
    let mut chars = text.chars().map(plain);
    let mut printable: String = chars.by_ref().take(MAX_TEXT_CHARS).collect();
    if chars.next().is_some() {
        printable.push('…');
    }
    printable
}

impl Monitor {
    pub(super) fn of(status: &Status) -> Self {
        let task = status.task.as_ref();
        let last = status.restarts.first();
        Self {
            state: Figure::text(&status.phase),
            why: Figure::text(&status.why),
            takes_tasks: Figure::text(takes_tasks(status)),
            task: Figure::text(&task.map_or(NONE.to_owned(), |task| format!("{} ({})", task.task_id, task.stage))),
            task_age: Figure::number(task.map(|task| task.age_ms / 1_000), Some("s")),
            hub: Figure::text(&status.hub.link),
            hub_latency: Figure::number(status.hub.latency_ms, Some("ms")),
            reconnects: Figure::number(status.hub.reconnects, None),
            outbox: Figure::number(status.journal.outbox.len() as u64, None),
            restarts_by_pm2: Figure::number(status.supervisor.restart_count, None),
            restarts_on_command: Figure::text(&restarts_on_command(status)),
            last_restart: Figure::text(last.map_or(NONE, |last| last.reason.as_str())),
            last_gap: Figure::number(last.and_then(|last| last.gap_ms), Some("ms")),
        }
    }

    /// Returns the metrics without those that change with time alone.
    pub(super) fn without_ages(mut self) -> Self {
        self.task_age = Figure::text(NONE);
        self
    }
}

pub(super) fn takes_tasks(status: &Status) -> &'static str {
    match (status.draining, status.is_ready(), &status.task) {
        (true, _, _) => "no: draining",
        (false, true, None) => "yes",
        (false, true, Some(_)) => "no: has one",
        (false, false, _) => "no",
    }
}

/// Returns the number of recent commanded restarts; older ones are not kept.
pub(super) fn restarts_on_command(status: &Status) -> String {
    let forced = status.restarts.iter().filter(|restart| restart.forced).count();
    match (status.restarts.len(), forced) {
        (0, _) => "0".to_owned(),
        (latest, 0) => format!("{latest} lately"),
        (latest, forced) => format!("{latest} lately, {forced} of them forced"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_steer_a_terminal() {
        assert_eq!(printable("\u{1b}[2J{bold}a\nb{/}"), " [2J(bold)a b(/)");
    }

    #[test]
    fn a_long_text_is_cut_on_a_character() {
        assert_eq!(printable(&"ä".repeat(MAX_TEXT_CHARS)), "ä".repeat(MAX_TEXT_CHARS));
        assert_eq!(printable(&"ä".repeat(MAX_TEXT_CHARS + 1)), format!("{}…", "ä".repeat(MAX_TEXT_CHARS)));
    }
}
