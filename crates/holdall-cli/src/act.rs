//! Acts: the options that all of them have, asking before, and what a preview looks like.

use std::io::Write;

use clap::Args;
use holdall_protocol::api::{
    Act, ActAnswer, ActRequest, Dropped, EnvironmentChange, HowDropped, Made, Preview, Start, Time,
};

use crate::client::{Client, ClientError};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::output::{self, Style, Tone, change_lines, hold_lines, plain, plain_lines, version_short};

/// Options of everything that changes the server's state.
#[derive(Debug, Clone, Default, Args)]
pub struct ActArgs {
    /// Only say what it would do
    #[arg(long)]
    pub dry_run: bool,
    /// Why; goes to the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// A ticket that has the whole story
    #[arg(long, value_name = "TEXT")]
    pub ticket: Option<String>,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// How to print what became of it
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: output::Format,
}

/// Whether a person is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It is done at once: it can be taken back, or starts only what was asked for.
    Ordinary,
    /// On a terminal its preview is shown and a person asked.
    Destructive,
}

/// When something ends by itself.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct UntilArgs {
    /// For how long: 30m, 2h, 3d
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<i64>,
    /// Until when: 2026-11-24T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
}

impl UntilArgs {
    /// The point in time.
    pub fn time(&self) -> Option<Time> {
        self.until.or(self.duration.map(|micros| Time(output::now().0.saturating_add(micros))))
    }
}

/// Reads a length of time like `90m`, `1h30m` or `2d`: microseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is not a length of time like 30m, 2h or 3d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    match i64::try_from(length.as_micros()) {
        Ok(micros) if micros > 0 => Ok(micros),
        _ => Err(wrong()),
    }
}

/// Does an act, or shows what it would do, and prints what became of it.
pub fn perform(ctx: &Context, act: Act, args: &ActArgs, care: Care) -> Result<Option<Made>, CliError> {
    let client = ctx.client()?;
    let mut request = ActRequest {
        act,
        reason: args.reason.clone().filter(|reason| !reason.trim().is_empty()),
        ticket: args.ticket.clone(),
        dry_run: args.dry_run,
        preview_token: None,
    };
    if !args.dry_run {
        if care == Care::Destructive && !args.yes && output::is_interactive() {
            let dry = ActRequest { dry_run: true, ..request.clone() };
            let answer = send(client, &dry)?;
            output::note(preview_text(&answer.preview, &Style::stdout()).trim_end());
            if !ask("Do it?")? {
                return Err(CliError::new(Kind::Interrupted, "nothing was changed"));
            }
            request.preview_token = Some(answer.preview.token);
        }
        if request.act.needs_reason() && request.reason.is_none() {
            request.reason = Some(ask_reason()?);
        }
    }
    let answer = send(client, &request)?;
    match args.output {
        output::Format::Json => output::print(&output::json(&answer)?)?,
        output::Format::Text => output::print(&answer_text(&answer, &Style::stdout()))?,
    }
    Ok(answer.done.then_some(answer.made))
}

fn send(client: &Client, request: &ActRequest) -> Result<ActAnswer, CliError> {
    client.post("acts", request).map_err(|error| match error {
        ClientError::Refused { body, .. } if body.details.preview.is_some() => {
            let text = body.details.preview.as_ref().map(|preview| preview_text(preview, &Style::stdout()));
            output::note("What it would do now:");
            output::note(text.unwrap_or_default().trim_end());
            CliError::new(Kind::Held, format!("nothing was changed: {}", plain(&body.message)))
                .hint("run it again if this is what you want")
        }
        other => other.into(),
    })
}

/// Asks a question that is answered with yes or no, on a terminal.
pub fn ask(question: &str) -> Result<bool, CliError> {
    let answer = ask_line(&format!("{question} [y/N] "))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line, on a terminal.
pub fn ask_line(question: &str) -> Result<String, CliError> {
    let mut err = std::io::stderr();
    err.write_all(question.as_bytes())?;
    err.flush()?;
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line)? == 0 {
        return Err(CliError::new(Kind::Interrupted, "nothing was changed"));
    }
    Ok(line.trim().to_owned())
}

fn ask_reason() -> Result<String, CliError> {
    let missing = || CliError::invalid("this needs a reason").hint("say why: --reason \"...\"");
    if !output::is_interactive() {
        return Err(missing());
    }
    let reason = ask_line("Reason: ")?;
    if reason.is_empty() { Err(missing()) } else { Ok(reason) }
}

fn answer_text(answer: &ActAnswer, style: &Style) -> String {
    let mut out = preview_text(&answer.preview, style);
    if !answer.done {
        out.push_str(&format!("{}\n", style.paint(Tone::Dim, "Nothing was changed: this was a dry run.")));
        return out;
    }
    let made = &answer.made;
    let mut things = Vec::new();
    things.extend(made.bag.map(|bag| format!("bag {bag}")));
    things.extend(made.deployment.map(|number| format!("deployment {number}")));
    things.extend(
        made.build.as_ref().map(|build| {
            format!("build {} ({}/{}/{} #{})", build.id, build.team, build.pipeline, build.job, build.name)
        }),
    );
    match things.is_empty() {
        true => out.push_str("Done.\n"),
        false => out.push_str(&format!("Done: {}.\n", plain(&things.join(", ")))),
    }
    out
}

/// A preview for people.
pub fn preview_text(preview: &Preview, style: &Style) -> String {
    let mut out = String::new();
    for sentence in &preview.sentences {
        out.push_str(&format!("{}\n", plain(sentence)));
    }
    if let Some(next) = &preview.next_bag {
        let heading = format!("The next bag of {} is {}, with:", plain(&next.environment), next.bag);
        out.push_str(&format!("{}\n", style.paint(Tone::Bold, &heading)));
        for (service, version) in &next.services {
            out.push_str(&format!("  {}  {}\n", plain(service), version_short(version)));
        }
    }
    section(&mut out, style, "Starts:", &preview.starts, start_line);
    section(&mut out, style, "Does not go on:", &preview.dropped, dropped_line);
    for change in &preview.changes {
        out.push_str(&environment_change_text(change, style));
    }
    if !preview.held.is_empty() {
        out.push_str(&format!("{}\n", style.paint(Tone::Bold, "Held back:")));
        out.push_str(&hold_lines(&preview.held, style));
    }
    if let Some(diff) = &preview.diff {
        out.push_str(&diff_text(diff, style));
    }
    out
}

fn section<T>(out: &mut String, style: &Style, heading: &str, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    out.push_str(&format!("{}\n", style.paint(Tone::Bold, heading)));
    for item in items {
        out.push_str(&format!("  {}\n", line(item)));
    }
}

fn start_line(start: &Start) -> String {
    let bag = start.bag.map(|bag| format!(" with bag {bag}")).unwrap_or_default();
    plain(&match &start.environment {
        Some(environment) => format!("{environment}: {}{bag}", start.job),
        None => format!("{}/{}/{}{bag}", start.team, start.pipeline, start.job),
    })
}

fn dropped_line(dropped: &Dropped) -> String {
    let environment = plain(&dropped.environment);
    let why = match (dropped.how, dropped.by) {
        (HowDropped::Superseded, Some(by)) => format!("superseded by bag {by}"),
        (HowDropped::Superseded, None) => "superseded".to_owned(),
        (HowDropped::Disabled, _) => "it is unticked".to_owned(),
        (HowDropped::Suspect, _) => "it holds a version that was rolled back".to_owned(),
        (HowDropped::Withdrawn, _) => "it was thrown out of an environment before".to_owned(),
        (HowDropped::Frozen, Some(by)) => format!("frozen at bag {by}"),
        (HowDropped::Frozen, None) => "frozen".to_owned(),
        (HowDropped::Held, _) => "a person must start it".to_owned(),
        (HowDropped::Incomplete, _) => "it lacks a service that the plan needs".to_owned(),
        (HowDropped::NotPassed, _) => "it has not passed an environment before".to_owned(),
    };
    format!("bag {} in {environment}: {why}", dropped.bag)
}

fn environment_change_text(change: &EnvironmentChange, style: &Style) -> String {
    let bag = |number: Option<i64>, other: &str| number.map_or(other.to_owned(), |bag| format!("bag {bag}"));
    let heading = format!(
        "{}: {} -> {}",
        plain(&change.environment),
        bag(change.from, "nothing"),
        bag(change.to, "the next bag")
    );
    let mut out = format!("{}\n", style.paint(Tone::Bold, &heading));
    match change.services.is_empty() {
        true => out.push_str("  the same versions\n"),
        false => out.push_str(&change_lines(&change.services, style)),
    }
    out
}

/// A unified diff, with colours.
pub fn diff_text(diff: &str, style: &Style) -> String {
    let mut out = String::new();
    for line in diff.lines() {
        let tone = match line.as_bytes().first() {
            Some(b'+') => Some(Tone::Good),
            Some(b'-') => Some(Tone::Bad),
            Some(b'@') => Some(Tone::Busy),
            _ => None,
        };
        let line = plain_lines(line);
        out.push_str(&tone.map_or(line.clone(), |tone| style.paint(tone, &line)));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdall_protocol::api::{ChangeDirection, Commit, NextBag, ServiceChange};

    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        for (text, seconds) in [("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("3d", 259_200), ("45s", 45)] {
            assert_eq!(parse_duration(text), Ok(seconds * 1_000_000), "{text}");
        }
        for text in ["", "2", "-1h", "0s", "soon", "1y", "99999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_preview_says_everything_that_it_has() {
        let version = |text: &str| BTreeMap::from([("ref".to_owned(), text.to_owned())]);
        let preview = Preview {
            token: "t".into(),
            sentences: vec!["Bag 42 is held in staging.".into()],
            next_bag: Some(NextBag {
                system: "notify".into(),
                environment: "preview".into(),
                bag: 43,
                services: BTreeMap::from([("api".into(), version(&"a".repeat(40)))]),
            }),
            starts: vec![Start {
                system: Some("notify".into()),
                environment: Some("preview".into()),
                bag: Some(43),
                team: "preview".into(),
                pipeline: "deploy-notify".into(),
                job: "start-deploy".into(),
            }],
            dropped: vec![Dropped {
                environment: "staging".into(),
                bag: 42,
                how: HowDropped::Superseded,
                by: Some(43),
            }],
            changes: vec![EnvironmentChange {
                system: "notify".into(),
                environment: "staging".into(),
                from: Some(41),
                to: None,
                services: vec![ServiceChange {
                    service: "api".into(),
                    direction: ChangeDirection::Gains,
                    from: Some(version("one")),
                    to: Some(version("two")),
                    commits: vec![Commit {
                        id: "abc".into(),
                        author: Some("ann".into()),
                        at: Some(Time(0)),
                        message: Some("Fix\u{1b}[2J it".into()),
                        url: None,
                    }],
                    complete: false,
                }],
            }],
            held: Vec::new(),
            diff: Some("+added\n-removed\n".into()),
        };
        let text = preview_text(&preview, &Style::plain_at(Time(60_000_000)));
        assert_eq!(
            text,
            "Bag 42 is held in staging.\n\
             The next bag of preview is 43, with:\n  api  aaaaaaaaaa\n\
             Starts:\n  preview: start-deploy with bag 43\n\
             Does not go on:\n  bag 42 in staging: superseded by bag 43\n\
             staging: bag 41 -> the next bag\n  api  gains one -> two\n    abc  Fix [2J it (ann, 1m ago)\n    \
             (not all changes in between are known)\n\
             +added\n-removed\n"
        );
    }
}
