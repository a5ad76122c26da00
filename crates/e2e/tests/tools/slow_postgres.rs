//! A PostgreSQL that is frozen, or behind a slow link: the sinks stay members of their group, and rows flow or wait.

use std::time::{Duration, Instant};

use e2e::pipeline::{Parts, Pipeline};
use e2e::postgres::{Server, stored, try_ask};
use e2e::slow_link::SlowLink;
use e2e::{http, schedule, wait_until};

const LIMIT: Duration = Duration::from_secs(120);
/// A member that does not poll for so long loses its place in the group.
const SILENCE: Duration = Duration::from_secs(4);

fn pipeline(url: &str, simulator: &[&str]) -> Pipeline {
    let mut parts = Parts::with_simulator(simulator);
    parts.destination = Some(["--writer", "postgres", "--database-url", url].map(str::to_owned).into());
    parts.services = ["-X".to_owned(), format!("max.poll.interval.ms={}", SILENCE.as_millis())].into();
    Pipeline::start(&parts)
}

fn expect_members(pipeline: &Pipeline, sinks: &[&str]) {
    for sink in sinks {
        let has_lost = pipeline.logs(sink).iter().any(|line| line["event"] == "lost");
        assert!(!has_lost, "{sink} lost its place in the group");
    }
}

fn expect_each_once(url: &str, edits: usize) {
    let counts = try_ask(url, "SELECT count(DISTINCT event_id), count(*) FROM edits");
    assert_eq!(counts, Ok(format!("{edits}|{edits}")));
}

#[test]
fn a_frozen_server_costs_no_membership_and_no_edit() {
    const EDITS: usize = 12_000;
    let _alone = schedule::alone();
    let server = Server::make();
    let url = server.database();
    let mut pipeline = pipeline(&url, &["--rate", "800", "--edits", &EDITS.to_string(), "--seed", "14"]);
    for service in ["ingest", "enricher", "sink-1", "sink-2", "sink-3"] {
        pipeline.start_service(service);
    }
    wait_until("some are stored", LIMIT, || stored(&url) > 500);
    let frozen = server.freeze();
    let since = Instant::now();
    wait_until("every sink says that it waits for the destination", LIMIT, || {
        ["sink-1", "sink-2", "sink-3"].iter().all(|sink| {
            let said = pipeline.readiness(sink);
            // A write; or a claim, where the server was frozen during one.
            said.is_some_and(|(is_ready, said)| !is_ready && said.contains("destination"))
        })
    });
    // A rebalance while nothing answers: what it moves cannot be claimed.
    pipeline.service("sink-3").kill();
    pipeline.forget("sink-3");
    let frozen_for = std::env::var("WIKI_FROZEN_SECONDS")
        .map_or(SILENCE * 3, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    wait_until("a member may not be silent for so long, three times over", frozen_for + LIMIT, || {
        pipeline.expect_all_alive();
        for sink in ["sink-1", "sink-2"] {
            let address = pipeline.address(sink).unwrap();
            assert!(http::get(address, "/livez").is_some(), "{sink} is alive");
        }
        since.elapsed() > frozen_for
    });
    expect_members(&pipeline, &["sink-1", "sink-2"]);
    drop(frozen);
    wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        stored(&url) >= EDITS
    });
    expect_members(&pipeline, &["sink-1", "sink-2"]);
    expect_each_once(&url, EDITS);
    for sink in ["sink-1", "sink-2"] {
        assert_eq!(pipeline.metric(sink, "wiki_sink_sequence_holes_total"), Some(0.0));
    }
}

#[test]
fn over_24_kib_a_second_rows_flow_and_the_sink_stays_a_member() {
    const EDITS: usize = 6_000;
    let server = Server::make();
    let url = server.database();
    let link = SlowLink::to(server.address(), 24 << 10);
    let slow = url.replace(&server.address().to_string(), &link.address.to_string());
    // All of them wait when the sink begins: a whole batch takes longer than a statement may.
    let mut pipeline = pipeline(&slow, &["--rate", "max", "--edits", &EDITS.to_string(), "--seed", "15"]);
    pipeline.start_service("ingest");
    pipeline.start_service("enricher");
    let mapped = |pipeline: &Pipeline| pipeline.metric("enricher", "wiki_enricher_records_total{outcome=\"enriched\"}");
    wait_until("all are mapped", LIMIT, || mapped(&pipeline).is_some_and(|count| count >= EDITS as f64));
    pipeline.start_service("sink-1");
    let mut seen = 0;
    let mut grew = 0;
    wait_until("rows flow, write by write", LIMIT, || {
        pipeline.expect_all_alive();
        let now = stored(&url);
        grew += usize::from(now > seen);
        seen = now;
        grew >= 3
    });
    expect_members(&pipeline, &["sink-1"]);
    link.set_rate(u64::MAX);
    wait_until("every edit is stored", LIMIT, || stored(&url) >= EDITS);
    expect_members(&pipeline, &["sink-1"]);
    expect_each_once(&url, EDITS);
}
