//! One process as the kernel lists it in `/proc/PID/stat` (proc_pid_stat(5)).

use std::path::Path;

/// The fields that are read, each `None` where the kernel lists none. Times are in clock ticks, see
/// `rustix::param::clock_ticks_per_second`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcStat {
    /// Whether it has ended and waits to be reaped, or is being removed: field 3.
    pub(crate) is_dead: bool,
    /// Its parent's pid: field 4.
    pub(crate) parent: Option<i32>,
    /// Its process group: field 5.
    pub(crate) group: Option<u32>,
    /// Its session: field 6.
    pub(crate) session: Option<u32>,
    /// Its user and system time: fields 14 and 15.
    pub(crate) cpu_ticks: Option<u64>,
    /// When it started, from the machine's boot: field 22.
    pub(crate) start_ticks: Option<u64>,
}

impl ProcStat {
    /// Reads the entry of a process; empty where there is no such process, or no such file on this system.
    pub(crate) fn of(pid: impl core::fmt::Display) -> Self {
        let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
        text.map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Returns when the process started, in clock ticks; `None` where it has ended.
    pub(crate) fn running_since(self) -> Option<u64> {
        self.start_ticks.filter(|_| !self.is_dead)
    }

    /// Reads the file's text. The name in field 2 may hold spaces and parentheses, so counting starts after the last.
    fn parse(stat: &str) -> Self {
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // The first of them is field 3.
        let field = |number: usize| fields.get(number - 3);
        let ticks = |number| field(number)?.parse::<u64>().ok();
        let cpu_ticks = || ticks(14)?.checked_add(ticks(15)?);
        let is_dead = field(3).is_some_and(|state| matches!(*state, "Z" | "X" | "x"));
        Self {
            is_dead,
            parent: field(4).and_then(|pid| pid.parse().ok()),
            group: field(5).and_then(|group| group.parse().ok()),
            session: field(6).and_then(|session| session.parse().ok()),
            cpu_ticks: cpu_ticks(),
            start_ticks: ticks(22),
        }
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
        let stat = "42 (a) b) (c)) S 7 42 41 0 -1 4194304 100 0 0 0 11 5 0 0 20 0 3 0 9876 1 2 3";
        let (group, session) = (Some(42), Some(41));
        let (cpu_ticks, start_ticks) = (Some(16), Some(9_876));
        let all = ProcStat { is_dead: false, parent: Some(7), group, session, cpu_ticks, start_ticks };
        assert_eq!(ProcStat::parse(stat), all);
        assert_eq!(ProcStat::parse("42 (name) S 7"), ProcStat { parent: Some(7), ..ProcStat::default() });
        assert_eq!(ProcStat::parse(&stat.replace(" S ", " Z ")), ProcStat { is_dead: true, ..all });
        assert_eq!(ProcStat::parse(""), ProcStat::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_listed() {
        let this = ProcStat::of("self");
        assert!(this.start_ticks.is_some() && this.cpu_ticks.is_some(), "{this:?}");
        assert_eq!(ProcStat::of(std::process::id()).start_ticks, this.start_ticks);
        assert_eq!(this.parent.and_then(|pid| u32::try_from(pid).ok()), Some(std::os::unix::process::parent_id()));
        assert_eq!(ProcStat::of(i32::MAX), ProcStat::default());
    }
}
