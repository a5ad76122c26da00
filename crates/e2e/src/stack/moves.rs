//! Sinks scaled, killed; brokers and the database restarted: who owns what after each, and the audit at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{HEALTHY_LIMIT, Stack, panels};
use crate::{checker, http, wait_until};

const PARTITIONS: usize = 6;
/// Between two looks at who owns what.
const AGAIN: Duration = Duration::from_millis(200);
/// A killed sink's partitions are with others by then.
const MOVED_LIMIT: Duration = Duration::from_secs(8);
const OWNERSHIP: &str = "max by (partition) (wiki_sink_partition_assigned * on (job, instance) group_left () \
    wiki_sink_replica_ordinal)";

/// Runs the whole story on a stack with a simulator, in one rebalancing protocol.
///
/// # Panics
/// At the first thing that is not as it should be.
pub fn tell(rebalance: &str) {
    let stack = Stack::new(&["offline"]).with("WIKI_REBALANCE", rebalance);
    let took = stack.up();
    println!("{rebalance}: everything healthy {:.1} s after `up`", took.as_secs_f64());
    let began = Instant::now();
    let shared = |sinks: usize, what: &str| expect_shared(&stack, sinks, what);
    shared(2, "2 sinks");
    sizes(&stack);
    for sinks in [4, 7, 2] {
        scale(&stack, sinks);
        shared(sinks, &format!("{sinks} sinks"));
        if sinks > PARTITIONS {
            expect_standby(&stack, sinks);
        }
    }
    kill_a_sink(&stack);
    for broker in ["kafka-1", "kafka-2", "kafka-3"] {
        stack.compose(&["restart", broker]);
        stack.wait_healthy();
        shared(2, &format!("{broker} restarted"));
    }
    stop_all(&stack);
    stack.compose(&["up", "-d", "--wait"]);
    shared(2, "everything stopped and started");
    stack.compose(&["restart", "postgres"]);
    stack.wait_healthy();
    shared(2, "PostgreSQL restarted");
    let seen: BTreeSet<u32> = stack
        .prometheus()
        .range(OWNERSHIP, began.elapsed().as_secs() + 5)
        .into_iter()
        .map(|owner| format!("{owner:.0}").parse().unwrap())
        .collect();
    println!("owners that the timeline shows: {seen:?}");
    assert!(seen.len() >= PARTITIONS, "each move is on the timeline: {seen:?}");
    let (asked, empty) = panels::without_series(&stack);
    println!("{asked} queries of panels, {} without a series", empty.len());
    assert!(empty.is_empty(), "panels without a series: {empty:#?}");
    assert_eq!(panels::broken_rules(&stack), Vec::<String>::new(), "rules that do not evaluate");
    audit(&stack);
}

/// Stops all our services. The simulator keeps running, as the real stream does, and remembers what it made.
fn stop_all(stack: &Stack) {
    let services = stack.compose(&["config", "--services"]);
    let mut words = vec!["stop"];
    words.extend(services.lines().filter(|service| *service != "simulator"));
    stack.compose(&words);
}

fn scale(stack: &Stack, sinks: usize) {
    stack.compose(&["up", "-d", "--no-recreate", "--no-build", "--scale", &format!("sink={sinks}"), "--wait"]);
}

/// All partitions are owned, by as many sinks as can be, as evenly as can be: the broker says so, so do the sinks, and
/// the page shows just that.
fn expect_shared(stack: &Stack, sinks: usize, what: &str) {
    let owners = sinks.min(PARTITIONS);
    let (least, most) = (PARTITIONS / owners, PARTITIONS.div_ceil(owners));
    let began = Instant::now();
    // All are asked anew each time: the broker remembers members of before a restart for a while.
    let owned = loop {
        let (owned, by_sinks, by_page) = (stack.owners("kafka-2"), told_by_sinks(stack), told_by_page(stack));
        let names: BTreeSet<&String> = owned.values().collect();
        let share = |name: &String| owned.values().filter(|owner| *owner == name).count();
        let is_even = names.len() == owners && names.iter().all(|name| (least..=most).contains(&share(name)));
        if owned.len() == PARTITIONS && is_even && by_sinks == owned && by_page == owned {
            break owned;
        }
        assert!(
            began.elapsed() < HEALTHY_LIMIT,
            "{what}: {owners} sinks should share the partitions; the broker says {owned:?}, the sinks {by_sinks:?}, the \
             page {by_page:?}"
        );
        std::thread::park_timeout(AGAIN);
    };
    let list: Vec<String> = owned.iter().map(|(partition, owner)| format!("p{partition} {owner}")).collect();
    println!("{what}: {}", list.join(", "));
}

/// Partition to replica, as the sinks' own metrics have it.
fn told_by_sinks(stack: &Stack) -> BTreeMap<i32, String> {
    // Prometheus restarts in this story too: what it scraped before, and nobody shows any more, it would tell for five
    // minutes.
    let owned = "(wiki_sink_partition_assigned and (time() - timestamp(wiki_sink_partition_assigned) < 15)) \
        * on (job, instance) group_left (replica) wiki_sink_info == 1";
    let series = stack.prometheus().query(owned).unwrap_or_default();
    let told = series.iter().filter_map(|one| {
        let label = |name: &str| one["metric"][name].as_str();
        Some((label("partition")?.parse().ok()?, label("replica")?.to_owned()))
    });
    told.collect()
}

/// Partition to replica, as the page shows it.
fn told_by_page(stack: &Stack) -> BTreeMap<i32, String> {
    let state = http::get(stack.console(), "/api/state").unwrap_or_default();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
    let tiles = state["board"]["partitions"].as_array().cloned().unwrap_or_default();
    let owned = tiles.iter().filter(|tile| tile["state"] == "owned").filter_map(|tile| {
        Some((i32::try_from(tile["partition"].as_i64()?).ok()?, tile["owners"][0].as_str()?.to_owned()))
    });
    owned.collect()
}

fn expect_standby(stack: &Stack, sinks: usize) {
    assert_eq!(stack.healthy("sink"), sinks, "a standby is healthy");
    wait_until("one sink shows that it owns nothing", HEALTHY_LIMIT, || {
        stack.prometheus().values("wiki_sink_assigned_partitions").iter().filter(|owned| **owned == 0.0).count() == 1
    });
    println!("the seventh sink is a healthy standby");
}

fn kill_a_sink(stack: &Stack) {
    let victim = stack.owners("kafka-2").into_values().next().unwrap();
    let container = Stack::container(&victim);
    let killed = std::process::Command::new("docker").args(["kill", &container]).output().unwrap();
    assert!(killed.status.success(), "docker kill {container}");
    let since = Instant::now();
    // The console looks each second: the broker's own tool takes two.
    wait_until("its partitions are with the other", HEALTHY_LIMIT, || {
        let members = stack.prometheus().values("wiki_group_members{group=\"wiki-sink\"}");
        members == [1.0] && stack.prometheus().values("wiki_group_unassigned_partitions{group=\"wiki-sink\"}") == [0.0]
    });
    let took = since.elapsed();
    println!("{victim} killed: its partitions were with the other after {:.1} s", took.as_secs_f64());
    expect_shared(stack, 1, "one sink killed");
    // What Prometheus and the console add by looking once a second or two.
    let looking = Duration::from_secs(3);
    assert!(took <= MOVED_LIMIT + looking, "moved after {took:?}");
    scale(stack, 2);
    expect_shared(stack, 2, "and replaced");
}

fn sizes(stack: &Stack) {
    let images = stack.compose(&["--profile", "tools", "images", "--format", "json"]);
    let images: Vec<serde_json::Value> = serde_json::from_str(&images).unwrap_or_default();
    for image in images
        .iter()
        .filter(|image| image["Repository"].as_str().is_some_and(|name| name.starts_with("wikipedia-events/")))
    {
        let size = image["Size"].as_u64().unwrap_or_default();
        println!("image {}: {} MB", image["Repository"], size / 1_000_000);
        assert!(size <= 60_000_000, "{image}");
    }
    let output = std::process::Command::new("docker")
        .args(["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"])
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// While edits flow what is under way is neither missing nor extra; when the simulator makes no more, what it made has
/// to be in the table, once.
fn audit(stack: &Stack) {
    let flowing = stack.try_compose(&["run", "--rm", "--no-deps", "wiki", "audit"]);
    assert!(flowing.status.success(), "while edits flow: {flowing:?}");
    let simulator = stack.simulator();
    let frozen = http::request(simulator, "PUT", "/faults", "{\"frozen\": true}");
    assert!(frozen.is_some_and(|(status, _)| (200..300).contains(&status)), "the simulator is told to make no more");
    wait_until("everything that was made is stored", HEALTHY_LIMIT, || {
        stack.sql("SELECT count(*) FROM edits") == checker::made(simulator, "edit").len().to_string()
    });
    let audit = ["run", "--rm", "--no-deps", "wiki", "audit", "--simulator", "http://simulator:8080"];
    let output = stack.try_compose(&audit);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{said}");
    assert!(output.status.success() && said.contains("missing 0, double 0, extra 0, gaps 0"), "{output:?}");
}
