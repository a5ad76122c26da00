//! One node of Apache Kafka: broker and controller in one process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::security;
use crate::guarded::Guarded;
use crate::ports;

/// Any: all clusters here live in folders of their own.
const CLUSTER_ID: &str = "d2lraXBlZGlhLWV2ZW50cw";

/// The ports of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) secure: u16,
    /// Where the node itself listens for what comes through the proxy,
    pub(super) behind_proxy: u16,
    /// and what it tells clients of that listener.
    pub(super) proxy: u16,
    controller: u16,
}

impl Ports {
    /// Ports that are free now, and the proxy's, which listens at once.
    pub(super) fn free() -> (Self, TcpListener) {
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let held: [TcpListener; 4] = std::array::from_fn(|_| ports::held());
        let proxy = ports::held();
        let [plain, secure, behind_proxy, controller] = held.map(|listener| port(&listener));
        (Self { plain, secure, behind_proxy, proxy: port(&proxy), controller }, proxy)
    }
}

/// A node, running or killed.
#[derive(Debug)]
pub(super) struct Node {
    folder: PathBuf,
    jars: PathBuf,
    running: Option<Guarded>,
}

impl Node {
    /// Writes the configuration of node `index` of a cluster with these ports, and formats its disk.
    pub(super) fn prepare(jars: &Path, folder: &Path, index: usize, ports: &[Ports]) -> Self {
        let node = Self { folder: folder.join(format!("node-{}", index + 1)), jars: jars.to_owned(), running: None };
        std::fs::create_dir_all(&node.folder).unwrap();
        std::fs::write(node.properties(), properties(&node.folder, index, ports, folder)).unwrap();
        let formatted = java(&node.jars)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(node.properties())
            .output()
            .unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        node
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// Starts the JVM.
    pub(super) fn start(&mut self) {
        let mut java = java(&self.jars);
        java.arg("kafka.Kafka").arg(self.properties());
        self.running = Some(Guarded::start(&java, &self.folder.join("log"), "KILL"));
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            assert!(running.kill(), "a node ended by itself:\n{}", self.log());
        }
    }

    /// What it said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// A small JVM that starts quickly: its code is compiled once and lightly.
pub(super) fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xms96m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .arg("-cp")
        .arg(jars.join("*"));
    command
}

/// As a small production cluster would be set, with shorter time-outs so that a dead node or member is noticed in
/// seconds, and few internal partitions.
fn properties(folder: &Path, index: usize, ports: &[Ports], cluster: &Path) -> String {
    let Ports { plain, secure, behind_proxy, proxy, controller } = ports[index];
    let id = index + 1;
    let data = folder.join("data");
    let voters: Vec<String> =
        (1..).zip(ports).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    let copies = ports.len().min(3);
    let in_sync = copies.saturating_sub(1).max(1);
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},PROXIED://127.0.0.1:{behind_proxy},\
         CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},PROXIED://127.0.0.1:{proxy}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={data}\n\
         default.replication.factor={copies}\n\
         min.insync.replicas={in_sync}\n\
         unclean.leader.election.enable=false\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor={copies}\n\
         offsets.topic.num.partitions=6\n\
         transaction.state.log.replication.factor={copies}\n\
         transaction.state.log.min.isr={in_sync}\n\
         transaction.state.log.num.partitions=6\n\
         share.coordinator.state.topic.replication.factor={copies}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         group.consumer.min.session.timeout.ms=1000\n\
         group.consumer.session.timeout.ms=6000\n\
         group.consumer.min.heartbeat.interval.ms=200\n\
         group.consumer.heartbeat.interval.ms=500\n\
         broker.session.timeout.ms=4000\n\
         broker.heartbeat.interval.ms=500\n\
         log.initial.task.delay.ms=500\n\
         log.retention.check.interval.ms=1000\n\
         log.segment.delete.delay.ms=1000\n\
         log.cleaner.dedupe.buffer.size=10485760\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         {security}",
        voters = voters.join(","),
        data = data.display(),
        security = security::properties(cluster),
    )
}
