//! The chapters of the course that want a cluster, typed as their readers type them.

use super::{PORTS, PROJECT, Stack};
use crate::pages::{self, Terminals};

/// Runs them on a stack with a simulator.
///
/// # Panics
/// At the first command that does not print what its page says.
pub fn tell() {
    let stack = Stack::new(&["offline"]);
    stack.up();
    let port = |name: &str| PORTS.iter().find(|(port, _)| *port == name).unwrap().1;
    let brokers = ["KAFKA_1_PORT", "KAFKA_2_PORT", "KAFKA_3_PORT"].map(|name| format!("127.0.0.1:{}", port(name)));
    let files =
        ["docker-compose.yml", "deploy/compose/offline.yml"].map(|file| stack.root.join(file).display().to_string());
    let mut terminals = Terminals::open(&[])
        .with("COMPOSE_PROJECT_NAME", PROJECT)
        .with("COMPOSE_FILE", &files.join(":"))
        .with("WIKI_KAFKA_BOOTSTRAP_SERVERS", &brokers.join(","));
    for (name, value) in PORTS {
        terminals = terminals.with(name, value);
    }
    let page = pages::read("docs/tutorial").remove("05-replication").unwrap();
    terminals.run("05-replication", &page);
}
