//! What the system says of this process: its memory, its age, and which boot of the machine it lives in. Where there is
//! no `/proc` every answer is `None`; nothing here is an error.

/// This process, now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnProcess {
    /// Resident set, bytes.
    pub memory_bytes: Option<u64>,
    /// Since the process started (an `exec` in place does not reset it), ms.
    pub uptime_ms: Option<u64>,
    /// When it started, in clock ticks since boot: with the pid and the boot id it names a process for ever.
    pub start_ticks: Option<u64>,
    /// User and system time, ms.
    pub cpu_ms: Option<u64>,
    /// Open file descriptors, the one that counts them not among them.
    pub open_files: Option<u64>,
}

impl OwnProcess {
    /// Reads `/proc/self`: some tens of microseconds.
    #[cfg(target_os = "linux")]
    pub fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let stat = read("/proc/self/stat");
        let start_ticks = stat.as_deref().and_then(start_ticks);
        let memory_bytes = read("/proc/self/statm").as_deref().and_then(resident_pages).map(|pages| {
            let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
            pages.saturating_mul(page)
        });
        let uptime_ms = start_ticks.and_then(|start| {
            let machine_ms = read("/proc/uptime").as_deref().and_then(seconds_as_ms)?;
            machine_ms.checked_sub(start.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1))
        });
        let cpu_ms = stat
            .as_deref()
            .and_then(cpu_ticks)
            .map(|ticks| ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1));
        let open_files = std::fs::read_dir("/proc/self/fd").ok().and_then(|all| (all.count() as u64).checked_sub(1));
        Self { memory_bytes, uptime_ms, start_ticks, cpu_ms, open_files }
    }

    /// When it started, ms since the epoch.
    pub fn started_at_ms(&self) -> Option<u64> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(now.as_millis()).ok()?.checked_sub(self.uptime_ms?)
    }

    /// There is no `/proc` here.
    #[cfg(not(target_os = "linux"))]
    pub fn read() -> Self {
        Self::default()
    }
}

/// Names this boot of the machine: another one after every reboot, and after every restart of the container. (In a
/// container `boot_id` is the host's; what ends with the container is its process 1, so that one's start counts too.)
#[cfg(target_os = "linux")]
pub fn machine_boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    if id.is_empty() {
        return None;
    }
    // Readable by everyone unless /proc is mounted with hidepid.
    let init = std::fs::read_to_string("/proc/1/stat").ok().and_then(|stat| start_ticks(&stat));
    Some(init.map_or_else(|| id.to_owned(), |ticks| format!("{id}/{ticks}")))
}

/// There is no such thing here.
#[cfg(not(target_os = "linux"))]
pub fn machine_boot_id() -> Option<String> {
    None
}

/// When this boot of the machine began, ms since the epoch (`btime` of `/proc/stat`, whole seconds).
#[cfg(target_os = "linux")]
pub fn machine_booted_at_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    seconds.trim().parse::<u64>().ok()?.checked_mul(1_000)
}

/// Elsewhere it is not known.
#[cfg(not(target_os = "linux"))]
pub fn machine_booted_at_ms() -> Option<u64> {
    None
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold spaces and parentheses, so counting starts after the last.
#[cfg(any(target_os = "linux", test))]
fn start_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// Fields 14 and 15 of `/proc/PID/stat`: user and system time.
#[cfg(any(target_os = "linux", test))]
fn cpu_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(14 - 3);
    fields.next()?.parse::<u64>().ok()?.checked_add(fields.next()?.parse().ok()?)
}

/// Field 2 of `/proc/PID/statm`.
#[cfg(any(target_os = "linux", test))]
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `12345.67 ...` seconds, hundredths always with two digits.
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
    fn a_name_full_of_parentheses_moves_no_field() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 4242 100 5";
        assert_eq!((start_ticks(stat), cpu_ticks(stat)), (Some(4_242), Some(42)));
    }

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
            let _ = (start_ticks(&text), cpu_ticks(&text), resident_pages(&text), seconds_as_ms(&text));
        }
    }
}
