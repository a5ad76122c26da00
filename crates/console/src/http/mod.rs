//! The page and its API.

mod assets;
mod openapi;
mod pages;
mod stream;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use service::{CancellationToken, Service};

use crate::Config;
use crate::control::{Action, Control};
use crate::live::Live;
use pages::Pages;

/// The header that carries the control token.
const TOKEN: &str = "x-wiki-control";
/// Nothing but our own; styles are set by script one by one, never as text.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// What the routes share.
#[derive(Clone, Debug)]
pub struct Site {
    /// What is known.
    pub live: Arc<Live>,
    /// What pages may do; `None` where nothing.
    pub control: Option<Control>,
    /// The compose files that the stack was started with, as `COMPOSE_FILE` has them; empty where it was not.
    pub compose_file: String,
    /// Where Grafana is; empty where there is none.
    pub grafana_url: String,
    /// Ends every stream.
    pub shutdown: CancellationToken,
    pages: Pages,
}

impl Site {
    /// A site without pages yet.
    #[must_use]
    pub fn new(live: Arc<Live>, control: Option<Control>, config: &Config, service: &Service) -> Self {
        let (compose_file, grafana_url) = (config.compose_file.clone(), config.grafana_url.clone());
        let pages = Pages::new(config.max_clients, config.max_clients_of_an_address, &service.metrics);
        Self { live, control, compose_file, grafana_url, shutdown: service.shutdown.clone(), pages }
    }
}

/// Every route, by its path: what `openapi.json` describes.
pub const PATHS: [&str; 6] = [
    "/api/state",
    "/api/stream",
    "/api/rebalances",
    "/api/partitions/{partition}/records",
    "/api/control",
    "/openapi.json",
];

/// The page and its API, to be merged with the admin routes.
pub fn router(site: Site) -> Router {
    let [state, stream, rebalances, records, control, described] = PATHS;
    Router::new()
        .route("/", get(assets::page))
        .route("/{asset}", get(assets::asset))
        .route(state, get(snapshot))
        .route(stream, get(stream::open))
        .route(rebalances, get(all_rebalances))
        .route(records, get(last_records))
        .route(control, post(act))
        .route(described, get(openapi::document))
        .layer(middleware::from_fn(protect))
        .with_state(site)
}

async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn snapshot(State(site): State<Site>, headers: HeaderMap) -> Response {
    let snapshot = site.live.snapshot();
    let tag = format!("\"{}\"", snapshot.seq);
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let caching = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, Json(snapshot)).into_response()
}

async fn all_rebalances(State(site): State<Site>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"rebalances.jsonl\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, site.live.rebalances()).into_response()
}

async fn last_records(State(site): State<Site>, Path(partition): Path<i32>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(site.live.records(partition))).into_response()
}

async fn act(State(site): State<Site>, headers: HeaderMap, Json(action): Json<Action>) -> Response {
    let refused = |code: StatusCode, why: &str| (code, Json(json!({ "error": why }))).into_response();
    let Some(control) = &site.control else {
        return refused(
            StatusCode::NOT_FOUND,
            "nothing can be controlled from here: use the command that the page shows",
        );
    };
    if !is_same_origin(&headers) {
        return refused(StatusCode::FORBIDDEN, "this request comes from another site");
    }
    if headers.get(TOKEN).is_none_or(|token| token.as_bytes() != control.token.as_bytes()) {
        return refused(StatusCode::FORBIDDEN, "the control token is missing or of an earlier start: reload the page");
    }
    match control.controls.act(action).await {
        Ok(done) => Json(json!({ "done": done })).into_response(),
        Err(why) => refused(StatusCode::CONFLICT, &why),
    }
}

/// Browsers say where a request comes from; others need not.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    origin.to_str().is_ok_and(|origin| origin == format!("http://{host}") || origin == format!("https://{host}"))
}
