//! One server-sent stream a page.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use service::per_address::Place;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Site;
use crate::control::Control;
use crate::live::{Event, now_ms};

/// How long a page waits before it comes again.
const RETRY: Duration = Duration::from_secs(2);
/// A connection that is silent for longer is taken for dead by what stands between.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a stream is doing.
struct Page {
    site: Site,
    events: Receiver<Arc<Event>>,
    ready: VecDeque<SseEvent>,
    is_ended: bool,
    _place: Place,
}

pub(super) async fn open(State(site): State<Site>, ConnectInfo(from): ConnectInfo<SocketAddr>) -> Response {
    let place = match site.pages.open(from.ip()) {
        Ok(place) => place,
        Err(why) => return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], why).into_response(),
    };
    // Heard from here on, so that nothing falls between the snapshot and the first event.
    let events = site.live.listen();
    let ready = VecDeque::from([hello(&site, token_for(site.control.as_ref(), from.ip())), snapshot(&site)]);
    let page = Page { site, events, ready, is_ended: false, _place: place };
    let stream = futures_util::stream::unfold(page, async |mut page| {
        let event = page.next().await?;
        Some((Ok::<_, Infallible>(event), page))
    });
    let headers = [(header::CACHE_CONTROL, "no-store"), (HeaderName::from_static("x-accel-buffering"), "no")];
    (headers, Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here"))).into_response()
}

impl Page {
    async fn next(&mut self) -> Option<SseEvent> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        if self.is_ended {
            return None;
        }
        tokio::select! {
            heard = self.events.recv() => match heard {
                Ok(event) => Some(sse(&event)),
                // Too slow: what it missed it gets as a whole.
                Err(RecvError::Lagged(_)) => {
                    self.events = self.site.live.listen();
                    Some(snapshot(&self.site))
                }
                Err(RecvError::Closed) => None,
            },
            () = self.site.shutdown.cancelled() => {
                self.is_ended = true;
                Some(SseEvent::default().event("bye").data("{}"))
            }
        }
    }
}

fn sse(event: &Event) -> SseEvent {
    // Each event carries its number in its data too: a page that finds one missing asks for the whole.
    let data = format!("{{\"seq\":{},\"ts\":{},\"data\":{}}}", event.seq, now_ms(), event.data);
    let sse = SseEvent::default().event(event.name).data(data);
    if matches!(event.name, "group" | "rebalance") { sse.id(event.seq.to_string()) } else { sse }
}

/// What lets a page control the pipeline: for this machine's pages only, wherever the server listens. Others may watch.
fn token_for(control: Option<&Control>, address: IpAddr) -> Option<&str> {
    control.filter(|_| address.to_canonical().is_loopback()).map(|control| control.token.as_str())
}

fn hello(site: &Site, token: Option<&str>) -> SseEvent {
    let run = site.live.run();
    let data = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "run": run,
        "control": token,
        "compose": site.compose_file,
        "grafana": site.grafana_url,
        "ts": now_ms(),
    });
    SseEvent::default().event("hello").retry(RETRY).data(data.to_string())
}

fn snapshot(site: &Site) -> SseEvent {
    let snapshot = site.live.snapshot();
    let data = serde_json::to_string(&snapshot).unwrap_or_default();
    let data = format!("{{\"seq\":{},\"ts\":{},\"data\":{data}}}", snapshot.seq, snapshot.ts);
    SseEvent::default().event("snapshot").id(snapshot.seq.to_string()).data(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Action, Answer, Controls};
    use std::pin::Pin;

    #[derive(Debug)]
    struct Nothing;

    impl Controls for Nothing {
        fn act(&self, _: Action) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
            Box::pin(async { Ok(String::new()) })
        }
    }

    #[test]
    fn only_pages_of_this_machine_may_control() {
        let control = Control { controls: Arc::new(Nothing), token: "secret".to_owned() };
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(token_for(Some(&control), address.parse().unwrap()), Some("secret"), "{address}");
        }
        for address in ["192.168.0.7", "10.0.0.1", "fe80::1", "2001:db8::1"] {
            assert_eq!(token_for(Some(&control), address.parse().unwrap()), None, "{address}");
        }
        assert_eq!(token_for(None, [127, 0, 0, 1].into()), None);
    }
}
