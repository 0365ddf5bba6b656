//! The page for the moment when there is no Grafana: what the router does now, in a browser, beside the metrics.
//!
//! Three files that are part of the program, and one document of counters that the page asks for every two seconds and takes
//! the differences of. Nothing comes from elsewhere and nothing that is shown is taken for HTML (page.js), and a strict
//! content security policy holds it to that. The document is made at most every other second, however many look.
//!
//! The metrics' port knows no users, and the page shows addresses (flows, rules, interfaces): it is there on loopback, or
//! where `control.page` says so. Requests by any name but `localhost` or an address are refused, or a page elsewhere could
//! have its own name point here and read what only this host may see (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use sluice_api as api;
use sluice_config::System;
use tokio::time::Instant;

use crate::api::snapshot;
use crate::control::{Control, unix_time};

/// How long an answer is good for all who ask.
const FRESH: Duration = Duration::from_millis(1900);

/// Rules that are shown: those with the most packets.
const RULES: usize = 25;

/// Sources that are shown, and about how many flows are looked at to find them.
const TALKERS: (usize, u64) = (12, 20_000);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What page.js is given: counters since the start.
#[derive(Serialize)]
struct Document {
    /// Seconds since 1970.
    time: f64,
    status: api::Status,
    interfaces: Vec<api::Interface>,
    workers: Vec<api::Worker>,
    flows: api::FlowCount,
    conntrack: Vec<api::ConntrackStats>,
    drops: Vec<api::Drop>,
    /// The busiest ones.
    rules: Vec<api::Rule>,
    /// Of how many.
    rule_count: usize,
    talkers: api::Top,
}

/// The latest document, and when it was made.
type Latest = tokio::sync::Mutex<Option<(Instant, Bytes)>>;

#[derive(Clone)]
struct Page {
    control: Arc<Control>,
    latest: Arc<Latest>,
}

/// Whether the page is served.
pub(crate) fn is_on(system: &System) -> bool {
    let loopback = system.control.metrics.is_some_and(|address| address.ip().to_canonical().is_loopback());
    system.control.page.unwrap_or(loopback)
}

/// The page, beside whatever else the port serves.
pub(crate) fn router(control: Arc<Control>) -> Router {
    let html = "text/html; charset=utf-8";
    Router::new()
        .route("/", get(async move || file(html, include_str!("index.html"))))
        .route("/page.css", get(async || file("text/css", include_str!("page.css"))))
        .route("/page.js", get(async || file("text/javascript", include_str!("page.js"))))
        .route("/page/state", get(state))
        .layer(from_fn(guard))
        .with_state(Page { control, latest: Arc::default() })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn state(State(page): State<Page>) -> Response {
    let mut latest = page.latest.lock().await;
    if let Some((made, bytes)) = &*latest
        && made.elapsed() < FRESH
    {
        return json(bytes.clone());
    }
    match document(&page.control).await {
        Ok(bytes) => {
            *latest = Some((Instant::now(), bytes.clone()));
            json(bytes)
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error).into_response(),
    }
}

fn json(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

async fn document(control: &Arc<Control>) -> Result<Bytes, String> {
    let talkers = snapshot::talkers(control, TALKERS.0, TALKERS.1).await?;
    let state = || State(Arc::clone(control));
    let document = Document {
        time: unix_time(),
        status: snapshot::status(state()).await.0,
        interfaces: snapshot::interfaces(state()).await.0,
        workers: snapshot::workers(state()).await.0,
        flows: snapshot::count(state()).await.0,
        conntrack: snapshot::stats(state()).await.0,
        drops: snapshot::drops(state()).await.0,
        rules: snapshot::busiest_rules(control, RULES),
        rule_count: control.publisher.world().ruleset.rules().len(),
        talkers,
    };
    serde_json::to_vec(&document).map(Bytes::from).map_err(|error| error.to_string())
}

/// Refuses strange names, and puts on every answer what holds browsers to what it is.
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_here) {
        let why = "ask by address, or as localhost: other names may be somebody else's";
        return (StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    let mut response = next.run(request).await;
    let headers: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a `Host` header names an address, or this host by the one name that is always its own.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_names_of_this_host() {
        for (host, expected) in [
            ("127.0.0.1:9843", true),
            ("localhost:9843", true),
            ("LocalHost", true),
            ("[::1]:9843", true),
            ("192.0.2.1", true),
            ("evil.example:9843", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_here(host), expected, "{host}");
        }
    }

    #[test]
    fn the_page_takes_nothing_from_elsewhere_and_makes_no_html() {
        let files = [include_str!("index.html"), include_str!("page.css"), include_str!("page.js")];
        for file in files {
            for foreign in
                ["http:", "https:", "//cdn", "@import", "url(", "innerHTML", "insertAdjacentHTML", " style="]
            {
                assert!(!file.contains(foreign), "{foreign}");
            }
        }
        assert!(files.iter().map(|file| file.len()).sum::<usize>() < 20_000, "small");
    }
}
