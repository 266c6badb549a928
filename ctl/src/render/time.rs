//! Moments in ISO 8601, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const MS_PER_DAY: u64 = 86_400_000;

/// A moment, to the second; `-` for never.
pub(crate) fn moment(ms: u64) -> String {
    if ms == 0 { "-".to_owned() } else { format!("{}Z", up_to_seconds(ms)) }
}

/// A moment, to the millisecond.
pub(crate) fn precise(ms: u64) -> String {
    format!("{}.{:03}Z", up_to_seconds(ms), ms % 1000)
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn up_to_seconds(ms: u64) -> String {
    let (year, month, day) = date(ms / MS_PER_DAY);
    let second = ms % MS_PER_DAY / 1000;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// The date so many days after the first of January 1970. Counts in eras of 400 years, which are all equally long, and
/// in years that begin in March, so that leap days are at their ends.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days since 1970 of a date; the other way round.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The milliseconds since 1970 of `2026-01-31`, `2026-01-31T08:00` or `2026-01-31T08:00:00Z`, all in UTC.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    parsed(text).ok_or_else(|| "a moment is written like 2026-01-31T08:00:00Z, in UTC".to_owned())
}

fn parsed(text: &str) -> Option<u64> {
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let number =
        |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u64>().ok()).flatten();
    let mut parts = day.split('-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    let mut clock = time.strip_suffix('Z').unwrap_or(time).split(':');
    let (hour, minute) = (number(clock.next()?)?, number(clock.next()?)?);
    let second = clock.next().map_or(Some(0), number)?;
    if parts.next().is_some() || clock.next().is_some() || year > 9999 {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let days = days(year, month, day)?;
    // A day that its month does not have comes back as another one.
    (date(days) == (year, month, day))
        .then_some(days * MS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_utc() {
        assert_eq!(moment(0), "-");
        assert_eq!(moment(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(moment(1_700_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(precise(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
    }

    #[test]
    fn what_is_shown_can_be_said() {
        for ms in [1000, 951_782_399_000, 951_868_800_000, 1_700_000_000_000, 4_102_444_799_000] {
            assert_eq!(parse(&moment(ms)), Ok(ms));
        }
        assert_eq!(parse("2023-11-14"), Ok(1_699_920_000_000));
        assert_eq!(parse("2023-11-14T22:13"), Ok(1_699_999_980_000));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "2023-02-29",
            "2023-13-01",
            "2023-1-1T24:00",
            "2023-01-01T00:00:00Z+1",
            "1969-12-31",
            "1-+1-1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
