//! The sidecar's readiness, for a supervisor that waits for it (pm2's `wait_ready`, systemd's `Type=notify`): the hub
//! has identified us, or has not within a time limit and the sidecar serves without it.

use std::time::Duration;

use tokio::sync::watch;

use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::supervisor::pm2::settings::DEFAULT_LISTEN_TIMEOUT_MS;

/// The way in which the sidecar became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The hub identified us.
    Identified,
    /// The hub did not identify us within the time limit.
    WithoutHub,
}

impl core::fmt::Display for Ready {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Identified => "yes, the hub knew it",
            Self::WithoutHub => "yes, before the hub knew it",
        })
    }
}

/// Returns how long to wait for the hub before reporting readiness without it: two thirds of pm2's `listen_timeout`,
/// after which pm2 considers any process online.
pub(crate) fn hub_timeout(listen_timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(listen_timeout_ms.unwrap_or(DEFAULT_LISTEN_TIMEOUT_MS).saturating_mul(2) / 3)
}

/// Watches for the readiness in the background. Must be called after the journal has been read.
pub(crate) fn watch(mut admin: AdminHandle, hub_timeout: Duration) -> watch::Receiver<Option<Ready>> {
    let (found, ready) = watch::channel(None);
    tokio::spawn(async move {
        let identified = async {
            while !admin.is_online() {
                if admin.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        let how = match tokio::time::timeout(hub_timeout, identified).await {
            Ok(true) => Ready::Identified,
            Ok(false) => return,
            Err(_) => Ready::WithoutHub,
        };
        tracing::info!(how = %how, "ready");
        found.send_replace(Some(how));
    });
    ready
}
