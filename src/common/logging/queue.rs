//! A bounded queue of lines between the daemon and a thread that may block for ever. Pushing never waits; lines that do
//! not fit are counted, and the count is logged in their place.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The limits of the queue, in bytes and in lines.
const MAX_QUEUED_BYTES: usize = 1 << 20;
const MAX_QUEUED_LINES: usize = 4_096;
/// The pause before a descriptor that would block is tried again.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(5);

/// A sink of lines.
pub(super) trait WriteLine: Send + 'static {
    /// Writes one line, including the newline.
    fn write_line(&mut self, line: &[u8]) -> Result<(), LineError>;
}

/// The reason why a line was not written.
#[derive(Debug)]
pub(super) enum LineError {
    /// This line failed; the next may succeed. The text says why.
    Lost(String),
    /// The reader is gone: the sink has ended.
    Over,
}

/// The queue of one sink.
#[derive(Debug, Default)]
pub(super) struct LineQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    lines: VecDeque<Arc<[u8]>>,
    bytes: usize,
    dropped: u64,
    closed: bool,
    done: bool,
}

impl LineQueue {
    /// Starts the thread that empties the queue into `sink`; failures are logged to `fallback`. If no thread can be
    /// started, the sink gets no lines.
    pub(super) fn start(name: &str, sink: impl WriteLine, fallback: Option<Arc<Self>>) -> Arc<Self> {
        let queue = Arc::new(Self::default());
        let worker = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name(name.to_owned());
        if thread.spawn(move || worker.write_lines_to(sink, fallback.as_deref())).is_err() {
            queue.finish();
        }
        queue
    }

    /// Queues a line, or counts it as dropped. Never waits.
    pub(super) fn push(&self, line: Arc<[u8]>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        // A line of any length fits into an empty queue, or it could never be written.
        let too_much = state.bytes > 0 && state.bytes + line.len() > MAX_QUEUED_BYTES;
        if too_much || state.lines.len() >= MAX_QUEUED_LINES {
            state.dropped += 1;
            return;
        }
        state.admit_count_of_dropped();
        state.admit(line);
        self.changed.notify_all();
    }

    /// Closes the queue to new lines; queued ones are still written.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.admit_count_of_dropped();
        state.closed = true;
        self.changed.notify_all();
    }

    /// Waits until everything is written, or until `deadline`.
    pub(super) fn wait_until_done(&self, deadline: Instant) {
        let mut state = self.lock();
        while !state.done {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_lines_to(&self, mut sink: impl WriteLine, fallback: Option<&Self>) {
        let mut lost = 0_u64;
        while let Some(line) = self.next() {
            if lost > 0 && sink.write_line(&dropped_notice(lost)).is_ok() {
                lost = 0;
            }
            match sink.write_line(&line) {
                Ok(()) => {}
                Err(LineError::Over) => break,
                Err(LineError::Lost(why)) => {
                    lost += 1;
                    // Once per series of failures: the remaining sink must not be flooded.
                    if let Some(fallback) = fallback.filter(|_| lost == 1) {
                        fallback.push(notice(&format!("the log file cannot be written: {why}"), None));
                    }
                }
            }
        }
        self.finish();
    }

    fn next(&self) -> Option<Arc<[u8]>> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                return Some(line);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self) {
        let mut state = self.lock();
        *state = QueueState { closed: true, done: true, ..QueueState::default() };
        self.changed.notify_all();
    }

    /// Locks the state. A poisoned lock is usable: every step leaves the state consistent.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn admit(&mut self, line: Arc<[u8]>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn admit_count_of_dropped(&mut self) {
        if self.dropped > 0 {
            let notice = dropped_notice(core::mem::take(&mut self.dropped));
            self.admit(notice);
        }
    }
}

fn dropped_notice(lines: u64) -> Arc<[u8]> {
    notice(&format!("{lines} log lines dropped here: they came faster than they could be written"), Some(lines))
}

/// Returns a line of the log itself, in the JSON form of the others.
fn notice(message: &str, dropped: Option<u64>) -> Arc<[u8]> {
    use tracing_subscriber::fmt::format::Writer;
    use tracing_subscriber::fmt::time::{FormatTime, SystemTime as Clock};
    let mut timestamp = String::new();
    // Formatting into a string cannot fail.
    let _ = Clock.format_time(&mut Writer::new(&mut timestamp));
    let mut line = serde_json::json!({"timestamp": timestamp, "level": "WARN", "message": message});
    if let Some(dropped) = dropped {
        line["dropped"] = dropped.into();
    }
    line["target"] = module_path!().into();
    format!("{line}\n").into_bytes().into()
}

/// The sink for stdout, or another stream that is written to until its reader is gone.
pub(super) struct Stream {
    out: Box<dyn Write + Send>,
}

impl Stream {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out }
    }
}

impl WriteLine for Stream {
    fn write_line(&mut self, line: &[u8]) -> Result<(), LineError> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(LineError::Over),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process that shares the descriptor made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(WOULD_BLOCK_PAUSE),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Err(LineError::Lost(error.to_string()));
                }
                // EPIPE, a closed descriptor, a closed terminal: stdout has ended, but the daemon goes on.
                Err(_) => return Err(LineError::Over),
            }
        }
        Ok(())
    }
}
