//! What the server answers to a request.
//!
//! **Probes and Prometheus wait for nothing**: the answer to them is there at once. Only what a daemon
//! answers itself ([`Site`]) may come later.

use super::site::{Asked, Reply, Site};
use crate::health::Health;
use crate::metrics::{MEDIA_TYPE, Registry};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Headers of what a daemon answers itself. Nothing is loaded from elsewhere, nothing but the files of this
/// server is executed, no other site may show it in a frame or read it.
const OF_SITE: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// An answer, now or later.
type Answer = Either<Ready<Response<Full<Bytes>>>, BoxFuture<'static, Response<Full<Bytes>>>>;

/// See the module.
pub(super) struct Answers {
    /// Whether the loop goes round, and whether the program does its work.
    health: Arc<Health>,
    /// The numbers.
    metrics: Registry,
    /// What the daemon answers itself.
    site: Option<Site>,
    /// Whether only this machine can connect.
    is_local: bool,
}

impl Answers {
    pub(super) fn new(health: Arc<Health>, metrics: Registry, site: Option<Site>, is_local: bool) -> Self {
        Self { health, metrics, site, is_local }
    }

    /// The answer to a request.
    pub(super) fn answer<B: Body>(&self, request: &Request<B>) -> Answer {
        if let Some(site) = &self.site
            && is_plain_get(request)
            && let Some(reply) = site(&Asked::of(request.uri().path(), request.uri().query()))
        {
            if self.is_local && !is_for_this_machine(request) {
                let why = "this address answers by the name localhost or an IP address only\n";
                return Either::Left(ready(response(StatusCode::MISDIRECTED_REQUEST, TEXT, why)));
            }
            return Either::Right(reply.map(of_site).boxed());
        }
        Either::Left(ready(self.now(request)))
    }

    /// The answer to a request that is not for the daemon itself.
    fn now<B: Body>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
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
            _ if self.site.is_some() => {
                let there = "there are /, /api/batches, /api/moves, /livez, /readyz and /metrics\n";
                response(StatusCode::NOT_FOUND, TEXT, there)
            }
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

/// Whether it is a GET without a body.
fn is_plain_get<B: Body>(request: &Request<B>) -> bool {
    request.method() == Method::GET && request.body().is_end_stream()
}

/// Whether the browser was led to this machine by its address or by `localhost`. **The name of another site may
/// lead here, too** (DNS rebinding), and its scripts could then read what is answered.
fn is_for_this_machine<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let Some(Ok(host)) = host.map(str::parse::<Authority>) else { return false };
    let host = host.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn of_site(reply: Reply) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = response(status, reply.media_type, Bytes::from_owner(reply.body));
    for (name, value) in OF_SITE {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(age) = reply.age {
        response.headers_mut().insert(AGE, HeaderValue::from(age.as_secs()));
    }
    response
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_site_does_not_lead_to_this_machine() {
        let hosts = [
            ("localhost", true),
            ("LOCALHOST:9187", true),
            ("127.0.0.1:9187", true),
            ("10.0.0.7", true),
            ("[::1]:9187", true),
            ("evil.example", false),
            ("evil.example:9187", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            ("a b", false),
        ];
        for (host, expected) in hosts {
            let request = Request::builder().header(HOST, host).body(()).unwrap();
            assert_eq!(is_for_this_machine(&request), expected, "{host}");
        }
        assert!(!is_for_this_machine(&Request::new(())), "none");
    }
}
