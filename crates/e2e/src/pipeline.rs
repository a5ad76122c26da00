//! A broker, a simulator and the services, as a story needs them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, Program};
use crate::target::Target;
use crate::{checker, http, wait_until};

/// How long a command may take.
const WIKI_LIMIT: Duration = Duration::from_secs(90);
/// How long a process may take to be there.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A dead member is noticed after this on the embedded broker: stories need not wait for six seconds each time.
const QUICK_SESSION: [&str; 4] = ["-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300"];

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    folder: TempDir,
    /// Where the topics are.
    pub target: Target,
    /// The simulator's address.
    pub simulator: SocketAddr,
    ingest_options: Vec<String>,
    rebalance: &'static str,
    options: Vec<String>,
    destination: Option<Vec<String>>,
    // Fields are dropped in this order: services first.
    services: BTreeMap<String, Process>,
    _simulator: Process,
    broker_process: Option<Process>,
}

/// What a pipeline is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Options of the simulator.
    pub simulator: Vec<String>,
    /// Further options of ingest.
    pub ingest: Vec<String>,
    /// Rebalancing protocol.
    pub rebalance: &'static str,
    /// Further options of every service.
    pub services: Vec<String>,
    /// Options that say where sinks store; otherwise in a SQLite file of the pipeline's.
    pub destination: Option<Vec<String>>,
}

impl Parts {
    /// A simulator with these options, and services with none.
    #[must_use]
    pub fn with_simulator(options: &[&str]) -> Self {
        Self {
            simulator: options.iter().map(|option| (*option).to_owned()).collect(),
            ingest: Vec::new(),
            rebalance: "cooperative",
            services: Vec::new(),
            destination: None,
        }
    }
}

impl Pipeline {
    /// Starts an embedded broker and a simulator; services are started one by one.
    ///
    /// # Panics
    /// Where they do not start.
    #[must_use]
    pub fn start(parts: &Parts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (broker, address) = start_broker(folder.path());
        Self::build(parts, folder, Target::whole(address), Some(broker))
    }

    /// Starts a simulator beside a cluster that is there; services are started one by one.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn on(target: Target, parts: &Parts) -> Self {
        Self::build(parts, tempfile::tempdir().unwrap(), target, None)
    }

    fn build(parts: &Parts, folder: TempDir, target: Target, broker_process: Option<Process>) -> Self {
        let (simulator_process, simulator) = start_simulator(&parts.simulator, folder.path());
        Self {
            folder,
            target,
            simulator,
            ingest_options: parts.ingest.clone(),
            rebalance: parts.rebalance,
            options: parts.services.clone(),
            destination: parts.destination.clone(),
            services: BTreeMap::new(),
            _simulator: simulator_process,
            broker_process,
        }
    }

    /// The sinks' file.
    #[must_use]
    pub fn table(&self) -> PathBuf {
        self.folder.path().join("edits.db")
    }

    /// The folder of everything this pipeline writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts or restarts a service by its name: `ingest`, `enricher`, `sink-1`, ….
    ///
    /// # Panics
    /// Where there is no such service.
    pub fn start_service(&mut self, name: &str) {
        self.start_service_with(name, &[]);
    }

    /// The same, with further options.
    ///
    /// # Panics
    /// Where there is no such service.
    pub fn start_service_with(&mut self, name: &str, more: &[&str]) {
        let Target { bootstrap, prefix, copies } = &self.target;
        let common = ["--kafka-bootstrap-servers", bootstrap, "--http", "127.0.0.1:0", "--log-format", "json"];
        let prefixed = ["--topic-prefix", prefix];
        let program = match name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-') {
            "ingest" => Program::new("ingest")
                .with(common)
                .with(prefixed)
                .with(["--replication-factor", &copies.to_string()])
                .with(self.stream_url())
                .with(["--start", "earliest", "--backoff-min-ms", "50", "--backoff-max-ms", "500"])
                .with(self.ingest_options.clone()),
            "enricher" => Program::new("enricher").with(common).with(prefixed).with(["--rebalance", self.rebalance]),
            "sink" => Program::new("sink")
                .with(common)
                .with(prefixed)
                .with(["--rebalance", self.rebalance, "--sink-name", name])
                .with(self.destination()),
            "console" => Program::new("console").with(common).with(prefixed).with(["--look-ms", "200"]),
            _ => panic!("there is no service {name}"),
        };
        // In KIP-848 the broker decides on the session, and the client refuses the setting.
        let decides = (self.rebalance != "consumer" || name.starts_with("ingest")) && name != "console";
        let is_embedded = self.broker_process.is_some();
        let program = if decides && is_embedded { program.with(QUICK_SESSION) } else { program };
        let process = program.with(self.options.clone()).with(more.iter().copied()).start(name, self.folder.path());
        self.services.insert(name.to_owned(), process);
    }

    /// The simulator's, unless a story names another.
    fn stream_url(&self) -> Vec<String> {
        let own = ["--stream-url".to_owned(), format!("http://{}/v2/stream/recentchange", self.simulator)];
        if self.ingest_options.contains(&own[0]) { Vec::new() } else { own.into() }
    }

    fn destination(&self) -> Vec<String> {
        let file = || ["--writer", "sqlite", "--sqlite-file"].map(str::to_owned).into_iter();
        let own = || file().chain([self.table().display().to_string()]).collect();
        self.destination.clone().unwrap_or_else(own)
    }

    /// A running service.
    ///
    /// # Panics
    /// Where it was not started.
    pub fn service(&mut self, name: &str) -> &mut Process {
        self.services.get_mut(name).unwrap_or_else(|| panic!("{name} was not started"))
    }

    /// `kill -9` of a service, and its restart.
    pub fn kill_and_restart(&mut self, name: &str) {
        self.service(name).kill();
        self.start_service(name);
    }

    /// An ended service is not expected to be alive; its logs stay.
    pub fn forget(&mut self, name: &str) {
        self.services.remove(name);
    }

    /// Where a running service serves.
    #[must_use]
    pub fn address(&self, service: &str) -> Option<SocketAddr> {
        let started = self.logs(service).into_iter().rfind(|line| line["message"] == "started")?;
        started["address"].as_str()?.parse().ok()
    }

    /// Whether a running service is ready, and what it says of it.
    #[must_use]
    pub fn readiness(&self, service: &str) -> Option<(bool, String)> {
        let (status, said) = http::request(self.address(service)?, "GET", "/readyz", "")?;
        Some((status == 200, said))
    }

    /// A metric of a running service as it shows it now, all its labels added up.
    #[must_use]
    pub fn metric(&self, service: &str, name: &str) -> Option<f64> {
        let text = http::get(self.address(service)?, "/metrics")?;
        let series =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).reduce(|sum, value| sum + value)
    }

    /// Panics with the words of a service that ended by itself.
    ///
    /// # Panics
    /// Where one did.
    pub fn expect_all_alive(&mut self) {
        for process in self.services.values_mut() {
            let name = process.name.clone();
            assert!(process.ended().is_none(), "{name} ended by itself:\n{}", process.errors());
        }
    }

    /// Waits until this many edits are stored, and judges the whole: exact, with all services alive.
    ///
    /// # Panics
    /// With the verdict, where it is anything else.
    pub fn expect_exact(&mut self, edits: usize, limit: Duration) {
        let table = self.table();
        wait_until("every edit is stored", limit, || {
            self.expect_all_alive();
            checker::rows(&table) >= edits
        });
        let verdict = checker::check(self.simulator, &self.target, &table);
        println!("{verdict}");
        assert!(verdict.is_exact() && verdict.stored == edits, "{verdict}");
    }

    /// Makes so many seconds of events, at once.
    ///
    /// # Panics
    /// Where the simulator does not.
    pub fn make(&self, seconds: u32) {
        let path = format!("/make?seconds={seconds}");
        assert_eq!(http::request(self.simulator, "POST", &path, "").map(|(status, _)| status), Some(200));
    }

    /// Runs a command of `wiki` on this pipeline's broker: exit code, and what it said on both outputs.
    ///
    /// # Panics
    /// Where it does not end.
    #[must_use]
    pub fn wiki(&self, arguments: &[&str]) -> (i32, String) {
        let program = Program::new("wiki").with(arguments.iter().copied());
        let (code, out, error) = program.with(["--kafka-bootstrap-servers", &self.target.bootstrap]).run(WIKI_LIMIT);
        (code, out + &error)
    }

    /// Runs `wiki audit` on the SQLite table, against what the simulator made.
    ///
    /// # Panics
    /// Where it does not end.
    #[must_use]
    pub fn audit(&self) -> (i32, String) {
        let (simulator, table) = (format!("http://{}", self.simulator), self.table().display().to_string());
        self.wiki(&["audit", "--simulator", &simulator, "--writer", "sqlite", "--sqlite-file", &table])
    }

    /// The lines that a service logged, as JSON.
    #[must_use]
    pub fn logs(&self, name: &str) -> Vec<serde_json::Value> {
        let errors = std::fs::read(self.folder().join(format!("{name}.err"))).unwrap_or_default();
        String::from_utf8_lossy(&errors).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            println!("what the services said stands in {}", self.folder.path().display());
        }
    }
}

/// Starts an embedded broker on a free port.
///
/// # Panics
/// Where it does not start.
#[must_use]
pub fn start_broker(folder: &Path) -> (Process, SocketAddr) {
    let process = Program::new("broker").with(["--port", "0"]).start("broker", folder);
    let mut address = None;
    wait_until("the broker listens", START_LIMIT, || {
        address = process.output().lines().find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
        address.is_some()
    });
    (process, address.unwrap())
}

/// Starts a simulator on a free port.
///
/// # Panics
/// Where it does not start.
#[must_use]
pub fn start_simulator(options: &[String], folder: &Path) -> (Process, SocketAddr) {
    let mut process = Program::new("simulator")
        .with(["--http", "127.0.0.1:0", "--log-format", "json"])
        .with(options.to_vec())
        .start("simulator", folder);
    let mut address = None;
    wait_until("the simulator listens", START_LIMIT, || {
        assert!(process.ended().is_none(), "the simulator ended: {}", process.errors());
        let found = process.errors().lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line.get("address")?.as_str()?.parse().ok()
        });
        address = found;
        address.is_some()
    });
    let address: SocketAddr = address.unwrap();
    wait_until("the simulator answers", START_LIMIT, || http::get(address, "/livez").is_some());
    (process, address)
}
