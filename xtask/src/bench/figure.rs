//! Figures: samples, what is taken of them, and how they are printed.

use serde_json::json;

use super::machine;

/// Which of the samples' properties is the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Half of the samples are at most this.
    Median,
    /// 99 of 100 samples are at most this.
    P99,
    /// No sample is more.
    Most,
}

/// What a figure may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// It is measured to know it.
    None,
}

/// Something that was measured.
#[derive(Debug)]
pub struct Figure {
    /// `case.figure`, without the database.
    pub name: String,
    /// `ms`, `s`, `MiB`, `% of a core`, ...
    pub unit: &'static str,
    /// What was measured, each time.
    pub samples: Vec<f64>,
    /// What of it is the figure.
    pub of: Of,
    /// What it may be.
    pub limit: Limit,
}

impl Figure {
    /// The figure itself.
    pub fn value(&self) -> f64 {
        match self.of {
            Of::Median => percentile(&self.samples, 50.0),
            Of::P99 => percentile(&self.samples, 99.0),
            Of::Most => percentile(&self.samples, 100.0),
        }
    }

    /// Prints it: one JSON line for programs to standard output, and one for people to standard error.
    pub fn print(&self, database: &str) {
        let name = format!("{}@{database}", self.name);
        let (value, p50, p99) = (self.value(), percentile(&self.samples, 50.0), percentile(&self.samples, 99.0));
        let n = self.samples.len();
        // By hand, for the order of the keys.
        println!(
            "{{\"name\":{},\"value\":{},\"unit\":{},\"p50\":{},\"p99\":{},\"n\":{n}}}",
            json!(name),
            json!(rounded(value)),
            json!(self.unit),
            json!(rounded(p50)),
            json!(rounded(p99)),
        );
        let of = match self.of {
            Of::Median => "p50",
            Of::P99 => "p99",
            Of::Most => "most",
        };
        let verdict = match self.limit {
            Limit::AtMost(most) if value <= most => format!("at most {most}: met"),
            Limit::AtMost(most) => format!("at most {most}: MISSED"),
            Limit::AtLeast(least) if value >= least => format!("at least {least}: met"),
            Limit::AtLeast(least) => format!("at least {least}: MISSED"),
            Limit::None => "no limit".to_owned(),
        };
        eprintln!(
            "{name}: {of} {} {}; p50 {}, p99 {}, n {n}; {verdict} (load average {})",
            rounded(value),
            self.unit,
            rounded(p50),
            rounded(p99),
            machine::load_average(),
        );
    }
}

/// The nearest rank: a value that was measured, never one between two.
pub fn percentile(samples: &[f64], percent: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// To four significant digits, which is more than repeats.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&samples, 50.0), 100.0);
        assert_eq!(percentile(&samples, 99.0), 198.0);
        assert_eq!(percentile(&samples, 100.0), 200.0);
        assert_eq!(percentile(&[7.0], 50.0), 7.0);
    }

    #[test]
    fn four_digits_are_shown() {
        for (value, shown) in [(12.34567, 12.35), (0.012345, 0.01235), (654321.0, 654300.0), (0.0, 0.0)] {
            assert!((rounded(value) - shown).abs() < 1e-9, "{value} -> {}", rounded(value));
        }
    }
}
