//! The machine's clock, as everything on disk and on the wire tells time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the current time, in ms since the epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Moves a time `ms` later, or earlier if that is negative, but not before the epoch.
pub fn move_time(at: &mut u64, ms: i64) {
    *at = at.saturating_add_signed(ms);
}

/// Returns a time, in ms since the epoch, in UTC as the log writes it, to the millisecond: `2026-11-24T07:46:58.903Z`.
/// The texts of two times are in the order of the times, up to the year 9999.
pub fn utc(ms: u64) -> String {
    let (days, ms) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil_date(days);
    let seconds = ms / 1_000;
    let (hour, minute) = (seconds / 3_600, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z", seconds % 60, ms % 1_000)
}

/// Returns year, month and day of the day that is so many days after 1970-01-01. Years are counted from March, so that
/// the leap day is a year's last, in eras of 400 years, which are all alike (Howard Hinnant, `civil_from_days`).
fn civil_date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / (ERA_DAYS - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_506_418_903, "2026-11-24T07:46:58.903Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }
}
