//! Durations as Go writes them: `1h30m`, `500ms`, `1.5h`.

use holdall_engine::pipeline::Duration;
use holdall_engine::time::Span;

/// The length of a duration in Go's syntax.
///
/// # Errors
/// What Go's `time.ParseDuration` says about the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration \"{text}\"");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration { text: text.to_owned(), span: Span(0) });
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("missing unit in duration \"{text}\"")),
            unit => return Err(format!("unknown unit \"{unit}\" in duration \"{text}\"")),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        // The digits behind the eighteenth are less than a nanosecond.
        let digits = &fraction[..fraction.len().min(18)];
        let part: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| invalid())? };
        let part = part * scale / 10_i128.pow(digits.len() as u32);
        let whole = whole.checked_mul(scale).ok_or_else(invalid)?;
        nanos = nanos.checked_add(whole + part).ok_or_else(invalid)?;
        if nanos > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = tail;
    }
    let micros = (nanos / 1000) as i64;
    Ok(Duration { text: text.to_owned(), span: Span(if negative { -micros } else { micros }) })
}

/// The same duration in the text that Go writes for it: `24h` becomes `24h0m0s`.
pub(crate) fn canonical(duration: Duration) -> Duration {
    let (sign, micros) = (if duration.span.0 < 0 { "-" } else { "" }, duration.span.0.unsigned_abs());
    let fraction = |value: u64, unit: u64, name: &str| {
        let digits = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        let whole = value / unit;
        if unit == 1 || digits.is_empty() { format!("{whole}{name}") } else { format!("{whole}.{digits}{name}") }
    };
    let text = match micros {
        0 => "0s".to_owned(),
        1..1_000 => fraction(micros, 1, "µs"),
        1_000..1_000_000 => fraction(micros, 1_000, "ms"),
        _ => {
            let minutes = micros / 60_000_000;
            let seconds = fraction(micros % 60_000_000, 1_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    Duration { text: format!("{sign}{text}"), span: duration.span }
}

/// A duration whose text says nothing: it is kept as it was written, and is as long as can be.
pub(crate) fn endless(text: &str) -> Duration {
    Duration { text: text.to_owned(), span: Span(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, micros) in [
            ("1h30m", 5_400_000_000),
            ("1.5s", 1_500_000),
            (".5s", 500_000),
            ("1.s", 1_000_000),
            ("500ms", 500_000),
            ("1µs", 1),
            ("999ns", 0),
            ("-1m", -60_000_000),
            ("+2s", 2_000_000),
            ("0", 0),
            ("2562047h", 2_562_047 * 3_600_000_000),
        ] {
            assert_eq!(parse_duration(text).map(|found| found.span.0), Ok(micros), "{text}");
        }
    }

    #[test]
    fn canonical_texts_are_those_of_go() {
        for (text, canonical_text) in [
            ("24h", "24h0m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("1500us", "1.5ms"),
            ("1us", "1µs"),
            ("-1m", "-1m0s"),
            ("0", "0s"),
        ] {
            let once = canonical(parse_duration(text).unwrap());
            assert_eq!(once.text, canonical_text);
            assert_eq!(parse_duration(&once.text), Ok(once));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (text, message) in [
            ("", "invalid duration \"\""),
            ("-", "invalid duration \"-\""),
            ("10", "missing unit in duration \"10\""),
            ("1d", "unknown unit \"d\" in duration \"1d\""),
            ("1h 30m", "unknown unit \"h \" in duration \"1h 30m\""),
            ("3000000h", "invalid duration \"3000000h\""),
            ("1.2.3s", "invalid duration \"1.2.3s\""),
            ("soon", "invalid duration \"soon\""),
            (".s", "invalid duration \".s\""),
        ] {
            assert_eq!(parse_duration(text), Err(message.to_owned()), "{text}");
        }
        assert!(parse_duration(&("9".repeat(100_000) + "h")).is_err());
        assert!(parse_duration(&"900000h".repeat(10)).is_err());
    }
}
