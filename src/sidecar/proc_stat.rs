//! One process as the kernel lists it in `/proc/PID/stat` (proc_pid_stat(5)).

use std::path::Path;

/// What is read of it. Times are in clock ticks, see `rustix::param::clock_ticks_per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcStat {
    /// Its parent's pid: field 4.
    pub(crate) parent: i32,
    /// Its user and system time: fields 14 and 15.
    pub(crate) cpu_ticks: u64,
    /// When it started, from the machine's boot: field 22.
    pub(crate) start_ticks: u64,
}

impl ProcStat {
    /// Reads the entry of a process; `None` where there is no such process, or no such file on this system.
    pub(crate) fn of(pid: impl core::fmt::Display) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?)
    }

    /// Reads the file's text. The name in field 2 may hold spaces and parentheses, so counting starts after the last.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // The first of them is field 3.
        let field = |number: usize| fields.get(number - 3);
        let ticks = |number| field(number)?.parse::<u64>().ok();
        Some(Self {
            parent: field(4)?.parse().ok()?,
            cpu_ticks: ticks(14)?.checked_add(ticks(15)?)?,
            start_ticks: ticks(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = ProcStat::parse(&text);
        }
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let stat = "42 (a) b) (c)) S 7 42 42 0 -1 4194304 100 0 0 0 11 5 0 0 20 0 3 0 9876 1 2 3";
        assert_eq!(ProcStat::parse(stat), Some(ProcStat { parent: 7, cpu_ticks: 16, start_ticks: 9_876 }));
        assert_eq!(ProcStat::parse("42 (name) S 7"), None);
        assert_eq!(ProcStat::parse(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_listed() {
        let this = ProcStat::of("self").unwrap();
        assert_eq!(ProcStat::of(std::process::id()).unwrap().start_ticks, this.start_ticks);
        assert_eq!(u32::try_from(this.parent).unwrap(), std::os::unix::process::parent_id());
        assert_eq!(ProcStat::of(i32::MAX), None);
    }
}
