//! `/`: each system with its chain, and its newest bags in every environment.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::IntoResponse;
use holdall_protocol::api::{BagState, BagSummary, EnvironmentSummary, Hold};
use holdall_store::Tx;
use maud::{Markup, html};

use super::layout::{self, bag_address, environment_address, state, when};
use crate::api::App;
use crate::api::error::ApiResult;
use crate::error::Error;
use crate::query;

/// How many bags the matrix shows.
const SHOWN_BAGS: i64 = 12;

/// The page.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) systems: Vec<SystemShown>,
}

/// A system on it.
#[derive(Debug)]
pub(super) struct SystemShown {
    pub(super) name: String,
    pub(super) environments: Vec<EnvironmentShown>,
    pub(super) bags: Vec<BagSummary>,
    /// What holds a bag back in an environment.
    pub(super) why: BTreeMap<(i64, String), Vec<Hold>>,
}

/// An environment of it.
#[derive(Debug)]
pub(super) struct EnvironmentShown {
    pub(super) summary: EnvironmentSummary,
    pub(super) holds: Vec<Hold>,
}

pub(super) async fn page(State(app): State<App>) -> ApiResult<impl IntoResponse> {
    let board = app.store.read(read).await?;
    Ok(super::answer(board.render()))
}

/// Whether a cell of that state stands still for a reason that is worth a word.
fn stands_still(state: BagState) -> bool {
    match state {
        BagState::Failed | BagState::Disabled | BagState::Held | BagState::Waiting | BagState::NotEligible => true,
        BagState::Current | BagState::Deploying | BagState::Testing | BagState::Previous | BagState::Superseded => {
            false
        }
    }
}

fn read(tx: &mut Tx<'_>) -> Result<Board, Error> {
    let mut board = Board::default();
    for name in query::resources::system_names(tx)? {
        let bags = query::bags::list(tx, &name, None, SHOWN_BAGS)?;
        let mut environments = Vec::new();
        for summary in query::environments::list(tx, &name)? {
            let holds = query::why::why(tx, &name, &summary.environment, None)?;
            environments.push(EnvironmentShown { summary, holds });
        }
        let mut why = BTreeMap::new();
        for bag in &bags {
            for (environment, state) in &bag.environments {
                if stands_still(*state) {
                    let holds = query::why::why(tx, &name, environment, Some(bag.bag))?;
                    why.insert((bag.bag, environment.clone()), holds);
                }
            }
        }
        board.systems.push(SystemShown { name, environments, bags, why });
    }
    Ok(board)
}

impl Board {
    pub(super) fn render(&self) -> Markup {
        let main = html! {
            h1.visually-hidden { "Board" }
            @if self.systems.is_empty() {
                section {
                    h2 { "No system yet" }
                    p { "A system file says what is released together, and through which environments." }
                    pre { code { "holdall system set system.yml" } }
                }
            }
            @for system in &self.systems { (system.render()) }
        };
        layout::page("Board", &[], main)
    }
}

impl SystemShown {
    fn render(&self) -> Markup {
        html! {
            section aria-labelledby={ "system-" (self.name) } {
                h2 id={ "system-" (self.name) } { (self.name) }
                ol.chain { @for environment in &self.environments { li { (self.card(environment)) } } }
                h3 id={ "bags-" (self.name) } { "Newest bags" }
                @if self.bags.is_empty() {
                    p { "No bag yet: one is packed as soon as every service has a version." }
                } @else { (self.matrix()) }
            }
        }
    }

    fn card(&self, shown: &EnvironmentShown) -> Markup {
        let environment = &shown.summary;
        html! {
            article.card {
                h3 { a href=(environment_address(&self.name, &environment.environment)) { (environment.environment) } }
                p.after {
                    @if environment.after.is_empty() { "packs its own bags" }
                    @else { "after " (environment.after.join(", ")) }
                }
                p.current {
                    @match environment.current {
                        Some(bag) => { a href=(bag_address(&self.name, bag)) { "bag " (bag) } " is live" }
                        None => { "nothing is live" }
                    }
                }
                p {
                    (state(environment.state.as_str()))
                    @if let Some(bag) = environment.under_way { " bag " (bag) }
                    @if let Some(bag) = environment.mixed_with { " mixed with bag " (bag) }
                    @if let Some(since) = environment.since { " since " (when(since)) }
                }
                @if let Some(bag) = environment.frozen_at { p.frozen { "Frozen at bag " (bag) } }
                @if let Some(lock) = &environment.lock {
                    dl.lock {
                        @for holder in &lock.holders {
                            dt { "Lock: " (holder.kind) " " (holder.name) }
                            dd {
                                @if let Some(reason) = &holder.reason { (reason) ", " }
                                "since " (when(holder.since))
                            }
                        }
                        @for waiter in &lock.queue {
                            dt { (waiter.position) ". waits: " (waiter.name) }
                            dd { "since " (when(waiter.since)) }
                        }
                    }
                }
                @if !shown.holds.is_empty() {
                    details {
                        summary { "Why nothing moves (" (shown.holds.len()) ")" }
                        (layout::holds(&shown.holds))
                    }
                }
            }
        }
    }

    fn matrix(&self) -> Markup {
        html! {
            div.scroll role="region" aria-labelledby={ "bags-" (self.name) } tabindex="0" {
                table {
                    thead { tr {
                        th scope="col" { "Bag" }
                        @for environment in &self.environments { th scope="col" { (environment.summary.environment) } }
                    } }
                    tbody { @for bag in &self.bags { tr {
                        th scope="row" {
                            a href=(bag_address(&self.name, bag.bag)) { (bag.bag) } " "
                            span.note { (when(bag.packed_at)) }
                        }
                        @for environment in &self.environments {
                            td { (self.cell(bag, &environment.summary.environment)) }
                        }
                    } } }
                }
            }
        }
    }

    fn cell(&self, bag: &BagSummary, environment: &str) -> Markup {
        let Some(found) = bag.environments.get(environment) else {
            return html! { span.note title="This bag does not go there." { "-" } };
        };
        let holds = self.why.get(&(bag.bag, environment.to_owned())).map(Vec::as_slice).unwrap_or_default();
        html! {
            (state(found.as_str()))
            @if let Some(tag) = bag.passed.get(environment) { " " span.passed title=(tag) { "✓ passed" } }
            @if let Some(first) = holds.first() {
                details.why { summary { (first.sentence) } (layout::holds(holds)) }
            }
        }
    }
}
