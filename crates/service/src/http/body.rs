//! Bodies: a request's is read whole, within its bounds; an answer's ends its request where it is dropped.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::phase::Phase;
use crate::limits::{Limits, Refused};

/// A request that is whole, or what to answer in its place.
pub(super) async fn read(
    request: axum::http::Request<Incoming>,
    limits: &Limits,
) -> Result<Request, (Refused, StatusCode, String)> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let bytes = axum::body::to_bytes(Body::new(body), limits.body_bytes);
    match tokio::time::timeout(limits.times.body, bytes).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        // Its bytes were too many; where the client is gone, it does not hear the answer.
        Ok(Err(_)) => {
            let why = format!("a body may have {} bytes\n", limits.body_bytes);
            Err((Refused::BodyBytes, StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Err(_) => Err((Refused::BodyTime, StatusCode::REQUEST_TIMEOUT, too_late(limits.times.body))),
    }
}

fn too_late(limit: Duration) -> String {
    format!("the body did not end within {} s\n", limit.as_secs_f64())
}

/// The body of an answer. Its request is in work until this is dropped.
#[derive(Debug)]
pub(super) struct InWork {
    body: Body,
    phase: Phase,
}

impl InWork {
    pub(super) const fn new(body: Body, phase: Phase) -> Self {
        Self { body, phase }
    }
}

impl HttpBody for InWork {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.phase.end();
    }
}
