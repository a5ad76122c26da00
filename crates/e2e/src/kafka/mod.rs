//! Apache Kafka itself: nodes started, killed and started again, on this machine's loopback.
//!
//! The stories of one test process share a cluster of three nodes, one story at a time, each in topics of its own
//! (a prefix). `WIKI_TEST_KAFKA=HOST:PORT,…` names another cluster for the stories that kill no node.

mod jars;
mod node;
mod security;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::target::Target;
use crate::wait_until;
use node::{Node, Ports};
pub use security::{OPERATOR, STRANGER};

/// How long a cluster may take to be whole; a loaded machine starts three JVMs slowly.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// Nodes of the shared cluster.
pub const NODES: usize = 3;

/// A cluster of Apache Kafka.
pub struct Cluster {
    /// Where its clients begin.
    pub bootstrap: String,
    secure_bootstrap: String,
    proxied_bootstrap: String,
    /// What stands between the brokers and the clients that begin at [`Cluster::proxied`].
    pub proxy: Proxy,
    nodes: Vec<Node>,
    // Dropped after the nodes, which write into it.
    folder: Option<TempDir>,
}

static SHARED: LazyLock<Mutex<Cluster>> = LazyLock::new(|| {
    let named = std::env::var("WIKI_TEST_KAFKA").ok().filter(|named| !named.is_empty());
    Mutex::new(named.map_or_else(|| Cluster::start(NODES), Cluster::at))
});
static PREFIXES: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// The cluster of this test process, whole, for one story at a time.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn shared() -> MutexGuard<'static, Self> {
        let mut cluster = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // A story that failed may have left a node dead.
        cluster.start_dead_nodes();
        cluster
    }

    /// A cluster whose nodes may be killed: the shared one, unless that is not ours.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn to_break() -> MutexGuard<'static, Self> {
        static OWN: LazyLock<Mutex<Cluster>> = LazyLock::new(|| Mutex::new(Cluster::start(NODES)));
        let shared = Self::shared();
        if shared.nodes.is_empty() {
            drop(shared);
            let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
            own.start_dead_nodes();
            return own;
        }
        shared
    }

    fn at(bootstrap: String) -> Self {
        Self {
            bootstrap,
            secure_bootstrap: String::new(),
            proxied_bootstrap: String::new(),
            proxy: Proxy::default(),
            nodes: Vec::new(),
            folder: None,
        }
    }

    /// Starts a cluster of so many nodes.
    ///
    /// # Panics
    /// Where Java or the jars are missing, or nodes do not start.
    #[must_use]
    pub fn start(count: usize) -> Self {
        let jars = jars::folder();
        let folder = tempfile::tempdir().unwrap();
        security::make_key(folder.path());
        let (ports, listeners): (Vec<Ports>, Vec<_>) = (0..count).map(|_| Ports::free()).unzip();
        let proxy = Proxy::default();
        for (ports, listener) in ports.iter().zip(listeners) {
            proxy.serve(listener, SocketAddr::from(([127, 0, 0, 1], ports.behind_proxy)));
        }
        let nodes: Vec<Node> = std::thread::scope(|scope| {
            let prepare = |index| {
                let (jars, folder, ports) = (&jars, folder.path(), &ports);
                scope.spawn(move || Node::prepare(jars, folder, index, ports))
            };
            let preparing: Vec<_> = (0..count).map(prepare).collect();
            preparing.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let list = |port: fn(&Ports) -> u16| {
            ports.iter().map(|ports| format!("127.0.0.1:{}", port(ports))).collect::<Vec<_>>().join(",")
        };
        let bootstrap = list(|ports| ports.plain);
        let secure_bootstrap = list(|ports| ports.secure);
        let proxied_bootstrap = list(|ports| ports.proxy);
        let mut cluster = Self { bootstrap, secure_bootstrap, proxied_bootstrap, proxy, nodes, folder: Some(folder) };
        cluster.start_dead_nodes();
        cluster
    }

    /// Topics of a story's own on this cluster.
    #[must_use]
    pub fn target(&self, story: &str) -> Target {
        let number = PREFIXES.fetch_add(1, Ordering::SeqCst);
        let copies = if self.nodes.is_empty() { NODES } else { self.nodes.len() };
        Target {
            bootstrap: self.bootstrap.clone(),
            prefix: format!("{story}-{}-{number}-", std::process::id()),
            copies: i32::try_from(copies).unwrap(),
        }
    }

    /// The same topics, reached through the proxy; only of a cluster that is ours.
    #[must_use]
    pub fn proxied(&self, target: &Target) -> Target {
        Target { bootstrap: self.proxied_bootstrap.clone(), ..target.clone() }
    }

    /// Where clients with TLS and a password begin, and the certificate to trust; only of a cluster that is ours.
    ///
    /// # Panics
    /// Where it is not.
    #[must_use]
    pub fn secure(&self) -> (String, PathBuf) {
        let folder = self.folder.as_ref().expect("a named cluster has a security of its own");
        (self.secure_bootstrap.clone(), security::certificate(folder.path()))
    }

    /// One of Kafka's own tools, by its class.
    #[must_use]
    pub fn tool(class: &str) -> Command {
        let mut command = node::java(&jars::folder());
        command.arg(class);
        command
    }

    /// `kill -9` of a node, by its index.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// Starts what is dead, and waits until the cluster is whole: every node there, every copy in sync.
    ///
    /// # Panics
    /// Where it is not in time.
    pub fn start_dead_nodes(&mut self) {
        let dead: Vec<&mut Node> = self.nodes.iter_mut().filter(|node| !node.is_running()).collect();
        if dead.is_empty() {
            return;
        }
        for node in dead {
            node.start();
        }
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "story-watcher")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .unwrap();
        let count = self.nodes.len();
        let is_whole = || -> Option<bool> {
            let metadata = reader.fetch_metadata(None, Duration::from_secs(5)).ok()?;
            let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            Some(
                metadata.brokers().len() == count
                    && partitions.all(|partition| partition.isr().len() == partition.replicas().len()),
            )
        };
        let said = || self.nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n");
        let deadline = std::time::Instant::now() + WHOLE_LIMIT;
        wait_until("the cluster is whole", WHOLE_LIMIT + Duration::from_secs(1), || {
            assert!(std::time::Instant::now() < deadline, "the cluster is not whole; its nodes said:\n{}", said());
            is_whole() == Some(true)
        });
    }
}
