//! The kernel's count of the processes of this cgroup that it killed for memory.

use std::path::{Path, PathBuf};

use crate::common::fs::regular_file;

/// The most that is read of a counter, in bytes: the kernel's has some hundred.
const MAX_BYTES: u64 = 1 << 16;

/// Where cgroups are mounted, if the environment does not say otherwise.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The variable that names another folder in place of [`CGROUP_ROOT`].
const CGROUP_ROOT_VARIABLE: &str = "AGENTCOM_CGROUP_ROOT";

/// The file in which the kernel counts the processes of a cgroup that were killed for memory, by whichever limit.
#[derive(Debug, Clone)]
pub(crate) struct OomCounter(PathBuf);

impl OomCounter {
    /// Finds the counter of the cgroup that this process is in; `None` if the kernel keeps none.
    pub(crate) fn of_this_process() -> Option<Self> {
        let root = std::env::var_os(CGROUP_ROOT_VARIABLE).map_or_else(|| CGROUP_ROOT.into(), PathBuf::from);
        Self::find(&root, &std::fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    /// Finds the counter by the text of `/proc/PID/cgroup` (cgroups(7)). In a container the path there may be the host's,
    /// while the container's own cgroup is mounted at the root.
    fn find(root: &Path, membership: &str) -> Option<Self> {
        let counter = |mount: &Path, cgroup: &str, file: &str| {
            let own = mount.join(cgroup.trim_start_matches('/')).join(file);
            [own, mount.join(file)].into_iter().find(|path| path.is_file())
        };
        let lines = || membership.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        // Version 1 counts per controller; where both versions are mounted, memory belongs to one of them.
        let first = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
        let first = first.and_then(|(_, cgroup)| counter(&root.join("memory"), cgroup, "memory.oom_control"));
        let second = || {
            let (_, cgroup) = lines().find(|(controllers, _)| controllers.is_empty())?;
            let mounts = [root.to_owned(), root.join("unified")];
            mounts.iter().find_map(|mount| counter(mount, cgroup, "memory.events"))
        };
        first.or_else(second).map(Self)
    }

    /// Returns the number; `None` if the kernel does not count (version 1 before Linux 4.13).
    pub(crate) fn read(&self) -> Option<u64> {
        let text = String::from_utf8(regular_file::read(&self.0, MAX_BYTES).ok()?).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(files: &[(&str, &str)], membership: &str) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        OomCounter::find(root.path(), membership)?.read()
    }

    #[test]
    fn the_count_is_found_in_both_versions_of_cgroups() {
        let events = "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(count(&[("pm2.slice/memory.events", events)], "0::/pm2.slice\n"), Some(2));
        // A container's own cgroup is the root that it sees.
        assert_eq!(count(&[("memory.events", events)], "0::/docker/0123\n"), Some(2));
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n";
        let first = "12:cpu,cpuacct:/a\n4:memory:/user.slice\n0::/b\n";
        assert_eq!(count(&[("memory/user.slice/memory.oom_control", control)], first), Some(5));
        assert_eq!(count(&[("unified/b/memory.events", events)], first), Some(2));
    }

    #[test]
    fn where_the_kernel_does_not_count_there_is_no_count() {
        assert_eq!(count(&[], "0::/a\n"), None);
        assert_eq!(count(&[("memory/a/memory.oom_control", "oom_kill_disable 0\n")], "4:memory:/a\n"), None);
        assert_eq!(count(&[("a/memory.events", "oom_kill many\n")], "0::/a\nwhat\n:::"), None);
    }
}
