//! One frame for all services: configuration, telemetry, health, tasks, shutdown, the admin server.
//!
//! It knows nothing of Kafka or of Wikipedia. A service gives [`main`] its configuration type and its `run`;
//! the frame parses flags and environment, starts logs and the admin server, ends everything on SIGTERM
//! within [`shutdown::LIMIT`], and turns the result into an exit code and one sentence.
//!
//! ```no_run
//! #[derive(clap::Args, Debug)]
//! struct Config {}
//!
//! async fn run(_config: Config, service: service::Service) -> Result<(), service::Failure> {
//!     let stopped = service.shutdown.clone();
//!     service.tasks.spawn("wait", async move {
//!         stopped.cancelled().await;
//!         Ok(())
//!     });
//!     service.finish().await
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     service::main("example", "0.0.0.0:8080", run)
//! }
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`config`] | flags = environment; wrong ones as one sentence |
//! | [`failure`] | why a service ended, and its exit code |
//! | [`telemetry`] | logs: pretty on a terminal, JSON otherwise |
//! | [`metrics`] | the registry, and what every service shows |
//! | [`health`] | readiness checks, heartbeats |
//! | [`tasks`] | supervised tasks and threads |
//! | [`shutdown`] | signals, the limit |
//! | [`admin`] | `/livez`, `/readyz`, `/health`, `/metrics` |
//! | [`http`], [`limits`] | the HTTP server, and the bounds that it keeps its clients to |
//! | [`per_address`] | streams that stay open, counted by address |
//! | [`healthcheck`] | the container's health check |

pub mod admin;
pub mod config;
pub mod failure;
pub mod guard;
pub mod health;
pub mod healthcheck;
pub mod http;
pub mod limits;
pub mod local;
pub mod metrics;
pub mod per_address;
pub mod replica;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod text;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// For every program, and for the C libraries in it: `malloc` itself is jemalloc's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use clap::Args;
pub use tokio_util::sync::CancellationToken;

pub use config::ServiceConfig;
pub use failure::Failure;
pub use health::Health;
pub use metrics::Metrics;
pub use tasks::{Heartbeat, Tasks};

/// What the frame hands to a service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The service's name, as in its metrics and logs.
    pub name: &'static str,
    /// This replica's name, for people.
    pub replica: String,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// Where readiness is told.
    pub health: Health,
    /// Where tasks are spawned.
    pub tasks: Tasks,
    /// Cancelled when the service should end.
    pub shutdown: CancellationToken,
    /// Where the admin routes are served.
    pub(crate) address: Arc<OnceLock<SocketAddr>>,
    /// Who serves them.
    server: Arc<Mutex<Option<admin::Server>>>,
}

impl Service {
    /// Makes the parts of one service; it ends when `shutdown` is cancelled.
    #[must_use]
    pub fn new(name: &'static str, shutdown: CancellationToken) -> Self {
        let metrics = Metrics::new(name);
        let health = Health::new(&metrics);
        let tasks = Tasks::new(shutdown.clone(), health.clone(), &metrics);
        Self {
            name,
            replica: name.to_owned(),
            metrics,
            health,
            tasks,
            shutdown,
            address: Arc::default(),
            server: Arc::default(),
        }
    }

    /// Notes where the admin routes are served.
    pub fn serves_at(&self, address: SocketAddr) {
        // The first address stays: a service has one.
        let _ = self.address.set(address);
    }

    pub(crate) fn served_by(&self, server: admin::Server) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Waits until the service ends: on shutdown, when every task is done or the limit is over, and at once
    /// where a task failed. The last answers of the admin server are waited for.
    ///
    /// # Errors
    /// What the first failing task said.
    pub async fn finish(&self) -> Result<(), Failure> {
        // Only now: a start that fails says one sentence and nothing else.
        tracing::info!(address = self.address.get().map(tracing::field::display), "started");
        let result = self.tasks.finish().await;
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.end().await;
        }
        let seconds = self.tasks.stopping_for().as_secs_f64();
        self.metrics.set_shutdown_seconds(seconds);
        tracing::info!(seconds, "stopped");
        result
    }
}

/// Runs a service as a process: the whole of each `main.rs`.
pub fn main<C, F, R>(name: &'static str, default_http: &'static str, run: F) -> ExitCode
where
    C: Args,
    F: FnOnce(C, Service) -> R,
    R: Future<Output = Result<(), Failure>>,
{
    main_from(std::env::args_os(), name, default_http, run)
}

/// Like [`main`], with the command line given; its first word is the program.
pub fn main_from<C, F, R>(
    arguments: impl IntoIterator<Item = OsString>,
    name: &'static str,
    default_http: &'static str,
    run: F,
) -> ExitCode
where
    C: Args,
    F: FnOnce(C, Service) -> R,
    R: Future<Output = Result<(), Failure>>,
{
    main_with_own_server(arguments, name, default_http, async |config, service, http| {
        admin::start(&service, http).await?;
        run(config, service).await
    })
}

/// Like [`main_from`], for a service whose own server carries the admin routes ([`admin::router`]).
pub fn main_with_own_server<C, F, R>(
    arguments: impl IntoIterator<Item = OsString>,
    name: &'static str,
    default_http: &'static str,
    run: F,
) -> ExitCode
where
    C: Args,
    F: FnOnce(C, Service, SocketAddr) -> R,
    R: Future<Output = Result<(), Failure>>,
{
    let (frame, config) = match config::parse::<C>(name, default_http, arguments) {
        config::Parsed::Run(frame, config) => (frame, config),
        config::Parsed::Healthcheck(address) => return healthcheck::run(name, address),
        config::Parsed::Exit(code) => return code,
    };
    let replica = frame.replica();
    // Looked up once: under compose it is a question to the name server.
    let frame = ServiceConfig { replica: Some(replica.clone()), ..frame };
    telemetry::start(name, &frame, telemetry::DEFAULT_FILTER);
    guard::answer_to(frame.allowed_hosts.clone());
    let result = block_on(async {
        let shutdown = CancellationToken::new();
        shutdown::on_signals(&shutdown);
        if frame.end_with_stdin {
            shutdown::on_stdin_end(&shutdown);
        }
        let service = Service { replica, ..Service::new(name, shutdown) };
        run(config, service, frame.http).await
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(name),
    }
}

/// Runs a future on a runtime of its own.
///
/// # Errors
/// What the future said, or that there is no runtime.
pub fn block_on<R>(future: impl Future<Output = Result<R, Failure>>) -> Result<R, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(future);
    // Threads that are still inside a client library must not hold the process: the design is kill-safe.
    runtime.shutdown_background();
    result
}
