//! `builds` and the audit log, read.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use holdall_engine::ids::{BuildId, PipelineId};
use holdall_engine::status::BuildStatus;
use holdall_protocol::api::{AuditEntry, BuildDetail, BuildSummary, Doctor, List, PlanStep, Worker};
use holdall_store::builds::{BuildFilter, Within};
use holdall_store::{Tx, environments, jobs, pipelines};
use serde::Deserialize;

use super::error::{ApiError, ApiResult};
use super::request::{Json, Page, Path, Query, page_of};
use super::{App, now};
use crate::error::Error;
use crate::query;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/builds", get(list))
        .route("/builds/{id}", get(detail))
        .route("/builds/{id}/plan", get(plan))
        .route("/audit", get(audit))
        .route("/doctor", get(doctor))
        .route("/workers", get(workers))
}

#[derive(Debug, Default, Deserialize)]
struct BuildsAsked {
    team: Option<String>,
    pipeline: Option<String>,
    job: Option<String>,
    system: Option<String>,
    environment: Option<String>,
    deployment: Option<i64>,
    status: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

async fn list(State(app): State<App>, Query(asked): Query<BuildsAsked>) -> ApiResult<Json<List<BuildSummary>>> {
    let page = Page { limit: asked.limit, after: asked.after.clone() };
    let (limit, below) = (page.limit()?, page.below()?);
    let status = match &asked.status {
        None => None,
        Some(name) => Some(
            BuildStatus::from_name(name)
                .ok_or_else(|| ApiError::bad_request(format!("status={name} is not the status of a build")))?,
        ),
    };
    let items = app
        .store
        .read(move |tx| {
            let filter = filter(tx, &asked, status)?;
            query::builds::list(tx, &filter, below.map(BuildId), limit)
        })
        .await?;
    Ok(Json(page_of(items, limit, |build| build.build.id)))
}

/// From names to ids; a name that nothing has is said, rather than that nothing was found.
fn filter(tx: &mut Tx<'_>, asked: &BuildsAsked, status: Option<BuildStatus>) -> Result<BuildFilter, Error> {
    let mut filter = BuildFilter { status, ..BuildFilter::default() };
    let mut within: Option<Vec<PipelineId>> = None;
    if let Some(name) = &asked.system {
        query::system(tx, name)?;
    }
    if asked.system.is_some() || asked.environment.is_some() {
        let owners: Vec<_> = environments::pipeline_owners(tx)?
            .into_iter()
            .filter(|owner| asked.system.as_ref().is_none_or(|name| *name == owner.system))
            .filter(|owner| asked.environment.as_ref().is_none_or(|name| *name == owner.name))
            .collect();
        if let (Some(name), true) = (&asked.environment, owners.is_empty()) {
            return Err(query::no_environment(tx, asked.system.as_deref(), name)?);
        }
        within = Some(owners.iter().map(|owner| owner.pipeline).collect());
        if let (Some(number), Some(owner)) = (asked.deployment, owners.first()) {
            let found = environments::deployment_find(tx, owner.environment, number)?
                .ok_or_else(|| Error::not_found(format!("deployment {number} of {}", owner.name)))?;
            filter.deployment = Some(found.id);
        }
    }
    if let Some(team) = &asked.team {
        let mut found = pipelines::pipeline_ids_of_team(tx, team)?;
        found.retain(|id| within.as_ref().is_none_or(|known| known.contains(id)));
        within = Some(found);
    }
    if let Some(name) = &asked.pipeline {
        if let Some(team) = &asked.team {
            query::pipeline(tx, team, name)?;
        }
        let found = pipelines::pipeline_list(tx)?
            .into_iter()
            .filter(|row| row.name == *name)
            .map(|row| row.id)
            .filter(|id| within.as_ref().is_none_or(|known| known.contains(id)))
            .collect();
        within = Some(found);
    }
    if let Some(name) = &asked.job {
        if let (Some(team), Some(pipeline)) = (&asked.team, &asked.pipeline) {
            query::job(tx, team, pipeline, name)?;
        }
        let within = match within.take() {
            Some(known) => known,
            None => pipelines::pipeline_list(tx)?.into_iter().map(|row| row.id).collect(),
        };
        let mut found = Vec::new();
        for pipeline in within {
            found.extend(jobs::job_find(tx, pipeline, name)?.map(|job| job.id));
        }
        filter.within = Some(Within::Jobs(found));
    }
    if let Some(pipelines) = within {
        filter.within = Some(Within::Pipelines(pipelines));
    }
    Ok(filter)
}

async fn detail(State(app): State<App>, Path(id): Path<i64>) -> ApiResult<Json<BuildDetail>> {
    Ok(Json(app.store.read(move |tx| query::builds::detail(tx, id)).await?))
}

async fn plan(State(app): State<App>, Path(id): Path<i64>) -> ApiResult<Json<PlanStep>> {
    Ok(Json(app.store.read(move |tx| query::builds::plan(tx, id)).await?))
}

#[derive(Debug, Default, Deserialize)]
struct AuditAsked {
    system: Option<String>,
    environment: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

async fn audit(State(app): State<App>, Query(asked): Query<AuditAsked>) -> ApiResult<Json<List<AuditEntry>>> {
    let page = Page { limit: asked.limit, after: asked.after };
    let (limit, below) = (page.limit()?, page.below()?);
    let items = app
        .store
        .read(move |tx| query::audit::list(tx, asked.system.as_deref(), asked.environment.as_deref(), below, limit))
        .await?;
    Ok(Json(page_of(items, limit, |entry| entry.id)))
}

async fn doctor(State(app): State<App>) -> ApiResult<Json<Doctor>> {
    let (backend, dir) = (app.store.backend(), app.settings.data_dir.clone());
    Ok(Json(app.store.read(move |tx| query::doctor::look(tx, backend, Some(&dir), now())).await?))
}

async fn workers(State(app): State<App>) -> ApiResult<Json<List<Worker>>> {
    Ok(Json(List::whole(app.store.read(query::doctor::worker_list).await?)))
}
