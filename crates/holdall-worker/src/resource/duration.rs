//! Durations in sources, as Go writes them.

use std::str::FromStr;
use std::time::Duration;

use holdall_config::duration::parse_duration;

/// A duration that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) Duration);

impl FromStr for GoDuration {
    type Err = String;

    /// The error is a sentence.
    fn from_str(text: &str) -> Result<GoDuration, String> {
        let malformed = || format!("`{text}` is not a duration: write for example `90s`, `10m` or `1h30m`");
        let duration = parse_duration(text).map_err(|_| malformed())?;
        let micros = u64::try_from(duration.span.0).map_err(|_| malformed())?;
        Ok(GoDuration(Duration::from_micros(micros)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads_but_not_below_zero() {
        for (text, millis) in [("0", 0), ("90s", 90_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), ("+10ms", 10)] {
            assert_eq!(text.parse::<GoDuration>(), Ok(GoDuration(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1d", "99999999999h"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }
}
