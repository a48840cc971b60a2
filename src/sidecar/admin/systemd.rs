//! systemd's notification protocol (`sd_notify(3)`): readiness, stopping, the watchdog, and a line for `systemctl
//! status`. Sends datagrams to `NOTIFY_SOCKET` without waiting; without that variable nothing is sent.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::common::text::{first_chars, on_one_line};
use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::readiness::Ready;
use crate::sidecar::supervisor::pm2::SupervisorSettings;

/// The least time between two lines for `systemctl status`.
const THROTTLE: Duration = Duration::from_secs(1);

/// The longest line for `systemctl status`, in characters.
const STATUS_CHARS: usize = 200;

/// Sends notifications to systemd.
#[derive(Debug)]
pub(crate) struct Systemd {
    notifier: Notifier,
    /// The interval of the watchdog notifications: half of systemd's watchdog timeout.
    feed_every: Option<Duration>,
    fed_at: Instant,
}

impl Systemd {
    /// Reads this process's environment. Under pm2 nothing is sent, even if systemd started pm2.
    pub(crate) fn of_this_process(facts: &SupervisorSettings) -> Self {
        let env = |key: &str| std::env::var(key).ok().filter(|_| !facts.under_pm2);
        let notifier = Notifier::from_env(env);
        // A watchdog for another process is not ours to feed.
        let ours = env("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let usec = env("WATCHDOG_USEC").and_then(|usec| usec.parse::<u64>().ok()).filter(|usec| ours && *usec > 0);
        let feed_every = usec.map(|usec| Duration::from_micros(usec / 2)).filter(|_| notifier.is_enabled());
        Self { notifier, feed_every, fed_at: Instant::now() }
    }

    /// Reports the readiness and the state in the background.
    pub(crate) fn report(&self, admin: AdminHandle, ready: watch::Receiver<Option<Ready>>) {
        if self.notifier.is_enabled() {
            tokio::spawn(report(self.notifier.clone(), admin, ready));
        }
    }

    /// Reports that the process is stopping.
    pub(crate) fn stopping(&self) {
        self.notifier.send("STOPPING=1");
    }

    /// Feeds the watchdog if it is due. Called only by the event loop, to show that it is alive.
    pub(crate) fn feed(&mut self) {
        if self.feed_at().is_some_and(|at| at <= Instant::now()) {
            self.notifier.send("WATCHDOG=1");
            self.fed_at = Instant::now();
        }
    }

    /// Returns when the watchdog is to be fed next.
    pub(crate) fn feed_at(&self) -> Option<Instant> {
        self.feed_every.map(|every| self.fed_at + every)
    }
}

async fn report(notifier: Notifier, mut admin: AdminHandle, mut ready: watch::Receiver<Option<Ready>>) {
    let mut last_line = None;
    let mut is_ready = false;
    loop {
        let status = admin.status();
        if let (false, Some(how)) = (is_ready, *ready.borrow_and_update()) {
            notifier.send("READY=1");
            tracing::debug!(%how, "systemd was told that this is ready");
            is_ready = true;
        }
        let line = on_one_line(&format!("{}: {}; hub {}", status.phase, status.why, status.hub.link));
        let line = first_chars(&line, STATUS_CHARS).to_owned();
        if last_line.as_ref() != Some(&line) {
            notifier.send(&format!("STATUS={line}"));
            last_line = Some(line);
        }
        tokio::select! {
            changed = admin.changed() => {
                if changed.is_err() {
                    return;
                }
                // Only state changes are throttled; readiness is reported at once.
                tokio::select! {
                    () = tokio::time::sleep(THROTTLE) => {}
                    Ok(()) = ready.changed() => {}
                }
            }
            Ok(()) = ready.changed() => {}
        }
    }
}

/// Sends datagrams to systemd's socket; does nothing without one.
#[derive(Debug, Clone)]
#[cfg_attr(not(unix), derive(Default))]
struct Notifier {
    socket: Option<std::sync::Arc<(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr)>>,
}

impl Notifier {
    fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let Some(name) = env("NOTIFY_SOCKET") else { return Self { socket: None } };
        match open_socket(&name) {
            Ok(socket) => Self { socket: Some(std::sync::Arc::new(socket)) },
            Err(error) => {
                tracing::warn!(socket = name, %error, "systemd cannot be told how this process is (NOTIFY_SOCKET)");
                Self { socket: None }
            }
        }
    }

    fn is_enabled(&self) -> bool {
        self.socket.is_some()
    }

    fn send(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        let (from, to) = &**socket;
        // A socket that is full or gone is not waited for.
        if let Err(error) = from.send_to_addr(text.as_bytes(), to) {
            tracing::debug!(%error, text, "systemd was not told");
        }
    }
}

/// Opens the socket to `name`: a path, or after an `@` a name in Linux's abstract namespace.
fn open_socket(name: &str) -> std::io::Result<(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr)> {
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(abstract_name) => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(abstract_name)?
        }
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        #[cfg_attr(target_os = "linux", allow(unreachable_patterns))]
        Some(_) | None => {
            return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "neither a path nor an abstract name"));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}
