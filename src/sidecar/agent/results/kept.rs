//! Bounds the folders of results that were not taken, and moves there what has lain in the results folder for long
//! without a task that this sidecar knows. It decides by names and times, and reads no result.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::machine::TaskId;
use crate::sidecar::agent::results::refused::{self, FOLDER};
use crate::sidecar::agent::results::{RESULT, STARTED};
use crate::sidecar::agent::wake::task_environment::task_of_value_file;
use crate::sidecar::config::Config;

/// The most results that are kept; the oldest go.
pub const MAX_COUNT: usize = 200;

/// The most bytes that they have together; the oldest go, but the newest stays whatever its size.
pub const MAX_BYTES: u64 = 256 << 20;

/// How long a result may lie unchanged in the results folder without a task that is known here: long enough for a hub to
/// assign its task again.
pub const LEFT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The results that were not taken, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptResults {
    /// Their number.
    pub count: u64,
    /// Their size.
    pub bytes: u64,
    /// The path of the one that was kept last.
    pub newest: Option<String>,
}

/// The folders in which results are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The results folder.
    pub results: PathBuf,
    /// The journal's path, which names the folder beside it.
    pub queue_file: PathBuf,
}

/// A result that was not taken.
struct KeptFile {
    path: PathBuf,
    /// The last change of its name, links or content: when it was kept, or later.
    changed: (i64, i64),
    bytes: u64,
}

impl Folders {
    /// Returns the folders of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self { results: config.results_dir.clone(), queue_file: config.queue_file.clone() }
    }

    /// Moves the results of unknown tasks, removes what is too much, and returns what is there then. `known` are the
    /// tasks whose files may still be needed. What cannot be read or removed is logged and left.
    pub fn tidy(&self, known: &BTreeSet<String>, now: SystemTime) -> KeptResults {
        self.clear_left_files(known, now);
        self.clear_left_values(known, now);
        let mut kept = self.kept();
        kept.sort_by(|one, other| (one.changed, &one.path).cmp(&(other.changed, &other.path)));
        self.drop_oldest(&mut kept);
        KeptResults {
            count: kept.len() as u64,
            bytes: kept.iter().map(|one| one.bytes).sum(),
            newest: kept.last().map(|one| one.path.display().to_string()),
        }
    }

    fn clear_left_files(&self, known: &BTreeSet<String>, now: SystemTime) {
        for entry in entries(&self.results) {
            let path = entry.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| TaskId::new(stem).is_ok());
            let extension = path.extension().and_then(|extension| extension.to_str());
            let (Some(task), Some(extension @ (RESULT | STARTED))) = (name, extension) else { continue };
            if known.contains(task) || !is_left(&entry, now) {
                continue;
            }
            let cleared = if extension == RESULT { keep_left(&path) } else { fs::remove_file(&path) };
            if let Err(error) = cleared {
                tracing::warn!(file = %path.display(), %error, "a file of an unknown task stays behind");
            }
        }
    }

    /// Removes what was laid out for the wakes of tasks that are not known any more: after a crash, or with another journal,
    /// nobody does it by the task's name.
    fn clear_left_values(&self, known: &BTreeSet<String>, now: SystemTime) {
        for entry in entries(&self.queue_file.with_extension("wake")) {
            let name = entry.file_name();
            let task = name.to_str().and_then(task_of_value_file);
            if task.is_some_and(|task| !known.contains(task))
                && is_left(&entry, now)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(file = %entry.path().display(), %error, "a value of an unknown task stays behind");
            }
        }
    }

    /// Returns the kept results of both folders. Anything but a folder counts.
    fn kept(&self) -> Vec<KeptFile> {
        use std::os::unix::fs::MetadataExt as _;
        let folders = [self.results.join(FOLDER), self.queue_file.with_extension(FOLDER)];
        let files = folders.iter().flat_map(|folder| entries(folder));
        files
            .filter_map(|entry| {
                let found = entry.metadata().ok().filter(|found| !found.is_dir())?;
                let changed = (found.ctime(), found.ctime_nsec());
                Some(KeptFile { path: entry.path(), changed, bytes: found.len() })
            })
            .collect()
    }

    fn drop_oldest(&self, kept: &mut Vec<KeptFile>) {
        let mut bytes: u64 = kept.iter().map(|one| one.bytes).sum();
        let mut too_many = kept.len().saturating_sub(MAX_COUNT);
        let mut stay = Vec::new();
        let newest = kept.pop();
        for one in kept.drain(..) {
            if too_many == 0 && bytes <= MAX_BYTES {
                stay.push(one);
                continue;
            }
            match fs::remove_file(&one.path) {
                Ok(()) => tracing::warn!(
                    file = %one.path.display(), bytes = one.bytes,
                    "the oldest result that was not taken was removed: there were more than {MAX_COUNT}, or more than {MAX_BYTES} bytes"
                ),
                Err(error) => {
                    tracing::warn!(file = %one.path.display(), %error, "a result that was not taken cannot be removed");
                    stay.push(one);
                    continue;
                }
            }
            bytes -= one.bytes;
            too_many = too_many.saturating_sub(1);
        }
        *kept = stay.into_iter().chain(newest).collect();
    }
}

/// Returns whether the file has not changed for [`LEFT_AFTER`].
fn is_left(entry: &DirEntry, now: SystemTime) -> bool {
    entry.metadata().is_ok_and(|found| {
        !found.is_dir() && found.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > LEFT_AFTER))
    })
}

fn keep_left(path: &Path) -> io::Result<()> {
    if let Some(kept) = refused::move_file(path)? {
        tracing::warn!(file = %path.display(), kept = %kept.display(), "a result of a task that is not known here is kept there");
    }
    Ok(())
}

fn entries(folder: &Path) -> Vec<DirEntry> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().collect(),
        // No folder, nothing in it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "results that were not taken cannot be looked at");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stage {
        dir: tempfile::TempDir,
        folders: Folders,
    }

    impl Stage {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let folders = Folders { results: dir.path().join("results"), queue_file: dir.path().join("queue.json") };
            fs::create_dir_all(folders.results.join(FOLDER)).unwrap();
            Self { dir, folders }
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.folders.results.join(name);
            fs::write(&path, content).unwrap();
            path
        }

        /// Tidies in a day and a bit.
        fn tidy_later(&self, known: &[&str]) -> KeptResults {
            let known = known.iter().map(|id| (*id).to_owned()).collect();
            self.folders.tidy(&known, SystemTime::now() + LEFT_AFTER + Duration::from_secs(60))
        }

        fn names(&self, folder: &Path) -> Vec<String> {
            let mut names: Vec<_> =
                entries(folder).iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_result_of_an_unknown_task_is_kept_after_a_day_and_those_of_known_tasks_stay() {
        let stage = Stage::new();
        for name in ["known.json", "known.started", "old.json", "old.started", "notes.txt", "t.part"] {
            stage.write(name, "{}");
        }
        fs::create_dir(stage.folders.results.join("folder.json")).unwrap();
        assert_eq!(stage.folders.tidy(&BTreeSet::new(), SystemTime::now()), KeptResults::default());
        let kept = stage.folders.results.join("rejected/old.json");
        let found = KeptResults { count: 1, bytes: 2, newest: Some(kept.display().to_string()) };
        assert_eq!(stage.tidy_later(&["known"]), found);
        let left = stage.names(&stage.folders.results);
        assert_eq!(left, ["folder.json", "known.json", "known.started", "notes.txt", "rejected", "t.part"]);
    }

    #[test]
    fn values_of_unknown_tasks_go_after_a_day() {
        let stage = Stage::new();
        let wake = stage.folders.queue_file.with_extension("wake");
        fs::create_dir(&wake).unwrap();
        for name in ["known.a.TASK_JSON.value", "known.TASK_JSON.value", "old.TASK_JSON.value", "old.run"] {
            fs::write(wake.join(name), "x").unwrap();
        }
        stage.folders.tidy(&BTreeSet::new(), SystemTime::now());
        assert_eq!(stage.names(&wake).len(), 4);
        stage.tidy_later(&["known", "known.a"]);
        assert_eq!(stage.names(&wake), ["known.TASK_JSON.value", "known.a.TASK_JSON.value", "old.run"]);
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let stage = Stage::new();
        for number in 0..MAX_COUNT + 3 {
            stage.write(&format!("rejected/{number:03}.json"), "{}");
        }
        let found = stage.folders.tidy(&BTreeSet::new(), SystemTime::now());
        assert_eq!((found.count, found.bytes), (MAX_COUNT as u64, 2 * MAX_COUNT as u64));
        let names = stage.names(&stage.folders.results.join(FOLDER));
        assert_eq!((names.len(), names[0].as_str()), (MAX_COUNT, "003.json"));
    }

    #[test]
    fn of_too_much_the_oldest_go_and_the_newest_stays_whatever_its_size() {
        let stage = Stage::new();
        let beside = stage.folders.queue_file.with_extension(FOLDER);
        fs::create_dir(&beside).unwrap();
        let sized = |path: PathBuf, bytes: u64| fs::File::create(path).unwrap().set_len(bytes).unwrap();
        sized(beside.join("a.json"), MAX_BYTES / 2);
        sized(stage.folders.results.join("rejected/b.json"), MAX_BYTES / 2);
        assert_eq!(stage.folders.tidy(&BTreeSet::new(), SystemTime::now()).count, 2);
        sized(stage.folders.results.join("rejected/c.json"), MAX_BYTES + 1);
        let found = stage.folders.tidy(&BTreeSet::new(), SystemTime::now());
        assert_eq!((found.count, found.bytes), (1, MAX_BYTES + 1));
        assert!(found.newest.unwrap().ends_with("rejected/c.json"));
        assert!(stage.dir.path().exists());
    }
}
