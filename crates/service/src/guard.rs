//! Who may ask, on every route of every server: only under a name that this server answers to.
//!
//! A web page elsewhere can give its own name the address of this machine (DNS rebinding); its requests then carry that
//! name in `Host`. An address, `localhost`, a name without a dot (a service of compose) and names inside a cluster
//! cannot be had on the internet.

use std::net::IpAddr;
use std::sync::OnceLock;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use crate::Metrics;
use crate::limits::Refused;

/// Ends of names that nobody can register.
const INSIDE: [&str; 5] = [".localhost", ".svc", ".cluster.local", ".internal", ".local"];
/// Of every answer.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

static LISTED: OnceLock<Vec<String>> = OnceLock::new();

/// Names that this process answers to besides; the first list stays.
pub fn answer_to(hosts: Vec<String>) {
    let _ = LISTED.set(hosts.into_iter().filter(|host| !host.is_empty()).collect());
}

/// The routes, for those who may ask. Answers carry the headers that browsers heed.
pub(crate) fn protect(routes: Router, metrics: Metrics) -> Router {
    routes.layer(middleware::from_fn_with_state(metrics, guard))
}

async fn guard(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let host = request.uri().host().map(str::to_owned).or_else(|| host_of(request.headers()));
    let mut response = match host {
        None => {
            metrics.refused(Refused::Host);
            (StatusCode::BAD_REQUEST, "the request has no Host header\n").into_response()
        }
        Some(host) if is_ours(&host, LISTED.get().map_or(&[], Vec::as_slice)) => next.run(request).await,
        Some(_) => {
            metrics.refused(Refused::Host);
            let why = "this server does not answer to that Host: ask it by address, or list the name in \
                       WIKI_ALLOWED_HOSTS\n";
            (StatusCode::MISDIRECTED_REQUEST, why).into_response()
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The host of a request without its port; none where there is no such header, or more than one.
fn host_of(headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none())?.to_str().ok()?;
    let is_bracketed = host.starts_with('[');
    let end = if is_bracketed { host.find(']').map(|end| end + 1) } else { host.rfind(':') };
    Some(host.get(..end.unwrap_or(host.len())).unwrap_or(host).to_owned())
}

fn is_ours(host: &str, listed: &[String]) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<IpAddr>().is_ok()
        || (!host.is_empty() && !host.contains('.'))
        || INSIDE.iter().any(|end| host.ends_with(end))
        || listed.iter().any(|listed| listed.eq_ignore_ascii_case(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_can_be_had_on_the_internet_is_not_ours() {
        let listed = ["wiki.example.org".to_owned()];
        let ours = [
            "127.0.0.1",
            "10.2.3.4",
            "[::1]",
            "localhost",
            "LOCALHOST.",
            "ingest",
            "sink.wiki.svc",
            "console.wiki.svc.cluster.local",
            "wiki.example.org",
            "WIKI.example.ORG",
        ];
        for host in ours {
            assert!(is_ours(host, &listed), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io", "", "svc.evil"]
        {
            assert!(!is_ours(host, &listed), "{host}");
        }
    }

    #[test]
    fn a_host_is_read_without_its_port_and_two_are_none() {
        let of = |hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            host_of(&headers)
        };
        assert_eq!(of(&["evil.example:8080"]).as_deref(), Some("evil.example"));
        assert_eq!(of(&["[::1]:8080"]).as_deref(), Some("[::1]"));
        assert_eq!(of(&["localhost"]).as_deref(), Some("localhost"));
        assert_eq!((of(&[]), of(&["localhost", "evil.example"])), (None, None));
    }
}
