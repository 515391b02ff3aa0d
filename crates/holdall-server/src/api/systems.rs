//! `systems`: bags, environments, reports, and where a commit is.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use holdall_protocol::api::{
    BagDetail, BagDiff, BagSummary, EnvironmentDetail, EnvironmentSummary, Hold, List, SystemDetail, SystemSummary,
    Where,
};
use serde::Deserialize;

use super::App;
use super::error::ApiResult;
use super::request::{Json, Page, Path, Query, page_of};
use crate::query;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/systems", get(list))
        .route("/systems/{system}", get(detail))
        .route("/systems/{system}/bags", get(bags))
        .route("/systems/{system}/bags/{bag}", get(bag))
        .route("/systems/{system}/bags/{bag}/diff", get(diff))
        .route("/systems/{system}/environments", get(environments))
        .route("/systems/{system}/environments/{environment}", get(environment))
        .route("/systems/{system}/environments/{environment}/why", get(why))
        .route("/systems/{system}/where", get(whereis))
}

async fn list(State(app): State<App>) -> ApiResult<Json<List<SystemSummary>>> {
    Ok(Json(List::whole(app.store.read(query::systems::list).await?)))
}

async fn detail(State(app): State<App>, Path(system): Path<String>) -> ApiResult<Json<SystemDetail>> {
    Ok(Json(app.store.read(move |tx| query::systems::detail(tx, &system)).await?))
}

async fn bags(
    State(app): State<App>,
    Path(system): Path<String>,
    Query(page): Query<Page>,
) -> ApiResult<Json<List<BagSummary>>> {
    let (limit, below) = (page.limit()?, page.below()?);
    let items = app.store.read(move |tx| query::bags::list(tx, &system, below, limit)).await?;
    Ok(Json(page_of(items, limit, |bag| bag.bag)))
}

async fn bag(State(app): State<App>, Path((system, bag)): Path<(String, i64)>) -> ApiResult<Json<BagDetail>> {
    Ok(Json(app.store.read(move |tx| query::bags::detail(tx, &system, bag)).await?))
}

#[derive(Debug, Default, Deserialize)]
struct With {
    with: Option<i64>,
}

async fn diff(
    State(app): State<App>,
    Path((system, bag)): Path<(String, i64)>,
    Query(asked): Query<With>,
) -> ApiResult<Json<BagDiff>> {
    Ok(Json(app.store.read(move |tx| query::bags::diff(tx, &system, bag, asked.with)).await?))
}

async fn environments(State(app): State<App>, Path(system): Path<String>) -> ApiResult<Json<List<EnvironmentSummary>>> {
    let items = app.store.read(move |tx| query::environments::list(tx, &system)).await?;
    Ok(Json(List::whole(items)))
}

async fn environment(
    State(app): State<App>,
    Path((system, environment)): Path<(String, String)>,
) -> ApiResult<Json<EnvironmentDetail>> {
    let found = app.store.read(move |tx| query::environments::detail(tx, &system, &environment)).await?;
    Ok(Json(found))
}

#[derive(Debug, Default, Deserialize)]
struct OfBag {
    bag: Option<i64>,
}

async fn why(
    State(app): State<App>,
    Path((system, environment)): Path<(String, String)>,
    Query(asked): Query<OfBag>,
) -> ApiResult<Json<List<Hold>>> {
    let items = app.store.read(move |tx| query::why::why(tx, &system, &environment, asked.bag)).await?;
    Ok(Json(List::whole(items)))
}

#[derive(Debug, Default, Deserialize)]
struct OfCommit {
    commit: String,
}

async fn whereis(
    State(app): State<App>,
    Path(system): Path<String>,
    Query(asked): Query<OfCommit>,
) -> ApiResult<Json<Where>> {
    Ok(Json(app.store.read(move |tx| query::whereis::find(tx, &system, &asked.commit)).await?))
}
