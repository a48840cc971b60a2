//! The places where a test build ends itself, numbered as they are reached: before and after each effect and each file
//! system call that a journal depends on. In any other build the macro is empty and nothing of this is there.
//!
//! `AGENTCOM_CRASH_LOG` names a file that gets one line for each place reached; a later process of the same story goes on
//! counting where the file ends. `AGENTCOM_CRASH_AT` is a list of numbers (`17` or `17,40`): there the process kills
//! itself with SIGKILL, whatever its threads are doing.

/// A place where a test build may end; takes what `format!` takes.
#[cfg(feature = "crash-points")]
macro_rules! crash_point {
    ($($name:tt)+) => { $crate::common::crash_points::reached(format_args!($($name)+)) };
}

/// A place where a test build may end; here it is nothing.
#[cfg(not(feature = "crash-points"))]
macro_rules! crash_point {
    ($($name:tt)+) => {};
}

pub(crate) use crash_point;

#[cfg(feature = "crash-points")]
pub(crate) use counting::reached;

#[cfg(feature = "crash-points")]
mod counting {
    use std::fmt::Arguments;
    use std::fs::File;
    use std::io::Write;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    struct Points {
        reached: u64,
        ends: Vec<u64>,
        log: Option<File>,
    }

    /// Counts the place, and ends the process if it is the one.
    pub(crate) fn reached(name: Arguments<'_>) {
        static POINTS: OnceLock<Mutex<Points>> = OnceLock::new();
        // Held to the end: no other thread gets past its own place once this one is to be the last.
        let mut points =
            POINTS.get_or_init(|| Mutex::new(Points::of_this_run())).lock().unwrap_or_else(PoisonError::into_inner);
        points.reached += 1;
        let number = points.reached;
        if let Some(log) = &mut points.log {
            // One write, so that a line is there whole or not at all. A log that fails shows as a number missing in it.
            let _ = log.write_all(format!("{number} {name}\n").as_bytes());
        }
        if points.ends.contains(&number) {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    impl Points {
        fn of_this_run() -> Self {
            let ends = std::env::var("AGENTCOM_CRASH_AT").unwrap_or_default();
            let ends = ends.split(',').filter_map(|number| number.trim().parse().ok()).collect();
            let path = std::env::var_os("AGENTCOM_CRASH_LOG");
            let before = path.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
            let reached = before.iter().filter(|byte| **byte == b'\n').count() as u64;
            let log = path.and_then(|path| File::options().create(true).append(true).open(path).ok());
            Self { reached, ends, log }
        }
    }
}
