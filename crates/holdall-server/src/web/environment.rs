//! An environment's page: what is live, what is under way, what holds it, and what has been.

use axum::extract::State;
use axum::response::IntoResponse;
use holdall_protocol::api::{BuildRef, EnvironmentDetail};
use maud::{Markup, html};

use super::layout::{self, bag_address, environment_address, state, version, when};
use crate::api::App;
use crate::api::error::ApiResult;
use crate::api::request::Path;
use crate::query;

/// The page.
#[derive(Debug)]
pub(super) struct EnvironmentPage {
    pub(super) environment: EnvironmentDetail,
}

pub(super) async fn page(
    State(app): State<App>,
    Path((system, environment)): Path<(String, String)>,
) -> ApiResult<impl IntoResponse> {
    let environment = app.store.read(move |tx| query::environments::detail(tx, &system, &environment)).await?;
    Ok(super::answer(EnvironmentPage { environment }.render()))
}

fn build(build: &BuildRef) -> Markup {
    html! { a href={ "/builds/" (build.id) } { (build.job) " " (build.name) } " " (state(build.status.as_str())) }
}

impl EnvironmentPage {
    pub(super) fn render(&self) -> Markup {
        let detail = &self.environment;
        let summary = &detail.summary;
        let system = &summary.system;
        let title = format!("{} of {system}", summary.environment);
        let main = html! {
            h1 { (title) }
            p {
                (state(summary.state.as_str())) " "
                @match summary.current {
                    Some(bag) => { a href=(bag_address(system, bag)) { "bag " (bag) } " is live" }
                    None => { "nothing is live" }
                }
                @if let Some(bag) = detail.previous {
                    ", before it " a href=(bag_address(system, bag)) { "bag " (bag) }
                }
                "."
            }
            @if let Some(freeze) = &detail.freeze {
                p.frozen {
                    "Frozen at bag " (freeze.bag) " by " (freeze.by)
                    @if let Some(reason) = &freeze.reason { ": " (reason) }
                    ", since " (when(freeze.since)) "."
                }
            }
            h2 { "Why nothing moves" }
            @if detail.holds.is_empty() { p { "Nothing holds it back." } } @else { (layout::holds(&detail.holds)) }
            h2 { "Lock" }
            @if detail.lock_detail.holders.is_empty() { p { "Nobody has it." } }
            ul.plain {
                @for holder in &detail.lock_detail.holders {
                    li {
                        (holder.kind) " " (holder.name)
                        @if let Some(bag) = holder.bag { " of bag " (bag) }
                        @if let Some(reason) = &holder.reason { ": " (reason) }
                        ", since " (when(holder.since))
                        @if let Some(end) = holder.expected_end { ", likely until " (when(end)) }
                    }
                }
                @for waiter in &detail.lock_detail.queue {
                    li { (waiter.position) ". waits: " (waiter.name) ", since " (when(waiter.since)) }
                }
            }
            @if !detail.suspects.is_empty() {
                h2 { "Suspects" }
                ul { @for suspect in &detail.suspects {
                    li {
                        (suspect.service) " " (version(&suspect.version)) ", brought by bag " (suspect.bag)
                        @if let Some(reason) = &suspect.reason { ": " (reason) }
                        @if let Some(from) = &suspect.inherited_from { " (rolled back in " (from) ")" }
                    }
                } }
            }
            h2 { "Jobs" }
            ul.plain { @for job in &detail.jobs {
                li {
                    strong { (job.job) } " "
                    @if job.paused { span.note { "paused " } }
                    @if let Some(next) = &job.next { (build(next)) " " }
                    @if let Some(finished) = &job.finished { (build(finished)) }
                    @if job.next.is_none() && job.finished.is_none() { span.note { "no build yet" } }
                }
            } }
            h2 { "Deployments" }
            div.scroll role="region" aria-label="Deployments" tabindex="0" {
                table {
                    thead { tr {
                        th scope="col" { "Number" } th scope="col" { "Bag" } th scope="col" { "State" }
                        th scope="col" { "Started" } th scope="col" { "Builds" }
                    } }
                    tbody { @for deployment in &detail.deployments { tr {
                        th scope="row" { (deployment.deployment) }
                        td {
                            a href=(bag_address(system, deployment.bag)) { (deployment.bag) }
                            " " (deployment.direction.as_str())
                        }
                        td {
                            (state(deployment.state.as_str()))
                            @if let Some(note) = &deployment.note { " " span.note { (note) } }
                            @if !deployment.superseded.is_empty() {
                                " " span.note { "instead of "
                                    (deployment.superseded.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")) }
                            }
                        }
                        td {
                            (when(deployment.started_at)) " by " (deployment.started_by)
                            @if let Some(reason) = &deployment.reason { ": " (reason) }
                        }
                        td { @for found in &deployment.builds { (build(found)) " " } }
                    } } }
                }
            }
        };
        let address = environment_address(system, &summary.environment);
        layout::page(&title, &[(summary.environment.clone(), address)], main)
    }
}
