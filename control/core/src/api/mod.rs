//! The API's server: HTTP/1.1 with JSON on a unix socket. What travels is defined in [`sluice_api`].
//!
//! Who may connect is the socket's mode (0660, group `sluice` where there is one). A client is held to bounds that keep
//! it from harming more than itself: the size of a body, the number of connections, and how long it may stand still.
//! Clients on other hosts come through `crate::remote` and meet the same endpoints behind more bounds (`guard`). What
//! changes something is among the `changes`, which are logged with who asked (`record`).

mod capture;
mod conntrack;
mod expect;
mod guard;
mod nat;
mod record;
pub(crate) mod remote;
mod show;
pub(crate) mod snapshot;
mod socket;
mod top;
mod trace;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api as api;

use crate::actor::Actor;
use crate::apply::{ApplyError, describe};
use crate::control::Control;
use crate::workers::WorkerError;

use record::recorded;
pub use remote::serve_remote;
pub use socket::{ApiSocket, SocketError};

pub(crate) type Shared = State<Arc<Control>>;
/// Who asks for a change.
type By = Extension<Actor>;
type Answer<T> = Result<Json<T>, Refusal>;

/// Serves the API until the runtime ends.
pub async fn serve(control: Arc<Control>, socket: ApiSocket) {
    let ApiSocket { door, file } = socket;
    if let Err(error) =
        axum::serve(door, router(control).into_make_service_with_connect_info::<Actor>()).await
    {
        tracing::error!(%error, "the api ended");
    }
    drop(file);
}

/// The endpoints, as [`sluice_api`] lists them.
pub(crate) fn router(control: Arc<Control>) -> Router {
    let layer = || from_fn_with_state(Arc::clone(&control), guard::take_body);
    let changes = changes().layer(layer()).layer(from_fn_with_state(Arc::clone(&control), guard::may_change));
    questions()
        .layer(layer())
        .merge(changes)
        .fallback(unknown)
        .layer(from_fn_with_state(Arc::clone(&control), guard::may_ask))
        .layer(DefaultBodyLimit::max(api::BODY_LIMIT))
        .with_state(control)
}

/// What changes something: flows, sets, policies; and what shows what is in packets. Remote clients need the role
/// `write` for it.
fn changes() -> Router<Arc<Control>> {
    Router::new()
        .route("/v1/capture", post(capture::capture))
        .route("/v1/policy/apply", post(apply))
        .route("/v1/policy/confirm", post(confirm))
        .route("/v1/policy/rollback", post(rollback))
        .route("/v1/reload", post(reload))
        .route("/v1/sets", post(change_set))
        .route("/v1/conntrack/delete", post(conntrack::delete))
        .route("/v1/conntrack/update", post(conntrack::update))
        .route("/v1/conntrack/flush", post(conntrack::flush))
        .route("/v1/conntrack/expect/delete", post(expect::delete))
}

/// What changes nothing.
fn questions() -> Router<Arc<Control>> {
    Router::new()
        .route("/v1/status", get(show::status))
        .route("/v1/policy", get(show::policy))
        .route("/v1/policy/diff", post(diff))
        .route("/v1/history", get(show::history))
        .route("/v1/rules", get(show::rules))
        .route("/v1/interfaces", get(show::interfaces))
        .route("/v1/routes", get(show::routes))
        .route("/v1/neighbours", get(show::neighbours))
        .route("/v1/workers", get(show::workers))
        .route("/v1/drops", get(show::drops))
        .route("/v1/nat", get(nat::nat))
        .route("/v1/nat/owner/{address}/{port}", get(nat::owner))
        .route("/v1/sets", get(show::sets))
        .route("/v1/sets/{name}", get(show::set))
        .route("/v1/explain", post(explain))
        .route("/v1/trace", post(trace::trace))
        .route("/v1/config", get(show::config))
        .route("/v1/conntrack/list", post(conntrack::list))
        .route("/v1/conntrack/count", get(conntrack::count))
        .route("/v1/conntrack/watch", post(conntrack::watch))
        .route("/v1/conntrack/expect/list", post(expect::list))
        .route("/v1/conntrack/expect/watch", post(expect::watch))
        .route("/v1/conntrack/top", post(top::top))
        .route("/v1/conntrack/stats", get(conntrack::stats))
}

async fn apply(State(control): Shared, Extension(by): By, body: Bytes) -> Answer<api::ApplyReply> {
    let request: api::ApplyRequest = decode(&body)?;
    let wait = request.confirm.map(|seconds| format!(", to be confirmed in {seconds} s")).unwrap_or_default();
    let what = format!("apply {}{wait}", request.name);
    Ok(Json(recorded(&by, what, control.apply(request, &by)).await?))
}

async fn diff(State(control): Shared, body: Bytes) -> Answer<api::PolicyDiff> {
    Ok(Json(control.diff(decode(&body)?).await?))
}

async fn confirm(State(control): Shared, Extension(by): By) -> Answer<api::ConfirmReply> {
    Ok(Json(recorded(&by, "confirm".to_owned(), control.confirm()).await?))
}

async fn rollback(State(control): Shared, Extension(by): By, body: Bytes) -> Answer<api::ApplyReply> {
    let request: api::RollbackRequest = decode(&body)?;
    let what = format!("rollback {}", request.index.map(|index| index.to_string()).unwrap_or_default());
    Ok(Json(recorded(&by, what.trim_end().to_owned(), control.rollback(request, &by)).await?))
}

async fn change_set(State(control): Shared, Extension(by): By, body: Bytes) -> Answer<api::SetReply> {
    let change: api::SetChange = decode(&body)?;
    let action = match change.action {
        api::SetAction::Add => "add",
        api::SetAction::Del => "del",
        api::SetAction::Replace => "replace",
    };
    let what = format!("set {action} {} ({} elements)", change.name, change.elements.len());
    Ok(Json(recorded(&by, what, control.change_set(change)).await?))
}

async fn explain(State(control): Shared, body: Bytes) -> Answer<api::Explanation> {
    Ok(Json(control.explain(decode(&body)?).await?))
}

async fn reload(State(control): Shared, Extension(by): By) -> Answer<api::ReloadReply> {
    Ok(Json(recorded(&by, "reload".to_owned(), control.reload(&by)).await?))
}

async fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no such endpoint: sluice and sluiced are of different versions")
}

/// A request's body, whatever content type it claims.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// An answer with what was asked for.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

/// An answer that says no.
pub(crate) struct Refusal {
    status: StatusCode,
    pub(crate) error: api::ApiError,
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
            | ApplyError::Remote(_)
            | ApplyError::Unsupported(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApplyError::Waiting(_)
            | ApplyError::NothingWaits
            | ApplyError::NotInHistory(_)
            | ApplyError::NothingBefore => StatusCode::CONFLICT,
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
