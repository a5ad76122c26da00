//! Whether a URL or a host names this machine: no proxy of the environment is asked for it, and nothing is read on the way.

use std::net::IpAddr;

/// Whether the host of a URL is `localhost` or a loopback address.
#[must_use]
pub fn is_local(url: &str) -> bool {
    let behind = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    let host = match host_and_port.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host_and_port.split(':').next().unwrap_or_default(),
    };
    is_local_host(host)
}

/// Whether a host is `localhost` or a loopback address; an address of version 6 stands without brackets.
#[must_use]
pub fn is_local_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for url in ["http://127.0.0.1:8090/v2", "http://localhost", "HTTP://LOCALHOST:1/x", "http://[::1]:9/a?b"] {
            assert!(is_local(url), "{url}");
        }
        for url in
            ["https://stream.wikimedia.org/v2", "http://127.0.0.1.nip.io", "http://10.0.0.1", "http://localhost@evil"]
        {
            assert!(!is_local(url), "{url}");
        }
    }
}
