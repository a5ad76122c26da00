//! Each service stays small at the live rate.

use std::time::{Duration, Instant};

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, schedule, wait_until};

const LIMIT_BYTES: u64 = 64 << 20;
const WATCHED: Duration = Duration::from_secs(20);

#[test]
fn each_service_stays_under_64_mib_at_50_events_a_second() {
    let _alone = schedule::alone();
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "50"]));
    let services = ["ingest", "enricher", "sink-1", "sink-2"];
    for service in services {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("edits are stored", Duration::from_secs(30), || checker::rows(&table) > 100);
    let started = Instant::now();
    let mut most = [0; 4];
    wait_until("the time is over", WATCHED * 2, || {
        pipeline.expect_all_alive();
        for (most, name) in most.iter_mut().zip(services) {
            *most = (*most).max(pipeline.service(name).resident_bytes());
        }
        started.elapsed() > WATCHED
    });
    for (name, most) in services.iter().zip(most) {
        println!("{name}: at most {} MiB", most >> 20);
        assert!(most < LIMIT_BYTES, "{name}: {most} bytes");
    }
    assert!(checker::rows(&table) > 500, "the pipeline was at work meanwhile");
    let first = pipeline.logs("sink-1").iter().find(|line| line["message"] == "rebalance").cloned().unwrap();
    for field in ["protocol", "epoch", "gained", "lost", "kept", "duration_ms"] {
        assert!(first.get(field).is_some(), "a rebalance is logged with {field}: {first}");
    }
}
