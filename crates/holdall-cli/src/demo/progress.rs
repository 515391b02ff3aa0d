//! Shows how a bag gets on, an environment a line: redrawn in place on a terminal, and a line for each change where it
//! is none. It knows only what the API says of environments.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use holdall_protocol::api::{EnvironmentState, EnvironmentSummary};

/// The display. What it was told last is what it shows.
#[derive(Debug)]
pub struct Progress<W> {
    out: W,
    is_terminal: bool,
    /// By environment, what was shown last.
    shown: BTreeMap<String, String>,
    /// How many lines of the terminal are its own, above the cursor.
    drawn: usize,
}

impl<W: Write> Progress<W> {
    /// A display that has shown nothing yet.
    pub fn new(out: W, is_terminal: bool) -> Progress<W> {
        Progress { out, is_terminal, shown: BTreeMap::new(), drawn: 0 }
    }

    /// Shows how the environments are now, `elapsed` after the start. Nothing is written when nothing changed.
    pub fn update(&mut self, environments: &[EnvironmentSummary], elapsed: Duration) -> io::Result<()> {
        let lines: Vec<(String, String)> =
            environments.iter().map(|environment| (environment.environment.clone(), sentence(environment))).collect();
        let is_changed = |(name, text): &&(String, String)| self.shown.get(name) != Some(text);
        let changed: Vec<(String, String)> = lines.iter().filter(is_changed).cloned().collect();
        if changed.is_empty() && self.shown.len() == lines.len() {
            return Ok(());
        }
        if self.is_terminal {
            self.redraw(&lines)?;
        } else {
            for (name, text) in &changed {
                writeln!(self.out, "{:>5.1} s  {name}: {text}", elapsed.as_secs_f64())?;
            }
        }
        self.shown = lines.into_iter().collect();
        self.out.flush()
    }

    fn redraw(&mut self, lines: &[(String, String)]) -> io::Result<()> {
        if self.drawn > 0 {
            // Up to its first line, and everything from there on is cleared.
            write!(self.out, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, text) in lines {
            // A line that is wrapped would make two, and the next redraw would begin too low.
            let line: String = format!("  {name:<width$}  {text}").chars().take(78).collect();
            writeln!(self.out, "{line}")?;
        }
        self.drawn = lines.len();
        Ok(())
    }
}

/// What an environment is doing, in a few words.
fn sentence(environment: &EnvironmentSummary) -> String {
    let bag = |number: Option<i64>| number.map_or_else(|| "a bag".to_owned(), |number| format!("bag {number}"));
    let under_way = bag(environment.under_way);
    match environment.state {
        EnvironmentState::InDoubt => format!("nobody knows how the deploy of {under_way} ended"),
        EnvironmentState::Deploying => format!("deploying {under_way}"),
        EnvironmentState::Testing => format!("testing {under_way}"),
        EnvironmentState::Mixed => {
            format!("the deploy of {} did not succeed", bag(environment.mixed_with.or(environment.under_way)))
        }
        EnvironmentState::Failed => format!("{under_way} failed"),
        EnvironmentState::Waiting => match environment.current {
            Some(current) => format!("bag {current}, another waits"),
            None => "a bag waits".to_owned(),
        },
        EnvironmentState::Frozen => format!("frozen at {}", bag(environment.frozen_at)),
        EnvironmentState::Idle => match environment.current {
            Some(current) => format!("bag {current}"),
            None => "nothing yet".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(
        name: &str,
        state: EnvironmentState,
        current: Option<i64>,
        under_way: Option<i64>,
    ) -> EnvironmentSummary {
        EnvironmentSummary {
            environment: name.to_owned(),
            system: "notify".to_owned(),
            current,
            mixed_with: None,
            state,
            frozen_at: None,
            lock: None,
            under_way,
            since: None,
            after: Vec::new(),
        }
    }

    fn shown(is_terminal: bool) -> String {
        let mut progress = Progress::new(Vec::new(), is_terminal);
        let steps = [
            (EnvironmentState::Idle, None, None),
            (EnvironmentState::Deploying, None, Some(1)),
            (EnvironmentState::Deploying, None, Some(1)),
            (EnvironmentState::Testing, Some(1), Some(1)),
            (EnvironmentState::Idle, Some(1), None),
        ];
        for (at, (state, current, under_way)) in (0..).zip(steps) {
            let preview = environment("preview", state, current, under_way);
            let staging = environment("staging", EnvironmentState::Idle, None, None);
            progress.update(&[preview, staging], Duration::from_millis(at * 500)).unwrap();
        }
        String::from_utf8(progress.out).unwrap()
    }

    #[test]
    fn plain_lines_are_the_changes() {
        assert_eq!(
            shown(false),
            "  0.0 s  preview: nothing yet\n  0.0 s  staging: nothing yet\n  0.5 s  preview: deploying bag 1\n  \
             1.5 s  preview: testing bag 1\n  2.0 s  preview: bag 1\n"
        );
    }

    #[test]
    fn a_terminal_is_redrawn_when_something_changed() {
        let text = shown(true);
        assert_eq!(text.matches("\x1b[2A\x1b[J").count(), 3, "{text:?}");
        assert!(text.starts_with("  preview  nothing yet\n  staging  nothing yet\n\x1b[2A"), "{text:?}");
        assert!(text.ends_with("  preview  bag 1\n  staging  nothing yet\n"), "{text:?}");
    }

    #[test]
    fn every_state_has_words_and_no_line_is_too_long() {
        use EnvironmentState::{Deploying, Failed, Frozen, Idle, InDoubt, Mixed, Testing, Waiting};
        for state in [InDoubt, Deploying, Testing, Mixed, Failed, Waiting, Frozen, Idle] {
            for numbers in [None, Some(i64::MAX)] {
                let mut progress = Progress::new(Vec::new(), true);
                let environment = environment(&"ü".repeat(100), state, numbers, numbers);
                progress.update(&[environment], Duration::ZERO).unwrap();
                let text = String::from_utf8(progress.out).unwrap();
                assert!(text.lines().all(|line| line.chars().count() <= 78), "{text}");
            }
        }
    }
}
