//! Each bound is gone past, on a real socket, by a client that keeps to none.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::serve;
use crate::Metrics;
use crate::limits::{Limits, Refused, Times};

/// What a slow machine may take.
const LIMIT: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

struct Running {
    address: std::net::SocketAddr,
    metrics: Metrics,
    end: CancellationToken,
    serving: JoinHandle<()>,
    late: Arc<Late>,
}

/// What becomes of requests for `/late`.
#[derive(Default)]
struct Late {
    /// Told when one is in work.
    at_work: Notify,
    /// Answers one.
    answer: Notify,
}

/// Nothing is bounded but what a test bounds.
fn without_bounds() -> Limits {
    let times = Times { head: NEVER, body: NEVER, idle: NEVER, write: NEVER };
    Limits { connections: 20, connections_of_an_address: 20, reserved: 1, head_bytes: 8 << 10, body_bytes: 100, times }
}

async fn start(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let late_ones = Arc::<Late>::default();
    let routes = Router::new()
        .route("/", get(async || "ok"))
        .route("/livez", get(async || "alive"))
        .route("/late", get(late))
        .route("/much", get(async || "x".repeat(64 << 20)))
        .route("/", post(async |body: String| body))
        .with_state(Arc::clone(&late_ones));
    let (metrics, end) = (Metrics::new("test"), CancellationToken::new());
    let serving = tokio::spawn(serve(listener, routes, metrics.clone(), limits, end.clone()));
    Running { address, metrics, end, serving, late: late_ones }
}

async fn late(State(late): State<Arc<Late>>) -> &'static str {
    late.at_work.notify_one();
    late.answer.notified().await;
    "at last"
}

impl Running {
    async fn connect(&self, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    /// A connection with a request in work.
    async fn late(&self) -> TcpStream {
        let socket = self.connect("GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        tokio::time::timeout(LIMIT, self.late.at_work.notified()).await.unwrap();
        socket
    }

    async fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        rest(&mut self.connect(&request).await).await
    }

    fn refused(&self, refused: Refused) -> u64 {
        let line = format!("wiki_http_refused_total{{reason=\"{}\"}} ", refused.label());
        let text = self.metrics.render();
        text.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
    }

    async fn until(&self, refused: Refused, times: u64) {
        let counted = async {
            while self.refused(refused) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, counted).await.unwrap();
    }
}

/// What comes until the connection ends.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset has ended too.
    let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn headers_that_drip_end_in_time_and_a_long_answer_does_not() {
    let mut limits = without_bounds();
    limits.times.head = Duration::from_millis(200);
    let server = start(limits).await;
    let late = server.late().await;
    let mut dripping = server.connect("GET / HTT").await;
    let dripped = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if dripping.write_all(b"x").await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, dripped).await.unwrap();
    server.until(Refused::HeadTime, 1).await;
    assert_eq!(server.refused(Refused::HeadTime), 1, "the one that waits for its answer is not cut");
    drop(late);
}

#[tokio::test]
async fn silent_and_idle_connections_are_closed_and_that_is_no_refusal() {
    let mut limits = without_bounds();
    limits.times.idle = Duration::from_millis(200);
    let server = start(limits).await;
    assert_eq!(rest(&mut server.connect("").await).await, "");
    let kept = rest(&mut server.connect("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await).await;
    assert!(kept.starts_with("HTTP/1.1 200") && kept.ends_with("ok"), "{kept}");
    assert_eq!(server.refused(Refused::HeadTime), 0);
}

#[tokio::test]
async fn a_body_that_is_long_or_does_not_end_is_refused_in_words() {
    let mut limits = without_bounds();
    limits.times.body = Duration::from_millis(200);
    let server = start(limits).await;
    let post = |length: &str| format!("POST / HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n");
    let slow = rest(&mut server.connect(&(post("Content-Length: 9") + "x")).await).await;
    assert!(slow.starts_with("HTTP/1.1 408") && slow.contains("did not end within 0.2 s"), "{slow}");
    let body = "x".repeat(101);
    for head in ["Content-Length: 101".to_owned(), "Transfer-Encoding: chunked".to_owned()] {
        let is_chunked = head.starts_with("Transfer");
        let body = if is_chunked { format!("65\r\n{body}\r\n") } else { body.clone() };
        let long = rest(&mut server.connect(&(post(&head) + &body)).await).await;
        assert!(long.starts_with("HTTP/1.1 413") && long.contains("may have 100 bytes"), "{long}");
    }
    let good = rest(&mut server.connect(&(post("Content-Length: 4\r\nConnection: close") + "four")).await).await;
    assert!(good.starts_with("HTTP/1.1 200") && good.ends_with("four"), "{good}");
    assert_eq!((server.refused(Refused::BodyTime), server.refused(Refused::BodyBytes)), (1, 2));
}

#[tokio::test]
async fn long_or_many_headers_are_refused() {
    let server = start(without_bounds()).await;
    for headers in [format!("X: {}\r\n", "x".repeat(20 << 10)), "X: y\r\n".repeat(101)] {
        let answer =
            rest(&mut server.connect(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    server.until(Refused::HeadBytes, 2).await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let mut limits = without_bounds();
    limits.times.write = Duration::from_millis(200);
    let server = start(limits).await;
    let unread = server.connect("GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    server.until(Refused::WriteTime, 1).await;
    drop(unread);
    assert!(server.get("/").await.ends_with("ok"));
}

#[tokio::test]
async fn silent_connections_never_take_the_places_of_those_who_ask() {
    let mut limits = without_bounds();
    limits.connections_of_an_address = 3;
    let server = start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(server.connect("").await);
    }
    assert!(server.get("/").await.ends_with("ok"));
    server.until(Refused::MadeRoom, 48).await;
    let mut open = 0;
    for socket in &mut silent {
        open += u32::from(tokio::time::timeout(Duration::from_millis(1), socket.read_u8()).await.is_err());
    }
    assert!(open <= 3, "{open} of 50 are open");
}

#[tokio::test]
async fn where_all_places_are_at_work_the_next_is_refused_in_words_and_health_is_answered() {
    let mut limits = without_bounds();
    limits.connections = 2;
    let server = start(limits).await;
    let at_work = [server.late().await, server.late().await];
    assert!(server.get("/").await.contains("only its health is answered"));
    assert!(server.get("/livez").await.ends_with("alive"));
    let silent = [server.connect("").await, server.connect("").await];
    assert!(server.get("/livez").await.ends_with("alive"), "silent ones make room there too");
    assert!(server.refused(Refused::Connections) >= 3);
    drop((at_work, silent));
    let served = async { while !server.get("/").await.ends_with("ok") {} };
    tokio::time::timeout(LIMIT, served).await.unwrap();
}

#[tokio::test]
async fn bodies_that_do_not_end_make_room_and_without_a_reserve_the_next_is_told() {
    let mut limits = without_bounds();
    (limits.connections, limits.reserved) = (1, 0);
    let server = start(limits).await;
    let slow = server.connect("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n").await;
    assert!(server.get("/").await.ends_with("ok"));
    let at_work = server.late().await;
    let told = rest(&mut server.connect("").await).await;
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(told.ends_with("close some, or retry\n"), "{told}");
    drop((slow, at_work));
}

#[tokio::test]
async fn the_end_waits_for_what_is_being_answered_and_for_nothing_else() {
    let server = start(without_bounds()).await;
    let silent = server.connect("").await;
    let mut asking = server.late().await;
    server.end.cancel();
    server.late.answer.notify_one();
    let answer = rest(&mut asking).await;
    assert!(answer.ends_with("at last"), "{answer}");
    tokio::time::timeout(LIMIT, server.serving).await.unwrap().unwrap();
    drop(silent);
}
