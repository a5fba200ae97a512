//! What the server answers to a request.

use crate::health::Health;
use crate::metrics::{MEDIA_TYPE, Registry};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::sync::Arc;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// See the module.
pub(super) struct Answers {
    /// Whether the loop goes round, and whether the program does its work.
    health: Arc<Health>,
    /// The numbers.
    metrics: Registry,
}

impl Answers {
    pub(super) fn new(health: Arc<Health>, metrics: Registry) -> Self {
        Self { health, metrics }
    }

    /// The answer to a request. **It waits for nothing.**
    pub(super) fn answer<B: Body>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        if !request.body().is_end_stream() {
            return response(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "a GET has no body here\n");
        }
        match request.uri().path() {
            "/livez" if self.health.is_alive() => response(StatusCode::OK, TEXT, "ok\n"),
            "/livez" => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the loop stands still\n"),
            "/readyz" => self.readiness(),
            "/metrics" => self.metrics(),
            _ => response(StatusCode::NOT_FOUND, TEXT, "there are /livez, /readyz and /metrics\n"),
        }
    }

    /// **While the loop stands still, nobody knows whether the program could work**, so it does not count as
    /// ready.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let mut status = self.health.status();
        if status.ready && !self.health.is_alive() {
            (status.ready, status.why) = (false, Some("the loop stands still".to_owned()));
        }
        let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        match serde_json::to_string(&status) {
            Ok(json) => response(code, JSON, json + "\n"),
            Err(error) => failed(&error),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let is_ready = self.health.status().ready && self.health.is_alive();
        match self.metrics.text(is_ready) {
            Ok(text) => response(StatusCode::OK, MEDIA_TYPE, text),
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Response<Full<Bytes>> {
    tracing::warn!("--http cannot answer: {error}");
    response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "see the log\n")
}

fn response(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // What a proxy has kept is of no use.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
