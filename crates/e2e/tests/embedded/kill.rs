//! `kill -9` of ingest, enricher and each sink at random moments: nothing missing, nothing double.

use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::random::Random;
use e2e::{checker, schedule, wait_until};

const EDITS: usize = 20_000;
const KILLS: u32 = 20;
const SERVICES: [&str; 4] = ["ingest", "enricher", "sink-1", "sink-2"];
const LIMIT: Duration = Duration::from_secs(150);

fn story(seed: u64) -> Pipeline {
    let (edits, seed_text) = (EDITS.to_string(), seed.to_string());
    let parts = Parts::with_simulator(&[
        "--rate",
        "2500",
        "--edits",
        &edits,
        "--seed",
        &seed_text,
        "--cut-after",
        "1500",
        "--canary-seconds",
        "60",
        "--switch-after",
        "12000",
    ]);
    let mut pipeline = Pipeline::start(&parts);
    for service in SERVICES {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("the first rows", Duration::from_secs(30), || {
        pipeline.expect_all_alive();
        checker::rows(&table) > 0
    });
    let mut random = Random::new(seed);
    for kill in 0..KILLS {
        // Each service has its turn; the moment is random, and is measured in rows, not in time.
        let service = SERVICES[kill as usize % SERVICES.len()];
        let before = checker::rows(&table);
        let progress = usize::try_from(random.below(700)).unwrap();
        wait_until("the pipeline goes on", LIMIT, || {
            let now = checker::rows(&table);
            now >= before + progress || now >= EDITS * 95 / 100
        });
        pipeline.kill_and_restart(service);
    }
    wait_until("every edit is made", LIMIT, || checker::made(pipeline.simulator, "edit").len() == EDITS);
    pipeline
}

fn exact(seed: u64) {
    // How soon each service ends is measured too.
    let _alone = schedule::alone();
    let mut pipeline = story(seed);
    let table = pipeline.table();
    wait_until("every edit is stored", LIMIT, || checker::rows(&table) >= EDITS);
    pipeline.expect_all_alive();
    let verdict = checker::check(pipeline.simulator, &pipeline.target, &table);
    println!("seed {seed}, {KILLS} kills: {verdict}");
    assert!(verdict.is_exact(), "seed {seed}: {verdict}");
    for service in SERVICES {
        let (code, took) = pipeline.service(service).terminate(Duration::from_secs(8));
        assert_eq!(code, Some(0), "{service} ends in order");
        assert!(took < Duration::from_secs(5), "{service} took {took:?}");
    }
}

#[test]
fn twenty_kills_lose_and_double_nothing_seed_1() {
    exact(1);
}

/// Left out by `make test-fast`.
mod long {
    use super::exact;

    #[test]
    fn twenty_kills_lose_and_double_nothing_seed_2() {
        exact(2);
    }

    #[test]
    fn twenty_kills_lose_and_double_nothing_seed_3() {
        exact(3);
    }

    #[test]
    fn twenty_kills_lose_and_double_nothing_seed_4() {
        exact(4);
    }

    #[test]
    fn twenty_kills_lose_and_double_nothing_seed_5() {
        exact(5);
    }
}
