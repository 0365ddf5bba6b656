//! The API's server: HTTP/1.1 with JSON on a unix socket. What travels is defined in [`sluice_api`].
//!
//! Who may connect is the socket's mode (0660, group `sluice` where there is one). A client is held to bounds that keep
//! it from harming more than itself: the size of a body, the number of connections, and how long it may stand still.

mod capture;
mod conntrack;
mod expect;
mod nat;
mod show;
mod socket;
mod top;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api as api;

use crate::apply::{ApplyError, describe};
use crate::control::Control;
use crate::workers::WorkerError;

pub use socket::{ApiSocket, SocketError};

type Shared = State<Arc<Control>>;
type Answer<T> = Result<Json<T>, Refusal>;

/// Serves the API until the runtime ends.
pub async fn serve(control: Arc<Control>, socket: ApiSocket) {
    let ApiSocket { door, file } = socket;
    if let Err(error) = axum::serve(door, router(control)).await {
        tracing::error!(%error, "the api ended");
    }
    drop(file);
}

/// The endpoints, as [`sluice_api`] lists them.
fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/v1/status", get(show::status))
        .route("/v1/policy", get(show::policy))
        .route("/v1/policy/apply", post(apply))
        .route("/v1/policy/diff", post(diff))
        .route("/v1/policy/confirm", post(confirm))
        .route("/v1/policy/rollback", post(rollback))
        .route("/v1/history", get(show::history))
        .route("/v1/reload", post(reload))
        .route("/v1/rules", get(show::rules))
        .route("/v1/interfaces", get(show::interfaces))
        .route("/v1/routes", get(show::routes))
        .route("/v1/neighbours", get(show::neighbours))
        .route("/v1/workers", get(show::workers))
        .route("/v1/drops", get(show::drops))
        .route("/v1/nat", get(nat::nat))
        .route("/v1/sets", get(show::sets).post(change_set))
        .route("/v1/sets/{name}", get(show::set))
        .route("/v1/explain", post(explain))
        .route("/v1/capture", post(capture::capture))
        .route("/v1/trace", post(trace::trace))
        .route("/v1/config", get(show::config))
        .route("/v1/conntrack/list", post(conntrack::list))
        .route("/v1/conntrack/count", get(conntrack::count))
        .route("/v1/conntrack/delete", post(conntrack::delete))
        .route("/v1/conntrack/update", post(conntrack::update))
        .route("/v1/conntrack/watch", post(conntrack::watch))
        .route("/v1/conntrack/expect/list", post(expect::list))
        .route("/v1/conntrack/expect/delete", post(expect::delete))
        .route("/v1/conntrack/expect/watch", post(expect::watch))
        .route("/v1/conntrack/top", post(top::top))
        .route("/v1/conntrack/flush", post(conntrack::flush))
        .route("/v1/conntrack/stats", get(conntrack::stats))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(api::BODY_LIMIT))
        .with_state(control)
}

async fn apply(State(control): Shared, body: Bytes) -> Answer<api::ApplyReply> {
    Ok(Json(control.apply(decode(&body)?).await?))
}

async fn diff(State(control): Shared, body: Bytes) -> Answer<api::PolicyDiff> {
    Ok(Json(control.diff(decode(&body)?).await?))
}

async fn confirm(State(control): Shared) -> Answer<api::ConfirmReply> {
    Ok(Json(control.confirm().await?))
}

async fn rollback(State(control): Shared, body: Bytes) -> Answer<api::ApplyReply> {
    Ok(Json(control.rollback(decode(&body)?).await?))
}

async fn change_set(State(control): Shared, body: Bytes) -> Answer<api::SetReply> {
    Ok(Json(control.change_set(decode(&body)?).await?))
}

async fn explain(State(control): Shared, body: Bytes) -> Answer<api::Explanation> {
    Ok(Json(control.explain(decode(&body)?).await?))
}

async fn reload(State(control): Shared) -> Answer<api::ReloadReply> {
    Ok(Json(control.reload().await?))
}

async fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no such endpoint: sluice and sluiced are of different versions")
}

/// A request's body, whatever content type it claims.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// An answer with what was asked for.
struct Json<T>(T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

/// An answer that says no.
struct Refusal {
    status: StatusCode,
    error: api::ApiError,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, error: api::ApiError { error: error.into(), diagnostics: Vec::new() } }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Refusal {
        let status = match &error {
            ApplyError::Refused(_)
            | ApplyError::NeedsRestart(_)
            | ApplyError::ConfirmTime(_)
            | ApplyError::Asked(_)
            | ApplyError::Unsupported(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApplyError::Waiting(_) | ApplyError::NothingWaits | ApplyError::NotInHistory => {
                StatusCode::CONFLICT
            }
            ApplyError::State(_) | ApplyError::Kernel(_) => StatusCode::INTERNAL_SERVER_ERROR,
            ApplyError::Worker(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut refusal = Refusal::new(status, error.to_string());
        if let ApplyError::Refused(findings) = &error {
            refusal.error.diagnostics = describe(findings);
        }
        refusal
    }
}

impl From<WorkerError> for Refusal {
    fn from(error: WorkerError) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}
