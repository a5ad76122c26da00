//! The page's API, without a browser.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::demo::Demo;
use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{http, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(40);

fn address(demo: &Demo) -> SocketAddr {
    demo.page.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
}

/// An open stream, its head read.
fn stream(address: SocketAddr) -> (u16, String, BufReader<TcpStream>) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    write!(socket, "GET /api/stream HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the server hung up: {head}");
    }
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), reader)
}

/// Reads until a line says so.
fn read_until(reader: &mut BufReader<TcpStream>, wanted: &str) {
    let mut line = String::new();
    while !line.starts_with(wanted) {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended before {wanted}");
    }
}

#[test]
fn a_stream_begins_with_hello_and_a_snapshot_and_ends_with_bye() {
    let demo = Demo::start(&["--source", "generated"]);
    let (status, head, mut reader) = stream(address(&demo));
    assert_eq!(status, 200);
    for header in ["cache-control: no-store", "x-accel-buffering: no", "content-type: text/event-stream"] {
        assert!(head.contains(header), "{head}");
    }
    for event in ["event: hello", "retry: 2000", "event: snapshot", "event: rates", "event: edits"] {
        read_until(&mut reader, event);
    }
    // The demo ends in time although a stream is open, and says so.
    demo.end();
    read_until(&mut reader, "event: bye");
}

#[test]
fn more_pages_than_may_be_open_are_refused_and_a_closed_one_makes_room() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "50"]));
    pipeline.start_service("ingest");
    let program = Program::new("console").with(["--http", "127.0.0.1:0", "--log-format", "json", "--max-clients", "3"]);
    let console =
        program.with(["--kafka-bootstrap-servers", &pipeline.target.bootstrap]).start("few", pipeline.folder());
    let mut found: Option<SocketAddr> = None;
    wait_until("the console has started", LIMIT, || {
        found = pipeline.logs("few").iter().find_map(|line| line["address"].as_str()?.parse().ok());
        found.is_some()
    });
    let address = found.unwrap();
    let mut open: Vec<_> = (0..3).map(|_| stream(address)).collect();
    assert!(open.iter().all(|(status, ..)| *status == 200));
    let (status, head, mut body) = stream(address);
    assert_eq!(status, 503);
    assert!(head.contains("retry-after: 5"), "{head}");
    let mut words = String::new();
    body.read_line(&mut words).unwrap();
    assert!(words.contains("WIKI_MAX_CLIENTS"), "{words}");
    open.pop();
    wait_until("there is room again", LIMIT, || stream(address).0 == 200);
    drop(console);
}

#[test]
fn the_state_has_an_etag_the_log_is_json_lines_and_every_route_is_described() {
    let demo = Demo::start(&["--source", "generated"]);
    let address = address(&demo);
    wait_until("a rebalance is logged", LIMIT, || {
        http::get(address, "/api/rebalances").is_some_and(|text| text.contains("\"is_over\":true"))
    });
    for line in http::get(address, "/api/rebalances").unwrap().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entry["causes"].is_array() && entry["duration_ms"].is_i64(), "{entry}");
    }
    let records: Value = serde_json::from_str(&http::get(address, "/api/partitions/0/records").unwrap()).unwrap();
    assert!(records[0]["headers"].to_string().contains("ce_id"), "{records}");
    let document: Value = serde_json::from_str(&http::get(address, "/openapi.json").unwrap()).unwrap();
    for path in document["paths"].as_object().unwrap().keys().filter(|path| !path.contains("stream")) {
        let method = if path.contains("control") { "POST" } else { "GET" };
        let (status, _) =
            http::request(address, method, &path.replace("{partition}", "0"), "{\"action\":\"add\"}").unwrap();
        assert!(status == 200 || (status == 403 && path.contains("control")), "{path}: {status}");
    }
    demo.end();
}

#[test]
fn only_a_page_of_ours_may_change_the_demo() {
    let demo = Demo::start(&["--source", "generated"]);
    let address = address(&demo);
    let ask = |headers: &str, body: &str| {
        let mut socket = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            socket,
            "POST /api/control HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u16>().unwrap()
    };
    let (_, _, mut reader) = stream(address);
    read_until(&mut reader, "event: hello");
    let mut line = String::new();
    while !line.starts_with("data:") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let hello: Value = serde_json::from_str(line.trim_start_matches("data:").trim()).unwrap();
    let token = format!("X-Wiki-Control: {}\r\n", hello["control"].as_str().unwrap());
    let kill = "{\"action\":\"kill\",\"sink\":\"sink-9\"}";
    assert_eq!(ask("", kill), 403, "no token");
    assert_eq!(ask("X-Wiki-Control: guessed\r\n", kill), 403, "a wrong token");
    assert_eq!(ask(&format!("{token}Origin: http://elsewhere.example\r\n"), kill), 403, "another site");
    assert_eq!(ask(&token, kill), 409, "there is no such sink");
    assert_eq!(ask(&token, "{\"action\":\"format_disk\"}"), 422, "no such action");
    assert_eq!(ask(&token, "{\"action\":\"add\",\"x\":1}"), 422, "a field that is not known");
    assert_eq!(ask(&format!("{token}Sec-Fetch-Site: cross-site\r\n"), kill), 403, "another site's page");
    wait_until("the sinks are there", LIMIT, || {
        http::get(address, "/api/state").is_some_and(|state| state.matches("\"state\":\"stable\"").count() >= 2)
    });
    assert_eq!(ask(&format!("{token}Origin: http://{address}\r\n"), "{\"action\":\"slow\",\"sink\":\"sink-1\"}"), 200);
    wait_until("the sink is slow", LIMIT, || {
        http::get(address, "/api/state").is_some_and(|state| state.contains("\"state\":\"slow\""))
    });
    demo.end();
}
