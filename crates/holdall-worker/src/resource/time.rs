//! `time`: a new version every interval, or once in a stretch of the day. Behaves as the community's type of that name.
//!
//! Versions are `{"time": RFC3339}`, in UTC.

use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use holdall_protocol::worker::ResourceResult;
use jiff::civil::{Time, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::json;

use super::duration::GoDuration;
use super::fields::{Fields, did_you_mean};
use super::{Context, Request, ResourceError, Version, result};

#[derive(Debug)]
struct Source {
    interval: Option<Duration>,
    /// From the first on and before the second; over midnight where the second is not later.
    between: Option<(ClockTime, ClockTime)>,
    days: Vec<Weekday>,
    location: TimeZone,
    initial_version: bool,
}

/// A time of the day, with the offset from UTC that the deprecated form carries.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ClockTime {
    time: Time,
    offset: Option<Offset>,
}

impl FromStr for ClockTime {
    type Err = String;

    /// Reads `3:04 PM`, `3PM`, `3 PM`, `15:04` and `1504`, each with or without an offset such as `-0700` after a space.
    fn from_str(text: &str) -> Result<ClockTime, String> {
        let malformed = || format!("`{text}` is not a time of the day: write for example `8:30 PM`, `8PM` or `20:30`");
        let (clock, offset) = match text.rsplit_once(' ') {
            Some((clock, offset)) if offset.starts_with(['+', '-']) => {
                (clock, Some(parse_offset(offset).ok_or_else(malformed)?))
            }
            _ => (text, None),
        };
        let upper = clock.trim().to_ascii_uppercase();
        let half = [("AM", 0), ("PM", 12)].into_iter().find_map(|(name, add)| Some((upper.strip_suffix(name)?, add)));
        let digits = half.map_or(upper.as_str(), |(digits, _)| digits.trim_end());
        let (hour, minute) = match digits.split_once(':') {
            Some(parts) => parts,
            None if half.is_some() => (digits, "00"),
            None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
            None => return Err(malformed()),
        };
        let number = |text: &str, longest: usize| {
            let plain = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse::<i8>().ok()).flatten().ok_or_else(malformed)
        };
        let (mut hour, minute) = (number(hour, 2)?, number(minute, 2)?);
        if let Some((_, add)) = half {
            if !(1..=12).contains(&hour) {
                return Err(malformed());
            }
            hour = hour % 12 + add;
        }
        let time = Time::new(hour, minute, 0, 0).map_err(|_| malformed())?;
        Ok(ClockTime { time, offset })
    }
}

fn parse_offset(text: &str) -> Option<Offset> {
    let (sign, digits) = (if text.starts_with('-') { -1 } else { 1 }, text.get(1..)?);
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    if minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

const DAYS: [(&str, Weekday); 7] = [
    ("Monday", Weekday::Monday),
    ("Tuesday", Weekday::Tuesday),
    ("Wednesday", Weekday::Wednesday),
    ("Thursday", Weekday::Thursday),
    ("Friday", Weekday::Friday),
    ("Saturday", Weekday::Saturday),
    ("Sunday", Weekday::Sunday),
];

impl Source {
    fn parse(request: &Request) -> Result<Source, ResourceError> {
        let mut fields = Fields::new("source", request.source.clone());
        let interval = fields.parsed::<GoDuration>("interval").map(|duration| duration.0);
        let start = fields.parsed::<ClockTime>("start");
        let stop = fields.parsed::<ClockTime>("stop");
        let location = fields.text("location");
        let day_names = fields.texts("days");
        let initial_version = fields.flag("initial_version");

        let between = start.zip(stop);
        let given = |key| request.source.get(key).is_some_and(|value| !value.is_null());
        if given("start") != given("stop") {
            fields.problem("`start` and `stop` in source need each other");
        } else if !given("start") && !given("interval") {
            fields.problem("source needs `interval`, or `start` and `stop`");
        }
        if interval == Some(Duration::ZERO) {
            fields.problem("`interval` in source must be longer than nothing");
        }
        let mut days = Vec::new();
        for name in &day_names {
            match DAYS.iter().find(|(day, _)| day.eq_ignore_ascii_case(name)) {
                Some((_, day)) => days.push(*day),
                None => {
                    let meant = did_you_mean(name, DAYS.iter().map(|(day, _)| *day));
                    fields.problem(format!("`days` in source: `{name}` is not a day of the week{meant}"));
                }
            }
        }
        let location = match location.as_deref() {
            None | Some("") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
                fields.problem(format!(
                    "`location` in source: there is no time zone `{name}`: write for example `Europe/Berlin`"
                ));
                TimeZone::UTC
            }),
        };
        fields.finish()?;
        Ok(Source { interval, between, days, location, initial_version })
    }

    /// Whether `now` deserves a version after `previous`.
    fn is_due(&self, previous: Option<Timestamp>, now: Timestamp) -> bool {
        if !self.days.is_empty() && !self.days.contains(&now.to_zoned(self.location.clone()).weekday()) {
            return false;
        }
        let window = match self.between {
            None => None,
            Some((start, stop)) => match self.window(start, stop, now) {
                None => return false,
                window => window,
            },
        };
        match (previous, self.interval, window) {
            (None, ..) => true,
            (Some(previous), Some(interval), _) => {
                now.duration_since(previous) >= SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX)
            }
            // Once in every stretch.
            (Some(previous), None, Some(began)) => previous < began,
            (Some(_), None, None) => false,
        }
    }

    /// When the stretch of the day that `now` is in began, if it is in one. It may have begun yesterday.
    fn window(&self, start: ClockTime, stop: ClockTime, now: Timestamp) -> Option<Timestamp> {
        let zone = |clock: ClockTime| clock.offset.map_or_else(|| self.location.clone(), TimeZone::fixed);
        let (start_zone, stop_zone) = (zone(start), zone(stop));
        let today = now.to_zoned(start_zone.clone()).date();
        [today.yesterday().ok()?, today].into_iter().find_map(|date| {
            let began = date.to_datetime(start.time).to_zoned(start_zone.clone()).ok()?.timestamp();
            let ends = date.to_datetime(stop.time).to_zoned(stop_zone.clone()).ok()?;
            let ends = if ends.timestamp() <= began { ends.checked_add(1.day()).ok()? } else { ends };
            (began <= now && now < ends.timestamp()).then_some(began)
        })
    }
}

/// The time of a version.
fn time_of(version: &Version) -> Result<Timestamp, ResourceError> {
    let text = version.get("time").map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| ResourceError::Invalid(vec![format!("the version's `time` is not a time: `{text}`")]))
}

fn version_at(time: Timestamp) -> Version {
    Version::from([("time".to_owned(), time.to_string())])
}

/// The given version, and now if it is time.
pub(super) fn check(request: &Request, _ctx: &Context) -> Result<Vec<Version>, ResourceError> {
    check_at(request, Timestamp::now())
}

fn check_at(request: &Request, now: Timestamp) -> Result<Vec<Version>, ResourceError> {
    let source = Source::parse(request)?;
    let given = request.version.as_ref().filter(|version| !version.is_empty());
    let previous = given.map(time_of).transpose()?;
    if previous.is_none() && source.initial_version {
        return Ok(vec![version_at(now)]);
    }
    let mut versions: Vec<Version> = given.into_iter().cloned().collect();
    if source.is_due(previous, now) {
        versions.push(version_at(now));
    }
    Ok(versions)
}

/// Writes the time in three forms: `input` (the request), `timestamp` and `epoch`.
pub(super) fn get(request: &Request, dir: &Path, _ctx: &Context) -> Result<ResourceResult, ResourceError> {
    Source::parse(request)?;
    Fields::new("params", request.params.clone()).finish()?;
    let version = request.required_version()?;
    let time = time_of(version)?;
    let input = json!({"source": request.source, "version": version, "params": request.params});
    let mut timestamp = time.to_string().replace('T', " ");
    timestamp.truncate(timestamp.len() - 1);
    for (name, content) in [
        ("input", input.to_string()),
        ("timestamp", format!("{timestamp} +0000 UTC")),
        ("epoch", time.as_second().to_string()),
    ] {
        let path = dir.join(name);
        fs::write(&path, content).map_err(ResourceError::file("write", &path))?;
    }
    Ok(result(version.clone(), Vec::new()))
}

/// Now.
pub(super) fn put(request: &Request, _dir: &Path, _ctx: &Context) -> Result<ResourceResult, ResourceError> {
    Source::parse(request)?;
    Fields::new("params", request.params.clone()).finish()?;
    Ok(result(version_at(Timestamp::now()), Vec::new()))
}

#[cfg(test)]
mod tests;
