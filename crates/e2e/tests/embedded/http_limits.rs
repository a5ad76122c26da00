//! Clients that open what they can and send it slowly, against every HTTP server: the others are served meanwhile.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{http, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
/// How soon others are to be answered, on a slow machine.
const SOON: Duration = Duration::from_secs(2);
const MOST_BYTES: u64 = 96 << 20;

/// Of the addresses of this machine, all of them loopback.
const fn here(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, number))
}

fn is_open(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut byte = [0; 512];
    loop {
        match socket.read(&mut byte) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

fn expect_served(address: SocketAddr, path: &str, what: &str) {
    let started = Instant::now();
    let served = http::get(address, path).is_some();
    assert!(served && started.elapsed() < SOON, "{path} {what}: {served} after {:?}", started.elapsed());
}

#[test]
fn five_hundred_silent_dripping_and_unfinished_clients_do_not_keep_others_out() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "50"]));
    pipeline.start_service("console");
    pipeline.start_service("ingest");
    wait_until("they serve", LIMIT, || {
        pipeline.readiness("console").is_some() && pipeline.readiness("ingest").is_some()
    });
    let servers = [
        ("simulator", pipeline.simulator, "/livez", 300),
        ("console", pipeline.address("console").unwrap(), "/api/state", 32),
        ("ingest", pipeline.address("ingest").unwrap(), "/metrics", 32),
    ];
    for (name, address, path, most) in servers {
        let slow_body = format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 50\r\n\r\nx");
        let mut clients = Vec::new();
        for said in ["", "GET / HT", &slow_body, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
            for number in 0..125 {
                let Ok(mut socket) = TcpStream::connect(address) else { continue };
                // One that was refused may be closed by now.
                let _ = socket.write_all(said.as_bytes());
                clients.push(socket);
                if number % 25 == 0 && said != slow_body {
                    expect_served(address, path, name);
                }
            }
        }
        // Those with a body in work hold their places for ten seconds at most, and health is answered meanwhile.
        expect_served(address, "/livez", name);
        let open = clients.iter_mut().filter_map(|socket| is_open(socket).then_some(())).count();
        assert!(open <= most, "{name}: {open} of {} are open", clients.len());
        let metrics = http::get(address, "/metrics");
        wait_until("the others are served again", Duration::from_secs(15), || http::get(address, path).is_some());
        drop((clients, metrics));
        if name != "simulator" {
            let refused = pipeline.metric(name, "wiki_http_refused_total").unwrap();
            assert!(refused > 300.0, "{name}: {refused} were refused or made room");
            let peak = pipeline.service(name).peak_bytes().unwrap();
            assert!(peak < MOST_BYTES, "{name}: {} MiB", peak >> 20);
        }
    }
}

#[test]
fn a_server_with_few_descriptors_answers_while_strangers_hold_what_they_can() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "50"]));
    let console = Program::new("console")
        .with(["--http", "127.0.0.1:0", "--log-format", "json", "--kafka-bootstrap-servers"])
        .with([pipeline.target.bootstrap.clone()])
        .with_descriptors(128)
        .start("console", pipeline.folder());
    wait_until("it serves", LIMIT, || pipeline.readiness("console").is_some());
    let address = pipeline.address("console").unwrap();
    let clients: Vec<_> = (0..200).map(|number| http::connect_from(here(2 + number % 8), address)).collect();
    for _ in 0..20 {
        expect_served(address, "/livez", "with 128 descriptors");
        expect_served(address, "/api/state", "with 128 descriptors");
    }
    assert!(!console.errors().contains("cannot accept a connection"), "{}", console.errors());
    drop((clients, console));
    pipeline.start_service("ingest");
    wait_until("the pipeline is well", LIMIT, || pipeline.readiness("ingest").is_some_and(|(ready, _)| ready));
}
