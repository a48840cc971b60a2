//! Reads the configuration again while the process runs (`reload`, SIGHUP) and sends the event loop the new settings.
//! The machine's state is not touched; the settings apply from its next step on.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::common::logging;
use crate::machine::Policy;
use crate::sidecar::admin::commands::{CommandResult, SidecarGone};
use crate::sidecar::config::{Config, Loaded, Merged};
use crate::sidecar::policy::policy;
use crate::sidecar::supervisor::pm2::Pm2;

/// Sends reload requests.
#[derive(Debug, Clone)]
pub(crate) struct Reloads {
    queue: mpsc::Sender<oneshot::Sender<CommandResult>>,
}

impl Reloads {
    /// Requests a reload and returns its outcome.
    ///
    /// # Errors
    /// [`SidecarGone`]: the sidecar has ended.
    pub(crate) async fn ask(&self) -> Result<CommandResult, SidecarGone> {
        let (reply_to, answer) = oneshot::channel();
        self.queue.send(reply_to).await.map_err(|_| SidecarGone)?;
        answer.await.map_err(|_| SidecarGone)
    }
}

/// The settings that a reload gives the event loop.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Arc<Config>,
    pub(crate) policy: Policy,
}

/// Starts the task that serves reload requests, one after the other.
pub(crate) fn start(config: Arc<Config>, pm2: Arc<Pm2>) -> (Reloads, mpsc::Receiver<Settings>) {
    let (queue, mut requests) = mpsc::channel::<oneshot::Sender<CommandResult>>(1);
    let (settings, new_settings) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut current = config;
        while let Some(reply_to) = requests.recv().await {
            let answer = reload(&mut current, &pm2, &settings).await;
            // Fails only if the requester has left.
            let _ = reply_to.send(answer);
        }
    });
    (Reloads { queue }, new_settings)
}

async fn reload(current: &mut Arc<Config>, pm2: &Pm2, settings: &mpsc::Sender<Settings>) -> CommandResult {
    let old = Arc::clone(current);
    let read = tokio::task::spawn_blocking(move || old.read_again()).await;
    let Loaded { config, warnings } = match read {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(error)) => {
            tracing::error!(%error, "the configuration was not reloaded, and nothing has changed");
            return CommandResult::refused(format!("nothing has changed: {error}"));
        }
        Err(error) => {
            tracing::error!(%error, "the configuration's reader died");
            return CommandResult::refused("nothing has changed: the reader died");
        }
    };
    let Merged { config, changed, need_restart } = current.merge(config);
    let config = Arc::new(config);
    let policy = policy(&config, pm2);
    if settings.send(Settings { config: Arc::clone(&config), policy }).await.is_err() {
        return CommandResult::refused(SidecarGone.to_string());
    }
    logging::set_level(config.log_level);
    *current = config;
    for warning in &warnings {
        tracing::warn!(%warning, "the configuration");
    }
    tracing::info!(
        changed = changed.join(", "),
        need_restart = need_restart.join(", "),
        "the configuration was reloaded"
    );
    let mut message = outcome(&changed, &need_restart);
    for warning in warnings {
        message += &format!("\nwarning: {warning}");
    }
    CommandResult::accepted(message)
}

fn outcome(changed: &[&str], need_restart: &[&str]) -> String {
    let applied = match changed {
        [] => "reloaded: nothing that can change at run time differs".to_owned(),
        changed => format!("reloaded: {}", changed.join(", ")),
    };
    match need_restart {
        [] => applied,
        keys => format!("{applied}; only a restart changes: {}", keys.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::sidecar::admin::reload::outcome;

    #[test]
    fn the_answer_names_what_changed_and_what_did_not() {
        assert_eq!(outcome(&["log_level"], &[]), "reloaded: log_level");
        assert_eq!(outcome(&[], &[]), "reloaded: nothing that can change at run time differs");
        assert_eq!(outcome(&["a", "b"], &["token"]), "reloaded: a, b; only a restart changes: token");
    }
}
