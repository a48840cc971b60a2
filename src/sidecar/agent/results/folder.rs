//! Creates the results folder if needed and keeps an inotify watch on it, as far as the system allows. It reads no
//! file, and a missing watch is not an error: a timer scans the folder too.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::common::fs::same_file;

/// How long to wait before another attempt to set up a watch (the usual limit is 128 instances per user).
const RETRY: Duration = Duration::from_secs(30);

/// The folder and the watch on it.
pub(super) struct Folder {
    dir: PathBuf,
    watch: Option<Watched>,
    next_try: Option<Instant>,
    /// An error is logged once, not at every scan.
    last_error: Option<String>,
}

struct Watched {
    /// The identity of the watched folder: another one under the same name needs a watch of its own.
    identity: Identity,
    /// Dropping the watcher ends the watch.
    _watcher: RecommendedWatcher,
}

/// Device, inode and creation time: an inode number alone is reused at once.
type Identity = (u64, u64, Option<SystemTime>);

impl Folder {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, watch: None, next_try: None, last_error: None }
    }

    /// Creates the folder if it is missing, and watches it if it is not watched: `changed` is called, from a thread of
    /// the watcher, for every change in it.
    pub(super) fn ensure_watched(&mut self, changed: impl Fn() + Send + 'static) {
        let identity = match self.identity_or_create() {
            Ok(identity) => identity,
            Err(error) => {
                self.watch = None;
                self.warn_once(format!(
                    "cannot use the results folder: {error}; make it, or let this user write there"
                ));
                return;
            }
        };
        if self.watch.as_ref().is_some_and(|watched| watched.identity == identity) {
            return;
        }
        let lost = self.watch.take().is_some();
        if !lost && self.next_try.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match watcher(&self.dir, changed) {
            Ok(watcher) => {
                self.watch = Some(Watched { identity, _watcher: watcher });
                (self.next_try, self.last_error) = (None, None);
            }
            Err(error) => {
                self.next_try = Some(Instant::now() + RETRY);
                self.warn_once(format!("no notices of new results, the timer still looks: {error}"));
            }
        }
    }

    fn identity_or_create(&self) -> io::Result<Identity> {
        // Through the folder, so that a path that is no folder, or may not be entered, is reported at once.
        match fs::metadata(self.dir.join(".")) {
            Ok(found) => Ok(identity(&found)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir)?;
                Ok(identity(&fs::metadata(&self.dir)?))
            }
            Err(e) => Err(e),
        }
    }

    fn warn_once(&mut self, error: String) {
        if self.last_error.as_ref() != Some(&error) {
            tracing::warn!(dir = %self.dir.display(), "{error}");
            self.last_error = Some(error);
        }
    }
}

fn watcher(dir: &std::path::Path, changed: impl Fn() + Send + 'static) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error (a queue overflow, for example) means that an event may have been missed, so it counts as a change.
        if event.map_or(true, |event| is_change(event.kind)) {
            changed();
        }
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Returns whether the event is a change. Reads are reported too, and must not lead to another read.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

fn identity(found: &fs::Metadata) -> Identity {
    let (device, inode) = same_file::identity(found);
    (device, inode, found.created().ok())
}
