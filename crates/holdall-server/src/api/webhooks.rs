//! Webhooks: they start a check at once. Nobody's token is needed; each has a secret of its own.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use holdall_protocol::api::code;
use holdall_store::{Tx, checks, pipelines, resources};
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, ApiResult};
use super::request::{Json, Path, Query};
use super::{App, now};
use crate::auth::same_secret;

/// The native routes: `webhooks/...`.
pub fn native_routes() -> Router<App> {
    Router::new()
}

/// Concourse's route (reference, section 2.6).
pub fn concourse_routes() -> Router<App> {
    Router::new()
        .route("/api/v1/teams/{team}/pipelines/{pipeline}/resources/{resource}/check/webhook", post(check_webhook))
}

#[derive(Deserialize)]
struct WebhookToken {
    webhook_token: Option<String>,
}

/// What a webhook was about, when it was let in.
enum Asked {
    /// There is no such resource.
    Unknown,
    /// The token is wrong, or the resource has none.
    Refused,
    /// A check is wanted.
    Wanted(i64),
}

/// Checks a resource at once. The body is not looked at.
async fn check_webhook(
    State(app): State<App>,
    Path((team, pipeline, resource)): Path<(String, String, String)>,
    Query(query): Query<WebhookToken>,
) -> ApiResult<Response> {
    let Some(token) = query.webhook_token.filter(|token| !token.is_empty()) else {
        return Err(ApiError::bad_request("the parameter webhook_token is missing"));
    };
    let names = (team.clone(), pipeline.clone(), resource.clone());
    let asked = app.store.write(move |tx| want_check(tx, &names.0, &names.1, &names.2, &token)).await?;
    match asked {
        Asked::Unknown => Err(ApiError::not_found(format_args!("resource {team}/{pipeline}/{resource}"))),
        Asked::Refused => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            code::UNAUTHENTICATED,
            "the webhook_token is not the one of this resource",
        )),
        Asked::Wanted(id) => {
            let build = json!({
                "id": id,
                "name": "check",
                "team_name": team,
                "pipeline_name": pipeline,
                "resource_name": resource,
                "status": "pending",
            });
            Ok((StatusCode::CREATED, Json(build)).into_response())
        }
    }
}

fn want_check(
    tx: &mut Tx<'_>,
    team: &str,
    pipeline: &str,
    resource: &str,
    token: &str,
) -> Result<Asked, holdall_store::StoreError> {
    let Some(pipeline) = pipelines::pipeline_find(tx, team, pipeline)? else { return Ok(Asked::Unknown) };
    let Some(resource) = resources::resource_find(tx, pipeline.id, resource)? else { return Ok(Asked::Unknown) };
    if !resource.webhook_token.as_deref().is_some_and(|own| same_secret(own, token)) {
        return Ok(Asked::Refused);
    }
    if let Some(scope) = resource.scope {
        checks::check_want(tx, scope, now())?;
    }
    Ok(Asked::Wanted(resource.id.0))
}
