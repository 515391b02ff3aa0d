//! Durations as Go writes them: `90s`, `1h30m`, `1.5h`.

use std::str::FromStr;
use std::time::Duration;

/// A duration that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) Duration);

impl FromStr for GoDuration {
    type Err = String;

    /// Parses numbers with units (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`), or `0`. The error is a sentence.
    fn from_str(text: &str) -> Result<GoDuration, String> {
        let malformed = || format!("`{text}` is not a duration: write for example `90s`, `10m` or `1h30m`");
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(GoDuration(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(malformed());
        }
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let scale = match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(malformed()),
            };
            seconds += number.parse::<f64>().map_err(|_| malformed())? * scale;
            rest = tail;
        }
        // Go's durations end at 2^63 nanoseconds.
        if seconds > 9_223_372_036.0 {
            return Err(format!("`{text}` is longer than 292 years"));
        }
        Duration::try_from_secs_f64(seconds).map(GoDuration).map_err(|_| malformed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, millis) in
            [("0", 0), ("90s", 90_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), ("+10ms", 10), (".5s", 500)]
        {
            assert_eq!(text.parse::<GoDuration>(), Ok(GoDuration(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "+", "10", "s", "-1s", "1d", "1..5s", "1h 30m", "99999999999h", "∞", "1e3s"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }
}
