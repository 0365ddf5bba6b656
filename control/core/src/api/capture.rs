//! A capture as a stream of pcapng, for as long as the client reads it.

use std::convert::Infallible;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sluice_api as api;

use super::conntrack::read;
use super::{By, Refusal, Shared, record};
use crate::capture::{Capture, CaptureError, FilterError};

pub(super) async fn capture(
    State(control): Shared,
    Extension(by): By,
    body: Bytes,
) -> Result<Response, Refusal> {
    let request: api::CaptureRequest = read(&body)?;
    let capture = Capture::begin(&control, &request).await?;
    record::log(&by, "capture", "begun");
    let blocks = stream::unfold(capture, |mut capture| async {
        let blocks = Bytes::from(capture.next().await);
        Some((Ok::<_, Infallible>(blocks), capture))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-pcapng")], Body::from_stream(blocks)).into_response())
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Refusal {
        match error {
            CaptureError::TooMany => Refusal::new(StatusCode::CONFLICT, error.to_string()),
            CaptureError::Filter(error) => error.into(),
            CaptureError::Worker(error) => error.into(),
        }
    }
}

impl From<FilterError> for Refusal {
    fn from(error: FilterError) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}
