//! The restart method: whether an exit with code 0 leads to a restart, or the process has to replace itself in place.
//! This module decides; it neither exits nor executes.

use core::fmt;

use crate::sidecar::supervisor::pm2::settings::SupervisorSettings;

/// How a commanded restart is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartStrategy {
    /// Exit 0: pm2 starts the next run.
    SupervisorRestarts,
    /// `exec` of this program in the same process: an exit would be final.
    ExecInPlace(WhyExec),
}

/// Why no supervisor would start the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyExec {
    /// pm2 did not start this process.
    NotUnderPm2,
    /// systemd started this process.
    UnderSystemd,
    /// pm2's variables are set, but pm2 is not the parent process: the process in between has to end first.
    NotPm2sChild,
    /// pm2 started this process and has died since.
    Pm2Gone,
    /// pm2 could not be queried, so it is unknown whether it would.
    CannotBeAsked,
    /// pm2 lists no process with this id. (7.0.4 restarts an app that is deleted while pm2 waits for its `ready`, and
    /// forgets it.)
    Unlisted,
    /// `autorestart` is off.
    AutorestartOff,
    /// Exit code 0 is among pm2's `stop_exit_codes`.
    ZeroStops,
    /// pm2 would count this exit as one crash too many, because it comes so soon after a start.
    CrashLoopGuard,
}

impl fmt::Display for WhyExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUnderPm2 => "not started by pm2, so no supervisor would start it again",
            Self::UnderSystemd => {
                "under systemd, which keeps the process either way and would count an exit against its start limit"
            }
            Self::NotPm2sChild => "started below a pm2 process, not by pm2 itself",
            Self::Pm2Gone => "pm2 has died since it started this process",
            Self::CannotBeAsked => "pm2 could not be asked whether it would start this process again",
            Self::Unlisted => "pm2 does not list this process, and would not restart it",
            Self::AutorestartOff => "`autorestart: false` in pm2",
            Self::ZeroStops => "0 is among pm2's `stop_exit_codes`",
            Self::CrashLoopGuard => "pm2's crash-loop guard (`max_restarts`, `min_uptime`) would count this as a crash",
        })
    }
}

/// Decides from the present settings; `now_ms` is since the epoch.
pub fn strategy_for(settings: &SupervisorSettings, now_ms: u64) -> RestartStrategy {
    if settings.under_systemd {
        RestartStrategy::ExecInPlace(WhyExec::UnderSystemd)
    } else if !settings.under_pm2 {
        RestartStrategy::ExecInPlace(WhyExec::NotUnderPm2)
    } else if settings.pm2_gone {
        RestartStrategy::ExecInPlace(WhyExec::Pm2Gone)
    } else if settings.parent_is_pm2 == Some(false) {
        RestartStrategy::ExecInPlace(WhyExec::NotPm2sChild)
    } else if settings.silent {
        RestartStrategy::ExecInPlace(WhyExec::CannotBeAsked)
    } else if settings.unlisted {
        RestartStrategy::ExecInPlace(WhyExec::Unlisted)
    } else if !settings.autorestart {
        RestartStrategy::ExecInPlace(WhyExec::AutorestartOff)
    } else if settings.stop_exit_codes.contains(&0) {
        RestartStrategy::ExecInPlace(WhyExec::ZeroStops)
    } else if counts_as_crash_loop(settings, now_ms) {
        RestartStrategy::ExecInPlace(WhyExec::CrashLoopGuard)
    } else {
        RestartStrategy::SupervisorRestarts
    }
}

/// Applies pm2's rule (`God.handleExit`): an exit within `min_uptime` of the start counts while the first start is less
/// than `min_uptime * max_restarts` ago; at `max_restarts` of them the process is `errored` for good.
fn counts_as_crash_loop(settings: &SupervisorSettings, now_ms: u64) -> bool {
    let (Some(started), Some(created)) = (settings.pm_uptime_ms, settings.created_at_ms) else { return false };
    let guarded = settings.min_uptime_ms.saturating_mul(settings.max_restarts);
    // pm2 sees the exit a moment after this decision, so both comparisons err towards `exec`, which is always safe.
    let too_soon = now_ms.saturating_sub(started) < settings.min_uptime_ms;
    too_soon
        && now_ms.saturating_sub(created) < guarded
        && settings.unstable_restarts.saturating_add(1) >= settings.max_restarts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under_pm2(more: &[(&str, &str)]) -> SupervisorSettings {
        let base = [("pm_id", "0"), ("autorestart", "true"), ("created_at", "1000000"), ("pm_uptime", "1005000")];
        SupervisorSettings::from_env(|key| {
            more.iter().chain(&base).find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        })
    }

    const LATER: u64 = 2_000_000;

    #[test]
    fn pm2_with_autorestart_brings_us_back() {
        assert_eq!(strategy_for(&under_pm2(&[]), LATER), RestartStrategy::SupervisorRestarts);
    }

    #[test]
    fn other_final_codes_do_not_matter() {
        assert_eq!(strategy_for(&under_pm2(&[("stop_exit_codes", "5")]), LATER), RestartStrategy::SupervisorRestarts);
    }

    #[test]
    fn without_pm2_nobody_does() {
        let settings = SupervisorSettings::from_env(|_| None);
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::NotUnderPm2));
    }

    #[test]
    fn under_systemd_the_process_stays() {
        let settings = SupervisorSettings::from_env(|key| (key == "NOTIFY_SOCKET").then(|| "/run/notify".to_owned()));
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::UnderSystemd));
        let both = under_pm2(&[("NOTIFY_SOCKET", "/run/notify")]);
        assert_eq!(strategy_for(&both, LATER), RestartStrategy::SupervisorRestarts, "pm2 below systemd is still pm2");
    }

    #[test]
    fn a_grandchild_of_pm2_cannot_rely_on_it() {
        let settings = SupervisorSettings { parent_is_pm2: Some(false), ..under_pm2(&[]) };
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::NotPm2sChild));
    }

    #[test]
    fn a_pm2_that_has_died_starts_nobody() {
        let settings = SupervisorSettings { pm2_gone: true, ..under_pm2(&[]) };
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::Pm2Gone));
    }

    #[test]
    fn a_pm2_that_cannot_be_asked_is_not_relied_on() {
        let settings = SupervisorSettings { silent: true, ..under_pm2(&[]) };
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::CannotBeAsked));
    }

    #[test]
    fn a_pm2_that_does_not_list_us_starts_nobody() {
        let settings = SupervisorSettings { unlisted: true, ..under_pm2(&[]) };
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::Unlisted));
    }

    #[test]
    fn autorestart_off_is_final() {
        let settings = under_pm2(&[("autorestart", "false")]);
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::AutorestartOff));
    }

    #[test]
    fn zero_among_the_stop_codes_is_final() {
        let settings = under_pm2(&[("stop_exit_codes", "0")]);
        assert_eq!(strategy_for(&settings, LATER), RestartStrategy::ExecInPlace(WhyExec::ZeroStops));
    }

    #[test]
    fn an_exit_that_pm2_would_take_for_the_last_straw_is_avoided() {
        let settings = under_pm2(&[("unstable_restarts", "15")]);
        assert_eq!(strategy_for(&settings, 1_005_300), RestartStrategy::ExecInPlace(WhyExec::CrashLoopGuard));
        assert_eq!(strategy_for(&settings, 1_006_300), RestartStrategy::SupervisorRestarts);
        let calmer = under_pm2(&[("unstable_restarts", "14")]);
        assert_eq!(strategy_for(&calmer, 1_005_300), RestartStrategy::SupervisorRestarts);
    }
}
