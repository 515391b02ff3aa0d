//! How things look: tables, ages, colours. Data goes to standard output, the rest to standard error.

use std::io::{IsTerminal, Write};

use clap::{Args, ValueEnum};
use holdall_protocol::api::{Commit, Hold, LockDetail, ServiceChange, Time, Version};
use serde::Serialize;

use crate::error::CliError;

/// How a reading command prints what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Options of commands that read.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// How to print it
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

impl OutputArgs {
    /// Prints a value: as JSON, or as `text` gives it.
    pub fn print<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce(&Style) -> String) -> Result<(), CliError> {
        match self.output {
            Format::Json => print(&json(value)?),
            Format::Text => print(&text(&Style::stdout())),
        }
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.output == Format::Json
    }
}

/// A value as JSON that people can read too, with a line end.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::failed(error.to_string()))?;
    Ok(text + "\n")
}

/// Writes data to standard output.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line that is not data to standard error.
pub fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether a person sits in front of it: questions can be asked.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// What a word is about, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Something goes on.
    Busy,
    /// Somebody should look.
    Bad,
    /// Something is held back.
    Held,
    /// Of little importance.
    Dim,
    /// A heading.
    Bold,
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    color: bool,
    now: Time,
}

impl Style {
    /// As is right for standard output: colours on a terminal, and without `NO_COLOR` only.
    pub fn stdout() -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Style { color: wanted && std::io::stdout().is_terminal(), now: now() }
    }

    /// Without colours, at a point in time.
    #[cfg(test)]
    pub fn plain_at(now: Time) -> Style {
        Style { color: false, now }
    }

    /// A text in a tone.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Busy => "36",
            Tone::Bad => "31",
            Tone::Held => "33",
            Tone::Dim => "2",
            Tone::Bold => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A word of state, in its colour.
    pub fn state(&self, word: &str) -> String {
        let tone = match word {
            "current" | "succeeded" | "passed" | "ok" | "idle" => Tone::Good,
            "deploying" | "testing" | "started" | "starting" => Tone::Busy,
            "failed" | "errored" | "mixed" | "in-doubt" => Tone::Bad,
            "held" | "frozen" | "waiting" | "pending" | "paused" | "warning" | "disabled" | "aborted" => Tone::Held,
            _ => Tone::Dim,
        };
        self.paint(tone, word)
    }

    /// How long ago something was: `3m`.
    pub fn age(&self, time: Time) -> String {
        span_words(self.now.0.saturating_sub(time.0))
    }

    /// For how long something has been so, and since when: `for 3m (since 2026-11-24T10:15:02Z)`.
    pub fn since(&self, time: Time) -> String {
        format!("for {} (since {})", self.age(time), whole_seconds(time))
    }

    /// How long ago, and when exactly: `3m ago (2026-11-24T10:15:02Z)`.
    pub fn ago(&self, time: Time) -> String {
        let seconds = whole_seconds(time);
        match time.0 > self.now.0 {
            // To the nearest: what was asked to last five minutes does not end in four.
            true => {
                let left = time.0.saturating_sub(self.now.0);
                let half = if left < 60_000_000 { 500_000 } else { 30_000_000 };
                format!("in {} ({seconds})", span_words(left.saturating_add(half)))
            }
            false => format!("{} ago ({seconds})", self.age(time)),
        }
    }
}

fn whole_seconds(time: Time) -> Time {
    Time(time.0.div_euclid(1_000_000).saturating_mul(1_000_000))
}

/// What this machine's clock says.
pub fn now() -> Time {
    Time(jiff::Timestamp::now().as_microsecond())
}

/// A length of time in the two largest units that say enough.
pub fn span_words(micros: i64) -> String {
    let seconds = micros.max(0) / 1_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds}s"),
        () if minutes < 60 => format!("{minutes}m"),
        () if hours < 10 && minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        () if hours < 48 => format!("{hours}h"),
        () => format!("{days}d"),
    }
}

/// A text of somebody else, safe for a terminal and on one line: control characters become spaces.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect()
}

/// A text of somebody else of several lines, safe for a terminal.
pub fn plain_lines(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

/// Characters that steer a terminal, or turn the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A table: columns as wide as they need to be, two spaces between.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(String, Option<Tone>)>>,
}

/// One cell of a [`Table`].
pub type Cell = (String, Option<Tone>);

/// A cell without colour.
pub fn cell(text: impl ToString) -> Cell {
    (plain(&text.to_string()), None)
}

/// A cell that may be empty: `-`.
pub fn cell_or_dash(text: Option<impl ToString>) -> Cell {
    match text {
        Some(text) => cell(text),
        None => ("-".to_owned(), Some(Tone::Dim)),
    }
}

impl Table {
    /// A table with headings.
    pub fn new(headings: &[&str]) -> Table {
        Table { rows: vec![headings.iter().map(|heading| ((*heading).to_owned(), Some(Tone::Dim))).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table, or `nothing` when it has no rows.
    pub fn render(&self, style: &Style, nothing: &str) -> String {
        if self.rows.len() < 2 {
            return format!("{nothing}\n");
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            let mut gap = 0;
            for ((text, tone), width) in row.iter().zip(&widths) {
                line.push_str(&" ".repeat(gap));
                let painted = match tone {
                    Some(tone) => style.paint(*tone, text),
                    None => style.maybe_state(text),
                };
                line.push_str(&painted);
                gap = width - text.chars().count() + 2;
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

impl Style {
    /// Words of state have their colour in tables; other texts have none.
    fn maybe_state(&self, text: &str) -> String {
        match text {
            "current" | "succeeded" | "passed" | "ok" | "idle" | "deploying" | "testing" | "started" | "starting"
            | "failed" | "errored" | "mixed" | "in-doubt" | "held" | "frozen" | "waiting" | "pending" | "paused"
            | "warning" | "disabled" | "aborted" | "not-eligible" | "superseded" | "previous" => self.state(text),
            _ => text.to_owned(),
        }
    }
}

/// `key:value key2:value2`.
pub fn version_words(version: &Version) -> String {
    let words: Vec<String> = version.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    plain(&words.join(" "))
}

/// A version as short as people say it: its values, digests cut.
pub fn version_short(version: &Version) -> String {
    let words: Vec<String> = version.values().map(|value| short(value)).collect();
    plain(&words.join(" "))
}

/// A digest or commit cut to what people say of it; other texts as they are.
pub fn short(value: &str) -> String {
    let (prefix, hex) = match value.split_once(':') {
        Some((prefix, hex)) => (format!("{prefix}:"), hex),
        None => (String::new(), value),
    };
    match hex.len() >= 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => format!("{prefix}{}", &hex[..10]),
        false => value.to_owned(),
    }
}

/// What holds something back, two or three lines an entry.
pub fn hold_lines(holds: &[Hold], style: &Style) -> String {
    let mut out = String::new();
    for hold in holds {
        out.push_str(&format!("{}  {}\n", style.paint(Tone::Held, &plain(&hold.code)), plain(&hold.sentence)));
        let mut facts = Vec::new();
        facts.extend(hold.since.map(|since| style.since(since)));
        facts.extend(hold.until.map(|until| format!("ends {}", style.ago(until))));
        facts.extend(hold.by.as_ref().map(|by| format!("by {}", plain(by))));
        if !facts.is_empty() {
            out.push_str(&format!("    {}\n", facts.join("; ")));
        }
        out.extend(hold.command.as_ref().map(|command| format!("    {}\n", style.paint(Tone::Bold, &plain(command)))));
    }
    out
}

/// Who has a lock and who waits, a line each.
pub fn lock_lines(lock: &LockDetail) -> Vec<String> {
    let style = Style { color: false, now: now() };
    let mut lines = Vec::new();
    for holder in &lock.holders {
        let reason = holder.reason.as_ref().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
        let until = holder.until.map(|until| format!(", until {}", whole_seconds(until))).unwrap_or_default();
        let name = plain(&holder.name);
        lines.push(format!("held by {} {name} for {}{until}{reason}", holder.kind, style.age(holder.since)));
    }
    for waiter in &lock.queue {
        let name = plain(&waiter.name);
        lines.push(format!(
            "{}. in the queue: {} {name} for {}",
            waiter.position,
            waiter.kind,
            style.age(waiter.since)
        ));
    }
    lines
}

/// How services change, with commits below each.
pub fn change_lines(changes: &[ServiceChange], style: &Style) -> String {
    let mut out = String::new();
    for change in changes {
        let words = match (&change.from, &change.to) {
            (None, None) => "unchanged".to_owned(),
            (None, Some(to)) => format!("new: {}", version_short(to)),
            (Some(from), None) => format!("removed: {}", version_short(from)),
            (Some(from), Some(to)) => {
                format!("{} {} -> {}", change.direction, version_short(from), version_short(to))
            }
        };
        out.push_str(&format!("  {}  {words}\n", style.paint(Tone::Bold, &plain(&change.service))));
        for commit in &change.commits {
            out.push_str(&format!("    {}\n", commit_line(commit, style)));
        }
        if !change.complete && change.from.is_some() && change.to.is_some() {
            out.push_str(&format!("    {}\n", style.paint(Tone::Dim, "(not all changes in between are known)")));
        }
    }
    out
}

/// `a1b2c3d4e5  message (author, 3m ago)`.
pub fn commit_line(commit: &Commit, style: &Style) -> String {
    let mut facts: Vec<String> = commit.author.iter().map(|author| plain(author)).collect();
    facts.extend(commit.at.map(|at| format!("{} ago", style.age(at))));
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    let message = plain(commit.message.as_deref().unwrap_or_default());
    format!("{}  {message}{}", short(&plain(&commit.id)), style.paint(Tone::Dim, &facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_as_people_say_them() {
        for (seconds, words) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (5400, "1h30m"),
            (36_060, "10h"),
            (172_800, "2d"),
        ] {
            assert_eq!(span_words(seconds * 1_000_000), words);
        }
        let style = Style::plain_at(Time(60_000_000));
        assert_eq!(style.ago(Time(500_000)), "59s ago (1970-01-01T00:00:00Z)");
        assert_eq!(style.since(Time(0)), "for 1m (since 1970-01-01T00:00:00Z)");
        assert_eq!(style.ago(Time(3_660_000_000)), "in 1h (1970-01-01T01:01:00Z)");
    }

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["NAME", "STATE"]);
        assert_eq!(table.render(&Style::plain_at(Time(0)), "none"), "none\n");
        table.row(vec![cell("é\u{1b}[31m"), cell("idle")]);
        table.row(vec![cell("longer-name"), cell_or_dash(None::<i64>)]);
        assert_eq!(
            table.render(&Style::plain_at(Time(0)), "none"),
            "NAME         STATE\n\u{e9} [31m       idle\nlonger-name  -\n"
        );
    }

    #[test]
    fn digests_are_cut_and_names_are_not() {
        assert_eq!(short("0123456789abcdef0123456789abcdef01234567"), "0123456789");
        assert_eq!(short(&format!("sha256:{}", "ab".repeat(32))), "sha256:ababababab");
        assert_eq!(short("1.2.3"), "1.2.3");
        assert_eq!(short("sha256:xyz"), "sha256:xyz");
    }
}
