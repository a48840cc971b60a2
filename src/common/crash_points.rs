//! The points at which a test build kills itself, numbered as they are reached: before and after each effect and each
//! file system call that a journal depends on. In any other build the macro is empty.
//!
//! `AGENTCOM_CRASH_LOG` names a file that gets one line for each point reached; a later process of the same test
//! continues the count where the file ends. `AGENTCOM_CRASH_AT` is a list of numbers (`17` or `17,40`): at these points
//! the process kills itself with SIGKILL, whatever its threads are doing.

/// Marks a point at which a test build may kill itself; takes the arguments of `format!`.
#[cfg(feature = "crash-points")]
macro_rules! crash_point {
    ($($name:tt)+) => { $crate::common::crash_points::reached(format_args!($($name)+)) };
}

/// Marks a point at which a test build may kill itself; in this build it does nothing.
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

    /// Counts the point, and kills the process if its number is in the list.
    pub(crate) fn reached(name: Arguments<'_>) {
        static POINTS: OnceLock<Mutex<Points>> = OnceLock::new();
        // Held to the end: once this point kills the process, no other thread passes a point of its own.
        let mut points =
            POINTS.get_or_init(|| Mutex::new(Points::of_this_run())).lock().unwrap_or_else(PoisonError::into_inner);
        points.reached += 1;
        let number = points.reached;
        if let Some(log) = &mut points.log {
            // One write, so that a line is whole or absent. A failed write shows as a missing number in the log.
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
