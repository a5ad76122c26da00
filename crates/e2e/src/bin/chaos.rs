//! The long fault run on Apache Kafka: `chaos [services] [nodes] [SEED …]`; both parts and ten seeds where none is given.

use std::process::ExitCode;

use e2e::chaos;
use e2e::kafka::Cluster;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_part = |word: &str| matches!(word, "services" | "nodes");
    let (parts, seeds): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|word| is_part(word));
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let seeds: Result<Vec<u64>, _> = seeds.iter().map(|seed| seed.parse()).collect();
    let Ok(mut seeds) = seeds else {
        eprintln!("usage: chaos [services] [nodes] [SEED …]");
        return ExitCode::from(2);
    };
    if seeds.is_empty() {
        seeds.extend(1..=10);
    }
    let mut failed = 0;
    let mut report = |what: &str, seed: u64, outcome: &chaos::Outcome| {
        println!("seed {seed}, {what}: {outcome}");
        failed += u32::from(!outcome.is_exact());
    };
    for seed in seeds {
        if wants("services") {
            report("30 services killed", seed, &chaos::services_killed(&Cluster::to_break(), seed));
        }
        if wants("nodes") {
            report("each node killed", seed, &chaos::nodes_killed(&mut Cluster::to_break(), seed));
        }
    }
    println!("{failed} runs were not exact");
    ExitCode::from(u8::from(failed > 0))
}
