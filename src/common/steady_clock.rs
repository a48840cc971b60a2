//! The machine's monotonic clock, which nobody sets: it tells how long something takes, and not what time it is.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Returns the time since an arbitrary moment of this boot of the machine, in ms: the same moment for every process. It
/// stands still while the machine is suspended.
pub fn now_ms() -> u64 {
    in_ms(clock_gettime(ClockId::Monotonic))
}

/// Returns the same by a clock that goes on while the machine is suspended: what somebody else counts, too, is over then.
#[cfg(target_os = "linux")]
pub fn with_suspend_ms() -> u64 {
    in_ms(clock_gettime(ClockId::Boottime))
}

/// Returns [`now_ms`]: this system has no other such clock.
#[cfg(not(target_os = "linux"))]
pub fn with_suspend_ms() -> u64 {
    now_ms()
}

fn in_ms(now: Timespec) -> u64 {
    let (seconds, ms) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec / 1_000_000));
    seconds.unwrap_or_default().saturating_mul(1_000).saturating_add(ms.unwrap_or_default())
}

/// Returns the id of this boot of the machine, in which its monotonic clock goes on; that of the host in a container.
#[cfg(target_os = "linux")]
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim()).filter(|id| !id.is_empty()).map(str::to_owned)
}

/// Returns `None`: this system has no boot id.
#[cfg(not(target_os = "linux"))]
pub fn boot_id() -> Option<String> {
    None
}
