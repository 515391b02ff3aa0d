//! `locks`: who has an environment, and taking it.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use holdall_protocol::api::{
    AcquireAnswer, AcquireRequest, Done, Granted, List, LockDetail, Preview, ReleaseRequest, RenewRequest, code,
};

use super::error::{ApiError, ApiResult};
use super::request::{Json, Path};
use super::{App, now};
use crate::acts::{self, Acquired};
use crate::auth::{self, User};
use crate::error::{Error, Refusal};
use crate::query;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/locks", get(list))
        .route("/locks/{environment}", get(one))
        .route("/locks/{environment}/acquire", post(acquire))
        .route("/locks/{environment}/renew", post(renew))
        .route("/locks/{environment}/release", post(release))
}

async fn list(State(app): State<App>) -> ApiResult<Json<List<LockDetail>>> {
    let items = app.store.read(query::locks::list).await?;
    Ok(Json(List::whole(items)))
}

async fn one(State(app): State<App>, Path(environment): Path<String>) -> ApiResult<Json<LockDetail>> {
    Ok(Json(app.store.read(move |tx| query::locks::lock(tx, &environment)).await?))
}

async fn acquire(
    State(app): State<App>,
    user: User,
    Path(environment): Path<String>,
    Json(request): Json<AcquireRequest>,
) -> ApiResult<Json<AcquireAnswer>> {
    let secret = auth::new_secret().map_err(|error| ApiError::internal(&error))?;
    let actor = user.actor();
    let answer = app
        .store
        .write(move |tx| {
            if request.dry_run {
                return tx.undone(|tx| {
                    let got = acts::acquire(tx, &actor, &environment, &request, &secret, now())?;
                    let sentence = match got {
                        Acquired::Granted(_) => format!("{} gets the lock of {environment} at once", actor.name),
                        Acquired::Queued { position, .. } => {
                            format!("{} waits for the lock of {environment} in place {position}", actor.name)
                        }
                    };
                    let preview = Preview { sentences: vec![sentence], ..Preview::default() };
                    Ok::<_, Error>(AcquireAnswer::Preview { preview: Box::new(preview) })
                });
            }
            match acts::acquire(tx, &actor, &environment, &request, &secret, now())? {
                Acquired::Granted(granted) => Ok(AcquireAnswer::Granted(granted)),
                Acquired::Queued { place, position } => Ok(AcquireAnswer::Queued {
                    place,
                    position,
                    lock: Box::new(query::locks::lock(tx, &environment)?),
                    lapses_seconds: acts::WAITING_LAPSES.0.unsigned_abs() / 1_000_000,
                }),
            }
        })
        .await?;
    Ok(Json(answer))
}

async fn renew(
    State(app): State<App>,
    _user: User,
    Path(environment): Path<String>,
    Json(request): Json<RenewRequest>,
) -> ApiResult<Json<Granted>> {
    let granted =
        app.store.write(move |tx| acts::renew(tx, &environment, &request.token, request.for_seconds, now())).await?;
    Ok(Json(granted))
}

async fn release(
    State(app): State<App>,
    user: User,
    Path(environment): Path<String>,
    Json(request): Json<ReleaseRequest>,
) -> ApiResult<Json<Done>> {
    let actor = user.actor();
    app.store
        .write(move |tx| {
            let had = acts::release(tx, &actor, &environment, &request.token, request.reason.as_deref(), now())?;
            if !had {
                let message = format!("the lock of {environment} is not held any more");
                return Err(Error::from(Refusal::new(409, code::LOCK_LOST, message)));
            }
            Ok(())
        })
        .await?;
    Ok(Json(Done {}))
}
