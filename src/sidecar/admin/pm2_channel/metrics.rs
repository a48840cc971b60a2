//! Reports the sidecar's state to pm2: metrics for `pm2 monit` and `pm2 show`, and a table on top of the latter. They
//! are sent when they change, at most once a second; ages every ten seconds. An idle sidecar sends nothing.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::pm2_channel::actions;
use crate::sidecar::admin::pm2_channel::figures::{Monitor, printable};
use crate::sidecar::admin::pm2_channel::line::{Axm, Message};
use crate::sidecar::admin::pm2_channel::writer::ChannelWriter;
use crate::sidecar::admin::readiness::Ready;
use crate::sidecar::admin::status::Status;

/// The least time between two reports.
const THROTTLE: Duration = Duration::from_secs(1);

/// The longest wait for the hub before the first report. pm2 reads a report with the processor that hub and sidecar need
/// at that moment to find each other.
const HUB_FIRST: Duration = Duration::from_millis(250);

/// The interval at which ages are reported.
const AGE_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the table on top of `pm2 show`.
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
    Message::Axm(Axm::Table { human_info: rows.into_iter().map(|(name, text)| (name, printable(&text))).collect() })
}

/// Returns the table of a process that is about to end. pm2 forgets the metrics of such a process but goes on showing
/// its table.
pub(super) fn final_messages(status: &Status) -> Message {
    rows(vec![("Agent", status.agent_id.clone()), ("State", format!("has ended: {}", status.why))])
}

/// Reports the state until the sidecar ends, and first what pm2 may trigger.
pub(super) async fn report(mut admin: AdminHandle, channel: ChannelWriter, mut ready: watch::Receiver<Option<Ready>>) {
    // An error means that the hub was not waited for.
    let _ = tokio::time::timeout(HUB_FIRST, ready.changed()).await;
    actions::announcements().for_each(|message| channel.send(message));
    let mut last_sent: Option<(Monitor, Message)> = None;
    let mut ages_at = Instant::now();
    loop {
        let status = admin.status();
        let table = table(&status, *ready.borrow_and_update());
        let monitor = Monitor::of(&status);
        let facts = (monitor.clone().without_ages(), table.clone());
        let changed = last_sent.as_ref() != Some(&facts);
        let has_ages = facts.0 != monitor;
        if changed || (has_ages && ages_at.elapsed() >= AGE_INTERVAL) {
            channel.send(Message::Axm(Axm::Monitor(Box::new(monitor))));
            if last_sent.as_ref().is_none_or(|(_, last_table)| *last_table != table) {
                channel.send(table);
            }
            last_sent = Some(facts);
            ages_at = Instant::now();
            tokio::time::sleep(THROTTLE).await;
        }
        let age_changed = async {
            if !has_ages {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep_until(ages_at + AGE_INTERVAL).await;
        };
        // A change during the sleep is reported at once.
        tokio::select! {
            changed = admin.changed() => if changed.is_err() { return },
            Ok(()) = ready.changed() => {}
            () = age_changed => {}
        }
    }
}

/// Returns every message that is ever sent about a status.
#[cfg(test)]
pub(super) fn everything(status: &Status) -> Vec<Message> {
    let monitor = Message::Axm(Axm::Monitor(Box::new(Monitor::of(status))));
    vec![monitor, table(status, None), table(status, Some(Ready::WithoutHub)), final_messages(status)]
}
