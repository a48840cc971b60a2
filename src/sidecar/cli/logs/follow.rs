//! `logs --follow`: prints each line as it is written, across rotation, until its output is closed.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::fs::atomic_file::folder_of;
use crate::common::fs::rotating_file;
use crate::common::fs::same_file;
use crate::common::logging::MAX_FILES;
use crate::sidecar::cli::logs::Printer;
use crate::sidecar::cli::logs::lines::Lines;
use crate::sidecar::cli::report::remark;

/// How often the file is looked at without a notice, and stdout, which tells nobody that it is closed.
const POLL: Duration = Duration::from_millis(250);

/// Notices of changes in the log's folder.
pub(super) struct Changes {
    notices: Receiver<()>,
    /// Ends the notices when it is dropped; `None` where there are none (too many watches), and the timer does alone.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    pub(super) fn of(path: &Path) -> Self {
        let (notice, notices) = sync_channel(1);
        let watcher = notify::recommended_watcher(move |_: notify::Result<notify::Event>| {
            // A notice that is not read yet stands for this one too.
            let _ = notice.try_send(());
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(folder_of(path), RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        Self { notices, _watcher: watcher.ok() }
    }

    fn wait(&self) {
        if self.notices.recv_timeout(POLL) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
            std::thread::sleep(POLL);
        }
    }
}

/// Goes on after `last`, the newest file, which has been printed, until stdout is closed.
pub(super) fn follow(path: &Path, last: Option<Lines>, printer: &mut Printer, changes: &Changes) -> io::Result<()> {
    let mut current = last;
    while !is_closed(&io::stdout()) {
        catch_up(path, &mut current, printer)?;
        printer.out.flush()?;
        changes.wait();
    }
    Ok(())
}

/// Prints what was written since the last look.
fn catch_up(path: &Path, current: &mut Option<Lines>, printer: &mut Printer) -> io::Result<()> {
    if let Some(lines) = current
        && same_file::is_at(lines.file(), path)
    {
        lines.begin_anew_if_emptied()?;
        return print_new(lines, printer);
    }
    // A folder that cannot be read at this moment is looked at again.
    let Ok(mut parts) = rotating_file::open_all(path, MAX_FILES) else { return Ok(()) };
    if let Some(lines) = current {
        let place = parts.iter().position(|part| part.identity == lines.identity);
        if parts.is_empty() {
            // Moved away, and nothing in its place yet: more may come.
            return print_new(lines, printer);
        }
        // There is a newer file: this one is not written any more.
        print_new(lines, printer)?;
        if let Some(shown) = lines.rest().and_then(|rest| printer.shown(&rest)) {
            printer.write(&shown)?;
        }
        match place {
            Some(place) => drop(parts.drain(..=place)),
            None => remark("the log was rotated away meanwhile: lines may be missing here"),
        }
    }
    for part in parts {
        if let Some(shown) = current.take().and_then(|mut before| before.rest()).and_then(|rest| printer.shown(&rest)) {
            printer.write(&shown)?;
        }
        let mut lines = Lines::of(part);
        print_new(&mut lines, printer)?;
        *current = Some(lines);
    }
    Ok(())
}

fn print_new(lines: &mut Lines, printer: &mut Printer) -> io::Result<()> {
    while let Some(line) = lines.next()? {
        if let Some(shown) = printer.shown(&line) {
            printer.write(&shown)?;
        }
    }
    Ok(())
}

/// Returns whether the reader of stdout is gone, which a write would tell only with the next line.
fn is_closed(stdout: &io::Stdout) -> bool {
    let mut stdout = [PollFd::new(stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let asked = poll(&mut stdout, Some(&now));
    asked.is_ok() && stdout.iter().any(|stdout| stdout.revents().intersects(PollFlags::ERR | PollFlags::HUP))
}
