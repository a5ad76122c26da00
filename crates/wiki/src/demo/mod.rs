//! Everything on this machine: embedded broker, ingest and enricher in this process, each sink a child process of it,
//! so that one of them can really be killed.

mod cluster;
mod controls;
mod files;
pub(crate) mod running;
mod screen;
mod sinks;
mod source;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kafka::{Kafka, KafkaConfig, Rebalancing};
use service::config::{LogFormat, ServiceConfig};
use service::{CancellationToken, Failure, Metrics, Service, telemetry};

use crate::audit::{self, Report, Table};
pub(crate) use cluster::BrokerMetrics;
use cluster::Cluster;
use controls::Wish;
use sinks::Sinks;
use source::{Source, SourceChoice};
use tokio::sync::mpsc;

/// What the demo's own screen shows of the logs.
const FILTER: &str = "warn,ingest=info,rdkafka=off,librdkafka=off";
/// At the end, edits that were made are still stored, until nothing has moved for this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks whether it has.
const DRAIN_PAUSE: Duration = Duration::from_millis(250);

/// Options of `wiki demo`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// live, generated, the URL of a stream, or a recording (.sse, .jsonl); live if it can be reached, else generated.
    #[arg(long, value_name = "live|generated|URL|FILE", default_value = "auto")]
    source: SourceChoice,
    /// Number of sinks; they share six partitions.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=12))]
    sinks: u16,
    /// Folder of the table (edits.db) and the sinks' logs.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Address of the page, health and metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Names that the page answers to, besides addresses, localhost, and names inside a network.
    #[arg(long, env = "WIKI_ALLOWED_HOSTS", value_name = "HOST,…", value_delimiter = ',')]
    allowed_hosts: Vec<String>,
    /// End by itself after this long, such as 30s or 2m.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// A Kafka cluster in the embedded broker's place, host:port separated by commas; topics get a prefix of their own.
    #[arg(long, value_name = "HOST:PORT,…")]
    kafka_bootstrap_servers: Option<String>,
    /// Copies of each topic, on such a cluster.
    #[arg(long, default_value_t = 1, requires = "kafka_bootstrap_servers", value_parser = clap::value_parser!(i32).range(1..=10))]
    replication_factor: i32,
    /// How partitions move when sinks come and go.
    #[arg(long, value_enum, default_value = "cooperative")]
    rebalance: Rebalancing,
    /// Where Wikimedia can reach you, for the User-Agent.
    #[arg(long, env = "WIKI_CONTACT", default_value = "")]
    contact: String,
    /// Seed of generated input.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, factor) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => match text.as_bytes().last() {
            Some(b's') => (text.trim_end_matches('s'), 1_000),
            Some(b'm') => (text.trim_end_matches('m'), 60_000),
            Some(b'h') => (text.trim_end_matches('h'), 3_600_000),
            _ => return Err("a duration is a number with ms, s, m or h, such as 30s".to_owned()),
        },
    };
    let number: u64 =
        digits.parse().map_err(|_| "a duration is a number with ms, s, m or h, such as 30s".to_owned())?;
    Ok(Duration::from_millis(number.saturating_mul(factor)))
}

/// Runs the demo; its exit code is 0 only if the audit at the end is clean.
pub(crate) fn main(options: Options) -> Result<ExitCode, Failure> {
    let frame = ServiceConfig {
        http: options.http,
        log_format: LogFormat::Pretty,
        allowed_hosts: options.allowed_hosts.clone(),
        replica: None,
        end_with_stdin: false,
    };
    telemetry::start("wiki", &frame, FILTER);
    service::guard::answer_to(frame.allowed_hosts);
    let report = service::block_on(run(options))?;
    println!("\n{report}");
    Ok(if report.is_settled() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn run(options: Options) -> Result<Report, Failure> {
    let started = Instant::now();
    let shutdown = CancellationToken::new();
    service::shutdown::on_signals(&shutdown);
    let table = files::prepare(&options.data)?;
    // The parts outlive the signal: what was made has to reach the table first.
    let parts = CancellationToken::new();
    let console = Service::new("console", parts.child_token());
    let cluster = Cluster::start(&options, &console.metrics)?;
    let _running = running::Running::note(&table, &cluster.config.kafka_bootstrap_servers)?;
    let source = Source::open(&options, &parts).await?;
    let kafka_config = cluster.config.clone();
    let (failures, mut failed) = mpsc::unbounded_channel();
    let (control, mut wishes) = controls::controls();
    let (http, console) = start_console(&options, &kafka_config, (console, control), &failures).await?;
    let ingest = serve_part("ingest", http, 1, &parts).await?;
    let enricher = serve_part("enricher", http, 2, &parts).await?;
    let metrics = [("console", http), ("ingest", ingest.1), ("enricher", enricher.1)];
    println!("{}", banner(&options, &source, &cluster, &table, &metrics));
    let publishing = start_services(&options, &source, &kafka_config, (ingest.0.clone(), enricher.0), &failures)?;
    let kafka = Kafka::new(kafka_config, &Metrics::new("wiki"));
    let mut sinks = Sinks::new(&options, &cluster.config, &table);
    sinks.start_all()?;
    let screen = screen::Screen::start(kafka.clone(), table.clone(), started, parts.child_token());

    let ended = wait(&options, &shutdown, (&cluster, &mut sinks), (&mut failed, &mut wishes)).await;
    println!("\nending: what was made goes into the table first");
    if !source.stop() {
        // Nobody can stop the stream: what is published by now is what has to be stored.
        ingest.0.shutdown.cancel();
        let _ = tokio::time::timeout(service::shutdown::LIMIT, publishing).await;
    }
    screen.stop().await;
    let report = match ended {
        Ok(()) => drain(&kafka, &table, &source).await,
        Err(failure) => Err(failure),
    };
    sinks.stop_all();
    parts.cancel();
    // Pages are told that this is the end. It takes no longer than a service's end may.
    let _ = console.await;
    cluster.stop();
    report
}

fn banner(
    options: &Options,
    source: &Source,
    cluster: &Cluster,
    table: &std::path::Path,
    metrics: &[(&str, SocketAddr)],
) -> String {
    let page = metrics.first().map(|(_, at)| format!("http://{at}/")).unwrap_or_default();
    let metrics: Vec<String> = metrics.iter().map(|(name, at)| format!("{name} http://{at}/metrics")).collect();
    format!(
        "wikipedia-events demo\n\
         page     {page}\n\
         input    {}\n\
         broker   {}\n\
         sinks    {} ({} rebalancing), into {}\n\
         metrics  {}\n\
         Ctrl-C ends it and prints the audit.\n",
        source.describe(),
        cluster.describe(),
        options.sinks,
        options.rebalance.as_str(),
        table.display(),
        metrics.join(", ")
    )
}

/// The page, which may change the demo.
async fn start_console(
    options: &Options,
    kafka: &KafkaConfig,
    (console, control): (Service, console::control::Control),
    failures: &mpsc::UnboundedSender<Failure>,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), Failure> {
    let mut config: console::Config = defaults()?;
    config.kafka = kafka.clone();
    let routes = console::attach(config, &console, Some(control))?;
    let http = service::admin::start_with(&console, options.http, routes).await?;
    let running = tokio::spawn(told(async move { console.finish().await }, failures.clone()));
    Ok((http, running))
}

/// Ingest and enricher, the very `run` of the services.
fn start_services(
    options: &Options,
    source: &Source,
    kafka: &KafkaConfig,
    (ingest, enricher): (Service, Service),
    failures: &mpsc::UnboundedSender<Failure>,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let mut ingest_config: ingest::Config = defaults()?;
    ingest_config.kafka = kafka.clone();
    ingest_config.raw.replication_factor = options.replication_factor;
    ingest_config.stream.stream_url = source.url();
    // Who types a URL knows its host.
    ingest_config.stream.stream_allowed_hosts = source.host().into_iter().collect();
    ingest_config.start = source.start();
    ingest_config.stream.contact.clone_from(&options.contact);
    let mut enricher_config: enricher::Config = defaults()?;
    enricher_config.kafka = kafka.clone();
    enricher_config.rebalance = options.rebalance;
    tokio::spawn(told(enricher::run(enricher_config, enricher), failures.clone()));
    Ok(tokio::spawn(told(ingest::run(ingest_config, ingest), failures.clone())))
}

/// A service of this process with health and metrics of its own, on the port `offset` above the demo's, or on a free
/// one where that is taken.
async fn serve_part(
    name: &'static str,
    http: SocketAddr,
    offset: u16,
    parts: &CancellationToken,
) -> Result<(Service, SocketAddr), Failure> {
    let part = Service::new(name, parts.child_token());
    let next = SocketAddr::new(http.ip(), http.port().saturating_add(offset));
    let address = match service::admin::start(&part, next).await {
        Ok(address) => address,
        Err(_) => service::admin::start(&part, SocketAddr::new(http.ip(), 0)).await?,
    };
    Ok((part, address))
}

/// A service's configuration with nothing given: its defaults, without the environment of this shell.
fn defaults<C: clap::Args>() -> Result<C, Failure> {
    let command = C::augment_args(clap::Command::new("defaults")).mut_args(|argument| argument.env(None::<&str>));
    let matches = command.try_get_matches_from(["defaults"]).map_err(|error| service::config::explain(&error))?;
    C::from_arg_matches(&matches).map_err(|error| service::config::explain(&error))
}

async fn told(running: impl Future<Output = Result<(), Failure>>, failures: mpsc::UnboundedSender<Failure>) {
    if let Err(failure) = running.await {
        // Nobody listens once the demo ends.
        let _ = failures.send(failure);
    }
}

/// Waits for the end: the time given, a signal, or a part that cannot run.
async fn wait(
    options: &Options,
    shutdown: &CancellationToken,
    (cluster, sinks): (&Cluster, &mut Sinks),
    (failed, wishes): (&mut mpsc::UnboundedReceiver<Failure>, &mut mpsc::Receiver<Wish>),
) -> Result<(), Failure> {
    let until = options.run_for.map(|run_for| tokio::time::Instant::now() + run_for);
    let mut looks = tokio::time::interval(Duration::from_millis(500));
    loop {
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = timer => return Ok(()),
            Some(failure) = failed.recv() => return Err(failure),
            Some((action, answer)) = wishes.recv() => {
                // A page that is gone wants no answer.
                let _ = answer.send(sinks.act(action));
            }
            _ = looks.tick() => {
                cluster.show_metrics();
                sinks.watch()?;
            }
        }
    }
}

/// Waits until everything that was made is in the table, and takes the audit.
async fn drain(kafka: &Kafka, table: &std::path::Path, source: &Source) -> Result<Report, Failure> {
    let (mut deadline, mut moved) = (Instant::now() + DRAIN_LIMIT, 0);
    loop {
        let made = source.made();
        let (kafka, table) = (kafka.clone(), table.to_owned());
        let taken = tokio::task::spawn_blocking(move || audit::take(&kafka, &Table::Sqlite(table), made.as_ref()));
        let report = taken.await.map_err(|_| Failure::Runtime("the audit broke".to_owned()))??;
        if report.is_settled() || Instant::now() > deadline {
            return Ok(report);
        }
        if report.moved() > moved {
            (deadline, moved) = (Instant::now() + DRAIN_LIMIT, report.moved());
        }
        tokio::time::sleep(DRAIN_PAUSE).await;
    }
}
