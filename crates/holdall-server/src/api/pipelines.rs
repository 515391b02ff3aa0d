//! `pipelines`, `jobs` and `resources`, read; and checks, asked for.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use holdall_engine::resolve::document::Document;
use holdall_protocol::api::{
    CheckAnswer, CheckRequest, JobDetail, JobSummary, List, PipelineDetail, PipelineSummary, ResourceSummary,
    ResourceVersion,
};
use holdall_store::checks;
use serde::Deserialize;

use super::error::ApiResult;
use super::request::{Json, Page, Path, Query};
use super::{App, now};
use crate::auth::User;
use crate::error::Error;
use crate::query;

/// The longest that an answer waits for a check.
const LONGEST_WAIT: u64 = 60;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/pipelines", get(list))
        .route("/pipelines/{team}/{pipeline}", get(detail))
        .route("/pipelines/{team}/{pipeline}/jobs", get(jobs))
        .route("/jobs/{team}/{pipeline}/{job}", get(job))
        .route("/jobs/{team}/{pipeline}/{job}/history", get(history))
        .route("/resources", get(resources))
        .route("/resources/{team}/{pipeline}/{resource}/versions", get(versions))
        .route("/resources/{team}/{pipeline}/{resource}/check", post(check))
}

#[derive(Debug, Default, Deserialize)]
struct OfTeam {
    team: Option<String>,
}

async fn list(State(app): State<App>, Query(asked): Query<OfTeam>) -> ApiResult<Json<List<PipelineSummary>>> {
    let items = app.store.read(move |tx| query::jobs::pipeline_list(tx, asked.team.as_deref())).await?;
    Ok(Json(List::whole(items)))
}

async fn detail(
    State(app): State<App>,
    Path((team, pipeline)): Path<(String, String)>,
) -> ApiResult<Json<PipelineDetail>> {
    Ok(Json(app.store.read(move |tx| query::jobs::pipeline(tx, &team, &pipeline)).await?))
}

async fn jobs(
    State(app): State<App>,
    Path((team, pipeline)): Path<(String, String)>,
) -> ApiResult<Json<List<JobSummary>>> {
    let items = app.store.read(move |tx| query::jobs::list(tx, &team, &pipeline)).await?;
    Ok(Json(List::whole(items)))
}

async fn job(
    State(app): State<App>,
    Path((team, pipeline, job)): Path<(String, String, String)>,
) -> ApiResult<Json<JobDetail>> {
    let detail = app.store.read(move |tx| query::jobs::detail(tx, &team, &pipeline, &job)).await?;
    Ok(Json(detail))
}

/// What input resolution of the job depends on, in the format that `holdall resolve` reads.
async fn history(
    State(app): State<App>,
    Path((team, pipeline, job)): Path<(String, String, String)>,
) -> ApiResult<Json<Document>> {
    Ok(Json(app.store.read(move |tx| query::jobs::history(tx, &team, &pipeline, &job)).await?))
}

#[derive(Debug, Default, Deserialize)]
struct ResourcesAsked {
    team: Option<String>,
    pipeline: Option<String>,
    system: Option<String>,
}

async fn resources(
    State(app): State<App>,
    Query(asked): Query<ResourcesAsked>,
) -> ApiResult<Json<List<ResourceSummary>>> {
    let items = app
        .store
        .read(move |tx| query::resources::list(tx, asked.team, asked.pipeline, asked.system.as_deref()))
        .await?;
    Ok(Json(List::whole(items)))
}

async fn versions(
    State(app): State<App>,
    Path((team, pipeline, resource)): Path<(String, String, String)>,
    Query(page): Query<Page>,
) -> ApiResult<Json<List<ResourceVersion>>> {
    let (limit, below) = (page.limit()?, page.below()?);
    let (items, last) = app
        .store
        .read(move |tx| {
            let row = query::resources::find(tx, &team, &pipeline, &resource)?;
            query::resources::version_list(tx, &row, below, limit)
        })
        .await?;
    let full = i64::try_from(items.len()).unwrap_or(i64::MAX) >= limit;
    Ok(Json(List { items, next: last.filter(|_| full).map(|order| order.to_string()) }))
}

async fn check(
    State(app): State<App>,
    _user: User,
    Path((team, pipeline, resource)): Path<(String, String, String)>,
    Json(request): Json<CheckRequest>,
) -> ApiResult<Json<CheckAnswer>> {
    let asked_at = now();
    // Before the check is wanted, so that its end cannot be missed.
    let mut changes = app.store.signals().changes();
    let row = app
        .store
        .write(move |tx| {
            let row = query::resources::find(tx, &team, &pipeline, &resource)?;
            if holdall_store::pipelines::is_release_type(&row.kind) {
                return Err(Error::invalid(format!(
                    "{} is of type {}: the server itself knows its versions",
                    row.name, row.kind
                )));
            }
            if let Some(scope) = row.scope {
                checks::check_want(tx, scope, asked_at)?;
            }
            Ok(row)
        })
        .await?;
    let wait = Duration::from_secs(request.wait_seconds.min(LONGEST_WAIT));
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let looked = row.clone();
        let answer = app.store.read(move |tx| query::resources::check_answer(tx, &looked, asked_at)).await?;
        if answer.done || tokio::time::Instant::now() >= deadline {
            return Ok(Json(answer));
        }
        // Whatever changed, or however many changes were missed, the next look sees it.
        let _ = tokio::time::timeout_at(deadline, changes.recv()).await;
    }
}
