//! The stream: whether its server is found, answers, and has the time that this machine has.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use reqwest::{StatusCode, Url};

use service::text::shown_url;

use super::Finding;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// For whoever needs no stream of Wikimedia's.
const ELSE: &str = "a simulator does as well (`wiki run simulator`): --without-stream leaves this out";
/// A clock that is off by more makes positions and delays wrong.
const SKEW_SECONDS: i64 = 30;

/// Looks at the source.
pub(super) async fn look(url: &str) -> Vec<Finding> {
    const WHAT: &str = "stream";
    let Ok(parsed) = Url::parse(url) else {
        return vec![Finding::bad(
            WHAT,
            format!("{} is no address; give https://… with --stream-url or WIKI_STREAM_URL", shown_url(url)),
        )];
    };
    let host = parsed.host_str().unwrap_or_default().to_owned();
    if let Err(sentence) = resolve(&host, parsed.port_or_known_default().unwrap_or(443)).await {
        return vec![Finding::bad("dns", format!("{sentence}; {ELSE}"))];
    }
    // The default of the TLS library is chosen by whoever comes first; a second choice changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let agent = concat!("wikipedia-events-doctor/", env!("CARGO_PKG_VERSION"));
    let client = crate::out::client(url).connect_timeout(LIMIT).read_timeout(LIMIT).user_agent(agent).build();
    let answer = match client {
        Ok(client) => client.get(parsed).send().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(response) if response.status() == StatusCode::OK => {
            let date = response.headers().get("date").and_then(|date| date.to_str().ok().map(str::to_owned));
            let mut findings = vec![Finding::ok(WHAT, format!("{host} answers"))];
            findings.extend(date.and_then(|date| clock(&date, jiff::Timestamp::now().as_second())));
            findings
        }
        Ok(response) => vec![Finding::bad(WHAT, status(&host, response.status()))],
        Err(error) => vec![Finding::bad(WHAT, refused(&host, &error))],
    }
}

/// Looks a name up, within the limit.
pub(super) async fn resolve(host: &str, port: u16) -> Result<(), String> {
    let (name, asked) = (host.to_owned(), host.to_owned());
    let looking = tokio::task::spawn_blocking(move || (asked.as_str(), port).to_socket_addrs().map(|_| ()));
    match tokio::time::timeout(LIMIT, looking).await {
        Ok(Ok(Ok(()))) => Ok(()),
        _ => Err(format!(
            "the name {name} is not known here: correct it, or this machine's name server (/etc/resolv.conf), or /etc/hosts"
        )),
    }
}

fn status(host: &str, status: StatusCode) -> String {
    let what_to_do = match status.as_u16() {
        403 => "give an address of yours with WIKI_CONTACT: Wikimedia refuses clients that do not say who they are",
        404 => "correct the path in --stream-url or WIKI_STREAM_URL",
        429 => "end other readers of this machine and wait a while: too many connections",
        _ => "try again later: ingest does so by itself",
    };
    format!("{host} answers {status}: {what_to_do}")
}

fn refused(host: &str, error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let said = causes.last().map(String::as_str).unwrap_or_default();
    let is_certificate = causes.iter().any(|cause| cause.contains("certificate"));
    let what_to_do = if is_certificate {
        "this machine's clock or its certificates are old, or something stands in between"
    } else {
        "look at this machine's network and firewall"
    };
    format!("{host} cannot be reached: {said}; {what_to_do}; {ELSE}")
}

/// This machine's time beside that of an answer's head.
fn clock(date: &str, now_seconds: i64) -> Option<Finding> {
    const WHAT: &str = "clock";
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    let off = now_seconds - theirs;
    Some(if off.abs() > SKEW_SECONDS {
        let direction = if off > 0 { "ahead of" } else { "behind" };
        let seconds = off.abs();
        Finding::bad(
            WHAT,
            format!(
                "this machine is {seconds} s {direction} the stream's server: let NTP set its clock (`timedatectl`)"
            ),
        )
    } else {
        Finding::ok(WHAT, "as the stream's server has it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_more_than_half_a_minute_or_it_is_not() {
        let date = "Thu, 01 Jan 1970 01:00:00 GMT";
        assert!(clock(date, 3_620).unwrap().found.is_ok());
        assert!(clock(date, 3_700).unwrap().found.unwrap_err().contains("100 s ahead"));
        assert!(clock(date, 0).unwrap().found.unwrap_err().contains("3600 s behind"));
    }
}
