//! What the system reports about this process: its memory, its age, and the boot of the machine it runs in. Where there
//! is no `/proc` every value is `None`; nothing here is an error.

use crate::common::steady_clock;
use crate::common::wall_clock::now_ms;
use crate::sidecar::proc_stat::ProcStat;

/// A snapshot of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnProcess {
    /// The resident set size, bytes.
    pub memory_bytes: Option<u64>,
    /// The time since the process started (an `exec` in place does not reset it), ms.
    pub uptime_ms: Option<u64>,
    /// When it started, in clock ticks since boot: with the pid and the boot id it identifies a process uniquely.
    pub start_ticks: Option<u64>,
    /// The user and system CPU time, ms.
    pub cpu_ms: Option<u64>,
    /// The number of open file descriptors, without the one that is opened to count them.
    pub open_files: Option<u64>,
}

impl OwnProcess {
    /// Reads `/proc/self`, which takes some tens of microseconds.
    #[cfg(target_os = "linux")]
    pub fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let stat = ProcStat::of("self");
        let start_ticks = stat.start_ticks;
        let memory_bytes = read("/proc/self/statm").as_deref().and_then(resident_pages).map(|pages| {
            let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
            pages.saturating_mul(page)
        });
        let uptime_ms = start_ticks.and_then(|start| {
            machine_uptime_ms()?
                .checked_sub(start.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1))
        });
        let cpu_ms =
            stat.cpu_ticks.map(|ticks| ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1));
        let open_files = std::fs::read_dir("/proc/self/fd").ok().and_then(|all| (all.count() as u64).checked_sub(1));
        Self { memory_bytes, uptime_ms, start_ticks, cpu_ms, open_files }
    }

    /// Returns when the process started, ms since the epoch.
    pub fn started_at_ms(&self) -> Option<u64> {
        now_ms().checked_sub(self.uptime_ms?)
    }

    /// Returns no values: there is no `/proc` here.
    #[cfg(not(target_os = "linux"))]
    pub fn read() -> Self {
        Self::default()
    }
}

/// Returns an id of this boot of the machine, which changes with every reboot and every restart of the container. (In a
/// container `boot_id` is the host's; the container's process 1 ends with it, so its start time is part of the id.)
#[cfg(target_os = "linux")]
pub fn machine_boot_id() -> Option<String> {
    let id = steady_clock::boot_id()?;
    // Readable by every user unless /proc is mounted with hidepid.
    let init = ProcStat::of(1).start_ticks;
    Some(init.map_or_else(|| id.clone(), |ticks| format!("{id}/{ticks}")))
}

/// Returns `None`: this system has no boot id.
#[cfg(not(target_os = "linux"))]
pub fn machine_boot_id() -> Option<String> {
    None
}

/// Returns the time since this boot of the machine (or container) began, suspended time included, in ms, to 10 ms.
#[cfg(target_os = "linux")]
pub fn machine_uptime_ms() -> Option<u64> {
    seconds_as_ms(&std::fs::read_to_string("/proc/uptime").ok()?)
}

/// Returns `None`: this system does not report it.
#[cfg(not(target_os = "linux"))]
pub fn machine_uptime_ms() -> Option<u64> {
    None
}

/// Returns when this boot of the machine began, ms since the epoch (`btime` of `/proc/stat`, whole seconds).
#[cfg(target_os = "linux")]
pub fn machine_booted_at_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    seconds.trim().parse::<u64>().ok()?.checked_mul(1_000)
}

/// Returns `None`: this system does not report it.
#[cfg(not(target_os = "linux"))]
pub fn machine_booted_at_ms() -> Option<u64> {
    None
}

/// Returns field 2 of `/proc/PID/statm`, the number of resident pages.
#[cfg(any(target_os = "linux", test))]
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Returns the milliseconds of `12345.67 ...` seconds; the hundredths always have two digits.
#[cfg(any(target_os = "linux", test))]
fn seconds_as_ms(uptime: &str) -> Option<u64> {
    let (seconds, hundredths) = uptime.split_ascii_whitespace().next()?.split_once('.')?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(hundredths.parse::<u64>().ok()?.checked_mul(10)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_machines_uptime_is_read_to_the_hundredth() {
        assert_eq!(seconds_as_ms("350735.47 234388.90"), Some(350_735_470));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_an_age() {
        let own = OwnProcess::read();
        assert!(own.memory_bytes.is_some_and(|bytes| (100_000..1 << 40).contains(&bytes)), "{own:?}");
        assert!(own.uptime_ms.is_some_and(|ms| ms < 3_600_000), "{own:?}");
        assert!(own.cpu_ms.is_some() && own.open_files.is_some_and(|count| count > 2), "{own:?}");
        assert!(machine_boot_id().is_some_and(|id| id.len() >= 36));
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".*") {
            let _ = (resident_pages(&text), seconds_as_ms(&text));
        }
    }
}
