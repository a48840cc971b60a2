//! The sidecar as pm2 shows it: figures for `pm2 monit` and `pm2 show`, and a table on top of the latter. They are said
//! when they change, at most once a second, and ages every ten seconds; an idle sidecar says nothing.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::sidecar::admin::handle::Panel;
use crate::sidecar::admin::pm2_channel::line::{Axm, Message};
use crate::sidecar::admin::pm2_channel::writer::Voice;
use crate::sidecar::admin::readiness::Ready;
use crate::sidecar::admin::status::Status;

/// Between two changes said.
const THROTTLE: Duration = Duration::from_secs(1);

/// Between two looks at a clock's hand.
const AGES: Duration = Duration::from_secs(10);

/// A text in pm2's tables, characters.
const SHOWN_CHARS: usize = 120;

/// What is shown where there is nothing to show.
const NONE: &str = "-";

/// The figures, in the order in which pm2 shows them.
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

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Figure {
    value: Shown,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Shown {
    Number(u64),
    Text(String),
}

impl Figure {
    fn text(text: &str) -> Self {
        Self { value: Shown::Text(shown(text)), kind: "metric", unit: None }
    }

    fn number(number: impl Into<Option<u64>>, unit: Option<&'static str>) -> Self {
        match number.into() {
            Some(number) => Self { value: Shown::Number(number), kind: "metric", unit },
            None => Self::text(NONE),
        }
    }
}

/// A text as a terminal may show it: what comes from a hub or an operator must not move the cursor, nor pass for one of
/// `pm2 monit`'s own tags (`{bold}`).
fn shown(text: &str) -> String {
    let plain = |c: char| match c {
        '{' => '(',
        '}' => ')',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut chars = text.chars().map(plain);
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

impl Monitor {
    fn of(status: &Status) -> Self {
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
            restarts_on_command: Figure::text(&on_command(status)),
            last_restart: Figure::text(last.map_or(NONE, |last| last.reason.as_str())),
            last_gap: Figure::number(last.and_then(|last| last.gap_ms), Some("ms")),
        }
    }

    /// The same but for what only time changes.
    fn without_ages(mut self) -> Self {
        self.task_age = Figure::text(NONE);
        self
    }
}

fn takes_tasks(status: &Status) -> &'static str {
    match (status.draining, status.is_ready(), &status.task) {
        (true, _, _) => "no: draining",
        (false, true, None) => "yes",
        (false, true, Some(_)) => "no: has one",
        (false, false, _) => "no",
    }
}

/// Of the latest, which are the ones that are remembered.
fn on_command(status: &Status) -> String {
    let forced = status.restarts.iter().filter(|restart| restart.forced).count();
    match (status.restarts.len(), forced) {
        (0, _) => "0".to_owned(),
        (latest, 0) => format!("{latest} lately"),
        (latest, forced) => format!("{latest} lately, {forced} of them forced"),
    }
}

/// The table on top of `pm2 show`.
fn table(status: &Status, ready: Option<Ready>) -> Message {
    let hub = format!("{} ({})", status.hub.link, status.hub.url);
    let supervisor = &status.supervisor;
    let because = supervisor.because.as_ref().map(|because| format!(": {because}")).unwrap_or_default();
    rows(vec![
        ("Agent", status.agent_id.clone()),
        ("Version", status.version.clone()),
        ("State", format!("{}: {}", status.phase, status.why)),
        ("Hub", hub),
        ("Ready", ready.map_or("not yet".to_owned(), |ready| ready.to_string())),
        ("A restart is", format!("{}{because}", supervisor.restart_by)),
        ("Config", status.process.config.clone()),
        ("Journal", status.journal.file.clone()),
    ])
}

fn rows(rows: Vec<(&'static str, String)>) -> Message {
    Message::Axm(Axm::Table { human_info: rows.into_iter().map(|(name, text)| (name, shown(&text))).collect() })
}

/// pm2 forgets the figures of a process that has ended and goes on showing its table: the last one says so.
pub(super) fn last_words(status: &Status) -> Message {
    rows(vec![("Agent", status.agent_id.clone()), ("State", format!("has ended: {}", status.why))])
}

/// Says all of it until the sidecar is gone.
pub(super) async fn show(mut panel: Panel, voice: Voice, mut ready: watch::Receiver<Option<Ready>>) {
    let mut said: Option<(Monitor, Message)> = None;
    let mut ages_at = Instant::now();
    loop {
        let status = panel.status();
        let table = table(&status, *ready.borrow_and_update());
        let monitor = Monitor::of(&status);
        let facts = (monitor.clone().without_ages(), table.clone());
        let changed = said.as_ref() != Some(&facts);
        let has_ages = facts.0 != monitor;
        if changed || (has_ages && ages_at.elapsed() >= AGES) {
            voice.say(Message::Axm(Axm::Monitor(Box::new(monitor))));
            if said.as_ref().is_none_or(|(_, said)| *said != table) {
                voice.say(table);
            }
            said = Some(facts);
            ages_at = Instant::now();
            tokio::time::sleep(THROTTLE).await;
        }
        let older = async {
            if !has_ages {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep_until(ages_at + AGES).await;
        };
        // What changed while it slept shows at once.
        tokio::select! {
            changed = panel.changed() => if changed.is_err() { return },
            Ok(()) = ready.changed() => {}
            () = older => {}
        }
    }
}

/// All that is ever said of a status.
#[cfg(test)]
pub(super) fn everything(status: &Status) -> Vec<Message> {
    let monitor = Message::Axm(Axm::Monitor(Box::new(Monitor::of(status))));
    vec![monitor, table(status, None), table(status, Some(Ready::WithoutHub)), last_words(status)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_steer_a_terminal() {
        assert_eq!(shown("\u{1b}[2J{bold}a\nb{/}"), " [2J(bold)a b(/)");
    }

    #[test]
    fn a_long_text_is_cut_on_a_character() {
        assert_eq!(shown(&"ä".repeat(SHOWN_CHARS)), "ä".repeat(SHOWN_CHARS));
        assert_eq!(shown(&"ä".repeat(SHOWN_CHARS + 1)), format!("{}…", "ä".repeat(SHOWN_CHARS)));
    }
}
