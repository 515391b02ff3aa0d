//! What all pages have: the frame, and the small things that are shown in many places.

use holdall_protocol::api::{Hold, ServiceChange, Time, Version};
use maud::{DOCTYPE, Markup, html};

/// A whole page. `crumbs`: where it is, from the board on, as (text, address); the last one is the page itself.
pub(super) fn page(title: &str, crumbs: &[(String, String)], main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " - Holdall" }
                link rel="stylesheet" href="/assets/style.css";
                script src="/assets/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the contents" }
                header {
                    nav aria-label="Where you are" {
                        a.brand href="/" { "Holdall" }
                        @for (text, address) in crumbs {
                            span aria-hidden="true" { "/" }
                            a href=(address) { (text) }
                        }
                    }
                    p #live role="status" {}
                }
                main #main tabindex="-1" { (main) }
            }
        }
    }
}

/// A time, in full, which the script shows as an age.
pub(super) fn when(at: Time) -> Markup {
    html! { time datetime=(at) { (at) } }
}

/// A state as a word with a colour of its own.
pub(super) fn state(word: &str) -> Markup {
    html! { span class={ "state " (word) } { (word.replace('-', " ")) } }
}

/// What holds something back, each with the command that lifts it.
pub(super) fn holds(holds: &[Hold]) -> Markup {
    html! {
        ul.holds {
            @for hold in holds {
                li {
                    code { (hold.code) } " " (hold.sentence)
                    @if let Some(since) = hold.since { " Since " (when(since)) "." }
                    @if let Some(until) = hold.until { " Until " (when(until)) "." }
                    @if let Some(command) = &hold.command { pre { code { (command) } } }
                }
            }
        }
    }
}

/// A version in a few characters, whole in its title.
pub(super) fn version(version: &Version) -> Markup {
    let whole: Vec<String> = version.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    let short = match version.iter().next() {
        Some((_, value)) if version.len() == 1 => short(value),
        _ => whole.join(", "),
    };
    html! { code title=(whole.join(", ")) { (short) } }
}

fn short(value: &str) -> String {
    let hex = value.len() == 40 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { value[..10].to_owned() } else { value.chars().take(40).collect() }
}

/// What changed, service by service, with the commits.
pub(super) fn changes(changes: &[ServiceChange]) -> Markup {
    html! {
        @if changes.is_empty() { p { "Nothing." } }
        @for change in changes {
            h4 { (change.service) " " (change.direction.as_str()) }
            p {
                @if let Some(from) = &change.from { (version(from)) } @else { "nothing" }
                " → "
                @if let Some(to) = &change.to { (version(to)) } @else { "nothing" }
            }
            @if !change.commits.is_empty() {
                ul.commits {
                    @for commit in &change.commits {
                        li {
                            code { (short(&commit.id)) } " "
                            @if let Some(message) = &commit.message { (message) " " }
                            @if let Some(author) = &commit.author { span.author { (author) } " " }
                            @if let Some(at) = commit.at { (when(at)) }
                        }
                    }
                }
            }
            @if !change.complete && change.from.is_some() { p.note { "Not all changes in between are known." } }
        }
    }
}

/// The address of a bag's page.
pub(super) fn bag_address(system: &str, bag: i64) -> String {
    format!("/systems/{}/bags/{bag}", escape(system))
}

/// The address of an environment's page.
pub(super) fn environment_address(system: &str, environment: &str) -> String {
    format!("/systems/{}/environments/{}", escape(system), escape(environment))
}

/// A name as a part of an address.
fn escape(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
