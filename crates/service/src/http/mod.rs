//! The HTTP server of every service: an accept loop that keeps its clients to bounds.
//!
//! Strangers may open what they like and send it as slowly as they like; the others are answered meanwhile. What is
//! refused or cut is counted in `wiki_http_refused_total`.

mod body;
#[cfg(test)]
mod cases;
mod phase;
mod places;
mod socket;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::limits::{Limits, Refused};
use crate::{Metrics, guard};
use body::InWork;
use phase::Phase;
use places::{Entry, Place, Places};
use socket::TimedSocket;

/// Headers of a request, at most.
const MOST_HEADERS: usize = 100;
/// How long a client that has no place may take to ask whether the service is well.
const RESERVED_FOR: Duration = Duration::from_secs(2);
/// How long the accept loop rests after an error that will not go at once, such as no descriptor left.
const REST: Duration = Duration::from_millis(200);
/// What they may ask then.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/health"];
/// For whom there is not even that.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                          Content-Length: 58\r\n\r\ntoo many connections to this server: close some, or retry\n";

/// A server: its routes, its bounds, and who holds a connection.
#[derive(Clone)]
struct Server {
    routes: Router,
    limits: Limits,
    metrics: Metrics,
    places: Places,
}

/// Serves these routes until `end` is cancelled, and then what is being answered to its end. Only requests for a `Host` of
/// ours get to the routes.
pub async fn serve(listener: TcpListener, routes: Router, metrics: Metrics, limits: Limits, end: CancellationToken) {
    let limits = limits.within_descriptors();
    let routes = guard::protect(routes, metrics.clone());
    let server = Arc::new(Server { routes, limits, metrics, places: Places::new(limits) });
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => break,
        };
        match accepted {
            Ok((socket, address)) => server.enter(socket, address, &open, &end),
            Err(error) => {
                server.metrics.count_accept_error();
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(REST).await;
            }
        }
        server.metrics.set_connections(server.places.taken());
    }
    drop(listener);
    open.close();
    open.wait().await;
}

impl Server {
    fn enter(self: &Arc<Self>, socket: TcpStream, address: SocketAddr, open: &TaskTracker, end: &CancellationToken) {
        let (place, is_reserved) = match self.places.enter(address.ip()) {
            Entry::Served(place, made_room) => {
                made_room.into_iter().for_each(|refused| self.metrics.refused(refused));
                (place, false)
            }
            Entry::Reserved(place, refused) => {
                self.metrics.refused(refused);
                (place, true)
            }
            Entry::Refused(refused) => {
                self.metrics.refused(refused);
                // It fits into the socket's empty buffer, or the client does not hear it.
                let _ = socket.try_write(NO_PLACE);
                return;
            }
        };
        // Answers are small: none should wait for the next.
        let _ = socket.set_nodelay(true);
        let (server, end) = (Arc::clone(self), end.clone());
        open.spawn(async move {
            if is_reserved {
                // The end of the time is the end of the connection.
                let _ = tokio::time::timeout(RESERVED_FOR, server.answer(socket, address, &place, true, &end)).await;
            } else {
                server.answer(socket, address, &place, false, &end).await;
            }
            drop(place);
            server.metrics.set_connections(server.places.taken());
        });
    }

    /// One connection, to its end.
    async fn answer(
        self: &Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        place: &Place,
        is_reserved: bool,
        end: &CancellationToken,
    ) {
        let socket = TokioIo::new(TimedSocket::new(socket, place.phase.clone(), self.limits.times));
        let service = service_fn(|request| {
            place.phase.has_head();
            let (server, phase) = (Arc::clone(self), place.phase.clone());
            async move { server.respond(request, address, phase, is_reserved).await }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(self.limits.head_bytes)
            .max_headers(MOST_HEADERS)
            .keep_alive(!is_reserved)
            .serve_connection(socket, service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = place.leave.cancelled() => return,
            () = end.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Some(refused) = place.phase.cut() {
            self.metrics.refused(refused);
        } else if result.is_err_and(|error| error.is_parse_too_large()) {
            self.metrics.refused(Refused::HeadBytes);
        }
    }

    async fn respond(
        &self,
        request: hyper::Request<Incoming>,
        address: SocketAddr,
        phase: Phase,
        is_reserved: bool,
    ) -> Result<Response<InWork>, Infallible> {
        let response = if is_reserved && !HEALTH.contains(&request.uri().path()) {
            no_place()
        } else {
            match body::read(request, &self.limits).await {
                Ok(mut request) => {
                    phase.begin();
                    request.extensions_mut().insert(ConnectInfo(address));
                    let Ok(response) = self.routes.clone().call(request).await;
                    response
                }
                Err((refused, code, why)) => {
                    self.metrics.refused(refused);
                    closing((code, why).into_response())
                }
            }
        };
        Ok(response.map(|body: Body| InWork::new(body, phase)))
    }
}

fn no_place() -> Response {
    let why = "there are as many connections as this server takes: only its health is answered\n";
    closing((StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], why).into_response())
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
