//! The compose stack, as users run it: brought up, scaled, broken and judged. Needs Docker; not part of `make test`.

pub mod alerts;
pub mod course;
pub mod moves;
pub mod panels;
pub mod prometheus;
pub mod secure;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::wait_until;
use prometheus::Prometheus;

/// How long a broker, a database or the whole stack may take to be healthy.
pub const HEALTHY_LIMIT: Duration = Duration::from_secs(120);
/// Where this stack listens on the host: beside a demo that runs already, and below the ports that the system hands out.
const PORTS: [(&str, &str); 8] = [
    ("CONSOLE_PORT", "18080"),
    ("KAFKA_1_PORT", "19092"),
    ("KAFKA_2_PORT", "19093"),
    ("KAFKA_3_PORT", "19094"),
    ("POSTGRES_PORT", "15432"),
    ("PROMETHEUS_PORT", "19090"),
    ("GRAFANA_PORT", "13000"),
    ("SIMULATOR_PORT", "18090"),
];
const PROJECT: &str = "wiki-stack-test";

/// A compose project. Dropped, it is taken down with its volumes.
#[derive(Debug)]
pub struct Stack {
    root: PathBuf,
    overrides: Vec<&'static str>,
    environment: BTreeMap<&'static str, String>,
}

impl Stack {
    /// The stack with these override files of `deploy/compose/`; not up yet.
    ///
    /// # Panics
    /// Where the tree is not there.
    #[must_use]
    pub fn new(overrides: &[&'static str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let environment = PORTS.into_iter().map(|(name, port)| (name, port.to_owned())).collect();
        let stack = Self { root, overrides: overrides.to_vec(), environment };
        // What an interrupted run left behind.
        let _ = stack.try_compose(&["down", "--volumes", "--remove-orphans"]);
        stack
    }

    /// Sets a variable of the compose file.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    /// Builds the images and brings everything up, healthy. Gives how long the second part took.
    ///
    /// # Panics
    /// Where it does not.
    pub fn up(&self) -> Duration {
        self.compose(&["--profile", "tools", "build", "--quiet"]);
        let started = Instant::now();
        self.compose(&["up", "-d", "--wait"]);
        started.elapsed()
    }

    /// Runs `docker compose` and gives what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn compose(&self, arguments: &[&str]) -> String {
        let output = self.try_compose(arguments);
        assert!(output.status.success(), "docker compose {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs `docker compose`, whatever comes of it.
    ///
    /// # Panics
    /// Without Docker.
    #[must_use]
    pub fn try_compose(&self, arguments: &[&str]) -> Output {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).envs(&self.environment).current_dir(&self.root);
        command.output().unwrap_or_else(|error| panic!("this needs docker with its compose plugin: {error}"))
    }

    /// The command line up to the verb.
    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> =
            ["docker", "compose", "--project-name", PROJECT, "--file", "docker-compose.yml"].map(str::to_owned).into();
        for name in &self.overrides {
            words.extend(["--file".to_owned(), format!("deploy/compose/{name}.yml")]);
        }
        words
    }

    /// The container of a replica.
    #[must_use]
    pub fn container(replica: &str) -> String {
        format!("{PROJECT}-{replica}")
    }

    /// Containers of a service that are healthy.
    ///
    /// # Panics
    /// Where Docker does not answer.
    #[must_use]
    pub fn healthy(&self, service: &str) -> usize {
        let listed = self.compose(&["ps", "--format", "{{.Health}}", service]);
        listed.lines().filter(|line| *line == "healthy").count()
    }

    /// Waits until everything that should run is healthy.
    ///
    /// # Panics
    /// Where it does not happen.
    pub fn wait_healthy(&self) {
        wait_until("everything is healthy", HEALTHY_LIMIT, || {
            let listed = self.compose(&["ps", "--all", "--format", "{{.Health}}"]);
            listed.lines().all(|line| line == "healthy")
        });
    }

    /// Who owns which partition of the sinks' topic, asked of the broker by Kafka's own tool: partition to client id.
    ///
    /// # Panics
    /// Without Docker.
    #[must_use]
    pub fn owners(&self, broker: &str) -> BTreeMap<i32, String> {
        let tool = "/opt/kafka/bin/kafka-consumer-groups.sh";
        let options = ["--bootstrap-server", "localhost:9092", "--describe", "--group", "wiki-sink"];
        let mut arguments = vec!["exec", "-T", broker, tool];
        arguments.extend(options);
        let said = text(&self.try_compose(&arguments).stdout);
        let rows = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let owned = rows.filter(|row| row.len() == 9 && row[1] == "wikipedia-events" && row[6] != "-");
        owned.filter_map(|row| Some((row[2].parse().ok()?, row[8].to_owned()))).collect()
    }

    fn at(&self, port: &str) -> SocketAddr {
        format!("127.0.0.1:{}", self.environment[port]).parse().unwrap()
    }

    /// Where the page is.
    #[must_use]
    pub fn console(&self) -> SocketAddr {
        self.at("CONSOLE_PORT")
    }

    /// Prometheus of this stack.
    #[must_use]
    pub fn prometheus(&self) -> Prometheus {
        Prometheus::at(self.at("PROMETHEUS_PORT"))
    }

    /// The simulator of this stack.
    #[must_use]
    pub fn simulator(&self) -> SocketAddr {
        self.at("SIMULATOR_PORT")
    }

    /// What a query gives, asked inside the database's container.
    ///
    /// # Panics
    /// Where the database refuses.
    pub fn sql(&self, query: &str) -> String {
        let psql = ["exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "wikipedia", "-tAc", query];
        self.compose(&psql).trim().to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.try_compose(&["logs", "--tail", "40", "ingest", "enricher", "sink", "console"]);
            println!("{}", text(&said.stdout));
        }
        let _ = self.try_compose(&["down", "--volumes", "--remove-orphans"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
