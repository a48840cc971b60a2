//! Watches the results folder for the files that agent sessions leave there: `<task_id>.started` and `<task_id>.json`.
//! It looks only at the files of watched tasks, gives no verdict on a task, and removes nothing unless asked to; a result
//! that it has not read it removes only if the task was cancelled.
//!
//! The watch is set up before the folder is scanned: inotify reports no file that is already there, and nothing at all
//! for a folder that was removed and created again. So every notification only triggers a scan, and a timer does too.

mod aside;
mod content;
mod folder;
pub mod kept;
pub mod outcome;
pub mod refused;
mod removal;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use content::{Candidate, FileVersion, Look};
use folder::Folder;
use removal::{Judged, Known};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::common::crash_points::crash_point;
use crate::machine::{ResultFile, TaskId};
use crate::sidecar::agent::results::outcome::MAX_FILE_BYTES;

pub use outcome::ResultContent;
pub use removal::MadeOf;

/// The shortest time between two scans, so that a writer of many small pieces does not cause as many reads.
const MIN_GAP: Duration = Duration::from_millis(20);

/// The number of tasks of which it is known what was read.
const READ_CAP: usize = 64;

/// The watcher's configuration.
#[derive(Debug, Clone)]
pub struct ResultsConfig {
    /// The folder; created when missing, and created again when removed while tasks are watched.
    pub dir: PathBuf,
    /// Where results that were not taken are kept if `rejected/` of that folder cannot be used.
    pub fallback: Option<PathBuf>,
    /// How often to scan without a notification, ms.
    pub scan_ms: u64,
    /// How long a file that is not a JSON object must stay unchanged before it is judged, ms. A JSON object is accepted
    /// at once: no prefix of one is one.
    pub settle_ms: u64,
    /// How long a file that this user may not read is tried again while it does not change, ms. Only then does it count
    /// as unreadable.
    pub permission_ms: u64,
    /// The largest result file that is read, bytes.
    pub max_bytes: u64,
}

impl ResultsConfig {
    /// Returns a configuration with the usual limits: files settle for 2 s, become readable within 30 s, and have at most
    /// 2 MiB (this project's hub accepts frames of 4 MiB, and drops the connection for a larger one).
    pub fn new(dir: impl Into<PathBuf>, scan_ms: u64) -> Self {
        Self {
            dir: dir.into(),
            fallback: None,
            scan_ms,
            settle_ms: 2_000,
            permission_ms: 30_000,
            max_bytes: MAX_FILE_BYTES,
        }
    }

    /// Returns the folders in which results are kept that were not taken, the first choice first.
    fn kept_in(&self) -> Vec<PathBuf> {
        [self.dir.join(refused::FOLDER)].into_iter().chain(self.fallback.clone()).collect()
    }
}

/// Something that a session left in the folder.
#[derive(Debug, Clone, PartialEq)]
pub enum ResultsEvent {
    /// The session runs: `<task_id>.started` exists.
    Started {
        /// The task's id.
        task_id: String,
    },
    /// The session is done: `<task_id>.json` exists and is complete.
    Result {
        /// The task's id.
        task_id: String,
        /// The content of the file.
        content: ResultContent,
    },
    /// The answer to [`ResultsWatcher::look`]: everything that was there at the time of the call was reported BEFORE
    /// this.
    Looked {
        /// The number that was passed to the call.
        number: u32,
    },
}

impl ResultsEvent {
    /// Returns the id of the event's task; `Looked` has none.
    fn task_id(&self) -> Option<&str> {
        match self {
            Self::Started { task_id } | Self::Result { task_id, .. } => Some(task_id),
            Self::Looked { .. } => None,
        }
    }
}

/// Watches the folder in the background until dropped.
#[derive(Debug)]
pub struct ResultsWatcher {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl ResultsWatcher {
    /// Creates a watcher of no tasks yet. Each finding is reported once to `events`.
    pub fn new(config: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Self {
        let shared = Arc::new(Shared { config, wake: Notify::new(), state: Mutex::default() });
        let task = tokio::spawn(watch_loop(shared.clone(), events));
        Self { shared, task }
    }

    /// Watches exactly these tasks from now on, and scans at once. A task that was watched before keeps what was
    /// reported of it; a new one, or one that was not watched in between, starts anew. A name that is not a plain file
    /// name is refused with an error in the log.
    pub fn watch(&self, tasks: Vec<String>) {
        let mut state = self.shared.lock();
        let mut before = std::mem::take(&mut state.watched);
        for task in tasks {
            if TaskId::new(&task).is_err() {
                tracing::error!(task, "not a plain file name: its results are not watched");
                continue;
            }
            let watch = before.remove(&task).unwrap_or_else(|| state.fresh_watch());
            state.watched.insert(task, watch);
        }
        let WatchState { watched, undelivered, .. } = &mut *state;
        undelivered.retain(|event| event.task_id().is_none_or(|task| watched.contains_key(task)));
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Scans now, and reports what is there before it reports [`ResultsEvent::Looked`] with this number. A second call
    /// before that replaces the first. While the folder's disk hangs, nothing is reported.
    pub fn look(&self, number: u32) {
        self.shared.lock().requested_look = Some(number);
        self.shared.wake.notify_one();
    }

    /// Removes both files of a task; returns what could not be removed and why. Missing files are no error. Files that
    /// appear afterwards count as new, if the task is still watched. A result that was not read, or was written to since,
    /// is kept with those that were not taken, unless its task was cancelled. `made_of` decides on one that this process has
    /// not read. What stays is not reported again until it changes.
    pub fn clean_up(&self, task_id: &str, result: ResultFile, made_of: MadeOf<'_>) -> Vec<(PathBuf, io::Error)> {
        let started = self.remove(task_id, STARTED, |path| std::fs::remove_file(path));
        crash_point!("after removing the agent's sign, before its result");
        let known = Known { result, judged: self.shared.lock().judged.get(task_id).copied(), made_of };
        let result = self.remove(task_id, RESULT, |path| removal::take_away(path, &known, &self.shared.config));
        [started, result].into_iter().filter_map(Result::err).collect()
    }

    /// Removes a task's `.started` file only; returns whether there was one. A later one counts as new.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_started(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)> {
        self.remove(task_id, STARTED, |path| std::fs::remove_file(path))
    }

    fn remove(
        &self,
        task_id: &str,
        extension: &str,
        take_away: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<bool, (PathBuf, io::Error)> {
        if TaskId::new(task_id).is_err() {
            return Err((task_id.into(), io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name")));
        }
        // The lock is held across the removal: a scan that saw the old file then reports into a watch that is over.
        let mut state = self.shared.lock();
        let path = file_of(&self.shared.config.dir, task_id, extension);
        let outcome = take_away(&path);
        let stays = outcome.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
        state.reset(task_id, extension, stays);
        match outcome {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err((path, e)),
        }
    }
}

impl Drop for ResultsWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const STARTED: &str = "started";
const RESULT: &str = "json";

fn file_of(dir: &Path, task_id: &str, extension: &str) -> PathBuf {
    dir.join(format!("{task_id}.{extension}"))
}

/// The state that the watcher's owner and its background task share.
#[derive(Debug)]
struct Shared {
    config: ResultsConfig,
    wake: Notify,
    /// Never held while a file is read.
    state: Mutex<WatchState>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, WatchState> {
        // Every change below is a single step; a panic elsewhere leaves no inconsistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct WatchState {
    watched: BTreeMap<String, Watch>,
    /// The number of a scan that was requested and has not begun.
    requested_look: Option<u32>,
    /// Events that are marked as reported and not in the channel yet.
    undelivered: VecDeque<ResultsEvent>,
    /// The files that were reported as results, by task: of [`READ_CAP`] tasks, which is more than can wait for their
    /// clean-up.
    judged: BTreeMap<String, Judged>,
    watches: u64,
}

/// One watched task.
#[derive(Debug, Clone)]
struct Watch {
    /// Distinguishes this watch from an earlier one of the same task.
    number: u64,
    started: bool,
    result: bool,
    candidate: Option<Candidate>,
}

impl WatchState {
    fn is_idle(&self) -> bool {
        self.watched.is_empty() && self.requested_look.is_none()
    }

    fn fresh_watch(&mut self) -> Watch {
        self.watches += 1;
        Watch { number: self.watches, started: false, result: false, candidate: None }
    }

    /// Forgets what was reported of a file that was taken away, or `stays` although it should have been.
    fn reset(&mut self, task_id: &str, extension: &str, stays: bool) {
        if extension == RESULT && !stays {
            self.judged.remove(task_id);
        } else if extension == RESULT
            && let Some(judged) = self.judged.get_mut(task_id)
        {
            judged.left = true;
        }
        self.watches += 1;
        let number = self.watches;
        let Some(watch) = self.watched.get_mut(task_id) else { return };
        watch.number = number;
        if extension == STARTED {
            watch.started = false;
            self.undelivered.retain(|e| !matches!(e, ResultsEvent::Started { task_id: of } if of == task_id));
        } else {
            (watch.result, watch.candidate) = (false, None);
            self.undelivered.retain(|e| !matches!(e, ResultsEvent::Result { task_id: of, .. } if of == task_id));
        }
    }

    /// Merges what a scan found, unless the watch it was made for is over.
    fn merge(&mut self, task_id: &str, number: u64, found: Found) {
        let Some(watch) = self.watched.get_mut(task_id).filter(|watch| watch.number == number) else { return };
        if found.started && !watch.started {
            watch.started = true;
            self.undelivered.push_back(ResultsEvent::Started { task_id: task_id.to_owned() });
        }
        match found.result {
            None => watch.candidate = None,
            Some(Look::Unsettled(candidate)) => watch.candidate = Some(candidate),
            Some(Look::Done { content, version, taken }) if !watch.result => {
                (watch.result, watch.candidate) = (true, None);
                self.judged.insert(task_id.to_owned(), Judged { version, taken, left: false });
                while self.judged.len() > READ_CAP {
                    // Which one goes matters little: without an entry a file is judged by its content.
                    self.judged.pop_first();
                }
                self.undelivered.push_back(ResultsEvent::Result { task_id: task_id.to_owned(), content });
            }
            Some(Look::Done { .. }) => {}
        }
    }
}

/// What one scan found of one task.
struct Found {
    started: bool,
    result: Option<Look>,
}

/// Scans the files of every watched task that has something left to report.
async fn look(shared: &Arc<Shared>) {
    let open: Vec<(String, Watch, Option<FileVersion>)> = {
        let state = shared.lock();
        let left = |task| state.judged.get(task).filter(|judged| judged.left).map(|judged| judged.version);
        let open = state.watched.iter().filter(|(_, watch)| !(watch.started && watch.result));
        open.map(|(task, watch)| (task.clone(), watch.clone(), left(task))).collect()
    };
    if open.is_empty() {
        return;
    }
    let config = shared.config.clone();
    let found = tokio::task::spawn_blocking(move || {
        let look = |(task, watch, left): (String, Watch, Option<FileVersion>)| {
            let found = scan_task(&config, &task, (&watch, left), Instant::now());
            (task, watch.number, found)
        };
        open.into_iter().map(look).collect::<Vec<_>>()
    });
    match found.await {
        Ok(found) => {
            let mut state = shared.lock();
            for (task, number, found) in found {
                state.merge(&task, number, found);
            }
        }
        Err(error) => tracing::error!(%error, "looking at the results folder failed; it will be tried again"),
    }
}

/// Looks at a task's files. The version `left` was judged already, and could not be taken away.
fn scan_task(config: &ResultsConfig, task: &str, (watch, left): (&Watch, Option<FileVersion>), now: Instant) -> Found {
    let path = file_of(&config.dir, task, RESULT);
    let is_left = || left.is_some() && std::fs::metadata(&path).ok().map(|found| FileVersion::of(&found)) == left;
    let result =
        if watch.result || is_left() { None } else { content::look(&path, watch.candidate.as_ref(), config, now) };
    // AFTER the result: a session writes the `.started` file first, so a scan that sees the result sees this file too.
    let started = watch.started || file_of(&config.dir, task, STARTED).is_file();
    Found { started, result }
}

/// Runs in the background: watches, scans, delivers and waits, forever.
async fn watch_loop(shared: Arc<Shared>, events: mpsc::Sender<ResultsEvent>) {
    let mut folder = Folder::new(shared.config.dir.clone());
    loop {
        // 1. Nothing to scan for: sleep until there is.
        if shared.lock().is_idle() {
            shared.wake.notified().await;
            continue;
        }
        // 2. Watch BEFORE the scan, so that no file is missed in between.
        folder = watch_folder(folder, &shared).await;
        // 3. Scan. A request from before this scan is answered after it.
        let requested = shared.lock().requested_look.take();
        look(&shared).await;
        shared.lock().undelivered.extend(requested.map(|number| ResultsEvent::Looked { number }));
        // 4. Deliver. The channel's capacity is awaited without the lock; events of tasks that are no longer watched
        //    are dropped meanwhile.
        while !shared.lock().undelivered.is_empty() {
            let Ok(permit) = events.reserve().await else { return };
            let next = shared.lock().undelivered.pop_front();
            if let Some(event) = next {
                permit.send(event);
            }
        }
        // 5. Wait for a notification or the timer, but at least the minimum gap.
        sleep(MIN_GAP).await;
        let pause = time_to_next_scan(&shared);
        let _ = timeout(pause, shared.wake.notified()).await;
    }
}

/// Runs on a blocking thread: a disk that hangs must not block the event loop.
async fn watch_folder(mut folder: Folder, shared: &Arc<Shared>) -> Folder {
    let waker = shared.clone();
    let watched = tokio::task::spawn_blocking(move || {
        folder.ensure_watched(move || waker.wake.notify_one());
        folder
    });
    watched.await.unwrap_or_else(|error| {
        tracing::error!(%error, "watching the results folder failed; it will be tried again");
        Folder::new(shared.config.dir.clone())
    })
}

/// Returns the time until the next scan without a request: the timer, or the moment at which an undecided file has
/// settled.
fn time_to_next_scan(shared: &Shared) -> Duration {
    let scan = Duration::from_millis(shared.config.scan_ms);
    let state = shared.lock();
    let undecided = state.watched.values().filter_map(|watch| watch.candidate.as_ref());
    undecided.filter_map(|candidate| candidate.judged_in(&shared.config)).fold(scan, Duration::min)
}
