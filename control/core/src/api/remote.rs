//! HTTP for remote clients, on the control thread: what [`crate::remote`] has let in is served as the unix socket is.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;

use super::router;
use crate::actor::Actor;
use crate::control::Control;
use crate::lock::locked;
use crate::remote::{Arrived, Refusals, Refused};

/// A request's head is here within this time, or never.
const HEAD: Duration = Duration::from_secs(15);

/// Bytes of a request's head.
const HEAD_SIZE: usize = 32 << 10;

/// Opens remote control if the system file wants it, and serves it until the runtime ends. What is wrong with it is
/// logged: a router whose certificate has run out must still route, and a reload tries again.
pub async fn serve_remote(control: Arc<Control>) {
    let wanted = locked(&control.system).model.control.remote.clone();
    let opened = {
        let mut remote = locked(&control.remote);
        remote.prepare(wanted.as_ref()).and_then(|prepared| remote.put(prepared))
    };
    if let Err(error) = opened {
        tracing::error!("remote control is off until a reload: {error}");
    }
    let arrivals = locked(&control.remote).arrivals();
    let Some(mut arrivals) = arrivals else { return };
    let refusals = Arc::clone(&locked(&control.remote).limits.refusals);
    let router = router(control);
    while let Some(arrived) = arrivals.recv().await {
        tokio::spawn(client(router.clone(), arrived, Arc::clone(&refusals)));
    }
}

/// Serves one client until it goes.
pub(crate) async fn client(router: Router, arrived: Arrived, refusals: Arc<Refusals>) {
    let Arrived { peer, stream } = arrived;
    let actor = Actor::Remote(Arc::clone(&peer));
    let endpoints = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(actor.clone()));
        endpoints.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    let Err(error) = served else { return };
    // A client that just goes is no reason to count.
    let reason = match &error {
        error if error.is_timeout() => Refused::Slow,
        error if error.is_parse() => Refused::Malformed,
        _ => return,
    };
    refusals.count(reason, format_args!("{} at {}", peer.identity.name, peer.address), error);
}
