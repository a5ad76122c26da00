//! Clients that ask the embedded broker for all its memory: it stays within 256 MiB, and serves the others meanwhile.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e::frames::{ask, connect, frame, number, string};
use e2e::process::{Process, Program};
use e2e::wait_until;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

const LIMIT: Duration = Duration::from_secs(60);
/// How soon others are to be served, on a slow machine.
const SOON: Duration = Duration::from_secs(10);
const MOST_BYTES: u64 = 256 << 20;
const POLICY_VIOLATION: [u8; 2] = 44_i16.to_be_bytes();

/// A broker under attack.
struct Attacked {
    _folder: tempfile::TempDir,
    process: Process,
    address: SocketAddr,
    topics: usize,
}

impl Attacked {
    fn start(memory_mib: &str, descriptors: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::new("broker").with(["--port", "0", "--memory-mib", memory_mib]);
        let program = descriptors.map_or(program.clone(), |most| program.with_descriptors(most));
        let process = program.start("broker", folder.path());
        let mut address = None;
        wait_until("the broker listens", LIMIT, || {
            address = process.output().lines().find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
            address.is_some()
        });
        let address = address.unwrap();
        Self { _folder: folder, process, address, topics: 0 }
    }

    /// Another client makes a topic, writes to it and reads it.
    fn expect_others_served(&mut self, during: &str) {
        self.topics += 1;
        let topic = format!("other-{}", self.topics);
        let started = Instant::now();
        let servers = ["--kafka-bootstrap-servers".to_owned(), self.address.to_string()];
        let make = ["topics", "create", &topic, "--partitions", "1"].map(str::to_owned);
        let (code, _, errors) = Program::new("wiki").with(make).with(servers.clone()).run(LIMIT);
        assert_eq!(code, 0, "{during}: {errors}");
        let producer = self.producer(&[]);
        producer.send(BaseRecord::<(), str>::to(&topic).payload("one")).unwrap();
        producer.flush(SOON).unwrap_or_else(|error| panic!("{during}: {error}"));
        let read = ["consume", &topic, "--from-beginning", "--until-end"].map(str::to_owned);
        let (code, out, errors) = Program::new("wiki").with(read).with(servers).run(LIMIT);
        assert!(code == 0 && out.contains("one"), "{during}: {out}{errors}");
        assert!(started.elapsed() < SOON, "{during}: others waited {:?}", started.elapsed());
    }

    fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address.to_string()).set("message.timeout.ms", "9000");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    fn expect_small(&mut self, during: &str) {
        assert!(self.process.ended().is_none(), "{during}: it ended: {}", self.process.errors());
        let peak = self.process.peak_bytes().unwrap();
        assert!(peak < MOST_BYTES, "{during}: {} MiB", peak >> 20);
        eprintln!("{during}: at most {} MiB", peak >> 20);
    }
}

fn init_producer_id(id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, id);
    number(&mut body, 60_000);
    frame(22, 1, false, &body)
}

fn create_topic(name: &str, partitions: usize) -> Vec<u8> {
    let mut body = Vec::new();
    number(&mut body, 1);
    string(&mut body, name);
    number(&mut body, partitions);
    body.extend(1_i16.to_be_bytes());
    for none in [0, 0, 9_000] {
        number(&mut body, none);
    }
    body.push(0);
    frame(19, 4, false, &body)
}

fn join_group(group: &str, session_ms: usize, metadata: usize) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, group);
    number(&mut body, session_ms);
    number(&mut body, session_ms);
    string(&mut body, "");
    string(&mut body, "consumer");
    number(&mut body, 1);
    string(&mut body, "range");
    number(&mut body, metadata);
    body.resize(body.len() + metadata, b'x');
    frame(11, 2, false, &body)
}

fn commit_offset(group: &str, partition: usize) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, group);
    number(&mut body, 0);
    body[2 + group.len()..].copy_from_slice(&(-1_i32).to_be_bytes());
    string(&mut body, "");
    body.extend((-1_i64).to_be_bytes());
    number(&mut body, 1);
    string(&mut body, "offsets");
    number(&mut body, 1);
    number(&mut body, partition);
    body.extend(1_i64.to_be_bytes());
    string(&mut body, &"x".repeat(4_000));
    frame(8, 2, false, &body)
}

/// The same name as often as a request may hold it.
fn many_of(key: i16, name: &str, count: usize) -> Vec<u8> {
    let mut body = Vec::new();
    number(&mut body, count);
    for _ in 0..count {
        string(&mut body, name);
    }
    frame(key, 0, false, &body)
}

#[test]
fn connections_that_are_silent_or_stop_in_a_frame_make_room() {
    let mut broker = Attacked::start("64", None);
    let silent: Vec<TcpStream> = (0..2_000).map(|_| connect(broker.address)).collect();
    broker.expect_others_served("2,000 silent connections");
    drop(silent);
    let mut unfinished = Vec::new();
    for number in 0..40 {
        let mut socket = connect(broker.address);
        let mut begun = frame(42, 1, false, &vec![0; (8 << 20) - 100]);
        begun.pop();
        // One that is cut to make room cannot be written to its end.
        let _ = socket.write_all(&begun);
        unfinished.push(socket);
        if number % 10 == 9 {
            broker.expect_others_served("frames of 8 MiB less a byte");
        }
    }
    broker.expect_small("2,000 silent connections, 40 frames of 8 MiB less a byte");
}

#[test]
fn with_few_descriptors_the_longest_idle_connection_makes_room() {
    let mut broker = Attacked::start("64", Some(256));
    let silent: Vec<TcpStream> = (0..300).map(|_| connect(broker.address)).collect();
    broker.expect_others_served("256 descriptors, 300 silent connections");
    assert!(!broker.process.errors().contains("cannot accept"), "{}", broker.process.errors());
    drop(silent);
}

#[test]
fn ids_topics_and_groups_have_bounds_and_an_error_each() {
    let mut broker = Attacked::start("64", None);
    let mut socket = connect(broker.address);
    let mut refused = 0;
    for id in 0..12_000 {
        let answer = ask(&mut socket, &init_producer_id(&format!("{id}-{}", "x".repeat(1_000)))).unwrap();
        refused += usize::from(answer[4..6] == POLICY_VIOLATION);
    }
    assert_eq!(refused, 2_000, "of 12,000 transactional ids 10,000 are taken");
    let long = ask(&mut socket, &init_producer_id(&"x".repeat(20_000))).unwrap();
    assert_eq!(long[4..6], POLICY_VIOLATION, "an id of 20,000 bytes");
    let mut taken = 0;
    for topic in 0..40 {
        let name = format!("topic-{topic}");
        let answer = ask(&mut socket, &create_topic(&name, 1_000)).unwrap();
        let code = &answer[10 + name.len()..][..2];
        taken += usize::from(code == [0, 0]);
        assert!(code == [0, 0] || code == POLICY_VIOLATION, "{code:?}");
    }
    assert_eq!(taken, 10, "10,000 partitions in all");
    let mut sockets = Vec::new();
    for group in 0..200 {
        let mut joining = connect(broker.address);
        joining.write_all(&join_group(&format!("group-{group}"), 300_000, 1_000_000)).unwrap();
        sockets.push(joining);
    }
    let mut socket = connect(broker.address);
    let answer = ask(&mut socket, &join_group("patient", 7_200_000, 10)).unwrap();
    assert_eq!(answer[4..6], 26_i16.to_be_bytes(), "a session of two hours");
    drop(sockets);
    broker.expect_small("12,000 ids, 40,000 partitions, 200 MB of members' metadata");
    // Members of sessions of five minutes are still there: there is room for small ones.
    let answer = ask(&mut socket, &join_group("another", 6_000, 100)).unwrap();
    assert_eq!(answer[4..6], [0, 0]);
}

#[test]
fn what_is_asked_again_and_again_is_answered_once() {
    let mut broker = Attacked::start("64", None);
    let mut socket = connect(broker.address);
    ask(&mut socket, &join_group("large", 60_000, 900_000)).unwrap();
    ask(&mut socket, &create_topic("wide", 1_000)).unwrap();
    for _ in 0..5 {
        for (key, name) in [(15, "large"), (3, "wide")] {
            let answer = ask(&mut socket, &many_of(key, name, 100_000)).unwrap();
            assert!(answer.len() < 2_000_000, "{} bytes", answer.len());
        }
    }
    assert!(ask(&mut socket, &many_of(15, "", 100_001)).is_none(), "more elements than a request may have");
    broker.expect_others_served("a group of 900 KB asked for 100,000 times");
    broker.expect_small("a group of 900 KB and a topic of 1,000 partitions asked for 100,000 times");
}

#[test]
fn offsets_with_long_metadata_are_refused_past_their_bound() {
    let mut broker = Attacked::start("64", None);
    let mut socket = connect(broker.address);
    ask(&mut socket, &create_topic("offsets", 1_000)).unwrap();
    let mut refused = 0;
    for at in 0..20_000 {
        let answer = ask(&mut socket, &commit_offset(&format!("group-{}", at / 1_000), at % 1_000)).unwrap();
        refused += usize::from(answer.ends_with(&POLICY_VIOLATION));
    }
    assert!(refused > 10_000, "{refused} of 20,000 were refused");
    broker.expect_others_served("20,000 offsets of 4 KB");
    broker.expect_small("20,000 offsets of 4 KB");
}

#[test]
fn answers_that_are_not_read_and_transactions_that_stay_open_keep_their_bounds() {
    let mut broker = Attacked::start("16", None);
    let producer = broker.producer(&[("transactional.id", "open"), ("transaction.timeout.ms", "600000")]);
    let made = Program::new("wiki").with(["topics", "create", "kept", "--partitions", "1"]);
    let made = made.with(["--kafka-bootstrap-servers".to_owned(), broker.address.to_string()]).run(LIMIT);
    assert_eq!(made.0, 0, "{}", made.2);
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    let value = "x".repeat(500_000);
    let mut sent = 0;
    while sent < 200 {
        // Fenced once its records are in the way.
        if producer.send(BaseRecord::<(), str>::to("kept").payload(&value)).is_err() {
            break;
        }
        sent += 1;
        if producer.flush(SOON).is_err() || producer.client().fatal_error().is_some() {
            break;
        }
    }
    assert!(sent < 200, "an open transaction keeps 100 MB where 16 MiB are allowed");
    broker.expect_others_served("a transaction that keeps all records");
    let fetch = {
        let mut body = (-1_i32).to_be_bytes().to_vec();
        number(&mut body, 0);
        number(&mut body, 1);
        number(&mut body, 60 << 20);
        body.push(0);
        number(&mut body, 1);
        string(&mut body, "kept");
        number(&mut body, 1);
        number(&mut body, 0);
        body.extend(earliest(broker.address).to_be_bytes());
        number(&mut body, 60 << 20);
        frame(1, 4, false, &body)
    };
    let mut unread = Vec::new();
    for _ in 0..100 {
        let mut socket = connect(broker.address);
        socket.write_all(&fetch).unwrap();
        unread.push(socket);
    }
    broker.expect_others_served("100 answers of 16 MiB that are not read");
    broker.expect_small("100 answers of 16 MiB that are not read, an open transaction of 100 MB");
}

fn earliest(address: SocketAddr) -> i64 {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let mut config = ClientConfig::new();
    let reader: BaseConsumer = config.set("bootstrap.servers", address.to_string()).create().unwrap();
    reader.fetch_watermarks("kept", 0, SOON).unwrap().0
}
