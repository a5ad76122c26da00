//! `wiki doctor`: set-ups that are broken in one place each, and the one line that names it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

/// A set-up: the options that `wiki doctor` is given.
#[derive(Clone)]
struct SetUp {
    brokers: String,
    stream: String,
    data: String,
    more: Vec<String>,
}

impl SetUp {
    fn with(&self, more: &[&str]) -> Self {
        Self { more: more.iter().map(|word| (*word).to_owned()).collect(), ..self.clone() }
    }

    /// Exit code, and the lines that name something wrong.
    fn look(&self) -> (i32, Vec<String>) {
        let program = Program::new("wiki")
            .with(["doctor", "--kafka-bootstrap-servers", &self.brokers, "--stream-url", &self.stream])
            .with(["--data", &self.data])
            // Whatever room there is here will do, unless that is what is asked.
            .with(if self.more.iter().any(|word| word == "--free-mib") { vec![] } else { vec!["--free-mib", "1"] })
            .with(self.more.iter().map(String::as_str));
        let (code, output, errors) = program.run(LIMIT);
        assert!(!output.contains("panicked") && !errors.contains("panicked"), "{errors}");
        println!("{output}");
        (code, output.lines().filter(|line| line.starts_with("WRONG")).map(str::to_owned).collect())
    }

    /// One thing is wrong, and its line holds these words.
    fn expect(&self, what: &str, words: &[&str]) {
        let (code, wrong) = self.look();
        assert_eq!((code, wrong.len()), (1, 1), "{what}: {wrong:#?}");
        for word in words {
            assert!(wrong[0].contains(word), "{what}: {word} is missing in {}", wrong[0]);
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Somebody who answers every connection with this, and hangs up.
fn answering(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            // Whatever is asked, the answer is the same; one that is gone already misses nothing.
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(text.as_bytes());
        }
    });
    address
}

/// A pipeline whose topics are there.
fn healthy() -> (Pipeline, SetUp) {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&[]));
    pipeline.start_service("ingest");
    let set_up = SetUp {
        brokers: pipeline.target.bootstrap.clone(),
        stream: format!("http://{}/v2/stream/recentchange", pipeline.simulator),
        data: pipeline.folder().display().to_string(),
        more: Vec::new(),
    };
    wait_until("nothing is wrong", LIMIT, || set_up.look() == (0, Vec::new()));
    (pipeline, set_up)
}

#[test]
fn a_broken_connection_to_kafka_is_named() {
    let (_pipeline, well) = healthy();
    let at = |brokers: &str| SetUp { brokers: brokers.to_owned(), ..well.clone() };
    at("localhost").expect("no port", &["broker", "has no port", "host:port"]);
    at("nowhere.invalid:9092").expect("unknown name", &["dns", "nowhere.invalid", "/etc/hosts"]);
    at(&free_address().to_string()).expect("nobody listens", &["broker", "nobody listens", "wiki broker"]);
    at(&answering("HTTP/1.1 400 Bad Request\r\n\r\n").to_string()).expect("no Kafka", &["broker", "no Kafka answers"]);
    well.with(&["-X", "security.protocol=ssl"]).expect("TLS to a plain port", &["broker", "security.protocol"]);
}

#[test]
fn broken_topics_are_named() {
    let (_pipeline, well) = healthy();
    well.with(&["--topic-prefix", "other-"]).expect("no topics", &["topics", "other-wikipedia-raw", "start ingest"]);
    let made = Program::new("wiki")
        .with(["topics", "create", "three", "--partitions", "3", "--kafka-bootstrap-servers", &well.brokers])
        .run(LIMIT);
    assert_eq!(made.0, 0, "{}", made.2);
    well.with(&["--events-topic", "three"]).expect("unequal", &["topics", "6 partitions", "same number"]);
}

#[test]
fn a_transaction_that_hangs_is_named() {
    let (pipeline, set_up) = healthy();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &pipeline.target.bootstrap)
        .set("transactional.id", "somebody-else")
        .set("transaction.timeout.ms", "600000")
        .create()
        .unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to("wikipedia-raw").partition(3).payload("x")).unwrap();
    producer.flush(LIMIT).unwrap();
    assert_eq!(set_up.look().0, 0, "it is young");
    wait_until("it is old enough to be named", LIMIT, || set_up.look().0 == 1);
    set_up.expect("a hung transaction", &["WRONG  hung", "wikipedia-raw partition 3", "kafka-transactions.sh"]);
    producer.abort_transaction(LIMIT).unwrap();
    assert_eq!(set_up.look().0, 0);
}

#[test]
fn a_broken_stream_is_named() {
    let (_pipeline, well) = healthy();
    let of = |stream: &str| SetUp { stream: stream.to_owned(), ..well.clone() };
    of("https://nowhere.invalid/v2/stream/recentchange").expect("unknown name", &["dns", "nowhere.invalid"]);
    let left_out = of("https://nowhere.invalid/v2/stream/recentchange").with(&["--without-stream"]);
    assert_eq!(left_out.look(), (0, vec![]), "whoever needs no stream");
    let closed = free_address();
    of(&format!("http://{closed}/")).expect("nobody there", &["stream", "cannot be reached", "simulator"]);
    let refusing = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    of(&format!("http://{refusing}/")).expect("refused", &["stream", "403", "WIKI_CONTACT"]);
    let yesterday = answering("HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n");
    of(&format!("http://{yesterday}/")).expect("the clock", &["clock", "NTP"]);
}

#[test]
fn a_broken_machine_or_database_is_named() {
    let (_pipeline, well) = healthy();
    SetUp { data: "/proc".to_owned(), ..well.clone() }.expect("unwritable", &["disk", "/proc", "--data"]);
    well.with(&["--free-mib", "100000000"]).expect("no room", &["disk", "make room"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    well.with(&["--port", &address]).expect("a port", &["port", &address, "ss -ltnp"]);
    let database = format!("postgres://reader:secret-word@{}/wikipedia", free_address());
    let set_up = well.with(&["--database-url", &database]);
    set_up.expect("the database", &["database", "WIKI_DATABASE_URL"]);
    assert!(!set_up.look().1[0].contains("secret-word"), "no secret is shown");
}
