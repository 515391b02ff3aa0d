//! `acts`: everything that a person does to the server's state.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use holdall_protocol::api::{ActAnswer, ActRequest};

use super::error::ApiResult;
use super::request::Json;
use super::{App, now};
use crate::auth::User;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/acts", post(act))
}

async fn act(State(app): State<App>, user: User, Json(request): Json<ActRequest>) -> ApiResult<Json<ActAnswer>> {
    let actor = user.actor();
    let answer = app.store.write(move |tx| crate::acts::act(tx, &actor, &request, now())).await?;
    Ok(Json(answer))
}
