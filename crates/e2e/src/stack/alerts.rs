//! Four faults, four alerts: each raises its own within its bound, and no other that would call a person.

use std::time::{Duration, Instant};

use super::{HEALTHY_LIMIT, Stack};
use crate::wait_until;

/// What a scrape, an evaluation and a look of the console add.
const SLACK: Duration = Duration::from_secs(30);

/// Runs the four on a stack with a simulator.
///
/// # Panics
/// Where another alert than the expected one calls, or that one comes late.
pub fn tell() {
    // At its usual rate the simulator's events are of now; a row a write, so that a slow database shows.
    let stack = Stack::new(&["offline"]).with("WIKI_BATCH_ROWS", "1");
    stack.up();
    quiet(&stack);

    stack.compose(&["pause", "simulator"]);
    expect(&stack, "the stream stopped", "WikiIngestSilent", Duration::from_secs(240));
    stack.compose(&["unpause", "simulator"]);
    quiet(&stack);

    stack.compose(&["kill", "sink"]);
    expect(&stack, "all sinks killed", "WikiNoConsumers", Duration::from_secs(120 + 8));
    stack.compose(&["up", "-d", "--no-recreate", "--wait", "sink"]);
    quiet(&stack);

    let produce = "for i in 1 2 3; do echo no-edit; done | /opt/kafka/bin/kafka-console-producer.sh \
        --bootstrap-server localhost:9092 --topic wikipedia-events";
    stack.compose(&["exec", "-T", "kafka-2", "bash", "-c", produce]);
    expect(&stack, "records that are no edits", "WikiDeadLetters", Duration::ZERO);

    // Ten commits a second, for one sink: fewer than there are edits.
    stack.sql("ALTER SYSTEM SET commit_delay = 100000");
    stack.sql("ALTER SYSTEM SET commit_siblings = 0");
    stack.sql("SELECT pg_reload_conf()");
    stack.compose(&["up", "-d", "--no-recreate", "--scale", "sink=1", "--wait"]);
    expect(&stack, "a sink too slow", "WikiLagGrowing", Duration::from_secs(30 + 600 + 60));
}

/// Waits until the alert fires, and sees to it that no other calls a person meanwhile.
fn expect(stack: &Stack, what: &str, alert: &str, bound: Duration) {
    let began = Instant::now();
    wait_until(&format!("{what}: {alert} fires"), bound + SLACK, || {
        let firing = stack.prometheus().firing();
        let others: Vec<_> = firing.iter().filter(|(name, severity)| severity == "page" && name != alert).collect();
        assert!(others.is_empty(), "{what}: {others:?} call too");
        firing.iter().any(|(name, _)| name == alert)
    });
    println!("{what}: {alert} fires after {:.0} s, and no other calls", began.elapsed().as_secs_f64());
}

/// Waits until nothing calls a person.
fn quiet(stack: &Stack) {
    wait_until("no alert calls", HEALTHY_LIMIT * 2, || {
        stack.prometheus().firing().iter().all(|(_, severity)| severity != "page")
    });
}
