//! `wiki tail`: formats, beginnings, and a group that goes on where it left off.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{checker, wait_until};

const EDITS: usize = 300;
const LIMIT: Duration = Duration::from_secs(60);

fn tail(broker: SocketAddr, options: &[&str]) -> Vec<String> {
    let program =
        Program::new("wiki").with(["tail", "--kafka-bootstrap-servers", &broker.to_string()]).with(options.to_vec());
    let (code, output, errors) = program.run(LIMIT);
    assert_eq!(code, 0, "{errors}");
    output.lines().map(str::to_owned).collect()
}

#[test]
fn the_console_consumer_shows_what_it_is_asked_for() {
    let edits = EDITS.to_string();
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "max", "--edits", &edits]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("every edit is stored", LIMIT, || checker::rows(&table) == EDITS);
    let broker: std::net::SocketAddr = pipeline.target.bootstrap.parse().unwrap();

    let lines = tail(broker, &["--from-beginning", "--format", "offsets", "--idle-ms", "1500"]);
    assert_eq!(lines.len(), EDITS);
    for line in &lines {
        let (place, rest) = line.split_once(": key=").unwrap();
        let mut place = place.split(':');
        assert_eq!(place.next(), Some("wikipedia-events"), "{line}");
        assert!(place.all(|number| number.parse::<i64>().is_ok()), "{line}");
        let (key, value) = rest.split_once(" value=").unwrap();
        let edit: serde_json::Value = serde_json::from_str(value).unwrap();
        assert_eq!(key, format!("{}:{}", edit["wiki"].as_str().unwrap(), edit["title"].as_str().unwrap()));
    }

    // What kcat would print: one JSON object a line, the nine tutorial fields first.
    let json = tail(broker, &["--from-beginning", "--format", "json", "--max", "20"]);
    assert_eq!(json.len(), 20);
    let nine =
        ["id", "domain", "namespace", "title", "timestamp", "user_name", "user_type", "old_length", "new_length"];
    for line in &json {
        let mut rest = line.strip_prefix('{').unwrap();
        for field in nine {
            let at = rest.find(&format!("\"{field}\":")).unwrap_or_else(|| panic!("{field} is not next in {line}"));
            rest = &rest[at..];
        }
        assert!(line.starts_with("{\"id\":"), "{line}");
    }

    assert!(tail(broker, &["--idle-ms", "800"]).is_empty(), "without --from-beginning only what comes is shown");
    assert_eq!(tail(broker, &["--topic", "wikipedia-raw", "--from-beginning", "--max", "7"]).len(), 7);

    let group = ["--group", "readers", "--from-beginning", "--format", "offsets"];
    let first = tail(broker, &[&group[..], &["--max", "100"]].concat());
    let second = tail(broker, &[&group[..], &["--idle-ms", "3000"]].concat());
    let mut both: Vec<&String> = first.iter().chain(&second).collect();
    assert_eq!((first.len(), second.len()), (100, EDITS - 100), "the second begins where the first left off");
    both.sort();
    both.dedup();
    assert_eq!(both.len(), EDITS);
    let late = ["--group", "latecomers", "--format", "offsets", "--idle-ms", "3000"];
    assert!(tail(broker, &late).is_empty(), "a new group begins with the next record");
}
