//! The metrics' own HTTP server, on the address that `control.metrics` names; the page is served there too.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::TextEncoder;
use tokio::net::TcpListener;

use super::collect;
use crate::connection::Door;
use crate::control::Control;
use crate::lock::locked;
use crate::page;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("metrics on {address}: {source}")]
pub struct MetricsError {
    /// The address.
    address: SocketAddr,
    /// What failed.
    source: io::Error,
}

/// A socket that listens.
pub struct MetricsServer(Door<TcpListener>);

impl MetricsServer {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The address is in use, or not here.
    pub async fn open(address: SocketAddr) -> Result<MetricsServer, MetricsError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(MetricsServer(Door::new(listener))),
            Err(source) => Err(MetricsError { address, source }),
        }
    }
}

/// Serves `/metrics` until the runtime ends.
pub async fn serve(control: Arc<Control>, server: MetricsServer) {
    let page = if page::is_on(&locked(&control.system).model) {
        page::router(Arc::clone(&control))
    } else {
        Router::new().route("/", get(no_page))
    };
    let router = Router::new().route("/metrics", get(metrics)).with_state(control).merge(page);
    if let Err(error) = axum::serve(server.0, router).await {
        tracing::error!(%error, "the metrics server ended");
    }
}

async fn no_page() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "metrics are at /metrics; there is a page here on loopback, or with `control: {page: on}`\n",
    )
}

async fn metrics(State(control): State<Arc<Control>>) -> Response {
    match text(&control) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// All families in the text format.
pub(crate) fn text(control: &Control) -> prometheus::Result<String> {
    // A family without values (no rule has a name) is an error to the encoder, and nothing to Prometheus.
    let families = collect(control).into_iter().filter(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families.collect::<Vec<_>>())
}
