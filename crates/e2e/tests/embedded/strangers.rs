//! What strangers send and ask: names of other hosts, fields without end, other answers than a stream.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn event(number: usize, change: &dyn Fn(String) -> String) -> String {
    change(format!(
        "{{\"meta\":{{\"id\":\"event-{number}\",\"domain\":\"en.wikipedia.org\",\"stream\":\"mediawiki.recentchange\",\
         \"dt\":\"2026-01-02T03:04:05.678Z\"}},\"id\":{number},\"type\":\"edit\",\"namespace\":0,\"title\":\"Page\",\
         \"comment\":\"c\",\"user\":\"u\",\"bot\":false,\"length\":{{\"old\":1,\"new\":2}},\
         \"revision\":{{\"old\":1,\"new\":2}},\"wiki\":\"enwiki\"}}"
    ))
}

pub(crate) fn recording(folder: &Path, events: &[String]) -> String {
    let path = folder.join("events.jsonl");
    std::fs::write(&path, events.join("\n") + "\n").unwrap();
    path.display().to_string()
}

fn status(address: SocketAddr, request: &str) -> u16 {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The answer may be cut where the server closes with bytes unread.
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split_whitespace().nth(1).unwrap_or("0").parse().unwrap()
}

#[test]
fn no_server_answers_under_a_name_that_can_be_had_on_the_internet() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "50"]));
    pipeline.start_service("console");
    pipeline.start_service("ingest");
    wait_until("they serve", LIMIT, || {
        pipeline.readiness("console").is_some() && pipeline.readiness("ingest").is_some()
    });
    let servers = [
        (pipeline.simulator, "/served"),
        (pipeline.address("console").unwrap(), "/api/state"),
        (pipeline.address("console").unwrap(), "/api/stream"),
        (pipeline.address("ingest").unwrap(), "/metrics"),
    ];
    let end = "Connection: close\r\n\r\n";
    for (address, path) in servers {
        let ask = |host: &str| status(address, &format!("GET {path} HTTP/1.1\r\n{host}{end}"));
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io"] {
            assert_eq!(ask(&format!("Host: {host}\r\n")), 421, "{path} for {host}");
        }
        assert_eq!(ask(""), 400, "{path} without a host");
        if path != "/api/stream" {
            for host in [address.to_string(), format!("localhost:{}", address.port()), "console".to_owned()] {
                assert_eq!(ask(&format!("Host: {host}\r\n")), 200, "{path} for {host}");
            }
        }
    }
    let put = "PUT /faults HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
               Connection: close\r\n\r\n{}";
    assert_eq!(status(pipeline.simulator, put), 421);
}

#[test]
fn a_record_of_nine_mebibytes_is_set_aside_and_its_partition_goes_on() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "200", "--seed", "3"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    wait_until("edits are stored", LIMIT, || checker::rows(&pipeline.table()) > 100);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long");
    std::fs::write(&file, "x".repeat(9 << 20)).unwrap();
    let script = format!(
        "{} produce wikipedia-raw --partition 2 -X compression.type=gzip -X message.max.bytes=20000000 -X fetch.max.bytes=40000000 \
         -X receive.message.max.bytes=50000000 \
         --kafka-bootstrap-servers {} < {}",
        e2e::process::binary("wiki").display(),
        pipeline.target.bootstrap,
        file.display()
    );
    let produced = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(produced.status.success(), "{}", String::from_utf8_lossy(&produced.stderr));
    wait_until("it is set aside, by its beginning", LIMIT, || {
        pipeline.expect_all_alive();
        let letters = checker::read_topic(&pipeline.target, "dlq.wikipedia-raw").remove(&0).unwrap_or_default();
        letters.iter().any(|letter| {
            use rdkafka::message::Message as _;
            letter.payload().is_some_and(|value| value.len() == 64 << 10)
                && checker::header(letter, "__connect.errors.value.length") == "9437184"
        })
    });
    let offset = |pipeline: &Pipeline| {
        let records = checker::read_topic(&pipeline.target, "wikipedia-events").remove(&2).unwrap_or_default();
        records.last().map_or(0, rdkafka::Message::offset)
    };
    let before = offset(&pipeline);
    wait_until("its partition goes on", LIMIT, || offset(&pipeline) > before);
}

#[test]
fn an_id_and_a_title_without_end_are_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(900_000);
    let events = [
        event(0, &|event| event),
        event(1, &|event| event.replace("event-1", &long)),
        event(2, &|event| event.replace("Page", &long)),
        event(3, &|event| event.replace("enwiki", &long)),
        event(4, &|event| event),
    ];
    let file = recording(folder.path(), &events);
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--events", &file]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    wait_until("the good ones are stored", LIMIT, || checker::rows(&pipeline.table()) == 2);
    let letters = checker::read_topic(&pipeline.target, "dlq.wikipedia-raw").remove(&0).unwrap_or_default();
    assert_eq!(letters.len(), 3);
}

#[test]
fn an_event_that_is_too_long_for_its_topic_is_a_dead_letter_and_the_next_one_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    // Kafka's default for a topic is 1,048,588 bytes a batch, headers included; an event may have 1,048,576.
    let padded = |number: usize, field: &str, bytes: usize| {
        let event = event(number, &|event| event.replacen('{', &format!("{{\"{field}\":\"\","), 1));
        let short = event.len();
        // What does not compress: the limit is on the batch as it is sent.
        let mut random = e2e::random::Random::new(7);
        let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(['-', '_']).collect();
        let text: String = (0..bytes - short).map(|_| letters[random.index(letters.len())]).collect();
        event.replacen("\"\"", &format!("\"{text}\""), 1)
    };
    let events = [
        event(0, &|event| event),
        padded(1, "parsedcomment", 1_048_280),
        padded(2, "comment", 1_047_000),
        event(3, &|event| event),
    ];
    let file = recording(folder.path(), &events);
    for raw_bytes in ["8388608", "1048588"] {
        let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--events", &file]));
        for (topic, most_bytes) in [("wikipedia-raw", raw_bytes), ("wikipedia-events", "1048588")] {
            let config = format!("max.message.bytes={most_bytes}");
            let made = pipeline.wiki(&["topics", "create", topic, "--partitions", "6", "--config", &config]);
            assert_eq!(made.0, 0, "{}", made.1);
        }
        for service in ["ingest", "enricher", "sink-1"] {
            pipeline.start_service(service);
        }
        let letters = |pipeline: &Pipeline| {
            checker::read_topic(&pipeline.target, "dlq.wikipedia-raw").remove(&0).unwrap_or_default()
        };
        wait_until("each is stored or set aside", LIMIT, || {
            pipeline.expect_all_alive();
            checker::rows(&pipeline.table()) + letters(&pipeline).len() >= 4
        });
        let stored = checker::ids(&pipeline.table());
        assert!(stored.contains("event-0") && stored.contains("event-3"), "the short ones: {stored:?}");
        let letters = letters(&pipeline);
        assert_eq!(stored.len() + letters.len(), 4, "once");
        let reasons: Vec<String> =
            letters.iter().map(|letter| checker::header(letter, "__connect.errors.exception.class.name")).collect();
        // The comment has a bound of its own.
        let expected: &[&str] = if raw_bytes == "8388608" { &["wrong_shape"] } else { &["oversized", "oversized"] };
        assert_eq!(reasons, expected);
        for service in ["ingest", "enricher"] {
            let doubts =
                pipeline.logs(service).iter().any(|line| line["message"].as_str().unwrap().contains("in doubt"));
            assert!(!doubts, "{service} tried it again and again");
        }
    }
}

#[test]
fn a_login_page_is_no_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let page = "<html>log in</html>";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8";
            let _ = write!(socket, "{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len());
        }
    });
    let mut parts = Parts::with_simulator(&[]);
    parts.ingest = ["--stream-url", &format!("http://{address}/v2/stream/recentchange")].map(str::to_owned).to_vec();
    let mut pipeline = Pipeline::start(&parts);
    pipeline.start_service("ingest");
    wait_until("ingest is not ready, and says why", LIMIT, || {
        pipeline
            .readiness("ingest")
            .is_some_and(|(ready, why)| !ready && why.contains("a login page, or another service"))
    });
}

#[test]
fn comments_without_an_event_are_no_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:ok\n\n";
            let mut written = socket.write_all(head.as_bytes());
            // A byte now and then, until the connection is cut.
            while written.is_ok() {
                std::thread::park_timeout(Duration::from_millis(50));
                written = socket.write_all(b":\n\n");
            }
        }
    });
    let mut parts = Parts::with_simulator(&[]);
    let url = format!("http://{address}/v2/stream/recentchange");
    parts.ingest = ["--stream-url", &url, "--stream-idle-ms", "1000"].map(str::to_owned).to_vec();
    let mut pipeline = Pipeline::start(&parts);
    pipeline.start_service("ingest");
    wait_until("the connection is cut, and ingest says why", LIMIT, || {
        pipeline.logs("ingest").iter().any(|line| line["message"].as_str().unwrap().contains("sent no event for 1 s"))
    });
    // Connected again, and still without an event: that is no health.
    wait_until("ingest connects again", LIMIT, || {
        let connected = |line: &serde_json::Value| line["message"] == "connected to the stream";
        pipeline.logs("ingest").iter().filter(|line| connected(line)).count() >= 3
    });
    let (is_ready, said) = pipeline.readiness("ingest").unwrap();
    assert!(!is_ready && said.contains("sent no event for 1 s"), "{said}");
}
