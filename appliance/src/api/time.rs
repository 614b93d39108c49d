//! Times as most dialects write them: RFC 3339 in UTC.

use crate::app::now_ms;

const MS_PER_DAY: i64 = 86_400_000;

/// Now.
pub fn now() -> String {
    rfc3339(now_ms())
}

/// Writes unix milliseconds.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    let (year, month, day) = civil(unix_ms.div_euclid(MS_PER_DAY));
    let ms = unix_ms.rem_euclid(MS_PER_DAY);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let ms = ms % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The same with microseconds and an offset, as Python writes it.
pub(super) fn offset(unix_ms: i64) -> String {
    let text = rfc3339(unix_ms);
    format!("{}000+00:00", text.trim_end_matches('Z'))
}

/// Year, month and day of a count of days since 1970. Years begin in March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // from 1 March of year 0
    let era = days.div_euclid(146_097); // 400 years
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first_of_month = (153 * month + 2) / 5;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day - first_of_month + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
        assert_eq!(offset(1), "1970-01-01T00:00:00.001000+00:00");
    }
}
