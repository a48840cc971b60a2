//! Bounds the folders of results that were not taken, and clears values of wakes out of the sidecar's own folder. It
//! decides by names, times and sizes, reads no result, and touches nothing in the results folder itself: what lies there
//! may be anybody's.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::sidecar::agent::results::refused::FOLDER;
use crate::sidecar::agent::wake::task_environment::task_of_value_file;
use crate::sidecar::config::Config;

/// The most results that are kept; the oldest go.
pub const MAX_COUNT: usize = 200;

/// The most bytes that they have together on the disk; the oldest go. A file of more than [`LARGE_BYTES`] is not counted.
pub const MAX_BYTES: u64 = 256 << 20;

/// The size on the disk above which a file is large: of large files only the newest is kept, whatever its size, so that it
/// costs no other result its place.
pub const LARGE_BYTES: u64 = MAX_BYTES / 4;

/// How long a value for a wake may lie unchanged without a task that is known here.
pub const LEFT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The results that were not taken, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptResults {
    /// Their number.
    pub count: u64,
    /// Their length.
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
    /// Its length.
    bytes: u64,
    /// The bytes that it takes on the disk.
    on_disk: u64,
}

impl KeptResults {
    fn of(kept: &[KeptFile]) -> Self {
        Self {
            count: kept.len() as u64,
            bytes: kept.iter().map(|one| one.bytes).sum(),
            newest: kept.last().map(|one| one.path.display().to_string()),
        }
    }
}

impl Folders {
    /// Returns the folders of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self { results: config.results_dir.clone(), queue_file: config.queue_file.clone() }
    }

    /// Returns the folder beside the journal.
    pub(crate) fn fallback(&self) -> PathBuf {
        self.queue_file.with_extension(FOLDER)
    }

    /// Removes what is too much, and returns what is there then. `known` are the tasks whose values may still be needed.
    /// What cannot be read or removed is logged and left.
    pub fn tidy(&self, known: &BTreeSet<String>, now: SystemTime) -> KeptResults {
        self.clear_left_values(known, now);
        let mut kept = self.kept();
        drop_oldest(&mut kept);
        KeptResults::of(&kept)
    }

    /// Returns what is there, and changes nothing.
    pub fn look(&self) -> KeptResults {
        KeptResults::of(&self.kept())
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

    /// Returns the kept results of both folders, the oldest first. Anything but a folder counts.
    fn kept(&self) -> Vec<KeptFile> {
        use std::os::unix::fs::MetadataExt as _;
        let folders = [self.results.join(FOLDER), self.fallback()];
        let files = folders.iter().flat_map(|folder| entries(folder)).filter_map(|entry| {
            let found = entry.metadata().ok().filter(|found| !found.is_dir())?;
            let changed = (found.ctime(), found.ctime_nsec());
            // A block of `st_blocks` has 512 bytes on every file system.
            let on_disk = found.blocks().saturating_mul(512);
            Some(KeptFile { path: entry.path(), changed, bytes: found.len(), on_disk })
        });
        let mut kept: Vec<KeptFile> = files.collect();
        kept.sort_by(|one, other| (one.changed, &one.path).cmp(&(other.changed, &other.path)));
        kept
    }
}

/// Removes the oldest of too many or too much. A file that cannot be removed stays in the list, which keeps its order.
fn drop_oldest(kept: &mut Vec<KeptFile>) {
    let is_large = |one: &KeptFile| one.on_disk > LARGE_BYTES;
    let mut too_many = kept.len().saturating_sub(MAX_COUNT);
    let mut large = kept.iter().filter(|one| is_large(one)).count();
    let mut on_disk: u64 = kept.iter().filter(|one| !is_large(one)).map(|one| one.on_disk).sum();
    kept.retain(|one| {
        let too_much = if is_large(one) { large > 1 } else { on_disk > MAX_BYTES };
        if (too_many == 0 && !too_much) || !is_removed(one) {
            return true;
        }
        too_many = too_many.saturating_sub(1);
        if is_large(one) {
            large -= 1;
        } else {
            on_disk -= one.on_disk;
        }
        false
    });
}

/// Removes a kept result; returns whether it is gone.
fn is_removed(one: &KeptFile) -> bool {
    let file = one.path.display();
    match fs::remove_file(&one.path) {
        Ok(()) => tracing::warn!(
            %file, bytes = one.bytes, on_disk = one.on_disk,
            "the oldest result that was not taken was removed: there were more than {MAX_COUNT}, more than {MAX_BYTES} bytes, or two of more than {LARGE_BYTES}"
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%file, %error, "a result that was not taken cannot be removed");
            return false;
        }
    }
    true
}

/// Returns whether the file has not changed for [`LEFT_AFTER`].
fn is_left(entry: &DirEntry, now: SystemTime) -> bool {
    entry.metadata().is_ok_and(|found| {
        !found.is_dir() && found.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > LEFT_AFTER))
    })
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
    fn nothing_in_the_results_folder_is_touched_by_its_name() {
        let stage = Stage::new();
        let names = ["config.json", "old.json", "old.started", "other-agents-task.json", "package.json", "queue.json"];
        for name in names {
            stage.write(name, "{}");
        }
        assert_eq!(stage.tidy_later(&[]), KeptResults::default());
        assert_eq!(stage.names(&stage.folders.results)[..names.len()], names);
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

    /// Drops the oldest of files that would take so much on the disk, and returns the names that are left.
    fn left(sizes: &[(&str, u64)]) -> String {
        let stage = Stage::new();
        let mut kept = Vec::new();
        for (number, (name, on_disk)) in sizes.iter().enumerate() {
            let path = stage.write(&format!("rejected/{name}"), "");
            kept.push(KeptFile { path, changed: (number as i64, 0), bytes: 0, on_disk: *on_disk });
        }
        drop_oldest(&mut kept);
        let names = stage.names(&stage.folders.results.join(FOLDER));
        let listed = kept.iter().map(|one| one.path.file_name().unwrap().to_str().unwrap());
        assert_eq!(listed.collect::<Vec<_>>(), names, "the list is what is there");
        names.concat()
    }

    #[test]
    fn of_too_much_on_the_disk_the_oldest_go() {
        let all = ["a", "b", "c", "d"].map(|name| (name, LARGE_BYTES));
        assert_eq!(left(&all), "abcd");
        assert_eq!(left(&[all.as_slice(), &[("e", 4_096)]].concat()), "bcde");
    }

    #[test]
    fn a_large_file_costs_no_other_its_place_and_of_large_ones_the_newest_stays() {
        let large = MAX_BYTES + 1;
        assert_eq!(left(&[("a", 4_096), ("b", large), ("c", 4_096)]), "abc");
        assert_eq!(left(&[("a", 4_096), ("b", large), ("c", 4_096), ("d", LARGE_BYTES + 1)]), "acd");
        assert_eq!(left(&[("a", LARGE_BYTES), ("b", large), ("c", LARGE_BYTES), ("d", large)]), "acd");
    }

    #[test]
    fn a_length_without_content_counts_for_nothing() {
        let stage = Stage::new();
        for name in ["a", "b", "c"] {
            let path = stage.folders.results.join(format!("rejected/{name}.json"));
            fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
        }
        assert_eq!(stage.folders.tidy(&BTreeSet::new(), SystemTime::now()).count, 3);
        assert_eq!(stage.folders.look().count, 3);
        assert!(stage.dir.path().exists());
    }
}
