//! Who may ask what: layers around the endpoints. Local clients pass; their measure is the socket's mode.
//!
//! In this order, for a remote client: has its certificate a role at all ([`may_ask`]), may it change something, and is the
//! change neither late nor a second one ([`may_change`]), does its body come in time and within the limit
//! ([`take_body`]). So nothing is read of a body before it is known that its sender may send it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::LengthLimitError;
use sluice_api as api;
use sluice_certificates::Role;
use tokio::time::timeout;

use super::{Refusal, Shared, record};
use crate::actor::{Actor, Peer};
use crate::control::{Control, unix_seconds};
use crate::lock::locked;
use crate::remote::{Refused, Stamp, WINDOW};

/// Bodies up to this size are taken as they come; larger ones one at a time.
const SMALL: u64 = 64 << 10;

/// How long a body may take: the largest at 7 Mbit/s.
const BODY: Duration = Duration::from_secs(120);

/// How long a large body waits for the one before it.
const TURN: Duration = Duration::from_secs(30);

/// Counts requests, and refuses those whose certificate has no role.
pub(super) async fn may_ask(
    State(control): Shared,
    ConnectInfo(actor): ConnectInfo<Actor>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if let Actor::Remote(peer) = &actor {
        let Some(role) = actor.role() else {
            let why = "the certificate names no role: it may do nothing";
            return Err(refuse(&control, peer, Refused::NoRole, StatusCode::FORBIDDEN, why));
        };
        locked(&control.remote).limits.request(role);
    }
    Ok(next.run(request).await)
}

/// Lets those change something who may; the endpoint finds them as an [`Actor`] with a name.
pub(super) async fn may_change(
    State(control): Shared,
    ConnectInfo(actor): ConnectInfo<Actor>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if let Actor::Remote(peer) = &actor
        && let Err(refusal) = permitted(&control, peer, request.headers())
    {
        let what = format!("{} {}", request.method(), request.uri().path());
        record::log(&actor, &what, &format!("refused: {}", refusal.error.error));
        return Err(refusal);
    }
    request.extensions_mut().insert(actor.named().await);
    Ok(next.run(request).await)
}

/// Reads a remote client's body whole, or refuses it before it is in memory.
pub(super) async fn take_body(
    State(control): Shared,
    ConnectInfo(actor): ConnectInfo<Actor>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (Actor::Remote(peer), Some(role)) = (&actor, actor.role()) else {
        return Ok(next.run(request).await);
    };
    let (parts, body) = request.into_parts();
    let too_large = || {
        let why = format!("a body of more than {} bytes", api::BODY_LIMIT);
        refuse(&control, peer, Refused::Oversized, StatusCode::PAYLOAD_TOO_LARGE, &why)
    };
    let size = body.size_hint();
    if size.lower() > api::BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let limits = Arc::clone(&locked(&control.remote).limits);
    // Held until the answer is there: what was made of a large body is large too.
    let _room = if size.upper().is_some_and(|most| most <= SMALL) {
        None
    } else {
        let room = timeout(TURN, limits.room(role).acquire()).await;
        let busy = || {
            let why = "others of this role send large requests: try again";
            refuse(&control, peer, Refused::Busy, StatusCode::SERVICE_UNAVAILABLE, why)
        };
        Some(room.map_err(|_| busy())?)
    };
    match timeout(BODY, to_bytes(body, api::BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await),
        Ok(Err(error)) => {
            let source = std::error::Error::source(&error);
            if source.is_some_and(|source| source.is::<LengthLimitError>()) {
                return Err(too_large());
            }
            let why = error.to_string();
            Err(refuse(&control, peer, Refused::Malformed, StatusCode::BAD_REQUEST, &why))
        }
        Err(_) => {
            let why = format!("the body did not come within {} s", BODY.as_secs());
            Err(refuse(&control, peer, Refused::Slow, StatusCode::REQUEST_TIMEOUT, &why))
        }
    }
}

/// Whether a remote client may change something, now and this once.
fn permitted(control: &Control, peer: &Peer, headers: &HeaderMap) -> Result<(), Refusal> {
    if peer.identity.role != Some(Role::Write) {
        let why =
            format!("{} may not change anything: its certificate has the role read", peer.identity.name);
        return Err(refuse(control, peer, Refused::Role, StatusCode::FORBIDDEN, &why));
    }
    let Some(stamp) = stamp(headers) else {
        let why = "a change needs the headers sluice-time (seconds since 1970) and sluice-id (32 random \
                   hexadecimal digits)";
        return Err(refuse(control, peer, Refused::Unstamped, StatusCode::BAD_REQUEST, why));
    };
    let now = unix_seconds();
    let Err(reason) = locked(&control.stamps).admit(now, stamp) else { return Ok(()) };
    let (status, why) = match reason {
        Refused::Replay => (StatusCode::CONFLICT, "this change was asked for before".to_owned()),
        Refused::Stale => {
            let off = now.cast_signed() - stamp.time.cast_signed();
            let why = format!(
                "this change was asked for {off} s ago by the box's clock (limit {WINDOW}, and not before \
                 sluiced started): look at both clocks"
            );
            (StatusCode::CONFLICT, why)
        }
        _ => {
            let why = format!("too many changes in {} s: try again later", 2 * WINDOW);
            (StatusCode::TOO_MANY_REQUESTS, why)
        }
    };
    Err(refuse(control, peer, reason, status, &why))
}

fn stamp(headers: &HeaderMap) -> Option<Stamp> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = text(api::ID_HEADER).filter(|text| text.len() == 32)?;
    Some(Stamp {
        time: text(api::TIME_HEADER)?.parse().ok()?,
        number: u128::from_str_radix(number, 16).ok()?,
    })
}

fn refuse(control: &Control, peer: &Peer, reason: Refused, status: StatusCode, why: &str) -> Refusal {
    let from = format_args!("{} at {}", peer.identity.name, peer.address);
    locked(&control.remote).limits.refusals.count(reason, from, why);
    Refusal::new(status, why)
}
