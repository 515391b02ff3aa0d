//! Webhooks: they start a check at once. Nobody's token is needed; each has a secret of its own.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use holdall_engine::ids::ScopeId;
use holdall_protocol::api::code;
use holdall_store::{StoreError, Tx, checks, pipelines, resources};
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, ApiResult};
use super::request::{Json, Path, Query};
use super::{App, now};
use crate::auth::same_secret;
use crate::error::from_json;
use crate::webhook::{MAX_BODY_BYTES, Touched, WebhookError, WebhookKind, concerns, verify_and_parse};

/// The native routes: `webhooks/github`, `gitlab`, `registry` and `ecr`.
pub fn native_routes() -> Router<App> {
    Router::new().route("/webhooks/{kind}", post(native).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)))
}

/// Starts checks of everything that a native webhook concerns, by repository. Nothing concerned is no mistake: 202.
async fn native(
    State(app): State<App>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<Response> {
    let Ok(kind) = kind.parse::<WebhookKind>() else {
        return Err(ApiError::not_found(format_args!("webhook {kind}: there are github, gitlab, registry and ecr")));
    };
    let touched = verify_and_parse(kind, &headers, &body, &app.settings.webhook_secret).map_err(refused)?;
    let scopes = app.store.read(move |tx| touched_scopes(tx, &touched)).await?;
    let checked = scopes.len();
    if checked > 0 {
        let want = move |tx: &mut Tx<'_>| scopes.into_iter().try_for_each(|scope| checks::check_want(tx, scope, now()));
        app.store.write(want).await?;
    }
    let message = match checked {
        0 => "no resource is concerned by this".to_owned(),
        1 => "1 resource is checked".to_owned(),
        n => format!("{n} resources are checked"),
    };
    Ok((StatusCode::ACCEPTED, Json(json!({ "checked": checked, "message": message }))).into_response())
}

fn refused(error: WebhookError) -> ApiError {
    let message = error.to_string();
    match error {
        WebhookError::NoSecret | WebhookError::MissingProof(_) | WebhookError::WrongProof(_) => {
            ApiError::unauthenticated(message)
        }
        WebhookError::TooLarge => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_LARGE, message),
        WebhookError::Malformed { .. } => ApiError::bad_request(message),
    }
}

/// The scopes that something touched concerns. Every one of these types is looked through, beside what is written.
fn touched_scopes(tx: &mut Tx<'_>, touched: &[Touched]) -> Result<Vec<ScopeId>, StoreError> {
    let mut found = Vec::new();
    for scope in resources::scopes_of_types(tx, &["git", "registry-image"])? {
        let source: serde_json::Value = from_json(&scope.source)?;
        if touched.iter().any(|touched| concerns(touched, &scope.kind, &source)) {
            found.push(scope.id);
        }
    }
    Ok(found)
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

fn want_check(tx: &mut Tx<'_>, team: &str, pipeline: &str, resource: &str, token: &str) -> Result<Asked, StoreError> {
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
