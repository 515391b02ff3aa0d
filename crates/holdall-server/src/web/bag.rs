//! A bag's page: what it holds, what changed, where it passed, and what holds it back.

use axum::extract::State;
use axum::response::IntoResponse;
use holdall_protocol::api::{BagDetail, ServiceChange};
use holdall_store::Tx;
use maud::{Markup, html};

use super::layout::{self, bag_address, environment_address, state, version, when};
use crate::api::App;
use crate::api::error::ApiResult;
use crate::api::request::Path;
use crate::error::Error;
use crate::query;

/// The page.
#[derive(Debug)]
pub(super) struct BagPage {
    pub(super) bag: BagDetail,
    /// The environments, in the order of the system's file.
    pub(super) chain: Vec<String>,
    /// What changed, since what: `since bag 41, which was packed before it`.
    pub(super) changes: Vec<(String, Vec<ServiceChange>)>,
}

pub(super) async fn page(
    State(app): State<App>,
    Path((system, bag)): Path<(String, i64)>,
) -> ApiResult<impl IntoResponse> {
    let page = app.store.read(move |tx| read(tx, &system, bag)).await?;
    Ok(super::answer(page.render()))
}

fn read(tx: &mut Tx<'_>, system: &str, number: i64) -> Result<BagPage, Error> {
    let bag = query::bags::detail(tx, system, number)?;
    let mut changes = Vec::new();
    if let Some(previous) = bag.previous {
        let found = query::bags::diff(tx, system, number, Some(previous))?;
        changes.push((format!("since bag {previous}, which was packed before it"), found.services));
    }
    let mut chain = Vec::new();
    for environment in query::environments::list(tx, system)? {
        chain.push(environment.environment.clone());
        if let Some(live) = environment.current.filter(|live| *live != number)
            && bag.summary.environments.contains_key(&environment.environment)
        {
            let found = query::bags::diff(tx, system, number, Some(live))?;
            changes.push((format!("since bag {live}, which is live in {}", environment.environment), found.services));
        }
    }
    Ok(BagPage { bag, chain, changes })
}

impl BagPage {
    pub(super) fn render(&self) -> Markup {
        let bag = &self.bag;
        let summary = &bag.summary;
        let system = &summary.system;
        let title = format!("Bag {} of {system}", summary.bag);
        let main = html! {
            h1 { (title) }
            p {
                "Packed in " a href=(environment_address(system, &summary.packed_in)) { (summary.packed_in) }
                " " (when(summary.packed_at))
                @if let Some(by) = &summary.packed_by { " by " (by) }
                @if let Some(same) = bag.same_contents_as {
                    ", same contents as " a href=(bag_address(system, same)) { "bag " (same) }
                }
                "."
            }
            h2 { "Where it is" }
            ul.plain {
                @for (environment, found) in self.chain.iter().filter_map(|name| summary.environments.get_key_value(name)) {
                    li {
                        a href=(environment_address(system, environment)) { (environment) } " " (state(found.as_str()))
                        @if let Some(holds) = bag.holds.get(environment) { (layout::holds(holds)) }
                    }
                }
            }
            @if !bag.tags.is_empty() {
                h2 { "Passed" }
                ul { @for tag in &bag.tags {
                    li { code { (tag.tag) } " deployment " (tag.deployment) ", " (when(tag.at)) }
                } }
            }
            h2 { "Contents" }
            div.scroll role="region" aria-label="Contents" tabindex="0" {
                table {
                    thead { tr {
                        th scope="col" { "Service" } th scope="col" { "Version" }
                        th scope="col" { "Bits" } th scope="col" { "About" }
                    } }
                    tbody { @for (name, service) in &bag.services { tr {
                        th scope="row" { (name) }
                        td { (version(&service.version)) }
                        td {
                            code { (service.bits) }
                            @if !service.exact { " " span.note { "not exact: the same version may give other bits" } }
                        }
                        td {
                            @if let Some(repository) = &service.repository { (repository) " " }
                            @for field in &service.metadata {
                                @if matches!(field.name.as_str(), "author" | "message") { span { (field.value) " " } }
                            }
                        }
                    } } }
                }
            }
            @for line in bag.pins.iter().chain(&bag.disabled) { p.note { (line) } }
            @for (since, changes) in &self.changes {
                h2 { "What changed " (since) }
                (layout::changes(changes))
            }
            p.note { "Contents digest " code { (summary.contents_digest) } ", digest " code { (bag.digest) } }
        };
        layout::page(&title, &[(format!("bag {}", summary.bag), bag_address(system, summary.bag))], main)
    }
}
