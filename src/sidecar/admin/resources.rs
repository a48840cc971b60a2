//! The load of this computer, measured periodically while the hub connection is online: the same figures as the legacy
//! sidecar's, from the same sources. It is measured in the background and passed to the event loop.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::protocol::JsonFields;

/// The delay of the first report after `identified` (the legacy sidecar's).
const FIRST_DELAY: Duration = Duration::from_secs(5);

/// The time limit for Ollama's answer (the legacy sidecar's).
const OLLAMA_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer of Ollama that is read, in bytes: far more than a list of running models has.
const OLLAMA_MAX_BYTES: u64 = 1 << 20;

/// Measures the load as long as the receiver of the figures lives.
#[derive(Debug)]
pub(crate) struct Resources {
    online: watch::Sender<bool>,
}

impl Resources {
    /// Starts the measurements: every `interval_ms` while online, to `figures`; never if `interval_ms` is 0.
    pub(crate) fn start(interval_ms: u64, ollama_url: Option<String>, figures: mpsc::Sender<JsonFields>) -> Self {
        let (online, is_online) = watch::channel(false);
        if interval_ms > 0 {
            tokio::spawn(report(Duration::from_millis(interval_ms), ollama_url, is_online, figures));
        }
        Self { online }
    }

    /// Sets whether the hub connection is online.
    pub(crate) fn set_online(&self, online: bool) {
        self.online.send_if_modified(|known| std::mem::replace(known, online) != online);
    }
}

async fn report(
    interval: Duration,
    ollama_url: Option<String>,
    mut online: watch::Receiver<bool>,
    figures: mpsc::Sender<JsonFields>,
) {
    while online.wait_for(|online| *online).await.is_ok() {
        let reports = async {
            sleep(FIRST_DELAY.min(interval)).await;
            loop {
                let measured = measure(ollama_url.as_deref()).await;
                if figures.send(measured).await.is_err() {
                    return;
                }
                sleep(interval).await;
            }
        };
        tokio::select! {
            () = reports => return,
            offline = online.wait_for(|online| !*online) => if offline.is_err() { return },
        }
    }
}

/// Measures the load. Unknown figures are left out.
async fn measure(ollama_url: Option<&str>) -> JsonFields {
    let mut figures = tokio::task::spawn_blocking(system_load).await.unwrap_or_default();
    if let Some(url) = ollama_url
        && let Some(used) = video_memory(url).await
    {
        figures.set("vram_used_bytes", &used);
    }
    figures
}

fn system_load() -> JsonFields {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut figures = JsonFields::default();
    if let Some(percent) = cpu_percent(&read("/proc/loadavg"), cores) {
        figures.set("cpu_percent", &percent);
    }
    if let Some((used, total)) = memory(&read("/proc/meminfo")) {
        figures.set("ram_used_bytes", &used);
        figures.set("ram_total_bytes", &total);
    }
    figures
}

/// Returns the one-minute load average in per cent of all cores: at most 100, with one decimal (as the legacy sidecar).
fn cpu_percent(loadavg: &str, cores: usize) -> Option<f64> {
    let load: f64 = loadavg.split_whitespace().next()?.parse().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "a machine has few cores")]
    let share = load / cores.max(1) as f64;
    Some(((share * 1_000.0).round() / 10.0).min(100.0))
}

/// Returns the used and the total memory, in bytes. Available memory counts as free, as in Node.
fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let (total, available) = (kib("MemTotal")?, kib("MemAvailable")?);
    Some((total.saturating_sub(available).saturating_mul(1024), total.saturating_mul(1024)))
}

/// Returns the video memory that the models loaded by a local Ollama use, in bytes. Only `http://` URLs are supported.
async fn video_memory(url: &str) -> Option<u64> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let ask = async {
        let mut stream = TcpStream::connect(&address).await?;
        // HTTP/1.0: the answer ends with the connection and is not chunked.
        let request = format!("GET /api/ps HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(OLLAMA_MAX_BYTES).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match timeout(OLLAMA_TIMEOUT, ask).await {
        Ok(Ok(answer)) => parse_video_memory(&answer),
        Ok(Err(error)) => {
            tracing::debug!(ollama_url = url, %error, "Ollama cannot be asked for its video memory");
            None
        }
        Err(_) => {
            tracing::debug!(ollama_url = url, "Ollama takes too long to say its video memory");
            None
        }
    }
}

fn parse_video_memory(answer: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    if head.split(' ').nth(1) != Some("200") {
        return None;
    }
    let body: Value = serde_json::from_str(body).ok()?;
    let sizes = body.get("models")?.as_array()?.iter().filter_map(|model| model.get("size_vram")?.as_u64());
    Some(sizes.fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_per_cent_of_all_cores() {
        assert_eq!(cpu_percent("0.50 0.40 0.30 1/100 5\n", 4), Some(12.5));
        assert_eq!(cpu_percent("0.333 0 0 1/1 1", 3), Some(11.1));
        assert_eq!(cpu_percent("64.0 0 0 1/1 1", 2), Some(100.0));
        assert_eq!(cpu_percent("", 2), None);
    }

    #[test]
    fn used_memory_is_what_is_not_available() {
        let text = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n";
        assert_eq!(memory(text), Some((600 * 1024, 1000 * 1024)));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None);
    }

    #[test]
    fn video_memory_is_summed_over_the_models() {
        let answer =
            b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n{\"models\":[{\"size_vram\":5},{\"name\":\"x\"},{\"size_vram\":7}]}";
        assert_eq!(parse_video_memory(answer), Some(12));
        assert_eq!(parse_video_memory(b"HTTP/1.0 404 Not Found\r\n\r\n{\"models\":[]}"), None);
        assert_eq!(parse_video_memory(b"nonsense"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_figures_that_a_hub_takes() {
        let figures = system_load();
        let number = |key: &str| figures.read::<f64>(key).unwrap();
        assert!((0.0..=100.0).contains(&number("cpu_percent")), "{figures:?}");
        assert!(number("ram_used_bytes") > 0.0 && number("ram_used_bytes") < number("ram_total_bytes"), "{figures:?}");
    }
}
