//! The admin server: `/livez`, `/readyz`, `/health`, `/metrics`. It serves memory and asks nothing of anybody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::{Failure, Metrics, Service, http, metrics};

/// Methods that are told apart in metrics.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
/// How long the last answers may take to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often the runtime's own figures are taken.
const RUNTIME_SAMPLE: Duration = Duration::from_secs(5);

/// Starts the admin server and gives its address.
///
/// # Errors
/// [`Failure::Config`] where the address cannot be listened on.
pub async fn start(service: &Service, address: SocketAddr) -> Result<SocketAddr, Failure> {
    start_with(service, address, Router::new()).await
}

/// The same, with a service's own routes beside the admin ones. Streams among them have to end on shutdown themselves.
///
/// # Errors
/// [`Failure::Config`] where the address cannot be listened on.
pub async fn start_with(service: &Service, address: SocketAddr, routes: Router) -> Result<SocketAddr, Failure> {
    let listener = listen(address).await?;
    let address = listener.local_addr().map_err(|error| Failure::Runtime(error.to_string()))?;
    let routes = router(service).merge(routes);
    let end = CancellationToken::new();
    let metrics = service.metrics.clone();
    let serving = tokio::spawn(http::serve(listener, routes, metrics, Limits::default(), end.clone()));
    tokio::spawn(sample_runtime(service.metrics.clone()));
    service.serves_at(address);
    service.served_by(Server { end, serving });
    Ok(address)
}

/// A running admin server. It outlives the shutdown's beginning: `/livez` answers until every task has ended.
#[derive(Debug)]
pub(crate) struct Server {
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    /// Ends it once what it began to say is said; a client that does not listen is left alone after a while.
    pub(crate) async fn end(self) {
        self.end.cancel();
        if tokio::time::timeout(LAST_WORDS, self.serving).await.is_err() {
            tracing::debug!("clients of the admin server were still connected at the end");
        }
    }
}

/// Listens on an address, or says in one sentence what to do.
///
/// # Errors
/// [`Failure::Config`] where the address cannot be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::Config(format!(
            "cannot listen on {address}: {error}; stop what listens there, or give another address with --http or WIKI_HTTP"
        ))
    })
}

/// The admin routes, to be merged into a service's own server where it has one.
pub fn router(service: &Service) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/health", get(ready))
        .route("/metrics", get(exposition))
        .layer(middleware::from_fn_with_state(service.clone(), count))
        .with_state(service.clone())
}

async fn live(State(service): State<Service>) -> Response {
    let stuck = service.health.stuck();
    if stuck.is_empty() {
        return "alive\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("does not turn: {}\n", stuck.join(", "))).into_response()
}

async fn ready(State(service): State<Service>) -> Response {
    let report = service.health.report();
    let code = if report.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(report)).into_response()
}

async fn exposition(State(service): State<Service>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], service.metrics.render()).into_response()
}

async fn count(State(service): State<Service>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    // A label: of a closed set, whatever strangers send.
    let known = METHODS.iter().find(|known| **known == request.method().as_str());
    let method = known.copied().unwrap_or("other");
    let response = next.run(request).await;
    let seconds = started.elapsed().as_secs_f64();
    service.metrics.count_request(&route, method, response.status().as_u16(), seconds);
    response
}

async fn sample_runtime(metrics: Metrics) {
    let runtime = Handle::current().metrics();
    let workers = runtime.num_workers();
    let mut before = Duration::ZERO;
    let mut ticks = tokio::time::interval(RUNTIME_SAMPLE);
    loop {
        ticks.tick().await;
        let busy: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        let window = RUNTIME_SAMPLE.as_secs_f64() * f64::from(u32::try_from(workers).unwrap_or(1));
        metrics.set_runtime(busy.saturating_sub(before).as_secs_f64() / window, runtime.global_queue_depth());
        before = busy;
    }
}
