//! `tokens`: who may come in. The name of a token is who the audit log shows, so a name stands for one token.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Router, response::IntoResponse};
use holdall_engine::time::Timestamp;
use holdall_protocol::api::{Done, List, Time, Token, TokenMade, TokenRequest};
use holdall_store::audit::{AuditRow, audit_add};
use holdall_store::{Tx, access};

use super::error::{ApiError, ApiResult};
use super::request::{Json, Path};
use super::{App, now};
use crate::auth::{self, User};
use crate::error::Error;

/// The longest name.
const MAX_NAME: usize = 100;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/tokens", get(list).post(create)).route("/tokens/{name}", delete(remove))
}

async fn list(State(app): State<App>) -> ApiResult<Json<List<Token>>> {
    let rows = app.store.read(access::token_list).await?;
    let time = |at: Timestamp| Time(at.0);
    let items = rows.into_iter().map(|row| Token {
        name: row.name,
        created_at: time(row.created_at),
        created_by: row.created_by,
        used_at: row.used_at.map(time),
    });
    Ok(Json(List::whole(items.collect())))
}

async fn create(State(app): State<App>, user: User, Json(request): Json<TokenRequest>) -> ApiResult<impl IntoResponse> {
    let secret = auth::new_secret().map_err(|error| ApiError::internal(&error))?;
    let name = request.name.trim().to_owned();
    let (hash, made_name) = (auth::secret_hash(&secret), name.clone());
    app.store.write(move |tx| token_make(tx, &name, &hash, &user, now())).await?;
    Ok((StatusCode::CREATED, Json(TokenMade { name: made_name, token: secret })))
}

/// Keeps a new token under a name that none has.
fn token_make(tx: &mut Tx<'_>, name: &str, hash: &str, by: &User, now: Timestamp) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "a token's name has 1 to {MAX_NAME} characters, none of them a control character"
        )));
    }
    if access::token_list(tx)?.iter().any(|token| token.name == name) {
        return Err(Error::invalid(format!(
            "there is a token named {name}; delete it first, or give this one another name"
        )));
    }
    access::token_create(tx, name, hash, now)?;
    access::token_made_by(tx, hash, &by.name)?;
    note(tx, by, "token_create", name, now)
}

async fn remove(State(app): State<App>, user: User, Path(name): Path<String>) -> ApiResult<Json<Done>> {
    app.store
        .write(move |tx| {
            if !access::token_delete(tx, &name)? {
                return Err(Error::not_found(format!("token {name}")));
            }
            note(tx, &user, "token_delete", &name, now())
        })
        .await?;
    app.tokens.forget();
    Ok(Json(Done {}))
}

fn note(tx: &mut Tx<'_>, by: &User, act: &str, name: &str, now: Timestamp) -> Result<(), Error> {
    let row = AuditRow {
        id: 0,
        at: now,
        who: by.name.clone(),
        origin: by.origin.to_owned(),
        act: act.to_owned(),
        target: format!("token/{name}"),
        reason: None,
        before: None,
        after: None,
    };
    Ok(audit_add(tx, &row)?)
}
