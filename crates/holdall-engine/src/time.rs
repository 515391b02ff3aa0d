//! Points in time and lengths of time, as integers of microseconds. The engine never asks what time it is.

use serde::{Deserialize, Serialize};

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A length of time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub i64);

impl Span {
    /// A span of whole seconds.
    pub const fn seconds(seconds: i64) -> Span {
        Span(seconds * 1_000_000)
    }
}

impl Timestamp {
    /// The time in UTC as RFC 3339 writes it, with as many digits after the point as are needed (0, 3 or 6):
    /// `2026-11-24T10:15:02.5Z` is written `2026-11-24T10:15:02.500Z`.
    pub fn to_rfc3339(self) -> String {
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        let fraction = match micros {
            0 => String::new(),
            _ if micros % 1000 == 0 => format!(".{:03}", micros / 1000),
            _ => format!(".{micros:06}"),
        };
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
    }

    /// Reads what [`Timestamp::to_rfc3339`] wrote; `None` for anything else, so that a time has one text.
    pub fn from_rfc3339(text: &str) -> Option<Timestamp> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
        let date: Vec<i64> = date.split('-').map(digits).collect::<Option<_>>()?;
        let clock: Vec<i64> = whole.split(':').map(digits).collect::<Option<_>>()?;
        let (&[year, month, day], &[hour, minute, second]) = (date.as_slice(), clock.as_slice()) else { return None };
        let micros = match fraction.len() {
            0 => 0,
            3 => digits(fraction)? * 1000,
            6 => digits(fraction)?,
            _ => return None,
        };
        if year > 9999 || !(1..=12).contains(&month) {
            return None;
        }
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        let read = Timestamp(seconds * 1_000_000 + micros);
        (read.to_rfc3339() == text).then_some(read)
    }
}

/// A number of at most 6 digits.
fn digits(text: &str) -> Option<i64> {
    if text.len() > 6 || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March here,
/// so that the leap day is the last of its year, in eras of 400 years, which are all alike.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The day counted from 1970-01-01; undoes [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl std::ops::Add<Span> for Timestamp {
    type Output = Timestamp;

    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl std::ops::Sub for Timestamp {
    type Output = Span;

    fn sub(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(Timestamp(0).to_rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(-1).to_rfc3339(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp(1_709_210_096_500_000).to_rfc3339(), "2024-02-29T12:34:56.500Z");
        assert_eq!(Timestamp(4_107_542_399_000_001).to_rfc3339(), "2100-02-28T23:59:59.000001Z");
    }

    #[test]
    fn what_was_written_is_read_back() {
        for day in -200_000_i64..200_000 {
            let time = Timestamp((day * 86_400 + day.rem_euclid(86_400)) * 1_000_000 + day.rem_euclid(1000));
            assert_eq!(Timestamp::from_rfc3339(&time.to_rfc3339()), Some(time));
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "Z",
            "2026-11-24",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:15:02+01:00",
            "2026-11-24T10:15:02.5Z",
            "2026-11-24T10:15:02.000Z",
            "+2026-11-24T10:15:02Z",
            "99999999999999999999-11-24T10:15:02Z",
            "2026-11-24T10:15:99999999999999999999Z",
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }
}
