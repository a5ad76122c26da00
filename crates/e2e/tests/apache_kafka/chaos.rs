//! Services and nodes killed at full speed; `make chaos` runs the same with ten seeds.

use e2e::chaos;
use e2e::kafka::Cluster;

const SEED: u64 = 1;

#[test]
fn thirty_killed_services_lose_and_double_nothing() {
    let outcome = chaos::services_killed(&Cluster::shared(), SEED);
    println!("seed {SEED}: {outcome}");
    assert!(outcome.is_exact(), "seed {SEED}: {outcome}");
}

#[test]
fn each_node_killed_in_turn_loses_and_doubles_nothing() {
    let outcome = chaos::nodes_killed(&mut Cluster::to_break(), SEED);
    println!("seed {SEED}: {outcome}");
    assert!(outcome.is_exact(), "seed {SEED}: {outcome}");
}
