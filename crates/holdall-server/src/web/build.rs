//! A build's page: its steps and its log, live.

use axum::extract::State;
use axum::response::IntoResponse;
use holdall_engine::ids::BuildId;
use holdall_engine::run::StepState;
use holdall_protocol::api::{BuildDetail, BuildInput};
use holdall_store::Tx;
use holdall_store::events::event_list;
use maud::{Markup, html};

use super::layout::{self, bag_address, environment_address, state, version, when};
use crate::api::App;
use crate::api::error::ApiResult;
use crate::api::request::Path;
use crate::error::Error;
use crate::query;
use crate::query::builds::StepShown;

/// How much of a log the page itself holds; the rest comes by the stream, or is in the whole log.
const SHOWN_LOG: usize = 256 * 1024;

/// The page.
#[derive(Debug)]
pub(super) struct BuildPage {
    pub(super) build: BuildDetail,
    pub(super) steps: Vec<StepShown>,
    /// What was printed, by step, as text.
    pub(super) log: Vec<(String, String)>,
    /// The last event that the log has.
    pub(super) seen: i64,
}

pub(super) async fn page(State(app): State<App>, Path(id): Path<i64>) -> ApiResult<impl IntoResponse> {
    let page = app.store.read(move |tx| read(tx, id)).await?;
    Ok(super::answer(page.render()))
}

fn read(tx: &mut Tx<'_>, id: i64) -> Result<BuildPage, Error> {
    let build = query::builds::detail(tx, id)?;
    let steps = query::builds::steps(tx, id)?;
    let mut log: Vec<(String, Vec<u8>)> = Vec::new();
    let (mut seen, mut size) = (-1, 0);
    'rows: loop {
        let rows = event_list(tx, BuildId(id), seen + 1, 64)?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let step = row.step.unwrap_or_default();
            let text = match row.kind.as_str() {
                "output" => row.bytes.unwrap_or_default(),
                "note" => format!("{}\n", row.payload.unwrap_or_default()).into_bytes(),
                _ => {
                    seen = row.seq;
                    continue;
                }
            };
            size += text.len();
            if size > SHOWN_LOG {
                break 'rows;
            }
            seen = row.seq;
            match log.iter_mut().find(|(known, _)| *known == step) {
                Some((_, bytes)) => bytes.extend(text),
                None => log.push((step, text)),
            }
        }
    }
    let log = log.into_iter().map(|(step, bytes)| (step, String::from_utf8_lossy(&bytes).into_owned())).collect();
    Ok(BuildPage { build, steps, log, seen })
}

fn step_state(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "pending",
        StepState::Running => "running",
        StepState::Succeeded => "succeeded",
        StepState::Failed => "failed",
        StepState::Errored => "errored",
        StepState::Aborted => "aborted",
        StepState::Skipped => "skipped",
    }
}

impl BuildPage {
    pub(super) fn render(&self) -> Markup {
        let summary = &self.build.summary;
        let build = &summary.build;
        let title = format!("{} {}", build.job, build.name);
        let ended = build.status.is_terminal();
        let main = html! {
            h1 { (title) }
            p {
                (state(build.status.as_str())) " "
                @if let (Some(system), Some(environment)) = (&summary.system, &summary.environment) {
                    a href=(environment_address(system, environment)) { (environment) } " "
                    @if let Some(bag) = summary.bag { a href=(bag_address(system, bag)) { "bag " (bag) } " " }
                } @else { (build.team) "/" (build.pipeline) " " }
                @if let Some(started) = summary.started_at { "started " (when(started)) " " }
                @if let Some(ended) = summary.ended_at { "ended " (when(ended)) }
                @if self.build.aborting { " " span.note { "being aborted" } }
            }
            @if let Some(note) = &summary.note { p.note { (note) } }
            @if !self.build.report.is_empty() { h2 { "What it waits for" } (layout::holds(&self.build.report)) }
            (versions("Inputs", &self.build.inputs))
            (versions("Outputs", &self.build.outputs))
            h2 { "Steps" }
            @let general = self.log.iter().find(|(step, _)| step.is_empty());
            div #log data-build=[(!ended).then_some(build.id)] data-seen=(self.seen) {
                section.step data-step="" {
                    pre { @if let Some((_, text)) = general { (text) } }
                }
                @for step in &self.steps {
                    section.step data-step=(step.id) {
                        h3 { (step.kind) " " (step.name) " " (state(step_state(step.state))) }
                        pre { @if let Some((_, text)) = self.log.iter().find(|(id, _)| *id == step.id) { (text) } }
                    }
                }
            }
            p { a href={ "/api/holdall/v1/builds/" (build.id) "/log" } { "The whole log, as it was printed" } }
        };
        layout::page(&title, &[(title.clone(), format!("/builds/{}", build.id))], main)
    }
}

fn versions(title: &str, inputs: &[BuildInput]) -> Markup {
    html! {
        @if !inputs.is_empty() {
            details {
                summary { (title) " (" (inputs.len()) ")" }
                ul { @for input in inputs {
                    li {
                        (input.name) " " (version(&input.version))
                        @if input.first_occurrence { " " span.note { "new" } }
                    }
                } }
            }
        }
    }
}
