//! Routes: the stream, the ledger, the faults.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::stream;
use service::limits::{Limits, Times};
use service::per_address::PerAddress;
use service::{Failure, Service, http};
use tokio::net::TcpListener;

use crate::generator::Generator;
use crate::log::{Log, Made};
use crate::request::{self, Refusal};
use crate::stream::{Piece, Shared, open};
use crate::{Config, Faults, recording};

/// Shortest step of the clock that makes events; faster rates make several a step.
const SHORTEST_STEP: Duration = Duration::from_millis(5);

/// How often the event clock is pulled to the wall clock.
const PULL_EVERY: Duration = Duration::from_secs(1);
/// How long ago event time begins where it runs faster than the clock.
const VIRTUAL_BACK_MS: i64 = 30 * 86_400_000;
/// Edits that are made before the first reader: with the events of other types they fit into memory.
const MOST_AT_ONCE: u64 = 150_000;

/// How long a reader of the stream may stop reading: longer than the tests of one that is held up.
const MOST_UNREAD: Duration = Duration::from_secs(120);

/// The bounds of this server: its readers come from one address, each on a connection that stays.
fn limits(streams_of_an_address: usize) -> Limits {
    let limits = Limits::default();
    let connections_of_an_address = limits.connections_of_an_address + streams_of_an_address;
    let connections = limits.connections + streams_of_an_address;
    Limits { connections, connections_of_an_address, times: Times { write: MOST_UNREAD, ..limits.times }, ..limits }
}

/// A running simulator.
#[derive(Debug)]
pub struct Simulator {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct App {
    shared: Arc<Shared>,
    limit: usize,
    open: PerAddress,
    /// Connections so far.
    taken: Arc<AtomicU64>,
}

/// The log that the flags ask for.
fn log_of(config: &Config) -> Result<Log, Failure> {
    if let Some(path) = &config.events {
        return Ok(Log::recorded(recording::read(path).map_err(Failure::Config)?, config.history_seconds));
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let default_ms = if config.is_real_time() { now_ms } else { now_ms - VIRTUAL_BACK_MS };
    let seed = config.seed.unwrap_or_else(|| RandomState::new().hash_one(now_ms));
    tracing::debug!(seed, "events are made from this seed");
    let epoch_ms = config.epoch_ms.unwrap_or(default_ms) - i64::from(config.backlog_seconds) * 1000;
    let mut log = Log::generated(Generator::new(seed, epoch_ms, config.making()), config.edits, config.history_seconds);
    log.grow_seconds(config.backlog_seconds);
    // A bounded number of edits is made without a reader, as long as it fits into memory.
    if config.interval().is_none() && config.edits.is_some_and(|edits| edits <= MOST_AT_ONCE) {
        while log.grow(1000) > 0 {}
    }
    Ok(log)
}

impl Simulator {
    /// Starts serving on a listener; it ends with the service's shutdown.
    ///
    /// # Errors
    /// [`Failure::Config`] where the recording cannot be read.
    pub fn start(config: &Config, service: &Service, listener: TcpListener) -> Result<Self, Failure> {
        let log = log_of(config)?;
        let interval = config.interval();
        let shutdown = service.shutdown.clone();
        let shared = Arc::new(Shared::new(log, config.faults.clone(), interval.is_none(), shutdown.clone()));
        let address = listener.local_addr().map_err(|error| Failure::Runtime(error.to_string()))?;
        let app = App {
            shared: Arc::clone(&shared),
            limit: config.connections,
            open: PerAddress::default(),
            taken: Arc::default(),
        };
        let routes = Router::new()
            .route("/v2/stream/{streams}", get(stream_route))
            .route("/served", get(served))
            .route("/made", get(made))
            .route("/make", post(make))
            .route("/faults", put(set_faults))
            .with_state(app)
            .merge(service::admin::router(service));
        let serving = http::serve(listener, routes, service.metrics.clone(), limits(config.connections), shutdown);
        service.tasks.spawn("serve", async move {
            serving.await;
            Ok(())
        });
        if let (Some(interval), None) = (interval, &config.events) {
            service.tasks.spawn("generate", generate(Arc::clone(&shared), interval, config.is_real_time()));
        }
        Ok(Self { address, shared })
    }

    /// The streams' source topics, as the log has them.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.shared.log().topics().to_vec()
    }

    /// Makes no more events; what is there is served on.
    pub fn stop_growing(&self) {
        self.shared.log().stop_growing();
    }

    /// Events of this kind that were made, sent or not; `None` where there were too many to list.
    #[must_use]
    pub fn made(&self, kind: &str) -> Option<Vec<Made>> {
        let log = self.shared.log();
        let made = log.made()?;
        Some(made.filter(|made| made.kind == kind).cloned().collect())
    }
}

/// Makes events at a steady rate.
async fn generate(shared: Arc<Shared>, interval: Duration, is_real_time: bool) -> Result<(), Failure> {
    let started = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(interval.max(SHORTEST_STEP));
    let mut made = 0.0;
    let mut pulled = started;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.shutdown.cancelled() => return Ok(()),
        }
        let due = started.elapsed().as_secs_f64() / interval.as_secs_f64();
        let mut is_complete = false;
        let Faults { frozen, switched, .. } = shared.faults();
        shared.log().switch(switched);
        if is_real_time && pulled.elapsed() >= PULL_EVERY {
            pulled = tokio::time::Instant::now();
            shared.log().pull(jiff::Timestamp::now().as_millisecond());
        }
        while made < due && !is_complete {
            // Time that passes frozen is not made up for.
            is_complete = !frozen && shared.log().grow(1) == 0;
            made += 1.0;
        }
        shared.grown.notify_waiters();
        if is_complete {
            return Ok(());
        }
    }
}

async fn stream_route(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(streams): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    if let Some(response) = app.fault() {
        return response;
    }
    if let Err(refusal) = request::check_agent(&headers) {
        return refusal.response(&uri.to_string());
    }
    let Ok(place) = app.open.take(peer.ip(), usize::MAX, app.limit) else {
        return Refusal::too_many().response(&uri.to_string());
    };
    let connection = app.taken.fetch_add(1, Ordering::Relaxed);
    let since = query.get("since").map(String::as_str);
    let served_by = (app.shared.faults().cluster(), connection);
    let planned = request::plan(&streams, since, &headers, &app.shared.log(), served_by);
    let plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => return refusal.response(&uri.to_string()),
    };
    let kind = match (plan.json, headers.contains_key(header::ACCEPT)) {
        (true, _) => "application/json; charset=utf-8",
        (false, true) => "text/event-stream; charset=utf-8",
        (false, false) => "text/event-stream",
    };
    let date = http_date(app.shared.log().now_ms());
    let pieces = open(app.shared, plan);
    // The place is given back when the body is dropped.
    let body = stream::unfold((pieces, place), |(mut pieces, place)| async move {
        let piece: Piece = pieces.recv().await?;
        Some((piece, (pieces, place)))
    });
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    ([(header::DATE, date)], headers, Body::from_stream(body)).into_response()
}

impl App {
    /// The answer that a fault puts in the stream's place.
    fn fault(&self) -> Option<Response> {
        let mut faults = self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = &faults.redirect {
            return Some((StatusCode::FOUND, [(header::LOCATION, place.clone())]).into_response());
        }
        let code = faults.status?;
        faults.status_times = faults.status_times.saturating_sub(1);
        if faults.status_times == 0 {
            faults.status = None;
        }
        let status = StatusCode::from_u16(code).ok()?;
        let mut response =
            (status, [(header::CONTENT_TYPE, "text/html")], "<!DOCTYPE html><title>Error</title>\n").into_response();
        if let Some(seconds) = faults.retry_after {
            let date = SystemTime::now() + Duration::from_secs(seconds.into());
            let value = match HeaderValue::from_str(&httpdate::fmt_http_date(date)) {
                Ok(date) if faults.retry_after_date => date,
                _ => seconds.into(),
            };
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        Some(response)
    }
}

/// `Date` of an answer: the event clock's where that is ahead of ours.
fn http_date(event_ms: i64) -> String {
    let event = Duration::from_millis(u64::try_from(event_ms).unwrap_or(0));
    httpdate::fmt_http_date(SystemTime::now().max(UNIX_EPOCH + event))
}

/// What was sent at least once, one JSON object a line.
async fn served(State(app): State<App>) -> Response {
    lines(app.shared.log().served())
}

/// Everything that was made, sent or not, one JSON object a line.
async fn made(State(app): State<App>) -> Response {
    match app.shared.log().made() {
        Some(made) => lines(made),
        None => (StatusCode::INSUFFICIENT_STORAGE, "more events were made than the ledger holds\n").into_response(),
    }
}

fn lines<'a>(made: impl Iterator<Item = &'a Made>) -> Response {
    let mut body = Vec::new();
    for line in made {
        // A struct of strings and numbers: this cannot fail.
        body.extend(serde_json::to_vec(line).unwrap_or_default());
        body.push(b'\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// What `POST /make` asks for.
#[derive(Debug, serde::Deserialize)]
struct Make {
    /// Seconds of event time.
    seconds: u32,
}

/// Makes events now, with or without a reader; answers with their number.
async fn make(State(app): State<App>, Query(asked): Query<Make>) -> String {
    let switched = app.shared.faults().switched;
    let mut log = app.shared.log();
    log.switch(switched);
    let made = log.grow_seconds(asked.seconds);
    drop(log);
    app.shared.grown.notify_waiters();
    format!("{made}\n")
}

/// Puts other faults in force, for the connections that come.
async fn set_faults(State(app): State<App>, Json(faults): Json<Faults>) -> Json<Faults> {
    *app.shared.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults.clone();
    Json(faults)
}

/// Runs the simulator as a service.
///
/// # Errors
/// [`Failure`] where the recording or the address cannot be used.
pub async fn run(config: Config, service: Service, http: SocketAddr) -> Result<(), Failure> {
    let listener = service::admin::listen(http).await?;
    let ready = service.health.check("log");
    let simulator = Simulator::start(&config, &service, listener)?;
    ready.ok("serving");
    service.serves_at(simulator.address);
    service.finish().await
}
