//! Which hosts a stream may come from: by https, at public addresses; others have to be listed.
//!
//! Who can answer for a name (in its DNS, or on the way) could otherwise have this process read what only machines inside
//! can reach, or publish edits that Wikipedia never saw.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use service::local::is_local_host;

/// What is allowed of the host of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    host: String,
    is_here: bool,
    is_listed: bool,
}

impl Reach {
    /// Of a stream's URL, with the hosts that were listed.
    #[must_use]
    pub fn of(url: &Url, listed: &[String]) -> Self {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let is_here = is_local_host(&host);
        let is_listed = listed.iter().any(|listed| listed.trim_matches(['[', ']']).eq_ignore_ascii_case(&host));
        Self { host, is_here, is_listed }
    }

    /// Whether the host is this machine.
    #[must_use]
    pub const fn is_here(&self) -> bool {
        self.is_here
    }

    const fn is_free(&self) -> bool {
        self.is_here || self.is_listed
    }

    /// Whether the URL itself may be asked.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let host = &self.host;
        if self.is_free() {
            return Ok(());
        }
        if url.scheme() != "https" {
            return Err(format!(
                "the stream at {host} is not asked without TLS: write https, or list the host in WIKI_STREAM_ALLOWED_HOSTS"
            ));
        }
        match host.parse() {
            Ok(address) if !is_public(address) => Err(private(host)),
            _ => Ok(()),
        }
    }

    /// Of the addresses that a name has, those that may be connected to.
    fn allowed(&self, name: &str, addresses: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        // Another name than the stream's is a proxy's, which the operator chose.
        let is_any = self.is_free() || !name.eq_ignore_ascii_case(&self.host);
        let allowed: Vec<SocketAddr> = addresses.filter(|address| is_any || is_public(address.ip())).collect();
        if allowed.is_empty() { Err(private(name)) } else { Ok(allowed) }
    }
}

fn private(host: &str) -> String {
    format!(
        "{host} has an address inside a network, where the public stream is not: list it in WIKI_STREAM_ALLOWED_HOSTS if it \
         is yours"
    )
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?;
            let addresses: Addrs = Box::new(reach.allowed(name, found)?.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether an address is one of the internet's.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            let bits = address.to_bits().to_be_bytes();
            let embedded = |at: usize| Ipv4Addr::new(bits[at], bits[at + 1], bits[at + 2], bits[at + 3]);
            match (first, second) {
                // NAT64 and 6to4 carry an address of version 4.
                (0x64, 0xff9b) => is_public_v4(embedded(12)),
                (0x2002, _) => is_public_v4(embedded(2)),
                _ => first & 0xe000 == 0x2000 && !is_documentation(address),
            }
        }
    }
}

fn is_documentation(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x2001, 0xdb8, ..])
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && second & 0xc0 == 64;
    let is_reserved = first == 0 || first >= 224 || (first == 198 && second & 0xfe == 18);
    !(is_shared
        || is_reserved
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, listed: &[&str]) -> Result<(), String> {
        let url = url.parse().unwrap();
        Reach::of(&url, &listed.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).check(&url)
    }

    #[test]
    fn a_stream_is_asked_by_https_at_public_addresses_unless_its_host_is_listed() {
        for url in [
            "https://stream.wikimedia.org/v2/stream/x",
            "https://208.80.154.224/v2/stream/x",
            "http://localhost:8090/v2/stream/x",
            "http://127.0.0.1:8090/v2/stream/x",
            "http://[::1]:8090/v2/stream/x",
        ] {
            assert_eq!(check(url, &[]), Ok(()), "{url}");
        }
        for url in [
            "http://stream.wikimedia.org/v2/stream/x",
            "http://simulator:8080/v2/stream/x",
            "https://169.254.169.254/v2/stream/x",
            "https://10.0.0.1/v2/stream/x",
            "https://[fd00::1]/v2/stream/x",
            "https://[::ffff:192.168.0.1]/v2/stream/x",
            "http://localhost.evil.example/v2/stream/x",
        ] {
            assert!(check(url, &[]).unwrap_err().contains("WIKI_STREAM_ALLOWED_HOSTS"), "{url}");
        }
        assert_eq!(check("http://SIMULATOR:8080/v2/stream/x", &["simulator"]), Ok(()));
        assert!(check("http://simulator.evil.example/v2/stream/x", &["simulator"]).is_err());
    }

    #[test]
    fn a_name_that_turns_out_to_be_inside_is_not_connected_to() {
        let url = "https://stream.example/v2/stream/x".parse().unwrap();
        let reach = Reach::of(&url, &[]);
        let of = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
        };
        let mixed =
            ["127.0.0.1", "10.1.1.1", "8.8.8.8", "169.254.169.254", "100.64.0.1", "2001:4860:4860::8888", "fe80::1"];
        let allowed = reach.allowed("stream.example", of(&mixed).into_iter()).unwrap();
        assert_eq!(allowed, of(&["8.8.8.8", "2001:4860:4860::8888"]));
        for inside in ["0.0.0.0", "192.168.1.1", "::", "64:ff9b::a00:1", "2002:a00:1::", "224.0.0.1", "198.18.0.1"] {
            assert!(reach.allowed("stream.example", of(&[inside]).into_iter()).is_err(), "{inside}");
        }
        assert!(reach.allowed("proxy.corp", of(&["10.0.0.3"]).into_iter()).is_ok(), "a proxy may be inside");
        let listed = Reach::of(&url, &["stream.example".to_owned()]);
        assert!(listed.allowed("stream.example", of(&["10.1.1.1"]).into_iter()).is_ok());
    }
}
