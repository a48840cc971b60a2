//! The file of the healing rules: read at the start, when it changes, and when the hub is told to. A file that cannot be used
//! is told of, and the rules that are in force stay.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::common::fs::regular_file;
use crate::hub::actor::{Handle, Stopping};
use crate::hub::hub_state::HubState;
use crate::hub::scheduler::healing::rules::RuleSet;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The time between two looks at the file. One that changed must look the same twice: somebody may be writing it.
const LOOK: Duration = Duration::from_millis(500);

/// The file, and when to read it beside its changes.
#[derive(Debug, Clone)]
pub struct HealingFile {
    /// The file.
    pub path: PathBuf,
    /// Notified when it is to be read at once.
    pub reload: Arc<Notify>,
}

/// The reason why a file holds no rules that can be used, as a text for people that names the file and the place.
pub type Unusable = String;

/// Reads the rules of a file.
///
/// # Errors
/// [`Unusable`].
pub fn read(path: &Path) -> Result<RuleSet, Unusable> {
    let file = path.display();
    let bytes = regular_file::read(path, MAX_BYTES).map_err(|error| match error.kind() == io::ErrorKind::NotFound {
        true => format!("{file}: there is no such file: write it, or correct --healing"),
        false => format!("{file}: cannot be read: {error}"),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        format!("{file}: line {line}: not UTF-8: save the file as UTF-8")
    })?;
    RuleSet::parse(&text).map_err(|bad| format!("{file}: {bad}"))
}

/// Reads the file for a hub that starts. One that cannot be used leaves it without rules: it must serve its agents all the
/// same.
pub fn load(path: &Path, state: &mut HubState, now_ms: u64) {
    put_in_force(path, read(path), state, now_ms);
}

/// Reads the file whenever it changes, until `stop`.
pub async fn watch(file: HealingFile, actor: Handle, stop: CancellationToken) {
    let HealingFile { path, reload } = file;
    let (mut in_force, mut pending) = (Stamp::of(&path), None);
    loop {
        let is_told = tokio::select! {
            () = stop.cancelled() => return,
            () = reload.notified() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let found = Stamp::of(&path);
        let is_settled = found != in_force && pending.as_ref() == Some(&found);
        if !is_told && !is_settled {
            pending = Some(found);
            continue;
        }
        (in_force, pending) = (found, None);
        if read_again(&path, &actor).await.is_err() {
            return;
        }
    }
}

async fn read_again(path: &Path, actor: &Handle) -> Result<(), Stopping> {
    let path = path.to_owned();
    let reading = path.clone();
    let read = tokio::task::spawn_blocking(move || read(&reading)).await;
    let read = read.unwrap_or_else(|error| Err(format!("{}: {error}", path.display())));
    actor.ask(move |state, now_ms| put_in_force(&path, read, state, now_ms)).await
}

fn put_in_force(path: &Path, read: Result<RuleSet, Unusable>, state: &mut HubState, now_ms: u64) {
    let file = path.display().to_string();
    match read {
        Ok(rules) => {
            let acting = rules.rules.iter().filter(|rule| rule.act).count();
            tracing::info!(file, rules = rules.rules.len(), acting, "healing rules are in force");
            state.scheduler.set_healing(rules, &file, now_ms);
        }
        Err(error) => {
            tracing::error!(error, "the healing rules cannot be used; those that are in force stay");
            state.scheduler.healing_failed(&file, &error, now_ms);
        }
    }
}

/// What tells one content of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Option<(u64, u64, Option<SystemTime>)>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path).ok();
        Self(found.map(|found| (found.ino(), found.len(), found.modified().ok())))
    }
}
